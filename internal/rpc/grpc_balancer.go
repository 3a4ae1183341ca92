package rpc

import (
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"isthmus/internal/transport"
)

// grpcPolicy is the name by which gRPC finds the balancer. gRPC has one table of
// names for the process and allows writing it only while variables are initialised;
// what is written there has no state.
var grpcPolicy = func() string {
	var b stickyBuilder
	balancer.Register(b)
	return b.Name()
}()

const (
	// slowAfter is how long a server may be silent while connecting until the next
	// one is tried beside it.
	slowAfter = time.Second

	// restAfter is how long a server is left alone when its connection ended within
	// that time, so that one that hangs up at once is not called in a tight loop.
	restAfter = time.Second
)

type stickyBuilder struct{}

// Name implements balancer.Builder.
func (stickyBuilder) Name() string { return "isthmus_sticky" }

// Build implements balancer.Builder.
func (stickyBuilder) Build(cc balancer.ClientConn, _ balancer.BuildOptions) balancer.Balancer {
	return &sticky{cc: cc, tries: map[place]*try{}}
}

// sticky is a balancer that sends every call to one server for as long as that
// works. It looks for another when the connection ends or the server is gone. When
// the order was drawn anew, the server is held for dead or a better way to it is
// known, it connects to another first and lets go of the old one then.
type sticky struct {
	cc balancer.ClientConn

	mu     sync.Mutex
	closed bool
	order  []resolver.Address // in which servers are tried
	rank   ranking
	cur    *try           // the one in use, or nil
	moving bool           // another than cur is looked for
	tries  map[place]*try // all others
	down   error          // why there is none in use, once all were tried
	told   connectivity.State
	wake   *time.Timer // nil unless something is to be done later
}

// try is a connection to a server, or the attempt to have one.
type try struct {
	place

	sc    balancer.SubConn // nil until it connects
	state connectivity.State
	since time.Time // when it began to connect, or was connected
	rests time.Time // until when it is left alone
	err   error     // why the last attempt failed
}

// spotOf is what the resolver told of an address.
func spotOf(a resolver.Address) spot {
	s, _ := a.Attributes.Value(spotKey{}).(spot) // every address is made by this package
	return s
}

// UpdateClientConnState implements balancer.Balancer.
func (b *sticky) UpdateClientConnState(s balancer.ClientConnState) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	rank, _ := s.ResolverState.Attributes.Value(rankingKey{}).(ranking)
	redrawn := rank.drawn != b.rank.drawn
	b.order, b.rank = s.ResolverState.Addresses, rank
	for p := range b.tries {
		if at := b.at(p.to); at < 0 || spotOf(b.order[at]).place != p {
			b.drop(p)
		}
	}
	if b.cur != nil {
		b.review(redrawn)
	}
	b.step()
	return nil
}

// at is the place of a server in the order, or -1.
func (b *sticky) at(to transport.Target) int {
	return slices.IndexFunc(b.order, func(a resolver.Address) bool { return spotOf(a).to == to })
}

// review decides whether the server in use remains so.
func (b *sticky) review(redrawn bool) {
	at := b.at(b.cur.to)
	if at < 0 {
		b.cur.sc.Shutdown() // its streams may end
		b.cur = nil
		return
	}
	s := spotOf(b.order[at])
	b.moving = b.moving || redrawn || s.way != b.cur.way || !s.alive && spotOf(b.order[0]).alive
}

// candidates are the servers to connect to: all of them, or those which are better
// than the one in use.
func (b *sticky) candidates() []resolver.Address {
	if b.cur == nil {
		return b.order
	}
	at := b.at(b.cur.to)
	if spotOf(b.order[at]).way != b.cur.way {
		at++
	}
	return b.order[:at]
}

// step does what is next: it connects to one server after the other until one is
// ready, and tells gRPC how things stand.
func (b *sticky) step() {
	if b.wake != nil {
		b.wake.Stop()
		b.wake = nil
	}
	if b.closed {
		return
	}
	if b.cur == nil || b.moving {
		b.search()
	}
	b.tell()
}

// search connects to the candidates in their order: to the next when one fails, and
// beside it when it is slow.
func (b *sticky) search() {
	now, wait, pending := time.Now(), time.Duration(0), false
	failed := b.rank.none
	for _, a := range b.candidates() {
		t := b.try(spotOf(a).place)
		if rest := t.rests.Sub(now); rest > 0 {
			pending, wait = true, sooner(wait, rest)
			continue
		}
		if t.state == connectivity.Idle {
			b.connect(t, a, now)
		}
		if t.state == connectivity.TransientFailure {
			failed = t.err
			continue
		}
		pending = true
		if slow := t.since.Add(slowAfter).Sub(now); slow > 0 {
			wait = sooner(wait, slow)
			break
		}
	}
	switch {
	case pending:
	case b.cur == nil:
		b.down = failed
	default: // the one in use is the best there is
		b.moving = false
		b.dropAll()
	}
	if wait > 0 {
		b.wake = time.AfterFunc(wait, func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.step()
		})
	}
}

// sooner is the shorter of two waits, of which the first may be none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// try returns what there is of a place. A new one is new hope.
func (b *sticky) try(p place) *try {
	t := b.tries[p]
	if t == nil {
		t = &try{place: p, state: connectivity.Idle}
		b.tries[p] = t
		b.down = nil
	}
	return t
}

func (b *sticky) connect(t *try, a resolver.Address, now time.Time) {
	t.state, t.since = connectivity.Connecting, now
	if t.sc == nil {
		var err error
		t.sc, err = b.cc.NewSubConn([]resolver.Address{a}, balancer.NewSubConnOptions{ //nolint:staticcheck // what is announced to change is what several addresses do
			StateListener: func(s balancer.SubConnState) { b.changed(t, s) },
		})
		if err != nil { // gRPC is closing
			t.state, t.err = connectivity.TransientFailure, err
			return
		}
	}
	t.sc.Connect()
}

// drop lets go of a connection when its streams have ended.
func (b *sticky) drop(p place) {
	if t := b.tries[p]; t.sc != nil {
		t.sc.Shutdown()
	}
	delete(b.tries, p)
}

func (b *sticky) dropAll() {
	for p := range b.tries {
		b.drop(p)
	}
}

// changed takes the news of a connection. That of one which was dropped does not
// matter.
func (b *sticky) changed(t *try, s balancer.SubConnState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed || t != b.cur && t != b.tries[t.place]:
		return
	case t == b.cur:
		b.lost()
	case s.ConnectivityState == connectivity.Ready:
		b.use(t)
		return
	default:
		t.state = s.ConnectivityState
		if s.ConnectionError != nil {
			t.err = s.ConnectionError
		}
	}
	b.step()
}

// use takes a connection into use. Calls go over it before the old one is let go, so
// that none waits.
func (b *sticky) use(t *try) {
	old := b.cur
	delete(b.tries, t.place)
	b.cur, b.moving, b.down = t, false, nil
	t.since = time.Now()
	b.told = connectivity.Idle // gRPC knows another, if any
	b.step()
	b.dropAll()
	if old != nil {
		old.sc.Shutdown()
	}
}

// lost goes on without the connection in use, which ended. Its server is the last to
// be tried again.
func (b *sticky) lost() {
	t := b.cur
	b.cur, b.moving = nil, false
	t.sc.Shutdown()
	if time.Since(t.since) < restAfter {
		b.tries[t.place] = &try{place: t.place, state: connectivity.Idle, rests: time.Now().Add(restAfter)}
	}
	if at := b.at(t.to); at >= 0 {
		b.order = slices.Concat(b.order[:at], b.order[at+1:], b.order[at:at+1])
	}
}

// tell has gRPC know how things stand.
func (b *sticky) tell() {
	s := balancer.State{ConnectivityState: connectivity.Connecting, Picker: picker{err: balancer.ErrNoSubConnAvailable}}
	switch {
	case b.cur != nil:
		s = balancer.State{ConnectivityState: connectivity.Ready, Picker: picker{to: b.cur.sc}}
	case b.down != nil:
		s = balancer.State{ConnectivityState: connectivity.TransientFailure, Picker: picker{err: b.down}}
	}
	if s.ConnectivityState != b.told || b.down != nil {
		b.told = s.ConnectivityState
		b.cc.UpdateState(s)
	}
}

// ResolverError implements balancer.Balancer. The resolver knows no errors.
func (b *sticky) ResolverError(error) {}

// UpdateSubConnState implements balancer.Balancer. Connections have listeners of
// their own.
func (b *sticky) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// ExitIdle implements balancer.Balancer. There is always a connection, or the
// attempt to have one.
func (b *sticky) ExitIdle() {}

// Close implements balancer.Balancer.
func (b *sticky) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.step() // stops what would be done later
	b.dropAll()
	if b.cur != nil {
		b.cur.sc.Shutdown()
	}
}

// picker sends every call to one connection, or to none.
type picker struct {
	to  balancer.SubConn
	err error
}

// Pick implements balancer.Picker.
func (p picker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{SubConn: p.to}, p.err
}
