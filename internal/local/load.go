package local

import (
	"os"
	"time"
)

// load takes in what the disk keeps. A file that cannot be understood or used is
// logged and left where it is: it is the only copy of what somebody registered.
func (a *Agent) load() error {
	if a.disk.dir == "" {
		return nil
	}
	names, err := a.disk.files(servicesDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		var k keptService
		err := read(name, &k)
		var p *plan
		if err == nil {
			p, err = a.plan(&k.ServiceDefinition, fromAPI, k.Sidecar)
		}
		if err != nil {
			a.log.Error("kept service is ignored", "file", name, "err", err)
			a.ignored = true
			continue
		}
		a.install(p, func(*check) bool { return false })
	}
	if names, err = a.disk.files(checksDir); err != nil {
		return err
	}
	for _, name := range names {
		var k keptCheck
		err := read(name, &k)
		if err == nil && k.ServiceID != "" && a.Service(k.ServiceID) == nil {
			a.orphans = append(a.orphans, k) // its service may be configured
			continue
		}
		if err == nil {
			err = a.addKept(k)
		}
		if err != nil {
			a.log.Error("kept check is ignored", "file", name, "err", err)
		}
	}
	return a.dropExpired()
}

// addKept takes in a check from the disk.
func (a *Agent) addKept(k keptCheck) error {
	of := a.Service(k.ServiceID)
	var c *check
	var err error
	switch {
	case k.Maintenance:
		c = a.newMaintenance(of, k.Definition.Notes)
	case k.Single:
		c, err = a.singleCheck(k.Definition, of, k.ServiceID, fromAPI)
	default:
		c, err = a.newCheck(k.Definition, of, fromAPI)
	}
	if err != nil {
		return err
	}
	a.restore(c)
	a.mu.Lock()
	a.putCheck(c)
	a.mu.Unlock()
	a.wake()
	return nil
}

// adoptOrphans takes in the kept checks whose service turned out to be
// configured, and forgets the others. The caller holds a.edit.
func (a *Agent) adoptOrphans() error {
	for _, k := range a.orphans {
		id := k.Definition.CheckID
		a.mu.Lock()
		_, known := a.checks[id]
		a.mu.Unlock()
		switch {
		case known: // configured by now
		case a.Service(k.ServiceID) == nil && a.ignored:
			a.log.Warn("kept check is ignored: its service may be one that is ignored", "check", id, "service", k.ServiceID)
		case a.Service(k.ServiceID) == nil:
			a.log.Warn("kept check is dropped: its service is gone", "check", id, "service", k.ServiceID)
			if err := a.disk.dropCheck(id); err != nil {
				return err
			}
		default:
			if err := a.addKept(k); err != nil {
				a.log.Error("kept check is ignored", "check", id, "err", err)
			}
		}
	}
	a.orphans = nil
	return nil
}

// dropExpired removes the states that say nothing any more.
func (a *Agent) dropExpired() error {
	names, err := a.disk.files(statesDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		var s checkState
		if err := read(name, &s); err == nil && time.Now().Before(s.Expires) {
			continue
		}
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	return nil
}
