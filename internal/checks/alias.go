package checks

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// alias is a runner that takes over the state of a service, or of a node. It does
// not poll: it is told of changes.
type alias struct {
	node, service string
	report        Report
	env           *Env
}

func newAlias(def *api.CheckType, report Report, env *Env) (Runner, error) {
	return &alias{def.AliasNode, def.AliasService, report, env}, nil
}

// Run implements Runner.
func (a *alias) Run(ctx context.Context) error {
	if a.node != "" && !strings.EqualFold(a.node, a.env.Node) {
		return a.followCatalog(ctx)
	}
	for target := range a.env.Local(ctx, a.service) {
		if ctx.Err() != nil {
			return nil
		}
		a.report(a.judge(target.Exists, target.Checks))
	}
	return nil
}

// followCatalog follows what is on another node. While the catalog does not
// answer the state stays as it was.
func (a *alias) followCatalog(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	nodes, checks := make(chan *api.NodeServices), make(chan []*api.HealthCheck)
	query := wire.NodeQuery{Node: a.node}
	g.Go(func() error { return follow(ctx, a, wire.CatalogNodeServices, query, nodes) })
	g.Go(func() error { return follow(ctx, a, wire.HealthNodeChecks, query, checks) })
	g.Go(func() error {
		var node *api.NodeServices
		var of []*api.HealthCheck
		for answered := [2]bool{}; ; {
			select {
			case <-ctx.Done():
				return nil
			case node = <-nodes:
				answered[0] = true
			case of = <-checks:
				answered[1] = true
			}
			if answered == [2]bool{true, true} {
				a.report(a.judge(node != nil && (a.service == "" || node.Services[a.service] != nil), of))
			}
		}
	})
	return g.Wait() //nolint:wrapcheck // none of them fails
}

// follow sends what the catalog knows of the node, and again when it changes.
func follow[T any](ctx context.Context, a *alias, m rpc.Method[wire.NodeQuery, T], query wire.NodeQuery, to chan<- T) error {
	header := rpc.Header{Token: a.env.Token, AllowStale: true}
	for u, err := range m.Watch(ctx, a.env.Caller, header, query) {
		if err != nil {
			a.env.Log.Warn("what an alias check follows is not known", "node", a.node, "service", a.service, "err", err)
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case to <- u.Out:
		}
	}
	return nil
}

// judge makes a state of those of the checks: the worst, and why.
func (a *alias) judge(exists bool, all []*api.HealthCheck) (status, output string) {
	if !exists && a.service == "" {
		return api.Critical, fmt.Sprintf("Node %s could not be found", a.node)
	}
	if !exists {
		return api.Critical, fmt.Sprintf("Service %s could not be found on node %s", a.service, a.node)
	}
	status, output = api.Passing, "No checks found."
	for _, c := range slices.SortedFunc(slices.Values(all), byID) {
		if c.ServiceID != "" && c.ServiceID != a.service {
			continue
		}
		switch {
		case c.Status == api.Critical:
			return api.Critical, failing(c)
		case c.Status == api.Warning && status == api.Passing:
			status, output = api.Warning, failing(c)
		case status == api.Passing:
			output = "All checks passing."
		}
	}
	return status, output
}

func byID(x, y *api.HealthCheck) int { return strings.Compare(x.CheckID, y.CheckID) }

func failing(c *api.HealthCheck) string {
	return fmt.Sprintf("Aliased check %q failing: %s", c.Name, c.Output)
}
