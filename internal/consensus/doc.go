// Package consensus keeps the replicated log of the servers of one datacenter.
//
// A Log appends entries that a majority of servers has on disk before the
// caller hears of it, hands them in the same order to the state machine (FSM)
// of each server, and runs one function, Lead, on the server that leads. The
// raft library does the agreeing; what is ours is where it is weak: the log on
// disk, the transport, giving way when a disk hangs, and a lone server that
// leads at once. DESIGN.md says why.
//
// The package knows nothing of services, keys or sessions: an entry is bytes.
package consensus
