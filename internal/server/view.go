package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"isthmus/api"
	"isthmus/internal/federation"
	"isthmus/internal/rpc"
	"isthmus/internal/state"
	"isthmus/internal/wire"
)

// bindView binds how this server sees the federation.
func bindView(s *Server) {
	rpc.Bind(s.handlers, wire.FederationStatus, func(context.Context, rpc.Header, *wire.Empty) (wire.ServerView, rpc.Meta, error) {
		return s.view(), rpc.Meta{}, nil
	})
}

func (s *Server) view() wire.ServerView {
	v := wire.ServerView{
		Node: s.cfg.Node, Datacenter: s.cfg.Datacenter, Leader: s.log.IsLeader(), Replication: s.copier.View(),
	}
	states := map[string]*api.FederationState{}
	for f := range state.FederationStates(s.state.Read()) {
		states[f.Datacenter] = f
	}
	names := s.router.Datacenters()
	known := map[string]bool{}
	for _, dc := range names {
		known[dc] = true
	}
	for f := range state.FederationStates(s.state.Read()) {
		if !known[f.Datacenter] {
			names = append(names, f.Datacenter)
		}
	}
	for _, dc := range names {
		v.Datacenters = append(v.Datacenters, s.viewOf(dc, states[dc]))
	}
	return v
}

// Routes of a DatacenterView.
const (
	RouteDirect  = "direct"
	RouteOwn     = "own gateway"
	RoutePrimary = "primary gateway"
	RouteNone    = "none"
)

// viewOf tells how this server reaches a datacenter, and what is wrong with it.
func (s *Server) viewOf(dc string, f *api.FederationState) wire.DatacenterView {
	v := wire.DatacenterView{Name: dc, Primary: dc == s.cfg.Primary, Route: RouteDirect}
	for _, server := range s.router.Servers(dc) {
		v.Servers++
		if server.Alive {
			v.ServersAlive++
		}
	}
	problem := func(format string, args ...any) { v.Problems = append(v.Problems, fmt.Sprintf(format, args...)) }
	switch {
	case v.Servers == 0:
		problem("no server of it is known: is its name right, and has it joined?")
	case v.ServersAlive < v.Servers:
		problem("%d of %d servers are not alive", v.Servers-v.ServersAlive, v.Servers)
	}
	if s.locator == nil {
		return v
	}
	if f != nil {
		v.UpdatedAt = f.UpdatedAt
	}
	switch {
	case f == nil:
		problem("it has not published its mesh gateways yet")
	case !slices.ContainsFunc(f.MeshGateways, func(g api.CheckServiceNode) bool { return federation.Usable(&g) }):
		problem("none of its %d mesh gateways is usable: start one with -expose-servers, and see its check", len(f.MeshGateways))
	}
	if dc == s.cfg.Datacenter {
		return v
	}
	v.Gateways = s.locator.View(v.Primary)
	v.Route = routeOf(v.Gateways)
	switch {
	case v.Route == RouteNone:
		problem("no mesh gateway leads there")
	case v.Route == RoutePrimary:
		problem("the own mesh gateways do not work: the primary's are used")
	case v.Gateways[0].Error != "":
		problem("the last dial through %s failed: %s", v.Gateways[0].Address, v.Gateways[0].Error)
	}
	if v.Primary && s.copier.View().LastError != "" {
		problem("replication is behind since %s: %s", s.copier.View().LastSuccess.Format(time.RFC3339), s.copier.View().LastError)
	}
	return v
}

func routeOf(gateways []wire.GatewayView) string {
	switch {
	case len(gateways) == 0:
		return RouteNone
	case gateways[0].Own:
		return RouteOwn
	}
	return RoutePrimary
}
