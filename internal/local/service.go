package local

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"

	"isthmus/api"
)

// dnsLabel is what DNS can carry of a name.
var dnsLabel = regexp.MustCompile(`^[A-Za-z0-9-]+$`)

// plan is a service on its way in, with the checks of its definition.
type plan struct {
	def     api.ServiceDefinition
	service *service
	checks  []*check
}

// plan makes a service and its checks of a definition. A sidecar was validated
// by who made its definition of that of its service.
func (a *Agent) plan(def *api.ServiceDefinition, from origin, sidecar bool) (*plan, error) {
	if !sidecar {
		if err := validateService(def); err != nil {
			return nil, err
		}
	}
	s := newService(def)
	s.origin, s.row.LocallyRegisteredAsSidecar = from, sidecar
	p := &plan{def: *def, service: s}
	for _, d := range serviceChecks(def) {
		c, err := a.newCheck(d, s.row, from)
		if err != nil {
			return nil, err
		}
		p.checks = append(p.checks, c)
	}
	return p, nil
}

// AddService registers a service with the checks of its definition, and the
// sidecar that it defines; one that it had before stays. Checks that
// it had before stay, unless replaceChecks is set. What is registered again as it
// is goes on as if nothing had happened.
func (a *Agent) AddService(def api.ServiceDefinition, replaceChecks bool) error {
	if err := a.addService(def, replaceChecks); err != nil {
		return err
	}
	return a.disk.flush()
}

func (a *Agent) addService(def api.ServiceDefinition, replaceChecks bool) error {
	a.edit.Lock()
	defer a.edit.Unlock()
	plans, err := a.planAll(&def, fromAPI, map[int]bool{})
	if err != nil {
		return err
	}
	// The sidecar comes first: without its service it goes at the next start, so
	// that a registration cut short leaves nothing.
	var kept []entry
	for _, p := range slices.Backward(plans) {
		kept = append(kept, a.newEntries(p)...)
	}
	if err := a.disk.put(kept...); err != nil {
		return err
	}
	for _, p := range plans {
		dropped := a.install(p, func(*check) bool { return replaceChecks })
		if err := a.disk.drop(nil, dropped); err != nil {
			return err
		}
	}
	return nil
}

// newEntries are what is to be kept of a service and its checks, unless it is.
func (a *Agent) newEntries(p *plan) (all []entry) {
	a.mu.Lock()
	old := a.services[p.service.row.ID]
	kept := old != nil && old.origin == fromAPI && old.same(p.service)
	a.mu.Unlock()
	if !kept {
		k := keptService{p.def, p.service.row.LocallyRegisteredAsSidecar}
		k.Check, k.Checks = api.CheckType{}, nil
		if k.Connect != nil {
			k.Connect = new(*k.Connect)
			k.Connect.SidecarService = nil
		}
		all = append(all, k.entry())
	}
	return append(all, a.newCheckEntries(p.checks, false)...)
}

func (s *service) same(other *service) bool {
	return s.token == other.token && reflect.DeepEqual(s.asked, other.asked)
}

// install takes a service and its checks in. Of the other checks that the service
// had, those go for which drop says so; their ids are returned.
func (a *Agent) install(p *plan, drop func(*check) bool) (dropped []string) {
	if name := p.service.row.Service; !dnsLabel.MatchString(name) {
		a.log.Warn("service cannot be looked up in DNS: that takes letters, digits and - only", "service", name)
	}
	for _, c := range p.checks {
		a.restore(c)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s, id := p.service, p.service.row.ID
	if old := a.services[id]; old != nil && old.same(s) {
		old.origin = s.origin
		s = old
	} else {
		a.services[id] = s
		delete(a.unsyncedServices, old)
		a.unsyncedServices[s] = struct{}{}
		a.tell(id)
	}
	a.revive(id)
	for _, c := range p.checks {
		c.row = withService(c.row, s.row)
		a.putCheck(c)
	}
	for _, c := range slices.Clone(a.checksOf[id]) {
		if drop(c) && !slices.ContainsFunc(p.checks, func(n *check) bool { return n.def.CheckID == c.def.CheckID }) {
			a.dropCheck(c)
			dropped = append(dropped, c.def.CheckID)
			continue
		}
		a.follow(c, s.row)
	}
	a.wake()
	return dropped
}

// revive notes that a service is here again. Those of its checks that are not
// have to go by themselves now. The caller holds a.mu.
func (a *Agent) revive(id string) {
	was := a.goneServices[id]
	delete(a.goneServices, id)
	for _, checkID := range was.checks {
		if a.checks[checkID] == nil {
			a.goneChecks[checkID] = goneCheck{was.token, id}
		}
	}
}

// follow gives a check the name and tags of its service. The caller holds a.mu.
func (a *Agent) follow(c *check, s *api.NodeService) {
	if row := withService(c.row, s); row != c.row {
		c.row = row
		a.unsyncedChecks[c] = struct{}{}
	}
}

// withService is a check with the name and tags of its service.
func withService(c *api.HealthCheck, s *api.NodeService) *api.HealthCheck {
	if c.ServiceName == s.Service && slices.Equal(c.ServiceTags, s.Tags) {
		return c
	}
	row := *c
	row.ServiceName, row.ServiceTags = s.Service, s.Tags
	return &row
}

func unknownService(id string) error {
	return api.Errorf(api.NotFound, "Unknown service ID %q. Ensure that the service ID is passed, not the service name.", id)
}

// RemoveService takes a service and its checks out, and the sidecar that it
// defined.
func (a *Agent) RemoveService(id string) error {
	a.edit.Lock()
	err := a.removeService(id)
	a.edit.Unlock()
	if err != nil {
		return err
	}
	return a.disk.flush()
}

// removeService is RemoveService for who holds a.edit, but for the wait for the
// disk.
func (a *Agent) removeService(id string) error {
	a.mu.Lock()
	_, known := a.services[id]
	ids := a.removedWith(id)
	var owned []string
	for _, id := range ids {
		for _, c := range a.checksOf[id] {
			owned = append(owned, c.def.CheckID)
		}
	}
	a.mu.Unlock()
	if !known {
		return unknownService(id)
	}
	if err := a.disk.drop(ids, owned); err != nil {
		return err
	}
	a.mu.Lock()
	for _, id := range ids {
		s := a.services[id]
		g := goneService{token: s.token}
		for _, c := range slices.Clone(a.checksOf[id]) {
			a.takeOut(c)
			g.checks = append(g.checks, c.def.CheckID)
		}
		a.goneServices[id] = g
		delete(a.unsyncedServices, s)
		delete(a.services, id)
		a.tell(id)
	}
	a.mu.Unlock()
	signal(a.changed)
	return nil
}

// SetConfigured replaces the services and checks of the configuration. Those that
// stay as they are keep their state. When one cannot be right nothing changes.
func (a *Agent) SetConfigured(services []api.ServiceDefinition, all []CheckDefinition) error {
	a.edit.Lock()
	defer a.edit.Unlock()
	plans, singles, err := a.planConfigured(services, all)
	if err != nil {
		return err
	}
	configured := map[string]bool{}
	for _, p := range plans {
		for _, c := range p.checks {
			configured[c.def.CheckID] = true
		}
	}
	for _, c := range singles {
		configured[c.def.CheckID] = true
	}
	for _, p := range plans {
		if err := a.disk.drop([]string{p.service.row.ID}, nil); err != nil {
			return err
		}
		a.install(p, func(c *check) bool { return c.origin == fromConfig && !configured[c.def.CheckID] })
	}
	for _, c := range singles {
		a.restore(c)
		a.mu.Lock()
		a.putCheck(c)
		a.mu.Unlock()
	}
	a.wake()
	if err := a.removeUnconfigured(plans, configured); err != nil {
		return err
	}
	if err := a.adoptOrphans(); err != nil {
		return err
	}
	return a.dropStraySidecars()
}

func (a *Agent) planConfigured(services []api.ServiceDefinition, all []CheckDefinition) (plans []*plan, singles []*check, err error) {
	var wrong []error
	rows := map[string]*api.NodeService{}
	reserved := askedPorts(services)
	for i := range services {
		planned, err := a.planAll(&services[i], fromConfig, reserved)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("service %q: %w", serviceID(&services[i]), err))
			continue
		}
		for _, p := range planned {
			if rows[p.service.row.ID] != nil {
				wrong = append(wrong, fmt.Errorf("service %q is configured twice", p.service.row.ID))
			}
			rows[p.service.row.ID] = p.service.row
			plans = append(plans, p)
		}
	}
	for i := range all {
		of := rows[all[i].ServiceID]
		if of == nil {
			of = a.Service(all[i].ServiceID)
		}
		c, err := a.singleCheck(all[i].CheckType, of, all[i].ServiceID, fromConfig)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("check %q: %w", all[i].Name, err))
			continue
		}
		singles = append(singles, c)
	}
	return plans, singles, errors.Join(wrong...)
}

// removeUnconfigured takes out what is no longer configured, and forgets what was
// kept of what now is.
func (a *Agent) removeUnconfigured(plans []*plan, configured map[string]bool) error {
	services, stale := a.unconfigured(plans, configured)
	for _, id := range services {
		if a.Service(id) == nil {
			continue // it was the sidecar of one that is gone
		}
		if err := a.removeService(id); err != nil {
			return err
		}
	}
	if err := a.disk.drop(nil, stale); err != nil {
		return err
	}
	if err := a.disk.dropDefinitions(slices.Collect(maps.Keys(configured))); err != nil {
		return err
	}
	a.mu.Lock()
	for _, id := range stale {
		if c := a.checks[id]; c != nil {
			a.dropCheck(c)
		}
	}
	a.mu.Unlock()
	signal(a.changed)
	return nil
}

// unconfigured are the services and the checks that were configured until now.
func (a *Agent) unconfigured(plans []*plan, configured map[string]bool) (services, checks []string) {
	listed := map[string]bool{}
	for _, p := range plans {
		listed[p.service.row.ID] = true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, s := range a.services {
		if s.origin == fromConfig && !listed[id] {
			services = append(services, id)
		}
	}
	for id, c := range a.checks {
		if c.origin == fromConfig && !configured[id] {
			checks = append(checks, id)
		}
	}
	return services, checks
}
