package server

import (
	"isthmus/api"
	"isthmus/internal/acl"
	"isthmus/internal/state"
	"isthmus/internal/store"
	"isthmus/internal/wire"
)

func bindHealth(s *Server) {
	readableCheck := only(func(z acl.Authorizer, c *api.HealthCheck) bool {
		if z.Allow(acl.Node, c.Node, acl.Read) != nil {
			return false
		}
		return c.ServiceName == "" || z.Allow(acl.Service, c.ServiceName, acl.Read) == nil
	})
	onNode := func(tx *store.Tx, node string, filters map[string]string) bool {
		if len(filters) == 0 {
			return true
		}
		n := state.Node(tx, node)
		return n != nil && hasMeta(n.Meta, filters)
	}
	bindRead(s, wire.HealthChecksInState, Read[wire.StateQuery, []*api.HealthCheck]{
		Run: func(tx *store.Tx, in *wire.StateQuery) ([]*api.HealthCheck, error) {
			return collect(state.ChecksInState(tx, in.State), func(c *api.HealthCheck) bool {
				return onNode(tx, c.Node, in.NodeMetaFilters)
			}), nil
		},
		Filter: readableCheck,
	})
	bindRead(s, wire.HealthNodeChecks, Read[wire.NodeQuery, []*api.HealthCheck]{
		Run: func(tx *store.Tx, in *wire.NodeQuery) ([]*api.HealthCheck, error) {
			return collect(state.NodeChecks(tx, in.Node), func(*api.HealthCheck) bool { return true }), nil
		},
		Filter: readableCheck,
	})
	bindRead(s, wire.HealthServiceChecks, Read[wire.ServiceQuery, []*api.HealthCheck]{
		Run: func(tx *store.Tx, in *wire.ServiceQuery) ([]*api.HealthCheck, error) {
			return collect(state.ServiceChecks(tx, in.ServiceName), func(c *api.HealthCheck) bool {
				return onNode(tx, c.Node, in.NodeMetaFilters)
			}), nil
		},
		Filter: readableCheck,
	})
	bindRead(s, wire.HealthServiceNodes, Read[wire.ServiceQuery, []api.CheckServiceNode]{
		Allow: allowService,
		Run: func(tx *store.Tx, in *wire.ServiceQuery) ([]api.CheckServiceNode, error) {
			switch {
			case in.ServiceName == "":
				return nil, api.Errorf(api.Invalid, "Must provide service name")
			case in.Connect || in.Ingress:
				return nil, api.Errorf(api.NotBuilt, "health of the proxies of a service is not built yet")
			}
			tags := in.Tags()
			return collect(state.Instances(tx, in.ServiceName), func(c api.CheckServiceNode) bool {
				return hasTags(c.Service.Tags, tags) && hasMeta(c.Node.Meta, in.NodeMetaFilters)
			}), nil
		},
		Filter: readable,
	})
}
