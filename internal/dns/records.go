package dns

import (
	"encoding/binary"
	"encoding/hex"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"isthmus/api"
)

// addressRecord is an A or AAAA record.
func addressRecord(owner int, addr netip.Addr, ttl uint32) record {
	addr = addr.Unmap()
	rtype := dns.TypeA
	if addr.Is6() {
		rtype = dns.TypeAAAA
	}
	return newRecord(owner, rtype, ttl, addr.AsSlice(), none)
}

func hexOf(addr netip.Addr) string { return hex.EncodeToString(addr.Unmap().AsSlice()) }

// rawMeta begins the keys of metadata whose values stand alone in TXT records.
const rawMeta = "rfc1035-"

// metaRecords are TXT records of metadata, one a pair.
func metaRecords(owner int, meta map[string]string, ttl uint32) []record {
	var out []record
	for _, key := range slices.Sorted(maps.Keys(meta)) {
		text := meta[key]
		if !strings.HasPrefix(strings.ToLower(key), rawMeta) {
			text = pair(key, text)
		}
		var data []byte
		for {
			part := text[:min(len(text), 255)]
			data = append(append(data, byte(len(part))), part...) //nolint:gosec // 255 at most
			if text = text[len(part):]; text == "" {
				break
			}
		}
		out = append(out, newRecord(owner, dns.TypeTXT, ttl, data, none))
	}
	return out
}

// pair writes an attribute as RFC 1464 has it: a backquote stands before what
// would be misread in the key.
func pair(key, value string) string {
	quoted := strings.NewReplacer("`", "``", "=", "`=").Replace(key)
	left := strings.TrimLeft(quoted, " ")
	core := strings.TrimRight(left, " ")
	before, after := len(quoted)-len(left), len(left)-len(core)
	return strings.Repeat("` ", before) + core + strings.Repeat("` ", after) + "=" + strings.ReplaceAll(value, "`", "``")
}

// ownName is the index of a name in the domain that was asked for, of which text
// is what comes before it. It is none where there is no such name.
func (l *lookup) ownName(text string) int {
	wire := wireName(text + l.domain.text)
	if wire == nil {
		return none
	}
	return l.answer.name(name{wire, l.shared()})
}

// shared is how much of an own name stands at the end of the question too.
func (l *lookup) shared() int {
	if _, _, ok := l.f.domainOf(l.q.text()); !ok || l.chased > 0 {
		return 0
	}
	return len(l.domain.wire)
}

func (l *lookup) nodeName(n *api.Node) int { return l.ownName(n.Node + ".node." + l.dc + ".") }

// foreignName is the index of the name of a host that is written as it is.
func (l *lookup) foreignName(host string) int {
	wire := wireName(strings.TrimSuffix(host, ".") + ".")
	if wire == nil {
		return none
	}
	return l.answer.name(name{wire, 0})
}

// plainName is the index of a name below a domain in lower case.
func (l *lookup) plainName(text string) int { return l.foreignName(text) }

// nameError answers that there is no such name.
func (l *lookup) nameError() {
	l.answer.rcode = dns.RcodeNameError
	l.answer.ns = append(l.answer.ns, l.soa(l.domain.text))
}

// soa is the record of a zone. Its serial is the time, so that it grows.
func (l *lookup) soa(zone string) record {
	s := l.s.SOA
	var data []byte
	for _, first := range []string{"ns.", "hostmaster."} {
		data = append(data, wireName(first+zone)...)
	}
	for _, n := range []uint32{uint32(time.Now().Unix()), s.Refresh, s.Retry, s.Expire, s.MinTTL} { //nolint:gosec // serials wrap around
		data = binary.BigEndian.AppendUint32(data, n)
	}
	return newRecord(l.plainName(zone), dns.TypeSOA, s.MinTTL, data, none)
}

// fromRR takes over a record of a message. It is false for what cannot be packed.
func (l *lookup) fromRR(rr dns.RR, ttl uint32) (record, bool) {
	owner := l.plainName(rr.Header().Name)
	if owner == none {
		return record{}, false
	}
	if c, ok := rr.(*dns.CNAME); ok {
		target := l.plainName(c.Target)
		return newRecord(owner, dns.TypeCNAME, ttl, nil, target), target != none
	}
	b := make([]byte, dns.Len(rr)+maxName)
	end, err := dns.PackRR(rr, b, 0, nil, false)
	if err != nil {
		return record{}, false
	}
	begin := nameEnd(b, 0)
	if begin < 0 || begin+10 > end {
		return record{}, false
	}
	return newRecord(owner, rr.Header().Rrtype, ttl, b[begin+10:end], none), true
}
