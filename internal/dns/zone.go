package dns

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"isthmus/api"
	"isthmus/internal/wire"
)

// maxServers is how many servers are named as those of the zone.
const maxServers = 3

// zone answers questions for the zone's SOA and NS records, which are the same for
// every name in it.
func (l *lookup) zone(ctx context.Context) {
	l.dc = l.f.cfg.Datacenter
	ns, glue := l.servers(ctx)
	l.answer.extra = glue
	if l.q.qtype == dns.TypeNS {
		l.answer.records = ns
		return
	}
	l.answer.records = append(l.answer.records, l.soa(l.f.domains[0].text))
	l.answer.ns = ns
}

// servers are the NS records of the zone, with the addresses they lead to.
func (l *lookup) servers(ctx context.Context) (ns, glue []record) {
	all, err := call(ctx, l, wire.HealthServiceNodes, wire.ServiceQuery{ServiceName: api.ConsulService})
	if err != nil {
		l.f.cfg.Log.Warn("the zone's servers are not known", "err", err)
		return nil, nil
	}
	owner := l.answer.name(name{l.domain.wire, len(l.domain.wire)})
	ttl := seconds(l.s.NodeTTL)
	for _, i := range rand.Perm(len(all)) { //nolint:gosec // spreads load, hides nothing
		if len(ns) == maxServers || all[i].Status() != api.Passing {
			continue
		}
		host, _ := l.host(&all[i].CheckServiceNode)
		addr, err := netip.ParseAddr(host)
		target := l.plainName(all[i].Node.Node + ".node." + l.dc + "." + l.domain.text)
		if err != nil || target == none || strings.ContainsAny(all[i].Node.Node, " .") {
			continue
		}
		ns = append(ns, newRecord(owner, dns.TypeNS, ttl, nil, target))
		glue = append(glue, addressRecord(target, addr, ttl))
	}
	return ns, glue
}

// reverse answers with the names of who has an address. It is false where nobody
// has.
func (l *lookup) reverse(ctx context.Context, addr netip.Addr) (bool, error) {
	l.dc = l.f.cfg.Datacenter
	l.domain = l.f.domains[0]
	nodes, err := call(ctx, l, wire.CatalogNodes, wire.DCQuery{})
	if err != nil {
		return false, err
	}
	add := func(text string) {
		if target := l.plainName(text + "." + l.dc + "." + l.domain.text); target != none {
			l.answer.records = append(l.answer.records, newRecord(asked, dns.TypePTR, 0, nil, target))
		}
	}
	for _, n := range nodes {
		if isAddr(n.Address, addr) {
			add(n.Node + ".node")
			return true, nil // an address belongs to one node
		}
	}
	instances, err := call(ctx, l, wire.CatalogServiceNodes, wire.ServiceQuery{ServiceAddress: addr.String()})
	if err != nil {
		return false, err
	}
	seen := map[string]bool{}
	for _, one := range instances {
		if isAddr(one.ServiceAddress, addr) && !seen[one.ServiceName] {
			seen[one.ServiceName] = true
			add(one.ServiceName + ".service")
		}
	}
	return len(seen) > 0, nil
}

func isAddr(text string, addr netip.Addr) bool {
	other, err := netip.ParseAddr(text)
	return err == nil && other == addr
}
