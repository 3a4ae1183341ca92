package httpapi

import (
	"strconv"

	"isthmus/api"
	"isthmus/internal/wire"
)

// listed renders a list, which is never null.
func listed[T any](_ *request, list []T) (any, error) {
	if list == nil {
		list = []T{}
	}
	return list, nil
}

// named is the rest of the path, which must not be empty.
func (q *request) named(what string) (string, error) {
	if q.rest == "" {
		return "", api.Errorf(api.Invalid, "Missing %s name", what)
	}
	return q.rest, nil
}

func dcQuery(q *request) (wire.DCQuery, error) {
	return wire.DCQuery{Source: q.source(), NodeMetaFilters: q.nodeMeta()}, nil
}

func nodeQuery(q *request) (wire.NodeQuery, error) {
	name, err := q.named("node")
	return wire.NodeQuery{Node: name, MergeCentralConfig: q.has("merge-central-config")}, err
}

func stateQuery(q *request) (wire.StateQuery, error) {
	if q.rest == "" {
		return wire.StateQuery{}, api.Errorf(api.Invalid, "Missing check state")
	}
	return wire.StateQuery{State: q.rest, Source: q.source(), NodeMetaFilters: q.nodeMeta()}, nil
}

func serviceQuery(q *request) (wire.ServiceQuery, error) {
	name, err := q.named("service")
	in := wire.ServiceQuery{
		ServiceName: name, Source: q.source(), NodeMetaFilters: q.nodeMeta(), MergeCentralConfig: q.has("merge-central-config"),
	}
	if q.has("tag") {
		in.ServiceTags = q.query["tag"]
		in.TagFilter = true
	}
	return in, err
}

// connectQuery asks for the instances that take the mesh traffic of a service.
func connectQuery(q *request) (wire.ServiceQuery, error) {
	in, err := serviceQuery(q)
	in.Connect = true
	return in, err
}

// ingressQuery asks for the gateways that let traffic for a service into the mesh.
func ingressQuery(q *request) (wire.ServiceQuery, error) {
	in, err := serviceQuery(q)
	in.Ingress = true
	return in, err
}

func gatewayQuery(q *request) (wire.ServiceQuery, error) {
	name, err := q.named("gateway")
	return wire.ServiceQuery{ServiceName: name}, err
}

// tagged renders the services with their tags, which are never null.
func tagged(_ *request, all map[string][]string) (any, error) {
	out := make(map[string][]string, len(all))
	for name, tags := range all {
		if tags == nil {
			tags = []string{}
		}
		out[name] = tags
	}
	return out, nil
}

// serviceHealth shows the instances of a service, or only those that pass.
func serviceHealth(q *request, all []*api.Instance) (any, error) {
	passing := q.has("passing")
	if v := q.query.Get("passing"); v != "" {
		var err error
		if passing, err = strconv.ParseBool(v); err != nil {
			return nil, api.Errorf(api.Invalid, "Invalid value for ?passing")
		}
	}
	if passing {
		out := make([]*api.Instance, 0, len(all))
		for _, one := range all {
			if one.Status() == api.Passing {
				out = append(out, one)
			}
		}
		all = out
	}
	return rows[*api.Instance]{all, appendReady}, nil
}

func catalogDatacenters(q *request) error {
	h, err := q.read()
	if err != nil {
		return err
	}
	h.MinIndex = 0
	out, _, err := ask(q, wire.CatalogDatacenters, h, wire.Empty{})
	if err != nil {
		return err
	}
	v, _ := listed(q, out)
	return q.json(v)
}

func catalogRegister(q *request) error {
	in, err := decode[api.Registration](q)
	if err != nil {
		return err
	}
	// The official client sends zeros for weights that nobody set.
	if s := in.Service; s != nil && s.Weights != nil && s.Weights.Passing < 1 {
		s.Weights = nil
	}
	h := q.write()
	if in.Datacenter == "" {
		in.Datacenter = h.Datacenter
	}
	if in.Datacenter == "" {
		in.Datacenter = q.api.cfg.Datacenter
	}
	h.Datacenter = in.Datacenter
	if _, err := change(q, wire.CatalogRegister, h, in); err != nil {
		return err
	}
	return q.json(true)
}

func catalogDeregister(q *request) error {
	in, err := decode[api.Deregistration](q)
	if err != nil {
		return err
	}
	h := q.write()
	if in.Datacenter == "" {
		in.Datacenter = h.Datacenter
	}
	if in.Datacenter == "" {
		in.Datacenter = q.api.cfg.Datacenter
	}
	h.Datacenter = in.Datacenter
	if _, err := change(q, wire.CatalogDeregister, h, in); err != nil {
		return err
	}
	return q.json(true)
}

func byID(_ *request, n *api.NodeServices) (any, error) { return nodeByID{n}, nil }

func inOrder(_ *request, n api.NodeServiceList) (any, error) { return nodeInOrder(n), nil }
