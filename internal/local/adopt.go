package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"isthmus/api"
)

// The directories in which agents of the reference keep services, checks and the
// states of TTL checks, a file each.
const (
	adoptedServices = "services"
	adoptedChecks   = "checks"
	adoptedStates   = "checks/state"
)

// ofSettings marks what such a file copies from the settings.
const ofSettings = "local"

// adopt takes over what an agent of the reference kept in dir, so that changing the
// binary loses nothing, unless there is something of our own. Its files stay, for
// whoever changes back. What cannot be understood is logged.
func (a *Agent) adopt(dir string) error {
	if a.disk.kept.size > 0 {
		return nil
	}
	var kept []entry
	err := a.each(dir, adoptedServices, func(text []byte) error {
		k, err := adoptService(text)
		if k != nil {
			kept = append(kept, k.entry())
		}
		return err
	})
	err = errors.Join(err, a.each(dir, adoptedChecks, func(text []byte) error {
		k, err := adoptCheck(text)
		if k != nil {
			kept = append(kept, k.entry())
		}
		return err
	}))
	err = errors.Join(err, a.each(dir, adoptedStates, func(text []byte) error {
		var s struct {
			CheckID, Output, Status string
			Expires                 int64 // in seconds of Unix time
		}
		if err := json.Unmarshal(text, &s); err != nil {
			return err
		}
		return a.disk.keepState(s.CheckID, checkState{Status: s.Status, Output: s.Output, Expires: time.Unix(s.Expires, 0)})
	}))
	if err != nil || len(kept) == 0 {
		return err
	}
	a.log.Info("services and checks that another agent kept are taken over", "count", len(kept), "from", dir)
	return errors.Join(a.disk.put(kept...), a.disk.flush())
}

// each hands the files of a directory, which need not be there, to read.
func (a *Agent) each(dir, name string, read func(text []byte) error) error {
	files, err := os.ReadDir(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range files {
		if !f.Type().IsRegular() || strings.HasSuffix(f.Name(), ".tmp") { // which a crash left
			continue
		}
		path := filepath.Join(dir, name, f.Name())
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := read(text); err != nil {
			a.log.Error("kept registration of another agent is ignored", "file", path, "err", err)
		}
	}
	return nil
}

// adoptService returns nil for what comes from the settings.
func adoptService(text []byte) (*keptService, error) {
	var file struct {
		Token, Source              string
		Service                    *api.NodeService
		LocallyRegisteredAsSidecar bool
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	s := file.Service
	switch {
	case s == nil || s.Service == "":
		return nil, errors.New("it names no service")
	case file.Source == ofSettings:
		return nil, nil //nolint:nilnil // as said above
	}
	def := api.ServiceDefinition{
		Kind: s.Kind, ID: s.ID, Name: s.Service, Tags: s.Tags, Address: s.Address, TaggedAddresses: s.TaggedAddresses, Meta: s.Meta,
		Port: s.Port, SocketPath: s.SocketPath, Weights: s.Weights, Token: file.Token, EnableTagOverride: s.EnableTagOverride,
		Locality: s.Locality,
	}
	if !reflect.ValueOf(s.Proxy).IsZero() {
		def.Proxy = &s.Proxy
	}
	if s.Connect.Native {
		def.Connect = &api.ServiceConnect{Native: true}
	}
	return &keptService{ServiceDefinition: def, Sidecar: file.LocallyRegisteredAsSidecar}, nil
}

// adoptCheck returns nil for what comes from the settings. Maintenance has no
// definition there.
func adoptCheck(text []byte) (*keptCheck, error) {
	var file struct {
		Source  string
		Check   *api.HealthCheck
		ChkType *api.CheckType
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	c := file.Check
	switch {
	case c == nil || c.CheckID == "":
		return nil, errors.New("it names no check")
	case c.CheckID == nodeMaintenance || strings.HasPrefix(c.CheckID, serviceMaintenance):
		def := api.CheckType{CheckID: c.CheckID, Name: c.Name, Notes: c.Notes, Status: api.Critical}
		return &keptCheck{ServiceID: c.ServiceID, Maintenance: true, Definition: def}, nil
	case file.Source == ofSettings:
		return nil, nil //nolint:nilnil // as said above
	case file.ChkType == nil:
		return nil, fmt.Errorf("check %q has no definition", c.CheckID)
	}
	def := *file.ChkType
	def.CheckID, def.Name, def.Notes = c.CheckID, c.Name, c.Notes
	// The ids of checks that a service was defined with are made of its own.
	single := c.ServiceID == "" || !strings.HasPrefix(c.CheckID, "service:"+c.ServiceID)
	return &keptCheck{ServiceID: c.ServiceID, Single: single, Definition: def}, nil
}
