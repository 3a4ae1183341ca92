package local

import (
	"context"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"isthmus/api"
	"isthmus/internal/checks"
)

// check is one check. Agent.mu guards what changes.
type check struct {
	def    api.CheckType
	of     string // the id of its service, if any
	runner checks.Runner

	origin   origin           // changes
	row      *api.HealthCheck // changes: replaced as a whole
	stop     func()           // changes: nil until the check is started
	reported bool             // changes: the check has said something
	due      time.Time        // changes: when the output is pushed too; zero when it does not wait
}

// CheckDefinition is a check of the configuration, with the service that it
// belongs to, if any.
type CheckDefinition struct {
	api.CheckType

	ServiceID string
}

func unknownCheck(id string) error {
	return api.Errorf(api.NotFound, "Unknown check ID %q. Ensure that the check ID is passed, not the check name.", id)
}

// AddCheck registers a check, of a service unless serviceID is empty. The same
// check registered again goes on as if nothing had happened.
func (a *Agent) AddCheck(def api.CheckType, serviceID string) error {
	if err := a.addCheck(def, serviceID); err != nil {
		return err
	}
	return a.disk.flush()
}

func (a *Agent) addCheck(def api.CheckType, serviceID string) error {
	a.edit.Lock()
	defer a.edit.Unlock()
	c, err := a.singleCheck(def, a.Service(serviceID), serviceID, fromAPI)
	if err != nil {
		return err
	}
	if err := a.disk.put(a.newCheckEntries([]*check{c}, true)...); err != nil {
		return err
	}
	a.restore(c)
	a.mu.Lock()
	a.putCheck(c)
	a.mu.Unlock()
	a.wake()
	return nil
}

// singleCheck makes a check that was defined outside of its service.
func (a *Agent) singleCheck(def api.CheckType, of *api.NodeService, serviceID string, from origin) (*check, error) {
	switch {
	case def.Name == "":
		return nil, api.Errorf(api.Invalid, "Missing check name")
	case serviceID != "" && of == nil:
		return nil, api.Errorf(api.NotFound, "ServiceID %q does not exist", serviceID)
	case def.CheckID == "":
		def.CheckID = def.Name
	}
	c, err := a.newCheck(def, of, from)
	if err != nil {
		return nil, err
	}
	// The protocol writes these differently for checks within a service.
	c.row.Interval, c.row.Timeout = time.Duration(def.Interval).String(), time.Duration(def.Timeout).String()
	return c, nil
}

// RemoveCheck takes a check out.
func (a *Agent) RemoveCheck(id string) error {
	if err := a.removeCheck(id); err != nil {
		return err
	}
	return a.disk.flush()
}

func (a *Agent) removeCheck(id string) error {
	a.edit.Lock()
	defer a.edit.Unlock()
	a.mu.Lock()
	c := a.checks[id]
	a.mu.Unlock()
	if c == nil {
		return unknownCheck(id)
	}
	if err := a.disk.drop(nil, []string{id}); err != nil {
		return err
	}
	a.mu.Lock()
	a.dropCheck(c)
	a.mu.Unlock()
	signal(a.changed)
	return nil
}

// newCheckEntries are what is to be kept of checks that are new or differ from
// those of the same id.
func (a *Agent) newCheckEntries(all []*check, single bool) (entries []entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range all {
		if old := a.checks[c.def.CheckID]; old == nil || old.origin != fromAPI || !old.same(c) {
			k := keptCheck{ServiceID: c.of, Single: single, Definition: c.def}
			entries = append(entries, k.entry())
		}
	}
	return entries
}

// restore gives a TTL check that is not there yet the state that was kept.
func (a *Agent) restore(c *check) {
	ttl, ok := c.runner.(*checks.TTL)
	a.mu.Lock()
	_, known := a.checks[c.def.CheckID]
	a.mu.Unlock()
	if !ok || known {
		return
	}
	state, err := a.disk.state(c.def.CheckID)
	if err != nil {
		a.log.Error("kept state of check is ignored", "check", c.def.CheckID, "err", err)
		return
	}
	if time.Now().Before(state.Expires) && validStatus(state.Status) {
		c.row.Status, c.row.Output = state.Status, state.Output
		ttl.Resume(state.Output)
	}
}

// same tells whether two checks are defined alike.
func (c *check) same(other *check) bool {
	return c.of == other.of && reflect.DeepEqual(c.def, other.def)
}

// putCheck takes a check in, in the place of one with the same id. What is
// defined alike goes on running; else the new one begins with the state of the
// old. The caller holds a.mu.
func (a *Agent) putCheck(c *check) {
	id := c.def.CheckID
	delete(a.goneChecks, id)
	old := a.checks[id]
	switch {
	case old == nil:
	case old.same(c):
		row := *c.row
		row.Status, row.Output = old.row.Status, old.row.Output
		old.origin = c.origin
		if !reflect.DeepEqual(&row, old.row) {
			old.row = &row
			a.unsyncedChecks[old] = struct{}{}
			a.tellAliases(c.of)
		}
		return
	default:
		a.unlink(old)
		if old.of == c.of {
			c.row.Status, c.row.Output = old.row.Status, old.row.Output
			if ttl, ok := c.runner.(*checks.TTL); ok {
				ttl.Resume(old.row.Output)
			}
		}
	}
	a.checks[id] = c
	a.checksOf[c.of] = append(a.checksOf[c.of], c)
	a.unsyncedChecks[c] = struct{}{}
	a.unstarted = append(a.unstarted, c)
	a.watchCritical(c)
	a.tellAliases(c.of)
}

// dropCheck takes a check out that has to go from the catalog by itself. The
// caller holds a.mu.
func (a *Agent) dropCheck(c *check) {
	a.takeOut(c)
	a.goneChecks[c.def.CheckID] = goneCheck{a.tokenOf(c.of), c.of}
}

// takeOut takes a check out here. The caller holds a.mu.
func (a *Agent) takeOut(c *check) {
	a.unlink(c)
	delete(a.checks, c.def.CheckID)
	a.tellAliases(c.of)
}

// unlink stops a check and forgets what is noted of it. The caller holds a.mu.
func (a *Agent) unlink(c *check) {
	c.halt()
	c.due = time.Time{}
	delete(a.unsyncedChecks, c)
	delete(a.critical, c)
	left := slices.DeleteFunc(a.checksOf[c.of], func(other *check) bool { return other == c })
	if a.checksOf[c.of] = left; len(left) == 0 {
		delete(a.checksOf, c.of)
	}
}

// halt stops a check without waiting for it: what it reports from now on is
// ignored.
func (c *check) halt() {
	if c.stop != nil {
		c.stop()
	}
}

// wake has new checks started and changes pushed.
func (a *Agent) wake() {
	signal(a.startable)
	signal(a.changed)
}

// report takes the result of a check.
func (a *Agent) report(c *check, status, output string) {
	if a.mute.Load() {
		output = ""
	}
	a.mu.Lock()
	first, old := !c.reported, c.row
	c.reported = true
	if a.checks[old.CheckID] != c || old.Status == status && old.Output == output {
		a.mu.Unlock()
		return
	}
	row := *old
	row.Status, row.Output = status, output
	c.row = &row
	turned := old.Status != status
	if turned || status != api.Passing {
		a.tellAliases(c.of)
	}
	if turned {
		a.watchCritical(c)
	}
	if turned || first || a.cfg.CheckUpdateInterval <= 0 {
		a.unsyncedChecks[c] = struct{}{}
		signal(a.changed)
	} else {
		a.pushLater(c)
	}
	a.mu.Unlock()
	if !turned {
		return
	}
	level := slog.LevelInfo
	if status == api.Critical {
		level = slog.LevelWarn
	}
	a.log.Log(context.Background(), level, "check changed", "check", row.CheckID, "status", status, "output", output)
}

// pushLater has an output pushed when it has waited long enough, or with what else
// is pushed of its check before. The caller holds a.mu.
func (a *Agent) pushLater(c *check) {
	if _, unsynced := a.unsyncedChecks[c]; unsynced {
		signal(a.changed)
		return
	}
	if !c.due.IsZero() {
		return
	}
	c.due = time.Now().Add(a.cfg.CheckUpdateInterval)
	a.waiting = append(a.waiting, waiting{c, c.due})
	if len(a.waiting) == 1 {
		signal(a.changed)
	}
}

// runChecks runs every check, those that come later too, until ctx is done.
func (a *Agent) runChecks(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		a.mu.Lock()
		starting := slices.DeleteFunc(a.unstarted, func(c *check) bool { return a.checks[c.def.CheckID] != c })
		a.unstarted = nil
		for _, c := range starting {
			a.run(ctx, c, &running)
		}
		a.mu.Unlock()
		for _, c := range starting {
			if ttl, ok := c.runner.(*checks.TTL); ok {
				ttl.Start() // not under a.mu: it reports while it holds a lock of its own
			}
		}
		select {
		case <-ctx.Done():
			a.haltAll()
			return nil
		case <-a.startable:
		}
	}
}

// run readies a check for being stopped and starts it, in a goroutine if it needs
// one: agents have thousands of checks that only wait. The caller holds a.mu.
func (a *Agent) run(ctx context.Context, c *check, running *sync.WaitGroup) {
	switch runner := c.runner.(type) {
	case idle:
	case *checks.TTL:
		c.stop = runner.Stop
	default:
		own, stop := context.WithCancel(ctx)
		c.stop = stop
		running.Go(func() {
			defer stop()
			if err := runner.Run(own); err != nil {
				a.log.Error("check stopped", "check", c.def.CheckID, "err", err)
			}
		})
	}
}

// haltAll stops every check.
func (a *Agent) haltAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.checks {
		c.halt()
	}
}
