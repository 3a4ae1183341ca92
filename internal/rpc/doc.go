// Package rpc is how agents and servers call each other: a Method names a call
// and its types, and Bind serves one. A Caller makes calls, and it is one
// whether it answers from this process, over a connection or from memory.
// On the wire a call is two msgpack values, its head and its body, in which
// header and domain data are one flat map. A Pool keeps one multiplexed
// connection to each server and one stream to each call under way. A Router
// knows the servers of every datacenter and which of them to ask next. Watch
// calls again when something has changed, and a Cache shares such answers
// among all who ask the same.
package rpc
