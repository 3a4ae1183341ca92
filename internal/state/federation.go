package state

import (
	"iter"
	"strings"

	"isthmus/api"
	"isthmus/internal/store"
	"isthmus/internal/wire"
)

// The federation states, by datacenter.
var federationStates = store.NewTable("federation-states", func(f *api.FederationState) store.Key {
	return federationKey(f.Datacenter)
})

func federationKey(datacenter string) store.Key { return store.Text(strings.ToLower(datacenter)) }

// FederationState returns the state of a datacenter, or nil.
func FederationState(r store.Reader, datacenter string) *api.FederationState {
	return federationStates.Get(r, federationKey(datacenter))
}

// FederationStates yields all states, ordered by datacenter.
func FederationStates(r store.Reader) iter.Seq[*api.FederationState] { return federationStates.All(r) }

// FederationApply writes or deletes a state. A written one yields true.
var FederationApply = Command[wire.FederationRequest, bool]{
	ID: 30, Name: "federation-state", Op: func(in *wire.FederationRequest) string { return in.Op },
	Apply: func(w *store.WriteTx, in *wire.FederationRequest) (bool, error) {
		if in.State == nil || in.State.Datacenter == "" {
			return false, api.Errorf(api.Invalid, "missing federation state datacenter")
		}
		switch in.Op {
		case wire.FederationUpsert:
			row := *in.State
			row.CreateIndex, row.ModifyIndex = w.Index(), w.Index()
			if old := FederationState(w, row.Datacenter); old != nil {
				row.CreateIndex = old.CreateIndex
			}
			if row.PrimaryModifyIndex == 0 {
				row.PrimaryModifyIndex = w.Index()
			}
			federationStates.Put(w, &row)
			return true, nil
		case wire.FederationDelete:
			federationStates.Delete(w, federationKey(in.State.Datacenter))
			return false, nil
		}
		return false, api.Errorf(api.Invalid, "invalid federation state operation type: %s", in.Op)
	},
}

func federationRecord(f *api.FederationState) any {
	return wire.FederationRequest{Op: wire.FederationUpsert, State: f}
}

func restoreFederation(w *store.WriteTx, r *wire.FederationRequest) error {
	if r.State != nil {
		federationStates.Put(w, r.State)
	}
	return nil
}
