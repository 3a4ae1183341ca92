package proxy

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"

	"isthmus/internal/mesh"
)

// RoutesFor makes the table of a mesh gateway. It has all routes that can be: what
// it had to leave out, for a name or an address that is none, is in the error, so
// that one odd registration does not cost all others their routes.
func RoutesFor(s *mesh.Snapshot) (*Routes, error) {
	b := &builder{routes: &Routes{exact: make(map[string]int), suffix: make(map[string]int)}}
	if s.ExposesServers() {
		b.servers(s)
	}
	for i := range s.Remote {
		b.remote(s, &s.Remote[i])
	}
	if s.TrustDomain != "" {
		for _, name := range slices.Sorted(maps.Keys(s.Services)) {
			match := name + ".default." + s.Datacenter + ".internal." + s.TrustDomain
			b.add("service/"+name, match, b.addresses(only(s.Services[name], isHealthy)))
		}
	}
	return b.routes, errors.Join(b.left...)
}

type builder struct {
	routes *Routes
	left   []error
}

// servers adds the routes to each own server, and to any of them.
func (b *builder) servers(s *mesh.Snapshot) {
	all := "server." + s.Datacenter + "." + s.Domain
	name := "server/" + s.Datacenter
	for i, e := range s.Servers {
		b.add(name+"/"+e.Node, e.Node+"."+all, b.addresses(s.Servers[i:i+1]))
	}
	if addrs := b.addresses(best(s.Servers)); len(addrs) > 0 {
		b.add(name, all, addrs)
	}
}

// remote adds the routes to the servers and services of another datacenter.
func (b *builder) remote(s *mesh.Snapshot, r *mesh.Remote) {
	name := "remote/" + r.Datacenter
	toServers := only(r.Gateways, func(e *mesh.Endpoint) bool { return e.Servers })
	if addrs := b.addresses(best(toServers)); s.ExposesServers() && len(addrs) > 0 {
		all := "server." + r.Datacenter + "." + s.Domain
		b.add(name, "*."+all, addrs)
		b.add(name, all, addrs)
	}
	if addrs := b.addresses(best(r.Gateways)); s.TrustDomain != "" && len(addrs) > 0 {
		b.add("mesh/"+r.Datacenter, "*."+r.Datacenter+".internal."+s.TrustDomain, addrs)
	}
}

func (b *builder) add(name, match string, addrs []string) {
	if err := b.routes.add(Route{Name: name, Match: match, Addrs: addrs}); err != nil {
		b.left = append(b.left, fmt.Errorf("route %q for %q: %w", name, match, err))
	}
}

// addresses are those of endpoints, each once, in order.
func (b *builder) addresses(endpoints []mesh.Endpoint) []string {
	var out []string
	for _, e := range endpoints {
		addr := net.JoinHostPort(e.Host, strconv.Itoa(e.Port))
		if err := checkAddr(addr); err != nil {
			b.left = append(b.left, fmt.Errorf("instance on %q: %w", e.Node, err))
			continue
		}
		out = append(out, addr)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func isHealthy(e *mesh.Endpoint) bool { return e.Healthy }

// best are the healthy ones, or all if none is.
func best(endpoints []mesh.Endpoint) []mesh.Endpoint {
	if healthy := only(endpoints, isHealthy); len(healthy) > 0 {
		return healthy
	}
	return endpoints
}

func only(endpoints []mesh.Endpoint, keep func(*mesh.Endpoint) bool) []mesh.Endpoint {
	var out []mesh.Endpoint
	for i := range endpoints {
		if keep(&endpoints[i]) {
			out = append(out, endpoints[i])
		}
	}
	return out
}
