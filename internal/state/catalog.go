package state

import (
	"iter"
	"strings"

	"isthmus/api"
	"isthmus/internal/store"
)

// The nodes, by name. Names differ by more than case.
var (
	nodes     = store.NewTable("nodes", func(n *api.Node) store.Key { return nodeKey(n.Node) })
	nodesByID = nodes.By("id", func(n *api.Node) []store.Key {
		if n.ID == "" {
			return nil
		}
		return []store.Key{store.Text(n.ID)}
	})
)

// The instances: one row for each instance on each node.
var (
	services       = store.NewTable("services", func(s *instance) store.Key { return s.own })
	servicesByName = services.By("name", func(s *instance) []store.Key {
		return []store.Key{store.Text(strings.ToLower(s.Service))}
	})
	// By the service whose mesh traffic an instance takes: a sidecar's destination, or
	// its own where it does so itself.
	// By the service whose mesh traffic an instance takes.
	servicesByConnect = services.By("connect", func(s *instance) []store.Key { return connectKeys(s.NodeService) })
)

// connectKeys names the service whose mesh traffic an instance takes: a sidecar's
// destination, or its own where it does so itself.
func connectKeys(s *api.NodeService) []store.Key {
	switch {
	case s.Kind == api.ConnectProxy:
		return []store.Key{store.Text(strings.ToLower(s.Proxy.DestinationServiceName))}
	case s.Connect.Native:
		return []store.Key{store.Text(strings.ToLower(s.Service))}
	}
	return nil
}

// The checks: of nodes, and of instances.
var (
	checks = store.NewTable("checks", func(c *api.HealthCheck) store.Key {
		return store.Join(strings.ToLower(c.Node), c.CheckID)
	})
	// By what they check: an instance, or a node when there is no service id.
	checksByOwner = checks.By("owner", func(c *api.HealthCheck) []store.Key {
		return []store.Key{ownerKey(c.Node, c.ServiceID)}
	})
	checksByService = checks.By("service", func(c *api.HealthCheck) []store.Key {
		if c.ServiceName == "" {
			return nil
		}
		return []store.Key{store.Text(strings.ToLower(c.ServiceName))}
	})
	checksByStatus = checks.By("status", func(c *api.HealthCheck) []store.Key {
		return []store.Key{store.Text(c.Status)}
	})
)

// instance is a row of services: an instance and the node it is on.
type instance struct {
	*api.NodeService

	node string

	// Keys that every read of it needs: of its node, and its own, also as the owner
	// of checks.
	at, own store.Key
}

func newInstance(node string, s *api.NodeService) *instance {
	return &instance{s, node, nodeKey(node), ownerKey(node, s.ID)}
}

func nodeKey(name string) store.Key { return store.Text(strings.ToLower(name)) }

func ownerKey(node, service string) store.Key { return store.Join(strings.ToLower(node), service) }

// Node returns a node by name, or nil.
func Node(r store.Reader, name string) *api.Node { return nodes.Get(r, nodeKey(name)) }

// NodeByID returns a node by its id, or nil.
func NodeByID(r store.Reader, id string) *api.Node {
	for n := range nodesByID.Get(r, store.Text(id)) {
		return n
	}
	return nil
}

// Nodes yields every node, ordered by name.
func Nodes(r store.Reader) iter.Seq[*api.Node] { return nodes.All(r) }

// Service returns an instance, or nil.
func Service(r store.Reader, node, id string) *api.NodeService {
	if row := services.Get(r, store.Join(strings.ToLower(node), id)); row != nil {
		return row.NodeService
	}
	return nil
}

// Check returns a check, or nil.
func Check(r store.Reader, node, id string) *api.HealthCheck {
	return checks.Get(r, store.Join(strings.ToLower(node), id))
}

// NodeServices yields the instances on a node, ordered by id.
func NodeServices(r store.Reader, node string) iter.Seq[*api.NodeService] {
	return func(yield func(*api.NodeService) bool) {
		for row := range services.Prefix(r, nodeKey(node)) {
			if !yield(row.NodeService) {
				return
			}
		}
	}
}

// NodeChecks yields all checks on a node, ordered by id.
func NodeChecks(r store.Reader, node string) iter.Seq[*api.HealthCheck] {
	return checks.Prefix(r, nodeKey(node))
}

// ServiceChecks yields the checks of all instances of a service.
func ServiceChecks(r store.Reader, name string) iter.Seq[*api.HealthCheck] {
	return checksByService.Get(r, store.Text(strings.ToLower(name)))
}

// ChecksInState yields the checks in a state, or all of them, by node and id.
func ChecksInState(r store.Reader, status string) iter.Seq[*api.HealthCheck] {
	if status == api.Any {
		return checks.All(r)
	}
	return checksByStatus.Get(r, store.Text(status))
}

// ServiceTags returns every service name with the tags of its instances. With
// on, only instances on nodes that it holds true of count.
func ServiceTags(r store.Reader, on func(*api.Node) bool) map[string][]string {
	seen := map[string]map[string]bool{}
	out := map[string][]string{}
	for row := range services.All(r) {
		if on != nil {
			if node := Node(r, row.node); node == nil || !on(node) {
				continue
			}
		}
		tags := seen[row.Service]
		if tags == nil {
			tags = map[string]bool{}
			seen[row.Service] = tags
			out[row.Service] = []string{}
		}
		for _, tag := range row.Tags {
			if !tags[tag] {
				tags[tag] = true
				out[row.Service] = append(out[row.Service], tag)
			}
		}
	}
	return out
}

// ServiceNodes yields the instances of a service beside the fields of their
// nodes, without checks.
func ServiceNodes(r store.Reader, name string) iter.Seq[*api.ServiceNode] {
	return withNodes(r, servicesByName.Get(r, store.Text(strings.ToLower(name))))
}

// ConnectNodes yields the instances that take the mesh traffic of a service, as
// ServiceNodes does.
func ConnectNodes(r store.Reader, name string) iter.Seq[*api.ServiceNode] {
	return withNodes(r, servicesByConnect.Get(r, store.Text(strings.ToLower(name))))
}

// AllServiceNodes yields every instance, as ServiceNodes does.
func AllServiceNodes(r store.Reader) iter.Seq[*api.ServiceNode] { return withNodes(r, services.All(r)) }

func withNodes(r store.Reader, rows iter.Seq[*instance]) iter.Seq[*api.ServiceNode] {
	return func(yield func(*api.ServiceNode) bool) {
		for row := range rows {
			node := nodes.Get(r, row.at)
			if node == nil {
				continue
			}
			s := row.NodeService
			weights := api.Weights{Passing: 1, Warning: 1}
			if s.Weights != nil {
				weights = *s.Weights
			}
			ok := yield(&api.ServiceNode{
				ID: node.ID, Node: node.Node, Address: node.Address, Datacenter: node.Datacenter,
				TaggedAddresses: node.TaggedAddresses, NodeMeta: node.Meta,
				ServiceKind: s.Kind, ServiceID: s.ID, ServiceName: s.Service, ServiceTags: s.Tags,
				ServiceAddress: s.Address, ServiceTaggedAddresses: s.TaggedAddresses, ServiceWeights: weights,
				ServiceMeta: s.Meta, ServicePort: s.Port, ServiceSocketPath: s.SocketPath,
				ServiceEnableTagOverride: s.EnableTagOverride, ServiceProxy: s.Proxy, ServiceConnect: s.Connect,
				ServiceLocality: s.Locality, PeerName: s.PeerName, RaftIndex: s.RaftIndex,
			})
			if !ok {
				return
			}
		}
	}
}
