package xds

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"isthmus/api"
	"isthmus/internal/mesh"
)

// plan is what a snapshot comes to, before it is encoded. All names in it are in
// lower case, as Envoy compares server names in lower case.
type plan struct {
	settings  settings
	clusters  []cluster // each name once
	chains    []chain   // in the order in which they stand in each listener
	listeners []listener
	warnings  []string

	byName map[string]int // places in clusters
}

// cluster is a destination, found by its name.
type cluster struct {
	name      string
	remote    bool
	lookup    lookup
	endpoints []mesh.Endpoint
}

// chain leads connections for one server name, or for all below a suffix, to a
// cluster. The last of all chains has none: there the server name is a cluster's.
type chain struct {
	match      []string
	prefix     string // of its statistics
	datacenter string // where it leads, in statistics
	cluster    string
}

type listener struct {
	name  string // of the resource
	label string // in statistics
	host  string
	port  int
}

func newPlan(s *mesh.Snapshot) (*plan, error) {
	if err := checkProxy(s); err != nil {
		return nil, err
	}
	p := &plan{byName: make(map[string]int, 2*len(s.Remote)+len(s.Servers)+len(s.Services)+1)}
	var problems []string
	p.settings, problems = parseSettings(s.Proxy.Proxy.Config)
	p.warnings = problems

	var (
		dc     = strings.ToLower(s.Datacenter)
		domain = strings.ToLower(s.Domain)
		trust  = strings.ToLower(s.TrustDomain)
	)
	remotes := p.remotes(s, dc)
	if trust != "" {
		p.meshChains(remotes, trust)
		p.services(s, dc, trust)
	}
	if s.ExposesServers() {
		p.serverChains(remotes, domain)
		p.servers(s, dc, domain)
	}
	p.catchAll(domain, trust)
	p.listen(s.Proxy)
	for i := range p.clusters {
		p.resolve(&p.clusters[i])
	}
	return p, nil
}

func (p *plan) warnf(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

// remotes are the other datacenters that can be named, each once.
func (p *plan) remotes(s *mesh.Snapshot, own string) []mesh.Remote {
	out := make([]mesh.Remote, 0, len(s.Remote))
	seen := make(map[string]bool, len(s.Remote)+1)
	seen[own] = true
	for _, r := range s.Remote {
		r.Datacenter = strings.ToLower(r.Datacenter)
		if !isName(r.Datacenter) || seen[r.Datacenter] {
			p.warnf("datacenter %q is left out: its name is no DNS name or stands twice", r.Datacenter)
			continue
		}
		seen[r.Datacenter] = true
		out = append(out, r)
	}
	return out
}

// A datacenter without gateways keeps its chain and its cluster, so that the
// listener stays as it is when they come.
func (p *plan) meshChains(remotes []mesh.Remote, trust string) {
	for _, r := range remotes {
		name := r.Datacenter + ".internal." + trust
		if p.add(name, true, r.Gateways) {
			p.chain("*."+name, "mesh_gateway_remote.", r.Datacenter, name)
		}
	}
}

func (p *plan) serverChains(remotes []mesh.Remote, domain string) {
	for _, r := range remotes {
		name := "server." + r.Datacenter + "." + domain
		// Other gateways could not lead to the servers.
		leading := r.Gateways
		if slices.ContainsFunc(leading, func(e mesh.Endpoint) bool { return !e.Servers }) {
			leading = slices.DeleteFunc(slices.Clone(leading), func(e mesh.Endpoint) bool { return !e.Servers })
		}
		if p.add(name, true, leading) {
			p.chain("*."+name, "mesh_gateway_remote.", r.Datacenter, name)
		}
	}
}

// servers are reached one by one through chains of their own and all together
// through the last chain.
func (p *plan) servers(s *mesh.Snapshot, dc, domain string) {
	all := "server." + dc + "." + domain
	p.add(all, false, s.Servers)
	for i, e := range s.Servers {
		node := strings.ToLower(e.Node)
		if !isName(node) {
			p.warnf("server %q has no name of its own: it is no DNS name", e.Node)
			continue
		}
		name := node + "." + all
		if p.add(name, false, s.Servers[i:i+1]) {
			p.chain(name, "mesh_gateway_local_server.", dc, name)
		}
	}
}

func (p *plan) services(s *mesh.Snapshot, dc, trust string) {
	for _, service := range slices.Sorted(maps.Keys(s.Services)) {
		if !isName(service) {
			p.warnf("service %q is left out: its name is no DNS name", service)
			continue
		}
		p.add(strings.ToLower(service)+".default."+dc+".internal."+trust, false, s.Services[service])
	}
}

// catchAll takes names of the mesh and of servers only: Envoy has clusters that
// are nobody's business, such as the agent it takes its resources from.
func (p *plan) catchAll(domain, trust string) {
	match := []string{"*." + domain}
	if trust != "" && !strings.HasSuffix("."+trust, "."+domain) {
		match = append(match, "*."+trust)
	}
	p.chains = append(p.chains, chain{match: match, prefix: "mesh_gateway_local."})
}

func (p *plan) chain(match, prefix, datacenter, cluster string) {
	p.chains = append(p.chains, chain{match: []string{match}, prefix: prefix, datacenter: datacenter, cluster: cluster})
}

// add adds a cluster and tells whether it is new: names that differ in case
// share one.
func (p *plan) add(name string, remote bool, endpoints []mesh.Endpoint) bool {
	if i, ok := p.byName[name]; ok {
		c := &p.clusters[i]
		c.endpoints = slices.Concat(c.endpoints, endpoints)
		return false
	}
	p.byName[name] = len(p.clusters)
	p.clusters = append(p.clusters, cluster{name: name, remote: remote, endpoints: endpoints})
	return true
}

// resolve leaves endpoints out that Envoy would refuse the cluster for, and finds
// out how it gets the others.
func (p *plan) resolve(c *cluster) {
	var kept []mesh.Endpoint // a copy, once one is left out
	left, named := false, false
	for i := range c.endpoints {
		e := &c.endpoints[i]
		ip := isIP(e.Host)
		if fit := validPort(e.Port) && (ip || isName(e.Host)); !fit {
			if !left {
				kept, left = slices.Clone(c.endpoints[:i]), true
			}
			p.warnf("endpoint %q port %d of %s is left out: it is no address", e.Host, e.Port, c.name)
			continue
		}
		named = named || !ip
		if left {
			kept = append(kept, *e)
		}
	}
	if left {
		c.endpoints = kept
	}
	switch {
	case named && p.settings.logicalDNS:
		p.logical(c)
	case named:
		c.lookup = byStrictDNS
	}
}

// logical leaves one endpoint, as Envoy takes no more there: a healthy host name
// if there is one.
func (p *plan) logical(c *cluster) {
	at := -1
	for i, e := range c.endpoints {
		if !isIP(e.Host) && (at < 0 || e.Healthy && !c.endpoints[at].Healthy) {
			at = i
		}
	}
	if len(c.endpoints) > 1 {
		p.warnf("of the addresses of %s only %s is used: %s is logical_dns", c.name, c.endpoints[at].Host, keyDiscovery)
	}
	c.lookup, c.endpoints = byLogicalDNS, c.endpoints[at:at+1]
}

// listen finds the addresses to listen on: the proxy's own as "default", unless
// that is turned off, then the named ones by name. An address is used once.
func (p *plan) listen(proxy *api.NodeService) {
	taken := make(map[address]bool)
	bind := func(name string, a address) {
		switch {
		case !isIP(a.host) || !validPort(a.port):
			p.warnf("address %q is not bound: %s:%d is no IP address and port", name, a.host, a.port)
		case !taken[a]:
			taken[a] = true
			p.listeners = append(p.listeners, listener{name: fmt.Sprintf("%s:%s:%d", name, a.host, a.port), label: name, host: a.host, port: a.port})
		}
	}
	if !p.settings.noDefaultBind {
		own := address{proxy.Address, proxy.Port}
		if !isIP(own.host) {
			if own.host != "" {
				p.warnf("address %q is no IP address: the gateway listens on all interfaces", own.host)
			}
			own.host = netip.IPv4Unspecified().String()
		}
		bind("default", own)
	}
	named := maps.Clone(p.settings.bind)
	if p.settings.bindTagged {
		for name, a := range proxy.TaggedAddresses {
			if _, ok := named[name]; !ok {
				named[name] = address{a.Address, a.Port}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		bind(name, named[name])
	}
	if len(p.listeners) == 0 {
		p.warnf("the gateway listens nowhere")
	}
}

func validPort(port int) bool { return 0 < port && port <= 65535 }

// isIP tells whether s is an address as Envoy takes it.
func isIP(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Zone() == ""
}

// isName tells whether s can be a DNS name or a part of one, by its characters.
func isName(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		case c == '.' && i > 0 && s[i-1] != '.':
		default:
			return false
		}
	}
	return s != "" && s[len(s)-1] != '.'
}
