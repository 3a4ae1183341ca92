package local

import (
	"context"

	"isthmus/api"
)

// The ids of the checks that stand for maintenance; that of a service is
// followed by the service's id.
const (
	nodeMaintenance    = "_node_maintenance"
	serviceMaintenance = "_service_maintenance:"
)

// SetMaintenance takes a service, or the whole node when none is named, out of use
// or back into it. The reason is for people; one is made up when it is empty. It
// stays as it is for what is in maintenance already, and the maintenance outlives
// a restart.
func (a *Agent) SetMaintenance(serviceID string, on bool, reason string) error {
	if err := a.changeMaintenance(serviceID, on, reason); err != nil {
		return err
	}
	return a.disk.flush()
}

func (a *Agent) changeMaintenance(serviceID string, on bool, reason string) error {
	a.edit.Lock()
	defer a.edit.Unlock()
	what := "node"
	var of *api.NodeService
	if serviceID != "" {
		what = "service"
		if of = a.Service(serviceID); of == nil {
			return unknownService(serviceID)
		}
	}
	if reason == "" {
		reason = "Maintenance mode is enabled for this " + what + ", but no reason was provided. This is a default message."
	}
	return a.setMaintenance(a.newMaintenance(of, reason), on)
}

// setMaintenance takes the check that stands for a maintenance in or out. The
// caller holds a.edit.
func (a *Agent) setMaintenance(c *check, on bool) error {
	id := c.def.CheckID
	a.mu.Lock()
	old := a.checks[id]
	a.mu.Unlock()
	if on == (old != nil) {
		return nil
	}
	var err error
	if on {
		k := keptCheck{ServiceID: c.of, Maintenance: true, Definition: c.def}
		err = a.disk.put(k.entry())
	} else {
		err = a.disk.drop(nil, []string{id})
	}
	if err != nil {
		return err
	}
	a.mu.Lock()
	if on {
		a.putCheck(c)
	} else {
		a.dropCheck(old)
	}
	a.mu.Unlock()
	a.wake()
	a.log.Info("maintenance changed", "service", c.of, "on", on, "reason", c.def.Notes)
	return nil
}

// newMaintenance makes the check that stands for the maintenance of a service, or
// of the node when there is none.
func (a *Agent) newMaintenance(of *api.NodeService, reason string) *check {
	c := &check{
		def:    api.CheckType{CheckID: nodeMaintenance, Name: "Node Maintenance Mode", Notes: reason, Status: api.Critical},
		origin: fromAPI, runner: idle{},
	}
	tags := []string{}
	if of != nil {
		c.of, tags = of.ID, of.Tags
		c.def.CheckID, c.def.Name = serviceMaintenance+of.ID, "Service Maintenance Mode"
	}
	c.row = &api.HealthCheck{
		Node: a.cfg.Node, CheckID: c.def.CheckID, Name: c.def.Name, Status: api.Critical, Notes: reason,
		ServiceID: c.of, ServiceTags: tags, Type: "maintenance",
	}
	if of != nil {
		c.row.ServiceName = of.Service
	}
	return c
}

// idle is the runner of a check whose state never changes.
type idle struct{}

func (idle) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
