package local

import (
	"errors"
	"path/filepath"
	"strings"
	"time"

	"isthmus/api"
)

// The files of a data directory that belong to this package.
const (
	keptFile  = "registrations.journal"
	stateFile = "check-states.journal"
)

// What the keys of kept services and checks begin with. Their ids follow.
const (
	serviceKey = "service "
	checkKey   = "check "
)

// disk keeps services and checks in a directory. Without a directory it keeps
// nothing.
type disk struct {
	kept *journal // services and checks; nil without a directory

	// states has the last states of TTL checks. They stand apart because they
	// change all the time, and because checks of the configuration have a state
	// but no definition here. The protocol's agents write a state with every
	// heartbeat, whether it says something new or not: after a restart it counts
	// for as long as the check would have waited. So do these, by a line, without
	// waiting for the disk: a state lost with the power expires as it would have
	// without the file.
	states *journal
}

// keptCheck is what is kept of a check.
type keptCheck struct {
	ServiceID   string `json:",omitempty"`
	Single      bool   `json:",omitempty"` // defined outside of its service
	Maintenance bool   `json:",omitempty"` // stands for the maintenance of its service or the node
	Definition  api.CheckType
}

// keptService is what is kept of a service. Its checks are kept apart, as is its
// sidecar.
type keptService struct {
	api.ServiceDefinition

	Sidecar bool `json:",omitempty"` // defined by its service
}

// checkState is the last state of a TTL check.
type checkState struct {
	Status  string
	Output  string `json:",omitempty"`
	Expires time.Time
}

// openDisk opens what dir keeps. It may be empty.
func openDisk(dir string) (disk, error) {
	if dir == "" {
		return disk{}, nil
	}
	kept, err := openJournal(filepath.Join(dir, keptFile))
	if err != nil {
		return disk{}, err
	}
	states, err := openJournal(filepath.Join(dir, stateFile))
	if err != nil {
		return disk{}, err
	}
	return disk{kept, states}, nil
}

func (k *keptService) entry() entry { return entry{serviceKey + serviceID(&k.ServiceDefinition), k} }

func (k *keptCheck) entry() entry { return entry{checkKey + k.Definition.CheckID, k} }

// put writes changes of services and checks.
func (d disk) put(entries ...entry) error {
	if d.kept == nil {
		return nil
	}
	return d.kept.put(entries...)
}

// drop forgets services, checks and the states of the checks.
func (d disk) drop(services, checks []string) error {
	var entries, states []entry
	for _, id := range services {
		entries = append(entries, entry{key: serviceKey + id})
	}
	for _, id := range checks {
		entries = append(entries, entry{key: checkKey + id})
		states = append(states, entry{key: id})
	}
	if d.kept == nil {
		return nil
	}
	return errors.Join(d.kept.put(entries...), d.states.put(states...))
}

// dropDefinitions forgets checks, but not their states.
func (d disk) dropDefinitions(checks []string) error {
	var entries []entry
	for _, id := range checks {
		entries = append(entries, entry{key: checkKey + id})
	}
	return d.put(entries...)
}

// flush waits until all services and checks are where they survive a power cut.
func (d disk) flush() error {
	if d.kept == nil {
		return nil
	}
	return d.kept.flush()
}

// keepState notes the state of a TTL check.
func (d disk) keepState(checkID string, s checkState) error {
	if d.states == nil {
		return nil
	}
	return d.states.put(entry{checkID, s})
}

// state returns what was kept of a TTL check; it is zero when nothing was.
func (d disk) state(checkID string) (s checkState, err error) {
	if d.states == nil {
		return s, nil
	}
	_, err = d.states.get(checkID, &s)
	return s, err
}

// dropExpired forgets the states that say nothing any more.
func (d disk) dropExpired() {
	for _, id := range d.states.keys() {
		if s, err := d.state(id); err != nil || !time.Now().Before(s.Expires) {
			d.states.forget(id)
		}
	}
}

// close lets go of the files until the next change.
func (d disk) close() error {
	if d.kept == nil {
		return nil
	}
	return errors.Join(d.kept.close(), d.states.close())
}

// ofCheck tells whether a key is that of a check.
func ofCheck(key string) bool { return strings.HasPrefix(key, checkKey) }
