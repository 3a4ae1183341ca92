package server

import (
	"slices"
	"time"

	"isthmus/api"
	"isthmus/internal/acl"
	"isthmus/internal/state"
	"isthmus/internal/store"
	"isthmus/internal/wire"
)

func bindFederation(s *Server) {
	gate := func() error {
		if s.gate.Open() {
			return nil
		}
		return api.Known(api.StatesDisabled, nil)
	}
	operator := func(z acl.Authorizer, a acl.Access) error { return z.Allow(acl.Operator, "", a) }

	bindWrite(s, wire.FederationApply, Write[wire.FederationRequest, bool]{
		Allow: func(z acl.Authorizer, _ *wire.FederationRequest) error { return operator(z, acl.Write) },
		Prepare: func(_ *store.Tx, in *wire.FederationRequest) error {
			if err := gate(); err != nil {
				return err
			}
			return prepareFederation(in)
		},
		Command: &state.FederationApply,
	})
	bindRead(s, wire.FederationGet, Read[wire.FederationQuery, *api.FederationState]{
		Allow: func(z acl.Authorizer, _ *wire.FederationQuery) error { return operator(z, acl.Read) },
		Run: func(tx *store.Tx, in *wire.FederationQuery) (*api.FederationState, error) {
			if err := gate(); err != nil {
				return nil, err
			}
			return state.FederationState(tx, in.Datacenter), nil
		},
	})
	bindRead(s, wire.FederationList, Read[wire.DCQuery, []*api.FederationState]{
		Allow: func(z acl.Authorizer, _ *wire.DCQuery) error { return operator(z, acl.Read) },
		Run: func(tx *store.Tx, _ *wire.DCQuery) ([]*api.FederationState, error) {
			if err := gate(); err != nil {
				return nil, err
			}
			return slices.AppendSeq([]*api.FederationState{}, state.FederationStates(tx)), nil
		},
	})
	bindRead(s, wire.FederationGateways, Read[wire.DCQuery, map[string][]api.CheckServiceNode]{
		Run: func(tx *store.Tx, _ *wire.DCQuery) (map[string][]api.CheckServiceNode, error) {
			if err := gate(); err != nil {
				return nil, err
			}
			out := map[string][]api.CheckServiceNode{}
			for f := range state.FederationStates(tx) {
				if len(f.MeshGateways) > 0 {
					out[f.Datacenter] = f.MeshGateways
				}
			}
			return out, nil
		},
		Filter: readableGateways,
	})
}

func prepareFederation(in *wire.FederationRequest) error {
	if in.State == nil || in.State.Datacenter == "" {
		return api.Errorf(api.Invalid, "invalid request: missing federation state datacenter")
	}
	switch in.Op {
	case wire.FederationUpsert:
		if in.State.UpdatedAt.IsZero() {
			in.State.UpdatedAt = time.Now().UTC()
		}
	case wire.FederationDelete:
	default:
		return api.Errorf(api.Invalid, "Invalid federation state operation: %s", in.Op)
	}
	return nil
}

func readableGateways(z acl.Authorizer, all map[string][]api.CheckServiceNode) map[string][]api.CheckServiceNode {
	out := make(map[string][]api.CheckServiceNode, len(all))
	for dc, list := range all {
		if list = readable(z, list); len(list) > 0 {
			out[dc] = list
		}
	}
	return out
}
