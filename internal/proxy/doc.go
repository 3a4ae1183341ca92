// Package proxy is the data plane of the built-in mesh gateway: it routes TLS
// connections by the server name in their ClientHello and never ends TLS.
//
// A connection passes three stages. While its hello is unfinished it is one of
// a bounded number and has a deadline, so that clients who never say anything
// can neither fill memory nor lock out others. Then its server name is looked
// up in the table in force at that moment, and one of the addresses found there
// is dialled; a name that is not in the table is refused. Last, bytes are
// relayed both ways until both sides have ended, each direction on its own, so
// that a half-closed connection stays half closed.
//
// The relay copies through small pooled buffers at first and, on Linux, splices
// once a direction has proved to carry bulk. A direction that waits holds
// neither a buffer nor a pipe.
//
// A [Gateway] knows no datacenters and no catalog: whoever owns one hands it
// [Routes] when they change. [RoutesFor] makes those of a mesh gateway.
package proxy
