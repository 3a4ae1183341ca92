package state

import (
	"iter"
	"reflect"

	"isthmus/api"
	"isthmus/internal/ca"
	"isthmus/internal/store"
)

// The certificate authority of the mesh: its roots, what its providers must not
// lose, its configuration, and the serial number that was drawn last.
var (
	caRoots  = store.NewTable("connect-ca-roots", func(r *api.CARoot) store.Key { return store.Text(r.ID) })
	caStates = store.NewTable("connect-ca-builtin", func(s *ca.State) store.Key { return store.Text(s.ID) })
	caConfig = store.NewTable("connect-ca-config", func(*api.CAConfiguration) store.Key { return single })
	caSerial = store.NewTable(caSerialName, func(*caSerialRow) store.Key { return single })
)

// single is the key of the one row of a table.
const single = store.Key("1")

// caSerialName is also what a snapshot calls the serial number, which stands
// there among the indexes of tables.
const caSerialName = "connect-ca-builtin-serial"

type caSerialRow struct {
	Key   string
	Value uint64
}

// CARoots yields the roots, ordered by id.
func CARoots(r store.Reader) iter.Seq[*api.CARoot] { return caRoots.All(r) }

// CARootsIndex is the index that a change of the roots must name.
func CARootsIndex(r store.Reader) uint64 {
	var index uint64
	for root := range caRoots.All(r) {
		index = max(index, root.ModifyIndex)
	}
	return index
}

// CAState returns the state of a provider, or nil.
func CAState(r store.Reader, id string) *ca.State { return caStates.Get(r, store.Text(id)) }

// CAConfig returns the configuration of the authority, or nil.
func CAConfig(r store.Reader) *api.CAConfiguration { return caConfig.Get(r, single) }

// Operations of a CARequest.
const (
	CASetRoots       = "set-roots"
	CASetConfig      = "set-config"
	CASetState       = "set-provider-state"
	CADeleteState    = "delete-provider-state"
	CASetRootsConfig = "set-roots-config"
	CANextSerial     = "increment-provider-serial"
)

// CARequest changes the authority. It is a log entry only: no method takes it.
type CARequest struct {
	Op            string
	Index         uint64 // of the roots, which must not have changed since
	Roots         []*api.CARoot
	Config        *api.CAConfiguration
	ProviderState *ca.State
}

// CAResult says whether the condition of a change was met, and the serial number
// that was drawn.
type CAResult struct {
	Done   bool
	Serial uint64
}

// CAApply changes the authority.
var CAApply = Command[CARequest, CAResult]{
	ID: 13, Name: "connect-ca", Op: func(in *CARequest) string { return in.Op },
	Apply: func(w *store.WriteTx, in *CARequest) (CAResult, error) {
		switch in.Op {
		case CASetRoots:
			done, err := setCARoots(w, in)
			return CAResult{Done: done}, err
		case CASetConfig:
			done, err := setCAConfig(w, in.Config)
			return CAResult{Done: done}, err
		case CASetRootsConfig:
			done, err := setCARoots(w, in)
			if done {
				done, err = setCAConfig(w, in.Config)
			}
			return CAResult{Done: done}, err
		case CASetState, CADeleteState:
			return CAResult{Done: true}, changeCAState(w, in)
		case CANextSerial:
			row := caSerialRow{Key: caSerialName, Value: 1}
			if last := caSerial.Get(w, single); last != nil {
				row.Value = last.Value + 1
			}
			caSerial.Put(w, &row)
			return CAResult{Done: true, Serial: row.Value}, nil
		}
		return CAResult{}, api.Errorf(api.Invalid, "invalid CA operation %q", in.Op)
	},
}

// setCARoots makes the roots those of a request. One that stays as it was keeps
// its index.
func setCARoots(w *store.WriteTx, in *CARequest) (bool, error) {
	if CARootsIndex(w) != in.Index {
		return false, nil
	}
	active := 0
	kept := map[string]bool{}
	for _, root := range in.Roots {
		if root == nil || root.ID == "" {
			return false, api.Errorf(api.Invalid, "a root has no id")
		}
		if root.Active {
			active++
		}
		kept[root.ID] = true
	}
	if active != 1 {
		return false, api.Errorf(api.Invalid, "there must be exactly one active CA root")
	}
	for root := range caRoots.All(w) {
		if !kept[root.ID] {
			caRoots.Delete(w, store.Text(root.ID))
		}
	}
	for _, root := range in.Roots {
		row := *root
		row.CreateIndex, row.ModifyIndex = w.Index(), w.Index()
		if old := caRoots.Get(w, store.Text(row.ID)); old != nil {
			row.CreateIndex, row.ModifyIndex = old.CreateIndex, old.ModifyIndex
			if reflect.DeepEqual(*old, row) {
				continue
			}
			row.ModifyIndex = w.Index()
		}
		caRoots.Put(w, &row)
	}
	return true, nil
}

// setCAConfig replaces the configuration. With a ModifyIndex it must not have
// changed since.
func setCAConfig(w *store.WriteTx, in *api.CAConfiguration) (bool, error) {
	if in == nil {
		return false, api.Errorf(api.Invalid, "missing CA configuration")
	}
	row := *in
	row.CreateIndex, row.ModifyIndex = w.Index(), w.Index()
	old := CAConfig(w)
	if in.ModifyIndex != 0 && (old == nil || old.ModifyIndex != in.ModifyIndex) {
		return false, api.Errorf(api.Invalid, "the CA configuration has changed since index %d", in.ModifyIndex)
	}
	if old != nil {
		row.CreateIndex = old.CreateIndex
	}
	caConfig.Put(w, &row)
	return true, nil
}

func changeCAState(w *store.WriteTx, in *CARequest) error {
	if in.ProviderState == nil || in.ProviderState.ID == "" {
		return api.Errorf(api.Invalid, "missing CA provider state")
	}
	row := *in.ProviderState
	if in.Op == CADeleteState {
		caStates.Delete(w, store.Text(row.ID))
		return nil
	}
	row.CreateIndex, row.ModifyIndex = w.Index(), w.Index()
	if old := CAState(w, row.ID); old != nil {
		row.CreateIndex = old.CreateIndex
	}
	caStates.Put(w, &row)
	return nil
}

func restoreCARoot(w *store.WriteTx, r *api.CARoot) error {
	caRoots.Put(w, r)
	return nil
}

func restoreCAState(w *store.WriteTx, r *ca.State) error {
	caStates.Put(w, r)
	return nil
}

func restoreCAConfig(w *store.WriteTx, r *api.CAConfiguration) error {
	caConfig.Put(w, r)
	return nil
}

// restoreIndex takes the serial number out of the indexes of tables. All others
// ours derive.
func restoreIndex(w *store.WriteTx, r *caSerialRow) error {
	if r.Key == caSerialName {
		caSerial.Put(w, r)
	}
	return nil
}
