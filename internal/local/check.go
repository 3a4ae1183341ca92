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

// minReap is the shortest time that a check must be critical before its service
// is removed.
const minReap = time.Minute

// check is one check. Agent.mu guards what changes.
type check struct {
	def    api.CheckType
	of     string // the id of its service, if any
	runner checks.Runner
	turned chan struct{} // signals a change of state; nil unless its service is removed for being critical

	origin   origin             // changes
	row      *api.HealthCheck   // changes: replaced as a whole
	stop     context.CancelFunc // changes: nil until the check is started
	reported bool               // changes: the check has said something
	synced   bool               // changes: the catalog has row, or has it but for the output
	due      time.Time          // changes: when the output is pushed too; zero when the catalog has it
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
	a.edit.Lock()
	defer a.edit.Unlock()
	c, err := a.singleCheck(def, a.Service(serviceID), serviceID, fromAPI)
	if err != nil {
		return err
	}
	if err := a.keepChecks([]*check{c}, true); err != nil {
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
	a.edit.Lock()
	defer a.edit.Unlock()
	a.mu.Lock()
	_, known := a.checks[id]
	a.mu.Unlock()
	if !known {
		return unknownCheck(id)
	}
	if err := a.disk.dropCheck(id); err != nil {
		return err
	}
	a.mu.Lock()
	a.dropCheck(id)
	a.mu.Unlock()
	signal(a.changed)
	return nil
}

// keepChecks writes the files of checks that are new or differ from those of the
// same id.
func (a *Agent) keepChecks(all []*check, single bool) error {
	for _, c := range all {
		a.mu.Lock()
		old := a.checks[c.def.CheckID]
		kept := old != nil && old.origin == fromAPI && old.same(c)
		a.mu.Unlock()
		if kept {
			continue
		}
		if err := a.disk.keepCheck(keptCheck{ServiceID: c.of, Single: single, Definition: c.def}); err != nil {
			return err
		}
	}
	return nil
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
			old.row, old.synced = &row, false
			a.tellAliases(c.of)
		}
		return
	default:
		old.halt()
		if old.of == c.of {
			c.row.Status, c.row.Output = old.row.Status, old.row.Output
			if ttl, ok := c.runner.(*checks.TTL); ok {
				ttl.Resume(old.row.Output)
			}
		}
	}
	a.checks[id] = c
	a.unstarted = append(a.unstarted, c)
	a.tellAliases(c.of)
}

// dropCheck takes a check out. The caller holds a.mu.
func (a *Agent) dropCheck(id string) {
	c := a.checks[id]
	if c == nil {
		return
	}
	c.halt()
	delete(a.checks, id)
	a.tellAliases(c.of)
	a.goneChecks[id] = gone{token: a.tokenOf(c.of), serviceID: c.of}
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
	if a.cfg.DiscardOutput {
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
	switch {
	case turned || first || !c.synced || a.cfg.CheckUpdateInterval <= 0:
		c.synced = false
		signal(a.changed)
	case c.due.IsZero():
		c.due = time.Now().Add(a.cfg.CheckUpdateInterval)
		signal(a.changed)
	}
	a.mu.Unlock()
	if !turned {
		return
	}
	if c.turned != nil {
		signal(c.turned)
	}
	level := slog.LevelInfo
	if status == api.Critical {
		level = slog.LevelWarn
	}
	a.log.Log(context.Background(), level, "check changed", "check", row.CheckID, "status", status, "output", output)
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
			own, stop := context.WithCancel(ctx)
			c.stop = stop
			running.Go(func() {
				defer stop()
				if err := c.runner.Run(own); err != nil {
					a.log.Error("check stopped", "check", c.def.CheckID, "err", err)
				}
			})
			if c.turned != nil {
				running.Go(func() { a.reap(own, c) })
			}
		}
		a.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-a.startable:
		}
	}
}

// reap removes the service of a check that stays critical for too long.
func (a *Agent) reap(ctx context.Context, c *check) {
	after := max(time.Duration(c.def.DeregisterCriticalServiceAfter), minReap)
	for {
		limit, cancel := ctx, context.CancelFunc(func() {})
		if a.critical(c) {
			limit, cancel = context.WithTimeout(ctx, after)
		}
		select {
		case <-c.turned:
			cancel()
			continue
		case <-limit.Done():
			cancel()
		}
		if ctx.Err() != nil {
			return
		}
		if !a.critical(c) {
			continue
		}
		err := a.RemoveService(c.of)
		if err == nil {
			a.log.Warn("service removed: its check was critical for too long", "service", c.of, "check", c.def.CheckID, "after", after)
			return
		}
		if api.CodeOf(err) == api.NotFound {
			return
		}
		a.log.Error("service is critical for too long but cannot be removed", "service", c.of, "err", err)
	}
}

func (a *Agent) critical(c *check) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return c.row.Status == api.Critical
}
