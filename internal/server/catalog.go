package server

import (
	"context"
	"iter"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"isthmus/api"
	"isthmus/internal/acl"
	"isthmus/internal/local"
	"isthmus/internal/rpc"
	"isthmus/internal/state"
	"isthmus/internal/store"
	"isthmus/internal/telemetry"
	"isthmus/internal/wire"
)

func bindCatalog(s *Server) {
	bindWrite(s, wire.CatalogRegister, Write[api.Registration, wire.Empty]{
		Allow:   allowRegister,
		Prepare: prepareRegister,
		Command: &state.Register,
	})
	bindWrite(s, wire.CatalogDeregister, Write[api.Deregistration, wire.Empty]{
		Allow: func(z acl.Authorizer, in *api.Deregistration) error { return z.Allow(acl.Node, in.Node, acl.Write) },
		Prepare: func(_ *store.Tx, in *api.Deregistration) error {
			if in.Node == "" {
				return api.Errorf(api.Invalid, "Must provide node")
			}
			return nil
		},
		Command: &state.Deregister,
	})
	rpc.Bind(s.handlers, wire.CatalogDatacenters, s.datacenters)
	bindCatalogLists(s)
	bindCatalogNode(s)
}

// bindCatalogLists binds the reads of the whole catalog.
func bindCatalogLists(s *Server) {
	bindRead(s, wire.CatalogNodes, Read[wire.DCQuery, []*api.Node]{
		Run: func(tx *store.Tx, in *wire.DCQuery) ([]*api.Node, error) {
			return collect(state.Nodes(tx), func(n *api.Node) bool { return hasMeta(n.Meta, in.NodeMetaFilters) }), nil
		},
		Where:  where[wire.DCQuery, api.Node](),
		Filter: only(func(z acl.Authorizer, n *api.Node) bool { return z.Allow(acl.Node, n.Node, acl.Read) == nil }),
		Near: func(in *wire.DCQuery, rows []*api.Node) []*api.Node {
			return near(s, &in.Source, rows, func(n *api.Node) string { return n.Node })
		},
	})
	bindRead(s, wire.CatalogServices, Read[wire.DCQuery, map[string][]string]{
		Run: func(tx *store.Tx, in *wire.DCQuery) (map[string][]string, error) {
			if len(in.NodeMetaFilters) == 0 {
				return state.ServiceTags(tx, nil), nil
			}
			return state.ServiceTags(tx, func(n *api.Node) bool { return hasMeta(n.Meta, in.NodeMetaFilters) }), nil
		},
		Where:  whereIn(keepTags),
		Filter: readableServices,
	})
	bindRead(s, wire.CatalogGatewayServices, Read[wire.ServiceQuery, []*wire.GatewayService]{
		Allow: allowService,
		Run: func(*store.Tx, *wire.ServiceQuery) ([]*wire.GatewayService, error) {
			return []*wire.GatewayService{}, nil // what binds services to gateways is in config entries
		},
	})
	bindRead(s, wire.ServiceDump, Read[wire.DumpQuery, wire.DumpReply]{
		Run: func(tx *store.Tx, in *wire.DumpQuery) (wire.DumpReply, error) {
			rows := state.AllInstances(tx)
			if in.UseServiceKind {
				rows = state.InstancesOfKind(tx, in.ServiceKind)
			}
			return wire.DumpReply{Nodes: bare(rows)}, nil
		},
		Where: whereIn(keepDumped),
		Filter: func(z acl.Authorizer, out wire.DumpReply) wire.DumpReply {
			out.Nodes = readable(z, out.Nodes)
			return out
		},
	})
}

// bindCatalogNode binds the reads of a service or node of the catalog.
func bindCatalogNode(s *Server) {
	bindRead(s, wire.CatalogServiceNodes, Read[wire.ServiceQuery, []*api.ServiceNode]{
		Allow: allowService,
		Run: func(tx *store.Tx, in *wire.ServiceQuery) ([]*api.ServiceNode, error) {
			if in.ServiceName == "" && in.ServiceAddress == "" {
				return nil, api.Errorf(api.Invalid, "Must provide service name")
			}
			rows, tags := state.ServiceNodes, in.Tags()
			switch {
			case in.ServiceName == "":
				return collect(state.AllServiceNodes(tx), func(n *api.ServiceNode) bool {
					return n.ServiceAddress == in.ServiceAddress
				}), nil
			case in.Connect:
				rows, tags = state.ConnectNodes, nil // tags are those of the service, not of its sidecars
			}
			return collect(rows(tx, in.ServiceName), func(n *api.ServiceNode) bool {
				return hasTags(n.ServiceTags, tags) && hasMeta(n.NodeMeta, in.NodeMetaFilters)
			}), nil
		},
		Where: where[wire.ServiceQuery, api.ServiceNode](),
		Near: func(in *wire.ServiceQuery, rows []*api.ServiceNode) []*api.ServiceNode {
			return near(s, &in.Source, rows, func(n *api.ServiceNode) string { return n.Node })
		},
		Count: func(in *wire.ServiceQuery, rows []*api.ServiceNode) {
			countRead(&telemetry.CatalogReads, in, len(rows))
		},
	})
	bindRead(s, wire.CatalogNodeServices, Read[wire.NodeQuery, *api.NodeServices]{
		Allow: allowNode,
		Run: func(tx *store.Tx, in *wire.NodeQuery) (*api.NodeServices, error) {
			node := findNode(tx, in.Node)
			if node == nil {
				return nil, nil //nolint:nilnil // no such node is an answer
			}
			out := &api.NodeServices{Node: node, Services: map[string]*api.NodeService{}}
			for svc := range state.NodeServices(tx, node.Node) {
				out.Services[svc.ID] = svc
			}
			return out, nil
		},
		Where: whereIn(keepByID),
	})
	bindRead(s, wire.CatalogNodeServiceList, Read[wire.NodeQuery, api.NodeServiceList]{
		Allow: allowNode,
		Run: func(tx *store.Tx, in *wire.NodeQuery) (out api.NodeServiceList, err error) {
			out.Services = []*api.NodeService{}
			if out.Node = findNode(tx, in.Node); out.Node != nil {
				out.Services = slices.AppendSeq(out.Services, state.NodeServices(tx, out.Node.Node))
			}
			return out, nil
		},
		Where: whereIn(keepInOrder),
	})
}

func (s *Server) datacenters(context.Context, rpc.Header, *wire.Empty) ([]string, rpc.Meta, error) {
	list := s.router.Datacenters()
	if len(list) == 0 {
		list = []string{s.cfg.Datacenter}
	}
	return s.nearestFirst(list), rpc.Meta{}, nil
}

func readableServices(z acl.Authorizer, all map[string][]string) map[string][]string {
	out := make(map[string][]string, len(all))
	for name, tags := range all {
		if z.Allow(acl.Service, name, acl.Read) == nil {
			out[name] = tags
		}
	}
	return out
}

// findNode finds a node by its name, or by its id as agents ask for it.
func findNode(tx *store.Tx, name string) *api.Node {
	if n := state.Node(tx, name); n != nil {
		return n
	}
	return state.NodeByID(tx, name)
}

func allowRegister(z acl.Authorizer, in *api.Registration) error {
	if in.Service != nil {
		if err := z.Allow(acl.Service, in.Service.Service, acl.Write); err != nil {
			return err //nolint:wrapcheck // says what is lacking
		}
	}
	return z.Allow(acl.Node, in.Node, acl.Write) //nolint:wrapcheck // says what is lacking
}

func allowService(z acl.Authorizer, in *wire.ServiceQuery) error {
	return z.Allow(acl.Service, in.ServiceName, acl.Read) //nolint:wrapcheck // says what is lacking
}

func allowNode(z acl.Authorizer, in *wire.NodeQuery) error {
	return z.Allow(acl.Node, in.Node, acl.Read) //nolint:wrapcheck // says what is lacking
}

// prepareRegister checks a registration and fills in what may be left out.
func prepareRegister(_ *store.Tx, in *api.Registration) error {
	switch {
	case in.Node == "":
		return api.Errorf(api.Invalid, "Must provide node")
	case in.Address == "" && !in.SkipNodeUpdate:
		return api.Errorf(api.Invalid, "Must provide address if SkipNodeUpdate is not set")
	case in.ID != "" && len(in.ID) != len("00000000-0000-0000-0000-000000000000"):
		return api.Errorf(api.Invalid, "Bad node ID: uuid string is wrong length")
	case in.ID != "" && !uuid.MatchString(in.ID):
		return api.Errorf(api.Invalid, "Bad node ID: uuid is improperly formatted")
	case in.PeerName != "":
		return api.Errorf(api.Invalid, "cannot register requests with PeerName in them")
	}
	if in.Service != nil {
		svc, err := preparedService(*in.Service)
		if err != nil {
			return err
		}
		in.Service = svc
	}
	return prepareChecks(in)
}

// prepareChecks gives the checks of a registration their defaults.
func prepareChecks(in *api.Registration) error {
	all := in.Checks
	if in.Check != nil {
		all = append(slices.Clone(all), in.Check)
		in.Check = nil
	}
	in.Checks = make([]*api.HealthCheck, len(all))
	for i, c := range all {
		if c == nil {
			return api.Errorf(api.Invalid, "Must provide a check id or name")
		}
		check := *c
		if check.Node != "" && !strings.EqualFold(check.Node, in.Node) {
			return api.Errorf(api.Invalid, "Node '%s' for check '%s' doesn't match register request node '%s'", check.Node, check.CheckID, in.Node)
		}
		if check.CheckID == "" {
			check.CheckID = check.Name
		}
		if check.CheckID == "" {
			return api.Errorf(api.Invalid, "Must provide a check id or name")
		}
		check.Node = in.Node
		if check.Type == "" {
			check.Type = kindOf(&check.Definition)
		}
		in.Checks[i] = &check
	}
	return nil
}

var uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// preparedService is an instance with its defaults, if it can be in the catalog.
func preparedService(svc api.NodeService) (*api.NodeService, error) {
	if svc.ID == "" {
		svc.ID = svc.Service
	}
	if svc.ID != "" && svc.Service == "" {
		return nil, api.Errorf(api.Invalid, "Must provide service name (Service.Service) when service ID is provided")
	}
	if addr, err := netip.ParseAddr(svc.Address); err == nil && addr.IsUnspecified() {
		return nil, api.Errorf(api.Invalid, "Invalid service address")
	}
	return &svc, local.Validate(&svc) //nolint:wrapcheck // the protocol's text
}

// kindOf tells which kind of check a definition is of.
func kindOf(d *api.HealthCheckDefinition) string {
	switch {
	case d.TTL != 0:
		return "ttl"
	case d.HTTP != "":
		return "http"
	case d.TCP != "":
		return "tcp"
	case d.UDP != "":
		return "udp"
	case d.GRPC != "":
		return "grpc"
	case d.H2PING != "":
		return "h2ping"
	case d.AliasNode != "" || d.AliasService != "":
		return "alias"
	case d.DockerContainerID != "":
		return "docker"
	case len(d.ScriptArgs) > 0:
		return "script"
	case d.OSService != "":
		return "os_service"
	}
	return ""
}

// collect returns the rows that keep holds true of, never nil.
func collect[T any](rows func(func(T) bool), keep func(T) bool) []T {
	out := []T{}
	for row := range rows {
		if keep(row) {
			out = append(out, row)
		}
	}
	return out
}

// only makes a Filter of a rule for one row.
func only[T any](allowed func(z acl.Authorizer, row T) bool) func(z acl.Authorizer, rows []T) []T {
	return func(z acl.Authorizer, rows []T) []T {
		return collect(slices.Values(rows), func(row T) bool { return allowed(z, row) })
	}
}

// visible tells whether z may see an instance.
func visible(z acl.Authorizer, c *api.CheckServiceNode) bool {
	return z.Allow(acl.Node, c.Node.Node, acl.Read) == nil && z.Allow(acl.Service, c.Service.Service, acl.Read) == nil
}

// readable keeps the instances that z may see.
func readable(z acl.Authorizer, rows []api.CheckServiceNode) []api.CheckServiceNode {
	return collect(slices.Values(rows), func(c api.CheckServiceNode) bool { return visible(z, &c) })
}

// bare are the instances without what was made of them.
func bare(rows iter.Seq[*api.Instance]) []api.CheckServiceNode {
	out := []api.CheckServiceNode{}
	for i := range rows {
		out = append(out, i.CheckServiceNode)
	}
	return out
}

func hasMeta(meta, want map[string]string) bool {
	for k, v := range want {
		if got, ok := meta[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// hasTags tells whether all wanted tags are there, in any case: DNS has no cases.
func hasTags(tags, want []string) bool {
	for _, tag := range want {
		if !slices.ContainsFunc(tags, func(have string) bool { return strings.EqualFold(have, tag) }) {
			return false
		}
	}
	return true
}
