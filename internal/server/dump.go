package server

import (
	"maps"
	"slices"

	"isthmus/api"
	"isthmus/internal/acl"
	"isthmus/internal/state"
	"isthmus/internal/store"
	"isthmus/internal/wire"
)

// bindDump binds the reads of whoever shows a whole datacenter.
func bindDump(s *Server) {
	readableNode := only(func(z acl.Authorizer, n *wire.NodeInfo) bool { return z.Allow(acl.Node, n.Node, acl.Read) == nil })
	bindRead(s, wire.NodeDump, Read[wire.DCQuery, []*wire.NodeInfo]{
		Run: func(tx *store.Tx, _ *wire.DCQuery) ([]*wire.NodeInfo, error) {
			out := []*wire.NodeInfo{}
			for n := range state.Nodes(tx) {
				out = append(out, nodeInfo(tx, n))
			}
			return out, nil
		},
		Where:  where[wire.DCQuery, wire.NodeInfo](),
		Filter: readableNode,
	})
	bindRead(s, wire.NodeInfoRead, Read[wire.NodeQuery, []*wire.NodeInfo]{
		Allow: allowNode,
		Run: func(tx *store.Tx, in *wire.NodeQuery) ([]*wire.NodeInfo, error) {
			if n := state.Node(tx, in.Node); n != nil {
				return []*wire.NodeInfo{nodeInfo(tx, n)}, nil
			}
			return []*wire.NodeInfo{}, nil
		},
		Filter: readableNode,
	})
	bindRead(s, wire.CatalogOverview, Read[wire.DCQuery, wire.CatalogSummary]{
		Allow: func(z acl.Authorizer, _ *wire.DCQuery) error { return z.Allow(acl.Operator, "", acl.Read) },
		Run:   func(tx *store.Tx, _ *wire.DCQuery) (wire.CatalogSummary, error) { return overview(tx), nil },
	})
}

func nodeInfo(tx *store.Tx, n *api.Node) *wire.NodeInfo {
	return &wire.NodeInfo{
		ID: n.ID, Node: n.Node, Address: n.Address, PeerName: n.PeerName, TaggedAddresses: n.TaggedAddresses, Meta: n.Meta,
		Services: slices.AppendSeq([]*api.NodeService{}, state.NodeServices(tx, n.Node)),
		Checks:   slices.AppendSeq([]*api.HealthCheck{}, state.NodeChecks(tx, n.Node)),
	}
}

// overview counts nodes by their own checks, instances by theirs and their nodes',
// and checks by their names.
func overview(tx *store.Tx) wire.CatalogSummary {
	var nodes wire.HealthSummary
	for n := range state.Nodes(tx) {
		var own api.CheckServiceNode
		for c := range state.NodeChecks(tx, n.Node) {
			if c.ServiceID == "" {
				own.Checks = append(own.Checks, c)
			}
		}
		count(&nodes, own.Status())
	}
	services, checks := map[string]*wire.HealthSummary{}, map[string]*wire.HealthSummary{}
	for i := range state.AllInstances(tx) {
		count(named(services, i.Service.Service), i.Status())
	}
	for c := range state.ChecksInState(tx, api.Any) {
		count(named(checks, c.Name), c.Status)
	}
	out := wire.CatalogSummary{Services: inOrderOfNames(services), Checks: inOrderOfNames(checks)}
	if nodes.Total > 0 {
		out.Nodes = []wire.HealthSummary{nodes}
	}
	return out
}

func named(all map[string]*wire.HealthSummary, name string) *wire.HealthSummary {
	if all[name] == nil {
		all[name] = &wire.HealthSummary{Name: name}
	}
	return all[name]
}

func count(to *wire.HealthSummary, status string) {
	to.Total++
	switch status {
	case api.Passing:
		to.Passing++
	case api.Warning:
		to.Warning++
	default:
		to.Critical++
	}
}

func inOrderOfNames(all map[string]*wire.HealthSummary) []wire.HealthSummary {
	var out []wire.HealthSummary
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, *all[name])
	}
	return out
}
