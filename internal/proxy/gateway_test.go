package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestNamesReachTheirServers(t *testing.T) {
	a, b, wide, deep := named(t, "a"), named(t, "b"), named(t, "wide"), named(t, "deep")
	g := start(t, Config{},
		Route{Name: "a", Match: "a.server.dc1.consul", Addrs: []string{a}},
		Route{Name: "b", Match: "Server.DC1.consul.", Addrs: []string{b}},
		Route{Name: "wide", Match: "*.dc2.consul", Addrs: []string{wide}},
		Route{Name: "deep", Match: "*.server.dc2.consul", Addrs: []string{deep}},
		Route{Name: "exact", Match: "a.server.dc2.consul", Addrs: []string{a}},
	)
	for _, c := range []struct{ name, want string }{
		{"a.server.dc1.consul", "a"},
		{"A.Server.dc1.CONSUL", "a"},
		{"server.dc1.consul", "b"},
		{"x.dc2.consul", "wide"},
		{"server.dc2.consul", "wide"},
		{"y.x.dc2.consul", "wide"},
		{"x.server.dc2.consul", "deep"},
		{"y.x.server.dc2.consul", "deep"},
		{"a.server.dc2.consul", "a"},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(c.name+"/"+tls.VersionName(version), func(t *testing.T) {
				if got := greeting(t, g.tlsVersion(t, c.name, version)); got != c.want {
					t.Errorf("got server %s, want %s", got, c.want)
				}
			})
		}
	}
}

func TestFinalDotIsIgnored(t *testing.T) {
	// crypto/tls sends no final dot: the hello is patched to hold one.
	hello := helloFor(t, "a.dc1.consulX", tls.VersionTLS13)
	hello = bytes.Replace(hello, []byte("consulX"), []byte("consul."), 1)
	got := make(chan []byte, 1)
	addr := backend(t, func(c *net.TCPConn) {
		buf := make([]byte, len(hello))
		_, _ = io.ReadFull(c, buf)
		got <- buf
	})
	g := start(t, Config{}, Route{Name: "a", Match: "a.dc1.consul", Addrs: []string{addr}})
	if _, err := g.dial(t).Write(hello); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(<-got, hello) {
		t.Error("backend got another hello")
	}
}

func TestOwnServersTakeTurns(t *testing.T) {
	g := start(t, Config{}, Route{
		Name: "server/dc1", Match: "server.dc1.consul",
		Addrs: []string{named(t, "a"), named(t, "b"), named(t, "c")},
	})
	got := make(map[string]int)
	for range 9 {
		got[greeting(t, g.tls(t, "server.dc1.consul"))]++
	}
	if got["a"] != 3 || got["b"] != 3 || got["c"] != 3 {
		t.Errorf("got turns %v, want 3 each", got)
	}
}

// closedAddr is an address where nobody listens.
func closedAddr(t testing.TB) string {
	t.Helper()
	ln := listen(t)
	addr := ln.Addr().String()
	_ = ln.Close()
	return addr
}

func TestDeadAddressesArePassedOverAndRemembered(t *testing.T) {
	g := start(t, Config{}, Route{
		Name: "s", Match: "s.consul",
		Addrs: []string{closedAddr(t), named(t, "live"), closedAddr(t)},
	})
	for range 12 {
		if got := greeting(t, g.tls(t, "s.consul")); got != "live" {
			t.Fatalf("got server %q", got)
		}
	}
	s := g.Stats().Routes["s"]
	if s.Failed != 0 || s.DialFailures == 0 || s.DialFailures > 2 {
		t.Errorf("got %d failed, %d dial failures, want 0 and one for each dead address at most", s.Failed, s.DialFailures)
	}
}

func TestAllAddressesDead(t *testing.T) {
	g := start(t, Config{},
		Route{Name: "s", Match: "s.consul", Addrs: []string{closedAddr(t), closedAddr(t)}},
		Route{Name: "none", Match: "none.consul"})
	for _, name := range []string{"s", "none"} {
		if err := g.tls(t, name+".consul").Handshake(); err == nil {
			t.Errorf("%s: handshake with nobody", name)
		}
		eventually(t, "failure counted", func() bool {
			s := g.Stats().Routes[name]
			return s.Failed == 1 && s.Connections == 1 && s.Active == 0
		})
	}
}

func TestHostNamesAreResolvedWhenDialled(t *testing.T) {
	_, port, err := net.SplitHostPort(named(t, "local"))
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, Config{}, Route{Name: "s", Match: "s.consul", Addrs: []string{"localhost:" + port}})
	if got := greeting(t, g.tls(t, "s.consul")); got != "local" {
		t.Errorf("got server %q", got)
	}
}

func TestIPv6Address(t *testing.T) {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here")
	}
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		if c, err := ln.Accept(); err == nil {
			_ = c.Close()
		}
	}()
	defer func() { _ = ln.Close(); <-accepted }()
	g := start(t, Config{}, Route{Name: "s", Match: "s.consul", Addrs: []string{ln.Addr().String()}})
	_ = g.tls(t, "s.consul").Handshake()
	<-accepted
}

// A slow address is raced by the next, and passed over from then on.
func TestSilentAddressIsRaced(t *testing.T) {
	live := named(t, "live")
	g := New(Config{})
	dial := g.dial
	var mu sync.Mutex
	silent := 0
	g.dial = func(ctx context.Context, addr string, timeout time.Duration) (conn, error) {
		if addr != "192.0.2.1:1" {
			return dial(ctx, addr, timeout)
		}
		mu.Lock()
		silent++
		mu.Unlock()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	g.SetRoutes(table1(t, Route{Name: "s", Match: "s.consul", Addrs: []string{"192.0.2.1:1", live}}))
	r := serve(t, g)
	for range 8 {
		if got := greeting(t, r.tls(t, "s.consul")); got != "live" {
			t.Fatalf("got server %q", got)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if silent != 1 {
		t.Errorf("silent address was dialled %d times, want 1", silent)
	}
	if s := r.Stats().Routes["s"]; s.DialFailures != 0 {
		t.Errorf("got %d dial failures for a dial that was given up", s.DialFailures)
	}
}

// isUnrecognized goes by the text: crypto/tls keeps the type of alerts from its
// peer to itself.
func isUnrecognized(err error) bool {
	return err != nil && strings.Contains(err.Error(), "unrecognized name")
}

// TestAddressThatAcceptsAndIsSilentIsTriedLast has a backend whose process stands
// still: the kernel accepts for it.
func TestAddressThatAcceptsAndIsSilentIsTriedLast(t *testing.T) {
	silent := listen(t).Addr().String() // nobody calls Accept
	g := start(t, Config{DrainTimeout: time.Millisecond}, Route{Name: "remote/dc2", Match: "dc2", Addrs: []string{silent, named(t, "alive")}})
	stuck := make([]*net.TCPConn, 2)
	for i := range stuck { // they take turns, so one of two meets it
		stuck[i] = g.dial(t)
		if _, err := stuck[i].Write(helloFor(t, "dc2", tls.VersionTLS13)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the silent address is known", func() bool { return g.failing.count.Load() == 1 })
	for range 4 {
		c := g.tls(t, "dc2")
		begun := time.Now()
		if got := greeting(t, c); got != "alive" {
			t.Errorf("got %q", got)
		}
		if took := time.Since(begun); took >= silentAfter {
			t.Errorf("took %s beside a silent address", took)
		}
		_ = c.Close()
	}
	for _, c := range stuck {
		_ = c.Close()
	}
}

func TestUnknownNameIsRefusedWithAnAlert(t *testing.T) {
	g := start(t, Config{}, Route{Name: "s", Match: "*.s.consul", Addrs: []string{named(t, "s")}})
	for i, name := range []string{"s.consul", "other", "x.s.consul.example", "192.0.2.1.s", "xs.consul"} {
		if err := g.tls(t, name).Handshake(); !isUnrecognized(err) {
			t.Errorf("%s: got %v, want the unrecognized_name alert", name, err)
		}
		g.refusedWith(t, "unknown_name", uint64(i+1))
	}
}

func TestHelloWithoutNameIsRefusedWithAnAlert(t *testing.T) {
	g := start(t, Config{})
	// crypto/tls leaves an IP address out of its hello.
	if err := g.tls(t, "127.0.0.1").Handshake(); !isUnrecognized(err) {
		t.Errorf("got %v, want the unrecognized_name alert", err)
	}
	g.refusedWith(t, "no_name", 1)
}

func TestOtherProtocolsAreRefused(t *testing.T) {
	g := start(t, Config{})
	for i, text := range []string{"GET / HTTP/1.1\r\n\r\n", "\x16\x02rubbish", "\x00"} {
		c := g.dial(t)
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		if n, _ := io.Copy(io.Discard, c); n != 0 {
			t.Errorf("%q: got an answer", text)
		}
		g.refusedWith(t, "not_tls", uint64(i+1))
	}
}

func TestMalformedHelloIsRefusedWithAnAlert(t *testing.T) {
	g := start(t, Config{})
	c := g.dial(t)
	if _, err := io.WriteString(c, "\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03"); err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(c)
	if want := "\x15\x03\x03\x00\x02\x02\x32"; string(got) != want {
		t.Errorf("got %x, want %x", got, want)
	}
	g.refusedWith(t, "malformed", 1)
}

func TestPortCheckIsNoFault(t *testing.T) {
	g := start(t, Config{})
	_ = g.dial(t).Close()
	g.refusedWith(t, "closed", 1)
}

// The hello arrives in as many segments as it has bytes.
func TestHelloInSmallPieces(t *testing.T) {
	g := start(t, Config{}, Route{Name: "s", Match: "s.consul", Addrs: []string{discard(t)}})
	hello := helloFor(t, "s.consul", tls.VersionTLS13)
	if len(hello) < 1200 {
		t.Fatalf("hello of %d bytes has no post-quantum key share", len(hello))
	}
	c := g.dial(t)
	for i := range hello {
		if _, err := c.Write(hello[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "hello relayed", func() bool { return g.Stats().Routes["s"].BytesIn == uint64(len(hello)) })
}

func TestLargeHelloInManyRecords(t *testing.T) {
	g := start(t, Config{}, Route{Name: "s", Match: "s.consul", Addrs: []string{discard(t)}})
	hello := inRecords(padded(t, "s.consul", 40<<10), 1000)
	if _, err := g.dial(t).Write(hello); err != nil {
		t.Fatal(err)
	}
	eventually(t, "hello relayed", func() bool { return g.Stats().Routes["s"].BytesIn == uint64(len(hello)) })
}

func TestSlowHelloIsClosedAtTheDeadline(t *testing.T) {
	g := start(t, Config{HelloTimeout: 200 * time.Millisecond})
	c := g.dial(t)
	began := time.Now()
	hello := helloFor(t, "s.consul", tls.VersionTLS13)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_, _ = io.Copy(io.Discard, c)
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-tick.C:
			_, _ = c.Write(hello[i : i+1])
			continue
		case <-closed:
		}
		break
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("closed after %s", took)
	}
	g.refusedWith(t, "timeout", 1)
}

func TestHalfCloseIsKept(t *testing.T) {
	t.Run("by the client", func(t *testing.T) {
		addr := backend(t, func(c *net.TCPConn) {
			all, _ := io.ReadAll(c) // ends only with the client's direction
			_, _ = fmt.Fprintf(c, "%d bytes", len(all))
		})
		g := start(t, Config{}, Route{Name: "s", Match: "s.consul", Addrs: []string{addr}})
		c := g.dial(t)
		hello := helloFor(t, "s.consul", tls.VersionTLS13)
		_, _ = c.Write(append(hello, "and more"...))
		_ = c.CloseWrite()
		got, err := io.ReadAll(c)
		if want := fmt.Sprintf("%d bytes", len(hello)+8); string(got) != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	})
	t.Run("by the server", func(t *testing.T) {
		got := make(chan int, 1)
		addr := backend(t, func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "bye")
			_ = c.CloseWrite()
			all, _ := io.ReadAll(c)
			got <- len(all)
		})
		g := start(t, Config{}, Route{Name: "s", Match: "s.consul", Addrs: []string{addr}})
		c := g.dial(t)
		hello := helloFor(t, "s.consul", tls.VersionTLS13)
		_, _ = c.Write(hello)
		if bye, err := io.ReadAll(c); string(bye) != "bye" || err != nil {
			t.Fatalf("got %q, %v", bye, err)
		}
		const more = 1 << 20
		if _, err := c.Write(make([]byte, more)); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite()
		if n := <-got; n != len(hello)+more {
			t.Errorf("server got %d bytes, want %d", n, len(hello)+more)
		}
	})
}

func TestResetIsPassedOn(t *testing.T) {
	got := make(chan error, 1)
	addr := backend(t, func(c *net.TCPConn) {
		_, err := io.Copy(io.Discard, c)
		got <- err
	})
	g := start(t, Config{}, Route{Name: "s", Match: "s.consul", Addrs: []string{addr}})
	c := g.dial(t)
	_, _ = c.Write(helloFor(t, "s.consul", tls.VersionTLS13))
	eventually(t, "connected", func() bool { return g.Stats().Routes["s"].BytesIn > 0 })
	_ = c.SetLinger(0)
	_ = c.Close()
	if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("server saw %v, want a reset", err)
	}
	eventually(t, "stream over", func() bool { return g.Stats().Routes["s"].Active == 0 })
}

// Bytes of all sizes arrive whole and in order, whatever carries them.
func TestBulkArrivesUnchangedBothWays(t *testing.T) {
	g := start(t, Config{}, Route{Name: "s", Match: "s.consul", Addrs: []string{named(t, "echo")}})
	c := g.tls(t, "s.consul")
	greeting(t, c)
	data := make([]byte, 24<<20)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for rest, size := data, 1; len(rest) > 0; size = size*3%300_000 + 1 {
			n := min(size, len(rest))
			if _, err := c.Write(rest[:n]); err != nil {
				t.Error(err)
				return
			}
			rest = rest[n:]
		}
		_ = c.CloseWrite()
	})
	got, err := io.ReadAll(c)
	wg.Wait()
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if s := g.Stats().Routes["s"]; s.BytesIn < uint64(len(data)) || s.BytesOut < uint64(len(data)) {
		t.Errorf("counted %d bytes in, %d out", s.BytesIn, s.BytesOut)
	}
}

// Each byte is counted when it has been passed on, also in the midst of a
// transfer that is spliced, and then pauses.
func TestCountersAdvanceDuringATransfer(t *testing.T) {
	g := start(t, Config{}, Route{Name: "s", Match: "s.consul", Addrs: []string{discard(t)}})
	c := g.dial(t)
	sent := helloFor(t, "s.consul", tls.VersionTLS13)
	want := uint64(0)
	for _, size := range []int{len(sent), 1 << 20, 300_000, 1, 5 << 20, 77} {
		chunk := make([]byte, size)
		if want == 0 {
			chunk = sent
		}
		if _, err := c.Write(chunk); err != nil {
			t.Fatal(err)
		}
		want += uint64(size)
		eventually(t, "bytes counted", func() bool {
			s := g.Stats().Routes["s"]
			return s.BytesIn == want && s.Active == 1
		})
	}
}

// One source may not use up what all may use.
func TestUnfinishedHellosBySource(t *testing.T) {
	g := start(t, Config{MaxHellos: 100, MaxHellosPerSource: 3, HelloTimeout: time.Minute})
	other := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	first, err := other.DialContext(t.Context(), "tcp", g.addr)
	if err != nil {
		t.Skip("127.0.0.2 is no address here")
	}
	defer func() { _ = first.Close() }()
	eventually(t, "first", func() bool { return g.Stats().Hellos == 1 })
	for range 10 {
		g.dial(t)
	}
	g.refusedWith(t, "too_many", 7)
	if n := g.Stats().Hellos; n != 4 {
		t.Errorf("%d unfinished hellos, want 3 of one source and 1 of the other", n)
	}
}

func TestNewRoutesAreForNewConnections(t *testing.T) {
	g := start(t, Config{}, Route{Name: "a", Match: "s.consul", Addrs: []string{named(t, "a")}})
	old := g.tls(t, "s.consul")
	greeting(t, old)
	g.SetRoutes(table1(t, Route{Name: "b", Match: "s.consul", Addrs: []string{named(t, "b")}}))
	if got := greeting(t, g.tls(t, "s.consul")); got != "b" {
		t.Errorf("got server %q after the change", got)
	}
	if _, err := io.WriteString(old, "still a\n"); err != nil {
		t.Fatal(err)
	}
	if got := greeting(t, old); got != "still a" {
		t.Errorf("got %q from the old connection", got)
	}
	if s := g.Stats().Routes["a"]; s.Active != 1 {
		t.Errorf("old route has %d active, want its counters kept", s.Active)
	}
	_ = old.Close()
	eventually(t, "old route forgotten", func() bool {
		g.SetRoutes(g.table.Load().routes)
		_, ok := g.Stats().Routes["a"]
		return !ok
	})
}

func TestDrainLetsStreamsEnd(t *testing.T) {
	g := start(t, Config{}, Route{Name: "s", Match: "s.consul", Addrs: []string{named(t, "s")}})
	c := g.tls(t, "s.consul")
	greeting(t, c)
	g.stop()
	eventually(t, "listener closed", func() bool {
		probe, err := net.Dial("tcp", g.addr)
		if err == nil {
			_ = probe.Close()
		}
		return err != nil
	})
	if _, err := io.WriteString(c, "still here\n"); err != nil {
		t.Fatal(err)
	}
	if got := greeting(t, c); got != "still here" {
		t.Errorf("got %q", got)
	}
	select {
	case err := <-g.done:
		t.Fatalf("Serve returned %v with a stream open", err)
	default:
	}
	_ = c.Close()
	if err := <-g.done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestDrainEnds(t *testing.T) {
	dialling := make(chan struct{})
	gw := New(Config{DrainTimeout: 50 * time.Millisecond, DialTimeout: time.Hour, HelloTimeout: time.Hour})
	dial := gw.dial
	gw.dial = func(ctx context.Context, addr string, timeout time.Duration) (conn, error) {
		if addr != "192.0.2.1:1" {
			return dial(ctx, addr, timeout)
		}
		close(dialling)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	gw.SetRoutes(table1(t,
		Route{Name: "s", Match: "s.consul", Addrs: []string{named(t, "s")}},
		Route{Name: "slow", Match: "slow.consul", Addrs: []string{"192.0.2.1:1"}}))
	g := serve(t, gw)
	open := g.tls(t, "s.consul")
	greeting(t, open)
	_, _ = g.dial(t).Write(helloFor(t, "slow.consul", tls.VersionTLS13))
	<-dialling
	_, _ = g.dial(t).Write([]byte{typeHandshake})
	eventually(t, "hello begun", func() bool { return g.Stats().Hellos == 1 })
	g.stop()
	if err := <-g.done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := open.Read(make([]byte, 1)); err == nil {
		t.Error("stream is still open")
	}
}

func TestSeveralListeners(t *testing.T) {
	a := start(t, Config{}, Route{Name: "s", Match: "s.consul", Addrs: []string{named(t, "s")}})
	b := serve(t, a.Gateway)
	for _, g := range []*running{a, b} {
		if got := greeting(t, g.tls(t, "s.consul")); got != "s" {
			t.Errorf("got server %q", got)
		}
	}
	if s := a.Stats().Routes["s"]; s.Connections != 2 {
		t.Errorf("got %d connections, want 2", s.Connections)
	}
}

func TestServeTellsThatItsListenerBroke(t *testing.T) {
	ln := listen(t)
	_ = ln.Close()
	if err := New(Config{}).Serve(t.Context(), ln); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestMetrics(t *testing.T) {
	g := start(t, Config{}, Route{Name: `remote/"dc2"`, Match: "s.consul", Addrs: []string{named(t, "s")}})
	c := g.tls(t, "s.consul")
	greeting(t, c)
	_ = g.tls(t, "unknown").Handshake()
	g.refusedWith(t, "unknown_name", 1)
	var out bytes.Buffer
	if err := g.WriteMetrics(&out); err != nil {
		t.Fatal(err)
	}
	got := out.String()
	for _, want := range []string{
		`isthmus_gateway_connections_total{route="remote/\"dc2\""} 1`,
		`isthmus_gateway_connections_active{route="remote/\"dc2\""} 1`,
		`isthmus_gateway_dial_failures_total{route="remote/\"dc2\""} 0`,
		`isthmus_gateway_bytes_total{route="remote/\"dc2\"",direction="in"} `,
		`isthmus_gateway_bytes_total{route="remote/\"dc2\"",direction="out"} `,
		`isthmus_gateway_refused_total{reason="unknown_name"} 1`,
		`isthmus_gateway_refused_total{reason="timeout"} 0`,
		`# TYPE isthmus_gateway_connections_total counter`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no line %s in\n%s", want, got)
		}
	}
	seen := make(map[string]bool)
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		series, _, _ := strings.Cut(lines.Text(), "} ")
		if seen[series] {
			t.Errorf("series %s is there twice", series)
		}
		seen[series] = true
	}
}
