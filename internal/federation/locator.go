package federation

import (
	"cmp"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"isthmus/internal/wire"
)

// Gateways is what a source knows: addresses (host:port) of the gateways of the
// own datacenter, as its servers reach them, and of the primary's, as they are
// reached from elsewhere.
type Gateways struct {
	Own     []string
	Primary []string
}

// Source yields the gateways it knows of, and again after every change.
type Source = iter.Seq[Gateways]

// coolDown is how long a gateway that failed is tried last.
const coolDown = 10 * time.Second

// Locator remembers where the gateways are. It is the one piece of state in the
// circle between dialling and replication: sources write it, dialers read it,
// and neither knows the other. Sources are united: none shadows another.
type Locator struct {
	secondary bool // the primary's gateways are a last resort, towards the primary

	mu      sync.Mutex
	changed []chan struct{}
	sources map[string]Gateways
	health  map[path]*record
	conns   map[string]int // open connections, by gateway
}

// path is a gateway, and the server behind it when it is the server that did not
// answer.
type path struct{ gateway, server string }

type record struct {
	success, failure time.Time
	down             bool // the last attempt failed
	err              string
}

// NewLocator returns a locator that knows nothing yet. In a secondary datacenter
// the primary's gateways may be dialled too, towards the primary.
func NewLocator(secondary bool) *Locator {
	return &Locator{
		secondary: secondary, sources: map[string]Gateways{}, health: map[path]*record{}, conns: map[string]int{},
	}
}

// Follow learns from a source until it ends.
func (l *Locator) Follow(name string, src Source) {
	for gateways := range src {
		l.mu.Lock()
		l.sources[name] = gateways
		l.forget()
		for _, c := range l.changed {
			select {
			case c <- struct{}{}:
			default: // it is told already
			}
		}
		l.mu.Unlock()
	}
}

// Changed returns a channel of one place that gets an element when a source had
// news.
func (l *Locator) Changed() <-chan struct{} {
	c := make(chan struct{}, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed = append(l.changed, c)
	return c
}

// forget drops the records of gateways that no source names any more.
func (l *Locator) forget() {
	known := map[string]bool{}
	for _, g := range l.sources {
		for _, addr := range slices.Concat(g.Own, g.Primary) {
			known[addr] = true
		}
	}
	maps.DeleteFunc(l.health, func(p path, _ *record) bool { return !known[p.gateway] })
}

// Candidate is a gateway to try.
type Candidate struct {
	Addr string
	Own  bool // of the own datacenter, not the primary's
}

// Via returns the gateways by which a server of another datacenter is reached,
// in the order in which to try them: own ones first, then, in a secondary and
// towards the primary, the primary's; those that failed lately last. Equals
// stand in random order, which spreads connections.
func (l *Locator) Via(toPrimary bool, server string) []Candidate {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []Candidate
	seen := map[string]bool{}
	add := func(addrs []string, own bool) {
		for _, addr := range addrs {
			if !seen[addr] {
				seen[addr] = true
				list = append(list, Candidate{addr, own})
			}
		}
	}
	for _, g := range l.sources {
		add(g.Own, true)
	}
	if l.secondary && toPrimary {
		for _, g := range l.sources {
			add(g.Primary, false)
		}
	}
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] }) //nolint:gosec // spreads load, hides nothing
	rank := func(c Candidate) int {
		rank := 0
		if !c.Own {
			rank = 1
		}
		if l.failing(path{c.Addr, ""}, now) || l.failing(path{c.Addr, server}, now) {
			rank += 2
		}
		return rank
	}
	slices.SortStableFunc(list, func(a, b Candidate) int { return cmp.Compare(rank(a), rank(b)) })
	return list
}

// failedLately tells whether a dial by this way ended with an error not long ago.
func (l *Locator) failedLately(gateway, server string) bool {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failing(path{gateway, ""}, now) || l.failing(path{gateway, server}, now)
}

func (l *Locator) failing(p path, now time.Time) bool {
	r := l.health[p]
	return r != nil && r.down && now.Sub(r.failure) < coolDown
}

// succeeded records that a gateway led to a server.
func (l *Locator) succeeded(gateway, server string) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range []path{{gateway, ""}, {gateway, server}} {
		r := l.record(p)
		r.success, r.down = now, false
	}
}

// failed records that a gateway did not answer, or, with a server, that the
// server did not answer behind it.
func (l *Locator) failed(gateway, server string, err error) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.record(path{gateway, server})
	r.failure, r.down, r.err = now, true, err.Error()
}

// opened counts connections through a gateway: 1 when one is opened, -1 when it is
// closed.
func (l *Locator) opened(gateway string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns[gateway] += n; l.conns[gateway] == 0 {
		delete(l.conns, gateway)
	}
}

func (l *Locator) record(p path) *record {
	r := l.health[p]
	if r == nil {
		r = &record{}
		l.health[p] = r
	}
	return r
}

// View tells what is known of the gateways to a datacenter, in the order of the
// next dial.
func (l *Locator) View(toPrimary bool) []wire.GatewayView {
	list := l.Via(toPrimary, "")
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]wire.GatewayView, len(list))
	for i, c := range list {
		out[i] = wire.GatewayView{Address: c.Addr, Own: c.Own, Source: l.sourceOf(c.Addr), Connections: l.conns[c.Addr]}
		for p, r := range l.health {
			if p.gateway != c.Addr {
				continue
			}
			if r.success.After(out[i].LastSuccess) {
				out[i].LastSuccess = r.success
			}
			if p.server == "" && r.failure.After(out[i].LastFailure) {
				out[i].LastFailure = r.failure
				if r.down {
					out[i].Error = r.err
				}
			}
		}
	}
	return out
}

func (l *Locator) sourceOf(addr string) string {
	for _, name := range slices.Sorted(maps.Keys(l.sources)) {
		g := l.sources[name]
		if slices.Contains(g.Own, addr) || slices.Contains(g.Primary, addr) {
			return name
		}
	}
	return ""
}
