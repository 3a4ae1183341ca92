package local

import "fmt"

// load takes in what the disk keeps. What cannot be understood or used is logged
// and left where it is: it is the only copy of what somebody registered.
func (a *Agent) load() error {
	var err error
	if a.disk, err = openDisk(a.cfg.Dir); err != nil || a.disk.kept == nil {
		return err
	}
	if err := a.adopt(a.cfg.Dir); err != nil {
		return fmt.Errorf("take over what another agent kept: %w", err)
	}
	keys := a.disk.kept.keys()
	for _, key := range keys {
		if ofCheck(key) {
			continue // after the services
		}
		var k keptService
		_, err := a.disk.kept.get(key, &k)
		var p *plan
		if err == nil {
			p, err = a.plan(&k.ServiceDefinition, fromAPI, k.Sidecar)
		}
		if err != nil {
			a.log.Error("kept registration is ignored", "file", a.disk.kept.path, "key", key, "err", err)
			a.ignored = true
			continue
		}
		a.install(p, func(*check) bool { return false })
	}
	for _, key := range keys {
		if !ofCheck(key) {
			continue
		}
		var k keptCheck
		_, err := a.disk.kept.get(key, &k)
		if err == nil && k.ServiceID != "" && a.Service(k.ServiceID) == nil {
			a.orphans = append(a.orphans, k) // its service may be configured
			continue
		}
		if err == nil {
			err = a.addKept(k)
		}
		if err != nil {
			a.log.Error("kept registration is ignored", "file", a.disk.kept.path, "key", key, "err", err)
		}
	}
	a.disk.dropExpired()
	return nil
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
			if err := a.disk.drop(nil, []string{id}); err != nil {
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
