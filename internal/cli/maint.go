package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

type maint struct {
	Enable  bool   `flag:"enable"  doc:"Take the node, or the service, out of use."`
	Disable bool   `flag:"disable" doc:"Take it back into use."`
	Reason  string `flag:"reason"  doc:"Why it is taken out of use."`
	Service string `flag:"service" doc:"ID of the service that this is about; the whole node when not given."`

	Ignored []string `arg:"[ignored...]"`
}

func (*maint) Help() string {
	return `Without arguments, it tells what is under maintenance. Nodes and services under
maintenance have a critical check, so that nobody is led to them. It outlives a
restart of the agent.`
}

func (c *maint) Run(ctx context.Context, e *Env) error {
	switch {
	case c.Enable && c.Disable:
		return failf("Only one of -enable or -disable may be provided")
	case !c.Enable && c.Reason != "":
		return failf("Reason may only be provided with -enable")
	case !c.Enable && !c.Disable && c.Service != "":
		return failf("Service requires either -enable or -disable")
	}
	if !c.Enable && !c.Disable {
		return c.show(e)
	}
	return c.change(ctx, e)
}

// change takes what the flags name out of use, or back into it.
func (c *maint) change(ctx context.Context, e *Env) error {
	what, of, verb, doing := "node", "", "disabled", "disabling"
	if c.Enable {
		verb, doing = "enabled", "enabling"
	}
	if c.Service != "" {
		what, of = "service", fmt.Sprintf(" for %q", c.Service)
	}
	var err error
	switch agent, opts := e.Client().Agent(), e.Query(ctx); {
	case c.Service != "" && c.Enable:
		err = agent.EnableServiceMaintenanceOpts(c.Service, c.Reason, opts)
	case c.Service != "":
		err = agent.DisableServiceMaintenanceOpts(c.Service, opts)
	case c.Enable:
		err = agent.EnableNodeMaintenance(c.Reason)
	default:
		err = agent.DisableNodeMaintenance()
	}
	if err != nil {
		return failf("Error %s %s maintenance: %w", doing, what, err)
	}
	return e.printf("%s maintenance is now %s%s\n", strings.ToUpper(what[:1])+what[1:], verb, of)
}

// show prints what is under maintenance: the node, then services by id.
func (*maint) show(e *Env) error {
	name, err := e.Client().Agent().NodeName()
	if err != nil {
		return failf("Error querying Consul agent: %w", err)
	}
	checks, err := e.Client().Agent().Checks()
	if err != nil {
		return failf("Error getting checks: %w", err)
	}
	for _, id := range slices.Sorted(maps.Keys(checks)) {
		var err error
		switch check := checks[id]; {
		case id == "_node_maintenance":
			err = e.printf("Node:\n  Name:   %s\n  Reason: %s\n\n", name, check.Notes)
		case strings.HasPrefix(id, "_service_maintenance:"):
			err = e.printf("Service:\n  ID:     %s\n  Reason: %s\n\n", check.ServiceID, check.Notes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
