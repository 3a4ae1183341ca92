package server

import (
	"slices"

	"isthmus/api"
	"isthmus/internal/acl"
	"isthmus/internal/state"
	"isthmus/internal/store"
	"isthmus/internal/telemetry"
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
		Where:  where[wire.StateQuery, api.HealthCheck](),
		Filter: readableCheck,
		Near: func(in *wire.StateQuery, rows []*api.HealthCheck) []*api.HealthCheck {
			return near(s, &in.Source, rows, ofCheck)
		},
	})
	bindRead(s, wire.HealthNodeChecks, Read[wire.NodeQuery, []*api.HealthCheck]{
		Run: func(tx *store.Tx, in *wire.NodeQuery) ([]*api.HealthCheck, error) {
			return collect(state.NodeChecks(tx, in.Node), func(*api.HealthCheck) bool { return true }), nil
		},
		Where:  where[wire.NodeQuery, api.HealthCheck](),
		Filter: readableCheck,
	})
	bindRead(s, wire.HealthServiceChecks, Read[wire.ServiceQuery, []*api.HealthCheck]{
		Run: func(tx *store.Tx, in *wire.ServiceQuery) ([]*api.HealthCheck, error) {
			return collect(state.ServiceChecks(tx, in.ServiceName), func(c *api.HealthCheck) bool {
				return onNode(tx, c.Node, in.NodeMetaFilters)
			}), nil
		},
		Where:  where[wire.ServiceQuery, api.HealthCheck](),
		Filter: readableCheck,
		Near: func(in *wire.ServiceQuery, rows []*api.HealthCheck) []*api.HealthCheck {
			return near(s, &in.Source, rows, ofCheck)
		},
	})
	bindRead(s, wire.HealthServiceNodes, Read[wire.ServiceQuery, []*api.Instance]{
		Allow: allowService,
		Run: func(tx *store.Tx, in *wire.ServiceQuery) ([]*api.Instance, error) {
			if in.ServiceName == "" {
				return nil, api.Errorf(api.Invalid, "Must provide service name")
			}
			if in.Ingress {
				return []*api.Instance{}, nil // no gateway is set up to let it in
			}
			instances, tags := state.Instances, in.Tags()
			if in.Connect {
				instances, tags = state.ConnectInstances, nil // tags are those of the service, not of its sidecars
			}
			return collect(instances(tx, in.ServiceName), func(c *api.Instance) bool {
				return hasTags(c.Service.Tags, tags) && hasMeta(c.Node.Meta, in.NodeMetaFilters)
			}), nil
		},
		Where: whereIn(keepInstances),
		Filter: func(z acl.Authorizer, rows []*api.Instance) []*api.Instance {
			return collect(slices.Values(rows), func(i *api.Instance) bool { return visible(z, &i.CheckServiceNode) })
		},
		Near: func(in *wire.ServiceQuery, rows []*api.Instance) []*api.Instance {
			return near(s, &in.Source, rows, func(c *api.Instance) string { return c.Node.Node })
		},
		Count: func(in *wire.ServiceQuery, rows []*api.Instance) { countRead(&telemetry.HealthReads, in, len(rows)) },
	})
}

func ofCheck(c *api.HealthCheck) string { return c.Node }
