package server

import (
	"slices"

	"isthmus/api"
	"isthmus/internal/acl"
	"isthmus/internal/state"
	"isthmus/internal/store"
	"isthmus/internal/wire"
)

func bindKV(s *Server) {
	allowKey := func(z acl.Authorizer, in *wire.KeyQuery) error { return z.Allow(acl.Key, in.Key, acl.Read) }
	bindWrite(s, wire.KVApply, Write[wire.KVRequest, bool]{
		Allow: func(z acl.Authorizer, in *wire.KVRequest) error { return z.Allow(acl.Key, in.DirEnt.Key, acl.Write) },
		Prepare: func(_ *store.Tx, in *wire.KVRequest) error {
			if in.DirEnt.Key == "" && in.Op != wire.KVDeleteTree {
				return api.Errorf(api.Invalid, "Must provide key")
			}
			return nil
		},
		Command: &state.KVApply,
	})
	bindRead(s, wire.KVGet, Read[wire.KeyQuery, []*api.KVPair]{
		Allow: allowKey,
		Run: func(tx *store.Tx, in *wire.KeyQuery) ([]*api.KVPair, error) {
			if e := state.KVGet(tx, in.Key); e != nil {
				return []*api.KVPair{e}, nil
			}
			return nil, nil
		},
	})
	bindRead(s, wire.KVList, Read[wire.KeyQuery, []*api.KVPair]{
		Run: func(tx *store.Tx, in *wire.KeyQuery) ([]*api.KVPair, error) {
			return slices.Collect(state.KVList(tx, in.Key)), nil
		},
		Filter: only(func(z acl.Authorizer, e *api.KVPair) bool { return z.Allow(acl.Key, e.Key, acl.Read) == nil }),
	})
	bindRead(s, wire.KVKeys, Read[wire.KeysQuery, []string]{
		Run: func(tx *store.Tx, in *wire.KeysQuery) ([]string, error) {
			return slices.Collect(state.KVKeys(tx, in.Prefix, in.Seperator)), nil
		},
		Filter: only(func(z acl.Authorizer, key string) bool { return z.Allow(acl.Key, key, acl.Read) == nil }),
	})
}
