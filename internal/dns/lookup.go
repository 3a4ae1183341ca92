package dns

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/telemetry"
	"isthmus/internal/wire"
)

// How long servers may take, those of the own datacenter and those of others, and
// how long all that an answer takes may last. Whoever asks waits for about 5 s, and
// resolvers before us for less.
const (
	localWithin  = 3 * time.Second
	remoteWithin = 1500 * time.Millisecond
	allWithin    = 4 * time.Second
)

// lookup is one question on its way to its answer.
type lookup struct {
	f      *Front
	s      *Settings
	q      *query
	domain domain
	place  place
	dc     string // which is asked
	answer *answer
	chased int // how many names led here
}

// call asks the servers.
func call[In, Out any](ctx context.Context, l *lookup, m rpc.Method[In, Out], in In) (out Out, err error) {
	within := localWithin
	if !l.own() {
		within = remoteWithin
		select {
		case l.f.remote <- struct{}{}:
			defer func() { <-l.f.remote }()
		default:
			return out, api.Errorf(api.RateLimited, "too many questions to other datacenters are under way")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	h := rpc.Header{
		Datacenter: l.dc, AllowStale: l.s.AllowStale, MaxStale: l.s.MaxStale,
		UseCache: l.s.UseCache, MaxAge: l.s.CacheMaxAge,
	}
	out, meta, err := m.Call(ctx, l.f.cfg.Caller, h, in)
	switch {
	case err != nil || !h.AllowStale:
	case meta.LastContact > h.MaxStale:
		h.AllowStale, h.UseCache = false, false
		out, _, err = m.Call(ctx, l.f.cfg.Caller, h, in)
	case meta.LastContact > staleAfter:
		telemetry.DNSStale.Count()
	}
	if err != nil {
		return out, fmt.Errorf("ask datacenter %s: %w", l.dc, err)
	}
	return out, nil
}

// staleAfter is the age of an answer that is counted as stale.
const staleAfter = 5 * time.Second

// own tells whether the own datacenter is asked.
func (l *lookup) own() bool { return l.dc == l.f.cfg.Datacenter }

// resolve answers a question about a name of the domain.
func (l *lookup) resolve(ctx context.Context) error {
	if l.dc = l.place.datacenter; l.dc == "" {
		l.dc = l.f.cfg.Datacenter
	}
	switch l.place.kind {
	case aNode:
		return l.node(ctx)
	case aService, aProxy:
		return l.service(ctx)
	case anAddress:
		l.address()
	case notBuilt:
		l.answer.rcode = dns.RcodeNotImplemented
		l.answer.notice = l.place.name + " are not built yet"
	case wrongShape:
	case nothing:
		l.nameError()
	}
	return nil
}

// node answers with the address of a node.
func (l *lookup) node(ctx context.Context) error {
	found, err := call(ctx, l, wire.CatalogNodeServiceList, wire.NodeQuery{Node: l.place.name})
	if err != nil {
		return err
	}
	l.ofNode(ctx, found.Node)
	return nil
}

// ofNode answers with a node, which may be nil.
func (l *lookup) ofNode(ctx context.Context, n *api.Node) {
	// The servers find nodes by their ids too, which are no names.
	if n == nil || !strings.EqualFold(n.Node, l.place.name) {
		l.nameError()
		return
	}
	ttl, a := seconds(l.s.NodeTTL), l.answer
	host := l.translate(n.Address, n.TaggedAddresses, l.q.qtype)
	addr, err := netip.ParseAddr(host)
	switch l.q.qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeANY, dns.TypeCNAME:
		if err != nil {
			l.alias(ctx, host, ttl, false)
		} else if l.wants(addr) {
			a.records = append(a.records, addressRecord(asked, addr, ttl))
		}
	}
	switch l.q.qtype {
	case dns.TypeTXT, dns.TypeANY:
		a.records = append(a.records, metaRecords(asked, n.Meta, ttl)...)
	case dns.TypeA, dns.TypeAAAA:
		if l.s.NodeMetaTXT && len(a.records) > 0 {
			a.extra = append(a.extra, metaRecords(asked, n.Meta, ttl)...)
		}
	}
}

// wants tells whether an address is of the kind that is asked for.
func (l *lookup) wants(addr netip.Addr) bool {
	switch l.q.qtype {
	case dns.TypeA:
		return addr.Is4()
	case dns.TypeAAAA:
		return addr.Is6()
	}
	return true
}

// query is how servers are asked for a service.
func (p *place) query() wire.ServiceQuery {
	in := wire.ServiceQuery{ServiceName: p.name, Connect: p.kind == aProxy}
	if p.tag != "" && !in.Connect {
		in.TagFilter, in.ServiceTags, in.ServiceTag = true, []string{p.tag}, p.tag
	}
	return in
}

// service answers with the instances of a service.
func (l *lookup) service(ctx context.Context) error {
	all, err := call(ctx, l, wire.HealthServiceNodes, l.place.query())
	if err != nil {
		return err
	}
	l.instances(ctx, all)
	return nil
}

// instances answers with what of all may be used.
func (l *lookup) instances(ctx context.Context, all []*api.Instance) {
	usable := make([]*api.CheckServiceNode, 0, len(all))
	for _, one := range all {
		switch one.Status() {
		case api.Passing:
		case api.Warning:
			if l.s.OnlyPassing {
				continue
			}
		default:
			continue
		}
		usable = append(usable, &one.CheckServiceNode)
	}
	if len(usable) == 0 {
		l.nameError()
		return
	}
	rand.Shuffle(len(usable), func(i, j int) { usable[i], usable[j] = usable[j], usable[i] }) //nolint:gosec // spreads load, hides nothing
	l.answer.shuffled = true
	ttl := l.s.serviceTTL(l.place.name)
	seen := map[mark]bool{}
	for _, one := range usable {
		switch l.q.qtype {
		case dns.TypeSRV:
			l.srv(ctx, one, ttl, seen)
		case dns.TypeA, dns.TypeAAAA, dns.TypeANY, dns.TypeTXT, dns.TypeCNAME:
			l.instance(ctx, one, ttl, seen)
		}
	}
	if l.q.qtype != dns.TypeSRV {
		l.answer.limit = l.s.ARecordLimit
	}
	if len(l.answer.records) == 0 {
		l.answer.ns = append(l.answer.ns, l.soa(l.domain.text))
	}
}

// mark is what makes a record of an answer another than the rest.
type mark struct {
	what         byte
	host         string
	target, port int
}

// once tells whether a record is new, by what makes it one.
func once(seen map[mark]bool, key mark) bool {
	if seen[key] {
		return false
	}
	seen[key] = true
	return true
}

// instance adds the address of an instance.
func (l *lookup) instance(ctx context.Context, one *api.CheckServiceNode, ttl uint32, seen map[mark]bool) {
	host, ofNode := l.host(one)
	addr, err := netip.ParseAddr(host)
	if err != nil && l.isAsked(host) && !ofNode {
		if addr, err = netip.ParseAddr(l.translate(one.Node.Address, one.Node.TaggedAddresses, l.q.qtype)); err != nil {
			return
		}
	}
	switch {
	case err != nil:
		if once(seen, mark{host: host}) {
			l.alias(ctx, host, ttl, true)
		}
	case l.q.qtype != dns.TypeCNAME && l.wants(addr) && once(seen, mark{host: addr.String()}):
		l.answer.records = append(l.answer.records, addressRecord(asked, addr, ttl))
	}
}

// host is where an instance is reached: an address or the name of a host. It is
// the node's unless the service has its own.
func (l *lookup) host(one *api.CheckServiceNode) (host string, ofNode bool) {
	if one.Service.Address != "" {
		tagged := func(name string) string { return one.Service.TaggedAddresses[name].Address }
		return l.choose(one.Service.Address, tagged, l.q.qtype), false
	}
	return l.translate(one.Node.Address, one.Node.TaggedAddresses, l.q.qtype), true
}

// translate chooses among the addresses of a node.
func (l *lookup) translate(addr string, tagged map[string]string, qtype uint16) string {
	return l.choose(addr, func(name string) string { return tagged[name] }, qtype)
}

// choose chooses among the addresses of something: of the kind that is asked for,
// and the WAN's for other datacenters if it is so set.
func (l *lookup) choose(addr string, tagged func(name string) string, qtype uint16) string {
	family := api.AnyFamily
	switch qtype {
	case dns.TypeA:
		family = api.IPv4
	case dns.TypeAAAA:
		family = api.IPv6
	}
	return api.ChooseAddress(addr, tagged, l.f.cfg.TranslateWAN && !l.own(), family)
}

func (l *lookup) isAsked(host string) bool {
	return strings.ToLower(strings.TrimSuffix(host, "."))+"." == l.q.text()
}

// target is the name that the SRV record of an instance leads to, with the address
// of the instance unless it is a name itself.
func (l *lookup) target(one *api.CheckServiceNode) (name int, host string, addr netip.Addr) {
	host, ofNode := l.host(one)
	addr, err := netip.ParseAddr(host)
	switch {
	case err == nil && ofNode && host == one.Node.Address:
		return l.nodeName(one.Node), host, addr
	case err == nil:
		return l.ownName(hexOf(addr) + ".addr." + l.dc + "."), host, addr
	case !ofNode && l.isAsked(host):
		// The service leads to itself, which ends at the node.
		host = l.translate(one.Node.Address, one.Node.TaggedAddresses, l.q.qtype)
		if addr, err = netip.ParseAddr(host); err != nil {
			return none, host, addr
		}
		return l.nodeName(one.Node), host, addr
	}
	return l.foreignName(host), host, netip.Addr{}
}

// srv adds the SRV record of an instance, and the address it leads to.
func (l *lookup) srv(ctx context.Context, one *api.CheckServiceNode, ttl uint32, seen map[mark]bool) {
	target, host, addr := l.target(one)
	if target == none || !once(seen, mark{what: 's', target: target, port: one.Service.Port}) {
		return
	}
	weight := weightOf(one)
	data := []byte{0, 1, byte(weight >> 8), byte(weight), byte(one.Service.Port >> 8), byte(one.Service.Port)} //nolint:gosec // a port
	a := l.answer
	a.records = append(a.records, newRecord(asked, dns.TypeSRV, ttl, data, target))
	if once(seen, mark{what: 'h', target: target}) {
		if addr.IsValid() {
			a.extra = append(a.extra, addressRecord(target, addr, ttl))
		} else {
			a.extra = append(a.extra, l.chase(ctx, host, ttl, true)...)
		}
	}
	if !l.s.NodeMetaTXT || len(one.Node.Meta) == 0 {
		return
	}
	if node := l.nodeName(one.Node); node != none && once(seen, mark{what: 'm', target: node}) {
		a.extra = append(a.extra, metaRecords(node, one.Node.Meta, ttl)...)
	}
}

// weightOf is the weight of an instance in its state.
func weightOf(one *api.CheckServiceNode) int {
	w := one.Service.Weights
	if w == nil {
		return 1
	}
	weight := w.Passing
	if slices.ContainsFunc(one.Checks, func(c *api.HealthCheck) bool { return c.Status == api.Warning }) {
		weight = w.Warning
	}
	return min(max(weight, 0), 1<<16-1)
}

// address answers with the address in the name itself.
func (l *lookup) address() {
	r := addressRecord(asked, l.place.addr, seconds(l.s.NodeTTL))
	if l.q.qtype == dns.TypeANY || l.wants(l.place.addr) && (l.q.qtype == dns.TypeA || l.q.qtype == dns.TypeAAAA) {
		l.answer.records = append(l.answer.records, r)
		return
	}
	l.answer.extra = append(l.answer.extra, r)
}
