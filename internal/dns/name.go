package dns

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
)

// kind is what a name asks for.
type kind int

const (
	nothing    kind = iota // no name of ours
	aNode                  // a node
	aService               // the instances of a service
	aProxy                 // what leads into the mesh to a service
	anAddress              // an address that stands in the name itself
	notBuilt               // something that exists, but not here yet
	wrongShape             // an address of neither length
)

// place is a name of the domain, taken apart.
type place struct {
	kind       kind
	name       string // of the node or service, or of what is not built
	tag        string
	datacenter string // empty is the own one
	addr       netip.Addr
}

// kinds are the labels that tell what stands before them.
var kinds = map[string]kind{
	"node": aNode, "service": aService, "connect": aProxy, "addr": anAddress,
	"query": notBuilt, "virtual": notBuilt, "ingress": notBuilt,
}

// unbuiltNames are what the labels of the kind notBuilt stand for.
var unbuiltNames = map[string]string{
	"query": "prepared queries", "virtual": "virtual addresses of services", "ingress": "ingress gateways",
}

// parseName takes apart a name in lower case, without its domain. The kind is the
// last label that is one; after it may stand a datacenter alone, with a label dc or
// without.
func parseName(name string) place {
	labels := strings.Split(name, ".")
	at := -1
	for i, label := range slices.Backward(labels) {
		if _, ok := kinds[label]; ok {
			at = i
			break
		}
	}
	if at < 0 {
		// The form of RFC 2782 may leave out the label of the kind.
		if len(labels) < 2 || !isUnderscored(labels[0]) || !isUnderscored(labels[1]) {
			return place{}
		}
		labels = slices.Insert(labels, 2, "service")
		at = 2
	}
	p := place{kind: kinds[labels[at]]}
	switch after := labels[at+1:]; {
	case len(after) == 0:
	case len(after) == 1, len(after) == 2 && after[1] == "dc":
		p.datacenter = after[0]
	default:
		return place{}
	}
	if at == 0 {
		return place{}
	}
	if p.kind == notBuilt {
		p.name = unbuiltNames[labels[at]]
		return p
	}
	return parseBefore(labels[:at], p)
}

// parseBefore takes apart what stands before the label of a kind.
func parseBefore(labels []string, p place) place {
	last := labels[len(labels)-1]
	switch {
	case p.kind == aNode:
		p.name = strings.Join(labels, ".")
	case p.kind == anAddress && len(labels) == 1:
		return parseAddress(last, p)
	case p.kind == anAddress:
		return place{}
	case p.kind == aService && len(labels) == 2 && isUnderscored(labels[0]) && isUnderscored(last):
		p.name, p.tag = labels[0][1:], last[1:]
		if p.tag == "tcp" {
			p.tag = "" // the protocol, which all instances speak
		}
	default:
		p.name, p.tag = last, strings.Join(labels[:len(labels)-1], ".")
	}
	return p
}

// parseAddress reads the digits of an address.
func parseAddress(digits string, p place) place {
	if len(digits) != 8 && len(digits) != 32 {
		return place{kind: wrongShape}
	}
	b, err := hex.DecodeString(digits)
	if err != nil {
		return place{}
	}
	p.addr, _ = netip.AddrFromSlice(b)
	return p
}

func isUnderscored(label string) bool { return len(label) > 1 && label[0] == '_' }

// reversed reads the address out of a name for reverse lookups.
func reversed(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		parts := strings.Split(rest, ".")
		slices.Reverse(parts)
		addr, err := netip.ParseAddr(strings.Join(parts, "."))
		return addr, err == nil && addr.Is4()
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa.")
	if !ok {
		return netip.Addr{}, false
	}
	digits := strings.Split(rest, ".")
	slices.Reverse(digits)
	b, err := hex.DecodeString(strings.Join(digits, ""))
	if err != nil || len(digits) != 32 {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(b)
}
