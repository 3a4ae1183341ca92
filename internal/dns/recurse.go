package dns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// maxChase is how many names may lead to each other.
const maxChase = 3

// alias answers that the name is another one of host, with what that leads to.
func (l *lookup) alias(ctx context.Context, host string, ttl uint32, override bool) {
	target := l.foreignName(host)
	if target == none {
		return
	}
	a := l.answer
	a.shuffled = false // what an alias leads to comes after it
	a.records = append(a.records, newRecord(asked, dns.TypeCNAME, ttl, nil, target))
	a.records = append(a.records, l.chase(ctx, host, ttl, override)...)
}

// chase returns the addresses of a host that is known by its name: one of our own
// names, or one that the recursors know. With override, ttl is theirs.
func (l *lookup) chase(ctx context.Context, host string, ttl uint32, override bool) []record {
	if l.chased++; l.chased > maxChase {
		return nil
	}
	defer func() { l.chased-- }()
	l.answer.passing = true
	host = strings.TrimSuffix(host, ".") + "."
	lower := strings.ToLower(host)
	if d, rest, ok := l.f.domainOf(lower); ok {
		return l.inside(ctx, d, rest, host, ttl, override)
	}
	rtype := dns.TypeA
	if l.q.qtype == dns.TypeAAAA {
		rtype = dns.TypeAAAA
	}
	m := new(dns.Msg)
	m.SetQuestion(host, rtype)
	m.SetEdns0(maxRecursed, false)
	reply, err := l.f.recurse(ctx, l.s, m, "udp")
	if err != nil {
		return nil
	}
	var out []record
	for _, rr := range reply.Answer {
		t := ttl
		if !override {
			t = rr.Header().Ttl
		}
		if r, ok := l.fromRR(rr, t); ok {
			out = append(out, r)
		}
	}
	return out
}

// maxRecursed is the size of the answers we take from recursors over UDP.
const maxRecursed = 1232

// inside finds the addresses of a name of our own.
func (l *lookup) inside(ctx context.Context, d domain, rest, host string, ttl uint32, override bool) []record {
	q := query{qtype: l.q.qtype, question: wireName(host), lower: strings.ToLower(host)}
	if q.qtype != dns.TypeA && q.qtype != dns.TypeAAAA {
		q.qtype = dns.TypeANY
	}
	q.name = len(q.question)
	sub := &lookup{f: l.f, s: l.s, q: &q, domain: d, place: parseName(rest), answer: newAnswer(), chased: l.chased}
	if err := sub.resolve(ctx); err != nil || sub.answer.rcode != dns.RcodeSuccess {
		return nil
	}
	// The names of its answer become names of ours.
	names := make([]int, len(sub.answer.names))
	names[asked] = l.foreignName(host)
	for i, n := range sub.answer.names[1:] {
		names[i+1] = l.answer.name(name{n.wire, 0})
	}
	var out []record
	for _, r := range sub.answer.records {
		if r.rtype() == dns.TypeTXT {
			continue
		}
		if r.owner = names[r.owner]; r.target != none {
			r.target = names[r.target]
		}
		if override {
			r = newRecord(r.owner, r.rtype(), ttl, r.data, r.target)
		}
		out = append(out, r)
	}
	return out
}

var errNoRecursor = errors.New("no recursor answers")

// recurse asks the recursors, one after the other until one answers.
func (f *Front) recurse(ctx context.Context, s *Settings, m *dns.Msg, network string) (*dns.Msg, error) {
	addrs := s.Recursors
	if s.RandomRecursor {
		addrs = slices.Clone(addrs)
		rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] }) //nolint:gosec // spreads load, hides nothing
	}
	client := dns.Client{Net: network, Timeout: s.RecursorTimeout}
	err := errNoRecursor
	for _, addr := range addrs {
		reply, _, failed := client.ExchangeContext(ctx, m, recursorAddr(addr))
		switch {
		case failed != nil:
			err = fmt.Errorf("ask recursor %s: %w", addr, failed)
		case reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError:
			err = fmt.Errorf("ask recursor %s: it answers %s", addr, dns.RcodeToString[reply.Rcode])
		default:
			return reply, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	if len(addrs) > 0 {
		f.cfg.Log.Debug("no recursor answers", "name", m.Question[0].Name, "err", err)
	}
	return nil, err
}

// recursorAddr adds the port of DNS where there is none.
func recursorAddr(addr string) string {
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	return net.JoinHostPort(strings.Trim(addr, "[]"), "53")
}

// forward has the recursors answer a question as it came, and returns nil when
// they do not.
func (f *Front) forward(ctx context.Context, s *Settings, raw []byte, q *query) []byte {
	m := new(dns.Msg)
	if len(s.Recursors) == 0 || m.Unpack(raw) != nil {
		return nil
	}
	network := "udp"
	if q.tcp {
		network = "tcp"
	}
	m.Id = dns.Id()
	limit := max(len(s.Recursors), 1)
	ctx, cancel := context.WithTimeout(ctx, min(time.Duration(limit)*s.RecursorTimeout, forwardWithin))
	defer cancel()
	reply, err := f.recurse(ctx, s, m, network)
	if err != nil {
		return nil
	}
	reply.Id, reply.RecursionAvailable, reply.Compress = q.id, true, !s.DisableCompression
	reply.Truncate(q.size)
	reply.Compress = !s.DisableCompression
	out, err := reply.Pack()
	if err != nil || len(out) > q.size {
		return nil
	}
	return out
}

// forwardWithin bounds how long all recursors together may take.
const forwardWithin = 10 * time.Second
