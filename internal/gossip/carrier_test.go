package gossip

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// relay carries between pools that cannot reach each other: it knows them by name only.
type relay struct {
	mu    sync.Mutex
	pools map[string]*Pool
	conns map[string]net.Conn // of packets, by name of the receiver
	wg    sync.WaitGroup
}

// route finds a pool, and any pool of a datacenter for "*.<datacenter>".
func (r *relay) route(name string) *Pool {
	if dc, ok := strings.CutPrefix(name, "*"); ok {
		for known, p := range r.pools {
			if strings.HasSuffix(known, dc) {
				return p
			}
		}
	}
	return r.pools[name]
}

func (r *relay) Packet(to Peer, b []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	conn := r.conns[to.Name]
	if conn == nil {
		pool := r.route(to.Name)
		if pool == nil {
			return errors.New("no route")
		}
		ours, theirs, err := connect()
		if err != nil {
			return err
		}
		r.wg.Go(func() { pool.ServePackets(theirs) })
		r.conns[to.Name], conn = ours, ours
	}
	_, err := conn.Write(Frame(nil, b))
	return err
}

func (r *relay) Stream(_ context.Context, to Peer) (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pool := r.route(to.Name)
	if pool == nil {
		return nil, errors.New("no route")
	}
	ours, theirs, err := connect()
	if err != nil {
		return nil, err
	}
	r.wg.Go(func() { pool.ServeStream(theirs) })
	return ours, nil
}

// connect yields the two ends of a connection.
func connect() (client, server net.Conn, err error) {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		return nil, nil, err
	}
	if client, err = net.Dial("tcp", l.Addr().String()); err == nil {
		server, err = l.Accept()
	}
	return client, server, errors.Join(err, l.Close())
}

func TestFederatedPoolNeedsItsCarrierOnly(t *testing.T) {
	r := &relay{pools: map[string]*Pool{}, conns: map[string]net.Conn{}}
	t.Cleanup(func() { // After the pools have stopped, which ends what serves connections.
		r.wg.Wait()
		for _, c := range r.conns {
			_ = c.Close()
		}
	})
	start := func(name string) *node {
		cfg := config(t, name)
		cfg.WAN, cfg.RequireNodeNames = true, true
		cfg.AdvertiseAddr, cfg.AdvertisePort = "192.0.2.1", 8302 // The same for all, and nowhere.
		cfg.DisableTCPPings = func(string) bool { return true }
		cfg.Carrier = r
		n := start(t, cfg)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.pools[name] = n.Pool
		return n
	}
	nodes := []*node{start("n1.dc1"), start("n1.dc2"), start("n.dotted.dc2")}
	for _, n := range nodes[1:] {
		if got, err := n.Join(t.Context(), []string{"*.dc1/192.0.2.2"}); got != 1 || err != nil {
			t.Fatalf("joined %d, %v", got, err)
		}
	}
	for _, n := range nodes {
		for _, other := range nodes {
			name := other.Local().Name
			eventually(t, name+" alive", func() bool { return n.status(name) == StatusAlive })
			// A coordinate is what comes back from a probe that has succeeded.
			eventually(t, name+" probed", func() bool { _, ok := n.Coordinate(name); return ok })
		}
	}
	for _, n := range nodes {
		if got := n.seen(); slices.ContainsFunc(got, func(e string) bool { return strings.HasPrefix(e, "member-failed") }) {
			t.Errorf("somebody failed: %v", got)
		}
	}
}

// lossy drops what is for one member, with an error, and asks the pool while it carries.
type lossy struct {
	Carrier

	pool func() *Pool
	lost string
}

func (l *lossy) Packet(to Peer, b []byte) error {
	if p := l.pool(); p != nil {
		p.Members() // Would hang if the library called with the lock over its members held.
		p.Coordinate(to.Name)
	}
	if to.Name == l.lost {
		return errors.New("no route")
	}
	return l.Carrier.Packet(to, b)
}

func (l *lossy) Stream(ctx context.Context, to Peer) (net.Conn, error) {
	if to.Name == l.lost {
		return nil, errors.New("no route")
	}
	return l.Carrier.Stream(ctx, to)
}

// The library ends a probe without a verdict when a send fails with an error it does not know.
func TestMemberWhosePacketsAreLostFailsAndTheOthersDoNot(t *testing.T) {
	a := config(t, "a")
	var mu sync.Mutex
	var pool *Pool
	a.Carrier = &lossy{Carrier: a.Net, lost: "c", pool: func() *Pool {
		mu.Lock()
		defer mu.Unlock()
		return pool
	}}
	b, c := start(t, config(t, "b")), start(t, config(t, "c"))
	na := start(t, a)
	mu.Lock()
	pool = na.Pool
	mu.Unlock()
	join(t, na, b)
	join(t, c, na)
	expect(t, na, "c", "member-join")
	b.stop()
	eventually(t, "b failed", func() bool { return slices.Contains(na.seen(), "member-failed b") })
	eventually(t, "c failed", func() bool { return slices.Contains(na.seen(), "member-failed c") })
}

// stalled opens streams that nothing ever comes from, or waits for ever.
type stalled struct {
	Carrier

	asked chan struct{}
}

func (s *stalled) Stream(ctx context.Context, _ Peer) (net.Conn, error) {
	close(s.asked)
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestJoinEndsWithItsContextAndStopsWithThePool(t *testing.T) {
	cfg := config(t, "a")
	s := &stalled{Carrier: cfg.Net, asked: make(chan struct{})}
	cfg.Carrier = s
	cfg.WAN = true
	a := start(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-s.asked
		cancel()
	}()
	if n, err := a.Join(ctx, []string{"127.0.0.1:1"}); n != 0 || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %d, %v, want canceled", n, err)
	}
	began := time.Now()
	a.stop()
	if took := time.Since(began); took > patience { // The timeout of a stream is longer.
		t.Errorf("took %v to stop: the dial was not ended", took)
	}
}

func TestNoRouteFailsTheJoin(t *testing.T) {
	a := start(t, config(t, "a"))
	free := config(t, "b")
	if err := free.Net.Close(); err != nil {
		t.Fatal(err)
	}
	b := &node{net: free.Net}
	if n, err := a.Join(t.Context(), []string{b.addr(), "bad/"}); n != 0 || err == nil {
		t.Errorf("got %d, %v", n, err)
	}
}
