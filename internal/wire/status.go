package wire

import "isthmus/internal/rpc"

// The state of the servers themselves.
var (
	StatusPing   = rpc.Method[Empty, Empty]{Name: "Status.Ping", Local: true, Bare: true}
	StatusLeader = rpc.Method[DCQuery, string]{Name: "Status.Leader"}
	StatusPeers  = rpc.Method[DCQuery, []string]{Name: "Status.Peers"}
	StatusRaft   = rpc.Method[Empty, RaftStats]{Name: "Status.RaftStats", Local: true, Bare: true}
)

// RaftStats is how far a server's log is.
type RaftStats struct {
	LastContact string
	LastTerm    uint64
	LastIndex   uint64
}
