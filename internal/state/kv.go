package state

import (
	"bytes"
	"iter"
	"strings"

	"isthmus/api"
	"isthmus/internal/store"
	"isthmus/internal/wire"
)

// The entries of the key-value store, by key. Keys are plain, so that a prefix
// of text is a prefix of the key.
var kvs = store.NewTable("kvs", func(e *api.KVPair) store.Key { return store.Key(e.Key) })

// KVGet returns the entry of a key, or nil.
func KVGet(r store.Reader, key string) *api.KVPair { return kvs.Get(r, store.Key(key)) }

// KVList yields the entries whose keys begin with prefix, in order.
func KVList(r store.Reader, prefix string) iter.Seq[*api.KVPair] {
	return kvs.Prefix(r, store.Key(prefix))
}

// KVKeys yields the keys that begin with prefix, in order. With a separator, keys
// that go on after the next separator are folded into one, which ends with it.
func KVKeys(r store.Reader, prefix, separator string) iter.Seq[string] {
	return func(yield func(string) bool) {
		last := ""
		for e := range kvs.Prefix(r, store.Key(prefix)) {
			key := e.Key
			if separator != "" {
				if at := strings.Index(key[len(prefix):], separator); at >= 0 {
					key = key[:len(prefix)+at+len(separator)]
					if key == last {
						continue
					}
					last = key
				}
			}
			if !yield(key) {
				return
			}
		}
	}
}

// KVApply changes entries. It yields false when a condition was not met.
var KVApply = Command[wire.KVRequest, bool]{
	ID: 2, Name: "kv", Op: func(in *wire.KVRequest) string { return in.Op },
	Apply: func(w *store.WriteTx, in *wire.KVRequest) (bool, error) {
		e := &in.DirEnt
		old := KVGet(w, e.Key)
		switch in.Op {
		case wire.KVSet:
			kvPut(w, old, e)
		case wire.KVCAS:
			if e.ModifyIndex == 0 && old != nil || e.ModifyIndex != 0 && (old == nil || old.ModifyIndex != e.ModifyIndex) {
				return false, nil
			}
			kvPut(w, old, e)
		case wire.KVDelete:
			kvs.Delete(w, store.Key(e.Key))
		case wire.KVDeleteCAS:
			if old != nil && old.ModifyIndex != e.ModifyIndex {
				return false, nil
			}
			kvs.Delete(w, store.Key(e.Key))
		case wire.KVDeleteTree:
			kvs.DeletePrefix(w, store.Key(e.Key))
		case wire.KVLock, wire.KVUnlock:
			return false, api.Errorf(api.NotBuilt, "key %q: operation %s needs sessions, which this version does not have yet", e.Key, in.Op)
		default:
			return false, api.Errorf(api.Invalid, "Invalid KVS operation '%s'", in.Op)
		}
		return true, nil
	},
}

// kvPut writes an entry, unless it is already there as it should be.
func kvPut(w *store.WriteTx, old, e *api.KVPair) {
	row := &api.KVPair{Key: e.Key, Flags: e.Flags, Value: e.Value}
	row.CreateIndex, row.ModifyIndex = w.Index(), w.Index()
	if old != nil {
		if old.Flags == e.Flags && bytes.Equal(old.Value, e.Value) {
			return
		}
		row.CreateIndex, row.LockIndex, row.Session = old.CreateIndex, old.LockIndex, old.Session
	}
	kvs.Put(w, row)
}

func restoreKV(w *store.WriteTx, e *api.KVPair) error {
	kvs.Put(w, e)
	return nil
}
