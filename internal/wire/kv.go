package wire

import (
	"isthmus/api"
	"isthmus/internal/rpc"
)

// The key-value store.
var (
	KVApply = rpc.Method[KVRequest, bool]{Name: "KVS.Apply", Write: true}
	KVGet   = rpc.Method[KeyQuery, []*api.KVPair]{Name: "KVS.Get", Reply: "Entries"}
	KVList  = rpc.Method[KeyQuery, []*api.KVPair]{Name: "KVS.List", Reply: "Entries"}
	KVKeys  = rpc.Method[KeysQuery, []string]{Name: "KVS.ListKeys", Reply: "Keys"}
)

// Operations of a KVRequest.
const (
	KVSet        = "set"
	KVDelete     = "delete"
	KVDeleteCAS  = "delete-cas"
	KVDeleteTree = "delete-tree"
	KVCAS        = "cas"
	KVLock       = "lock"
	KVUnlock     = "unlock"
)

// KVRequest changes entries.
type KVRequest struct {
	Op     string
	DirEnt api.KVPair
}

// KeyQuery asks for the entry of a key, or for those of a prefix.
type KeyQuery struct {
	Key string
}

// KeysQuery asks for the keys of a prefix, folded at a separator.
type KeysQuery struct {
	Prefix    string
	Seperator string // the protocol's spelling
}
