package federation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
	"isthmus/internal/transport"
)

// gateways is a fake of all gateways: by address, how a dial through one ends.
type gateways struct {
	mu     sync.Mutex
	by     map[string]func(ctx context.Context, name string) error
	dialed []string
}

func (g *gateways) set(addr string, f func(ctx context.Context, name string) error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.by == nil {
		g.by = map[string]func(context.Context, string) error{}
	}
	g.by[addr] = f
}

func (g *gateways) Upgrade(ctx context.Context, addr, name string, _ transport.Proto) (net.Conn, error) {
	g.mu.Lock()
	g.dialed = append(g.dialed, addr)
	f := g.by[addr]
	g.mu.Unlock()
	if f == nil {
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	}
	if err := f(ctx, name); err != nil {
		return nil, err
	}
	a, b := net.Pipe()
	go func() { // the server: reads until the end
		buf := make([]byte, 1<<10)
		for {
			if _, err := b.Read(buf); err != nil {
				return
			}
		}
	}()
	return a, nil
}

func (g *gateways) tried() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := g.dialed
	g.dialed = nil
	return out
}

func works(context.Context, string) error { return nil }

// stalls accepts and then says nothing.
func stalls(ctx context.Context, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

// newSecondary is a dialer of dc2, whose primary is dc1.
func newSecondary(g *gateways, sources map[string]Gateways) (*Dialer, *Locator) {
	l := NewLocator(true)
	for name, s := range sources {
		l.Follow(name, slices.Values([]Gateways{s}))
	}
	cfg := DialerConfig{Datacenter: "dc2", Primary: "dc1", Domain: "consul", Log: slog.New(slog.DiscardHandler)}
	return NewDialer(cfg, l, nil, g), l
}

func dial(t *testing.T, d *Dialer, dc string) (net.Conn, error) {
	t.Helper()
	return d.Dial(t.Context(), transport.Target{Datacenter: dc, Node: "s1"}, transport.RPCMulti)
}

func TestFirstBootUsesConfiguredGateways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateways{}
		g.set("primary:1", works)
		d, _ := newSecondary(g, map[string]Gateways{"configured": {Primary: []string{"primary:1"}}})
		conn, err := dial(t, d, "dc1")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got := g.tried(); !slices.Equal(got, []string{"primary:1"}) {
			t.Errorf("tried %v", got)
		}
		if _, err := dial(t, d, "dc3"); api.CodeOf(err) != api.Unreachable {
			t.Errorf("got %v: the primary's gateways are no way to a third datacenter", err)
		}
	})
}

func TestOwnGatewaysComeFirstAndThePrimarysAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateways{}
		g.set("own:1", works)
		g.set("primary:1", works)
		d, _ := newSecondary(g, map[string]Gateways{
			"configured": {Primary: []string{"primary:1"}}, "replicated": {Own: []string{"own:1"}},
		})
		conn, err := dial(t, d, "dc1")
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if got := g.tried(); !slices.Equal(got, []string{"own:1"}) {
			t.Errorf("with all well, tried %v", got)
		}
		g.set("own:1", nil) // down
		if conn, err = dial(t, d, "dc1"); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if got := g.tried(); !slices.Equal(got, []string{"own:1", "primary:1"}) {
			t.Errorf("with the own one down, tried %v", got)
		}
		if conn, err = dial(t, d, "dc1"); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if got := g.tried(); !slices.Equal(got, []string{"primary:1"}) {
			t.Errorf("while it is known to be down, tried %v first", got)
		}
		g.set("own:1", works) // back
		time.Sleep(coolDown)
		if conn, err = dial(t, d, "dc1"); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if got := g.tried(); !slices.Equal(got, []string{"own:1"}) {
			t.Errorf("after it came back, tried %v", got)
		}
	})
}

func TestAllPrimaryGatewaysReplacedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateways{}
		g.set("new:1", works)
		// Replication still tells of the old ones, which are all gone; the settings
		// name the new one.
		d, _ := newSecondary(g, map[string]Gateways{
			"replicated": {Primary: []string{"old:1", "old:2"}}, "configured": {Primary: []string{"new:1"}},
		})
		conn, err := dial(t, d, "dc1")
		if err != nil {
			t.Fatalf("%v: configured gateways must not be shadowed", err)
		}
		_ = conn.Close()
	})
}

func TestSilentGatewayIsOvertakenAndBlamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateways{}
		g.set("a:1", works)
		d, l := newSecondary(g, map[string]Gateways{"replicated": {Own: []string{"a:1"}}})
		stuck, err := dial(t, d, "dc3") // goes through a, which stalls from now on
		if err != nil {
			t.Fatal(err)
		}
		defer stuck.Close()
		g.set("a:1", stalls)
		g.set("b:1", works)
		l.Follow("replicated", slices.Values([]Gateways{{Own: []string{"a:1", "b:1"}}}))
		g.tried()

		for slices.Equal(g.tried(), nil) || !l.failedLately("a:1", "") { // until the random order begins with a
			start := time.Now()
			conn, err := dial(t, d, "dc3")
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took > 2*raceAfter {
				t.Fatalf("took %s through a silent gateway", took)
			}
			_ = conn.Close()
		}
		superseded, _ := stuck.(*routed)
		select {
		case <-superseded.Superseded():
		default:
			t.Error("a connection through the silent gateway stays in use")
		}
		for range 20 {
			conn, err := dial(t, d, "dc3")
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
		}
		if got := g.tried(); slices.Contains(got, "a:1") {
			t.Error("the silent gateway is still tried first")
		}
	})
}

// TestSilentWayIsTriedAnew has gateways that lead every other connection to a
// gateway of the other datacenter which is silent.
func TestSilentWayIsTriedAnew(t *testing.T) {
	for _, own := range [][]string{{"a:1"}, {"a:1", "b:1"}} {
		synctest.Test(t, func(t *testing.T) {
			g := &gateways{}
			for _, addr := range own {
				var turn atomic.Int32
				g.set(addr, func(ctx context.Context, name string) error {
					if turn.Add(1)%2 == 1 {
						return stalls(ctx, name)
					}
					return nil
				})
			}
			d, l := newSecondary(g, map[string]Gateways{"replicated": {Own: own}})
			start := time.Now()
			conn, err := dial(t, d, "dc3")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if took, want := time.Since(start), time.Duration(len(own))*raceAfter; took != want {
				t.Errorf("with %d gateways it took %s, want %s", len(own), took, want)
			}
			if l.failedLately(conn.(*routed).via.Addr, "") {
				t.Error("the gateway that led to the server is blamed for its first attempt")
			}
		})
	}
}

// TestDeadServerBesideASilentGateway has one gateway that answers at once that the
// server is dead, and one that is silent: another server must be tried soon, and
// not through the silent one.
func TestDeadServerBesideASilentGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateways{}
		g.set("a:1", works)
		d, l := newSecondary(g, map[string]Gateways{"replicated": {Own: []string{"a:1"}}})
		stuck, err := dial(t, d, "dc3")
		if err != nil {
			t.Fatal(err)
		}
		defer stuck.Close()
		g.set("a:1", stalls)
		g.set("b:1", func(context.Context, string) error { return errors.New("handshake: EOF") })
		l.Follow("replicated", slices.Values([]Gateways{{Own: []string{"a:1", "b:1"}}}))
		start := time.Now()
		if conn, err := dial(t, d, "dc3"); err == nil {
			_ = conn.Close()
			t.Fatal("connected to a dead server")
		}
		if took := time.Since(start); took > 3*raceAfter {
			t.Errorf("took %s", took)
		}
		select {
		case <-stuck.(*routed).Superseded():
		default:
			t.Error("a connection through the silent gateway stays in use")
		}
	})
}

func TestConnectionThatFellSilentTakesOthersOffItsGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateways{}
		g.set("a:1", works)
		g.set("b:1", works)
		d, _ := newSecondary(g, map[string]Gateways{"replicated": {Own: []string{"a:1", "b:1"}}})
		by := map[string][]*routed{}
		for len(by["a:1"]) < 2 || len(by["b:1"]) < 1 {
			conn, err := dial(t, d, "dc3")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			r := conn.(*routed)
			by[r.via.Addr] = append(by[r.via.Addr], r)
		}
		by["a:1"][0].Silent()
		for addr, want := range map[string]bool{"a:1": true, "b:1": false} {
			for _, r := range by[addr] {
				select {
				case <-r.Superseded():
					if !want {
						t.Errorf("a connection through %s gives way", addr)
					}
				default:
					if want {
						t.Errorf("a connection through %s stays in use", addr)
					}
				}
			}
		}
		g.tried()
		conn, err := dial(t, d, "dc3")
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if got := g.tried(); !slices.Equal(got, []string{"b:1"}) {
			t.Errorf("tried %v first", got)
		}
	})
}

func TestSilentGatewaysAreNotTriedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateways{}
		g.set("a:1", stalls) // b refuses
		d, _ := newSecondary(g, map[string]Gateways{"replicated": {Own: []string{"a:1", "b:1"}}})
		start := time.Now()
		if conn, err := dial(t, d, "dc3"); err == nil {
			_ = conn.Close()
			t.Error("connected through silent gateways")
		}
		if took := time.Since(start); took != dialLimit {
			t.Errorf("took %s, want %s", took, dialLimit)
		}
		silent, refused := 0, 0
		for _, addr := range g.tried() {
			if addr == "a:1" {
				silent++
			} else {
				refused++
			}
		}
		if refused != 1 || silent < rounds || silent > 2*rounds-1 {
			t.Errorf("the one that refuses was tried %d times, the silent one %d times", refused, silent)
		}
	})
}

func TestDeadServerIsNotItsGatewaysFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateways{}
		g.set("own:1", func(_ context.Context, name string) error {
			if strings.HasPrefix(name, "s1.") {
				return errors.New("EOF in the handshake")
			}
			return nil
		})
		g.set("primary:1", works)
		d, l := newSecondary(g, map[string]Gateways{"replicated": {Own: []string{"own:1"}, Primary: []string{"primary:1"}}})
		conn, err := dial(t, d, "dc1")
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if l.failedLately("own:1", "") {
			t.Error("the gateway is blamed for the server behind it")
		}
		g.tried()
		other, err := d.Dial(t.Context(), transport.Target{Datacenter: "dc1", Node: "s2"}, transport.RPCMulti)
		if err != nil {
			t.Fatal(err)
		}
		_ = other.Close()
		if got := g.tried(); !slices.Equal(got, []string{"own:1"}) {
			t.Errorf("another server is reached by %v, want the own gateway", got)
		}
	})
}

func TestConnectionsMoveToTheOwnGatewayOnceItWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		g := &gateways{}
		g.set("primary:1", works)
		d, l := newSecondary(g, map[string]Gateways{"configured": {Primary: []string{"primary:1"}}})
		go func() { _ = d.Run(ctx) }()
		conn, err := dial(t, d, "dc1")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		boot, _ := conn.(*routed)
		l.Follow("replicated", slices.Values([]Gateways{{Own: []string{"own:1"}, Primary: []string{"primary:1"}}}))
		time.Sleep(time.Minute) // the own gateway is published, but does not work yet
		select {
		case <-boot.Superseded():
			t.Fatal("superseded before the own gateway works")
		default:
		}
		g.set("own:1", works)
		select {
		case <-boot.Superseded():
		case <-time.After(time.Minute):
			t.Error("still not superseded a minute after the own gateway works")
		}
		cancel()
	})
}

// TestConnectionsStayWhileTheOwnGatewayLeadsElsewhereOnly has an own gateway that
// leads to one server of the primary and not yet to the other: who moves there would
// come back at once, again and again.
func TestConnectionsStayWhileTheOwnGatewayLeadsElsewhereOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		g := &gateways{}
		g.set("primary:1", works)
		var knowsAll atomic.Bool
		g.set("own:1", func(_ context.Context, name string) error {
			if strings.HasPrefix(name, "s1.") && !knowsAll.Load() {
				return errors.New("EOF in the handshake")
			}
			return nil
		})
		d, _ := newSecondary(g, map[string]Gateways{"replicated": {Own: []string{"own:1"}, Primary: []string{"primary:1"}}})
		go func() { _ = d.Run(ctx) }()
		conn, err := dial(t, d, "dc1")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		detour, _ := conn.(*routed)
		time.Sleep(time.Minute)
		select {
		case <-detour.Superseded():
			t.Error("superseded although the own gateway does not lead to that server")
		default:
		}
		knowsAll.Store(true)
		select {
		case <-detour.Superseded():
		case <-time.After(time.Minute):
			t.Error("not superseded once it does")
		}
		cancel()
	})
}

func TestRefusalNamesWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateways{}
		d, _ := newSecondary(g, nil)
		if _, err := dial(t, d, "dc1"); api.CodeOf(err) != api.Unreachable {
			t.Errorf("without gateways: got %v", err)
		}
		_, err := d.Dial(t.Context(), transport.Target{Datacenter: "dc1"}, transport.TLSUpgrade)
		if err == nil || !strings.Contains(err.Error(), "cannot be routed through a mesh gateway") {
			t.Errorf("type without ALPN id: got %v", err)
		}
		g.set("x:1", func(context.Context, string) error { return fmt.Errorf("certificate is for another name") })
		d, _ = newSecondary(g, map[string]Gateways{"configured": {Primary: []string{"x:1", "y:1"}}})
		_, err = dial(t, d, "dc1")
		for _, want := range []string{"certificate is for another name", "connection refused"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want it to say %q", err, want)
			}
		}
	})
}
