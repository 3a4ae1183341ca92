package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
	"isthmus/internal/transport"
)

var quiet = slog.New(slog.DiscardHandler)

type echoIn struct{ Text string }

var (
	echo = Method[echoIn, string]{Name: "Test.Echo", Reply: "Text"}
	set  = Method[echoIn, bool]{Name: "Test.Set", Write: true}
	park = Method[echoIn, string]{Name: "Test.Park", Reply: "Text"}
)

// fleet is servers in memory: a dialer that reaches each by its address.
type fleet struct {
	t  *testing.T
	mu sync.Mutex
	by map[string]*Server // nil: refuses

	dials   map[string]int
	conns   []net.Conn
	wrapped func(net.Conn) net.Conn
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	return &fleet{t: t, by: map[string]*Server{}, dials: map[string]int{}}
}

func (f *fleet) add(addr string) *Handlers {
	x := NewHandlers()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.by[addr] = &Server{Handlers: x, Log: quiet}
	return x
}

func (f *fleet) Dial(_ context.Context, to transport.Target, _ transport.Proto) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dials[to.Addr]++
	s := f.by[to.Addr]
	if s == nil {
		return nil, errors.New("connection refused")
	}
	a, b := net.Pipe()
	f.conns = append(f.conns, b)
	go s.ServeMulti(f.t.Context(), b)
	if f.wrapped != nil {
		a = f.wrapped(a)
	}
	return a, nil
}

func (f *fleet) breakAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		_ = c.Close()
	}
	f.conns = nil
}

func newTestPool(t *testing.T, f *fleet) *Pool {
	t.Helper()
	p := NewPool(f, 5*time.Second, quiet)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = p.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return p
}

func bindEcho(x *Handlers, name string) {
	Bind(x, echo, func(_ context.Context, h Header, in *echoIn) (string, Meta, error) {
		return name + ":" + in.Text, Meta{Index: 9, KnownLeader: true, LastContact: h.MaxWait}, nil
	})
}

func TestCallsShareAConnection(t *testing.T) {
	f := newFleet(t)
	bindEcho(f.add("a"), "a")
	c := newTestPool(t, f).To(transport.Target{Addr: "a"})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 20 {
				out, meta, err := echo.Call(t.Context(), c, Header{MaxWait: time.Second}, echoIn{"x"})
				if err != nil || out != "a:x" || meta.Index != 9 || meta.LastContact != time.Second {
					t.Errorf("got %q, %+v, %v", out, meta, err)
				}
			}
		})
	}
	wg.Wait()
	if f.dials["a"] != 1 {
		t.Errorf("dialled %d times, want once", f.dials["a"])
	}
}

func TestErrorsCrossAsText(t *testing.T) {
	f := newFleet(t)
	x := f.add("a")
	Bind(x, set, func(context.Context, Header, *echoIn) (bool, Meta, error) {
		return false, Meta{}, api.Known(api.NoLeader, nil)
	})
	c := newTestPool(t, f).To(transport.Target{Addr: "a"})
	_, _, err := set.Call(t.Context(), c, Header{}, echoIn{})
	if err == nil || err.Error() != "rpc error making call: No cluster leader" || api.CodeOf(err) != api.NoLeader {
		t.Errorf("got %v with code %d", err, api.CodeOf(err))
	}
	for name, want := range map[string]string{
		"Test.Nope": "rpc: can't find method Test.Nope", "Nope.Nope": "rpc: can't find service Nope.Nope",
		"Nope": "rpc: service/method request ill-formed: Nope",
	} {
		m := Method[echoIn, string]{Name: name}
		if _, _, err := m.Call(t.Context(), c, Header{}, echoIn{}); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if f.dials["a"] != 1 {
		t.Errorf("dialled %d times: an error of a method must not cost the connection", f.dials["a"])
	}
}

func TestServerStopsWaitingWhenItsCallerGoes(t *testing.T) {
	f := newFleet(t)
	parked, released := make(chan struct{}), make(chan error, 1)
	Bind(f.add("a"), park, func(ctx context.Context, _ Header, _ *echoIn) (string, Meta, error) {
		close(parked)
		<-ctx.Done()
		released <- ctx.Err()
		return "", Meta{}, ctx.Err()
	})
	c := newTestPool(t, f).To(transport.Target{Addr: "a"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, _, err := park.Call(ctx, c, Header{MinIndex: 1, MaxWait: time.Hour}, echoIn{})
		done <- err
	}()
	<-parked
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller got %v", err)
	}
	select {
	case err := <-released:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the server's call ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the server still waits for a caller that went away")
	}
}

func TestStreamGoesOnAfterABlockingRead(t *testing.T) {
	f := newFleet(t)
	x := f.add("a")
	bindEcho(x, "a")
	c := newTestPool(t, f).To(transport.Target{Addr: "a"})
	for range 50 {
		if _, _, err := echo.Call(t.Context(), c, Header{MinIndex: 1, MaxWait: time.Second}, echoIn{"x"}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := echo.Call(t.Context(), c, Header{}, echoIn{"x"}); err != nil {
			t.Fatal(err)
		}
	}
}

// newTestRouter knows servers s1, s2, … of dc2 at addresses of the same names.
func newTestRouter(t *testing.T, f *fleet, names ...string) *Router {
	t.Helper()
	r := NewRouter("dc1", newTestPool(t, f), quiet)
	for _, name := range names {
		r.AddServer(ServerInfo{Datacenter: "dc2", Name: name, Addr: name, Alive: true})
	}
	return r
}

func TestReadGoesOnAtTheNextServer(t *testing.T) {
	f := newFleet(t)
	bindEcho(f.add("s3"), "s3")
	r := newTestRouter(t, f, "s1", "s2", "s3") // only s3 answers
	for range 20 {
		r.Rebalance()
		if out, _, err := echo.Call(t.Context(), r.To("dc2"), Header{}, echoIn{"x"}); err != nil || out != "s3:x" {
			t.Fatalf("got %q, %v", out, err)
		}
	}
	if first := r.Servers("dc2")[0].Name; first != "s3" {
		t.Errorf("%s is asked first, want the one that answers", first)
	}
}

func TestDatacenterIsBackWithTheFirstContact(t *testing.T) {
	f := newFleet(t)
	r := newTestRouter(t, f, "s1")
	for range 10 {
		_, _, err := echo.Call(t.Context(), r.To("dc2"), Header{}, echoIn{"x"})
		if api.CodeOf(err) != api.Unreachable || !strings.Contains(err.Error(), "connection refused") {
			t.Fatalf("got %v, want it unreachable, and why", err)
		}
	}
	bindEcho(f.add("s1"), "s1")
	if _, _, err := echo.Call(t.Context(), r.To("dc2"), Header{}, echoIn{"x"}); err != nil {
		t.Errorf("got %v at the first contact after the outage", err)
	}
	if _, _, err := echo.Call(t.Context(), r.To("dc9"), Header{}, echoIn{"x"}); api.CodeOf(err) != api.NoPath {
		t.Errorf("unknown datacenter: got %v", err)
	}
	if _, _, err := echo.Call(t.Context(), r.To("dc1"), Header{}, echoIn{"x"}); api.CodeOf(err) != api.NoServers {
		t.Errorf("own datacenter without servers: got %v", err)
	}
}

func TestReadIsRepeatedWhenAKeptConnectionDied(t *testing.T) {
	f := newFleet(t)
	bindEcho(f.add("a"), "a")
	c := newTestPool(t, f).To(transport.Target{Addr: "a"})
	for range 20 {
		if _, _, err := echo.Call(t.Context(), c, Header{}, echoIn{"x"}); err != nil {
			t.Fatal(err)
		}
		f.breakAll()
	}
	if f.dials["a"] != 20 {
		t.Errorf("dialled %d times, want anew after each break", f.dials["a"])
	}
}

func TestParkedCallsMoveOffASupersededConnection(t *testing.T) {
	f := newFleet(t)
	better := make(chan struct{})
	f.wrapped = func(c net.Conn) net.Conn { return detour{c, better} }
	x := f.add("a")
	bindEcho(x, "a")
	parked, calls := make(chan struct{}, 2), 0
	Bind(x, park, func(ctx context.Context, _ Header, _ *echoIn) (string, Meta, error) {
		parked <- struct{}{}
		if calls++; calls == 1 {
			<-ctx.Done() // the first one never ends by itself
		}
		return "moved", Meta{}, nil
	})
	c := newTestPool(t, f).To(transport.Target{Addr: "a"})
	done := make(chan string, 1)
	go func() {
		out, _, err := park.Call(t.Context(), c, Header{MinIndex: 1, MaxWait: time.Hour}, echoIn{})
		if err != nil {
			t.Error(err)
		}
		done <- out
	}()
	<-parked
	f.mu.Lock()
	f.wrapped = nil // the next connection is the better one
	f.mu.Unlock()
	close(better)
	select {
	case out := <-done:
		if out != "moved" {
			t.Errorf("got %q", out)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a read that waits holds on to a connection that was superseded")
	}
}

func TestSilentConnectionIsGivenUpForARead(t *testing.T) {
	f := newFleet(t)
	var mu sync.Mutex
	calls := 0
	Bind(f.add("a"), echo, func(ctx context.Context, _ Header, in *echoIn) (string, Meta, error) {
		mu.Lock()
		calls++
		silent := calls == 2
		mu.Unlock()
		if silent {
			<-ctx.Done()
		}
		return in.Text, Meta{}, nil
	})
	c := newTestPool(t, f).To(transport.Target{Addr: "a"})
	for range 3 { // the second is silent at first
		start := time.Now()
		if out, _, err := echo.Call(t.Context(), c, Header{}, echoIn{"x"}); err != nil || out != "x" {
			t.Fatalf("got %q, %v", out, err)
		}
		if took := time.Since(start); took > patience+time.Second {
			t.Errorf("took %s, want another try after %s", took, patience)
		}
	}
	if f.dials["a"] != 2 {
		t.Errorf("dialled %d times, want twice", f.dials["a"])
	}
}

// told is a connection that counts how often it is told that it is silent.
type told struct {
	net.Conn

	count *atomic.Int32
}

func (c told) Silent() { c.count.Add(1) }

// TestOneReadFindsOutThatAConnectionIsSilent has two reads under way when a
// connection falls silent: the later one needs no patience of its own.
func TestOneReadFindsOutThatAConnectionIsSilent(t *testing.T) {
	f := newFleet(t)
	var silences atomic.Int32
	f.wrapped = func(c net.Conn) net.Conn { return told{c, &silences} }
	begun := make(chan struct{}, 8) // more than there are calls
	var mu sync.Mutex
	calls := 0
	Bind(f.add("a"), echo, func(ctx context.Context, _ Header, in *echoIn) (string, Meta, error) {
		mu.Lock()
		calls++
		silent := calls == 2 || calls == 3
		mu.Unlock()
		begun <- struct{}{}
		if silent {
			<-ctx.Done()
		}
		return in.Text, Meta{}, nil
	})
	c := newTestPool(t, f).To(transport.Target{Addr: "a"})
	read := func() time.Duration {
		start := time.Now()
		if out, _, err := echo.Call(t.Context(), c, Header{}, echoIn{"x"}); err != nil || out != "x" {
			t.Errorf("got %q, %v", out, err)
		}
		return time.Since(start)
	}
	read()
	<-begun
	var reading sync.WaitGroup
	defer reading.Wait()
	reading.Go(func() { read() })
	<-begun
	<-time.After(patience / 2)
	if took := read(); took > patience*9/10 {
		t.Errorf("the later read took %s", took)
	}
	reading.Wait()
	if silences.Load() == 0 {
		t.Error("the connection was not told")
	}
}

func TestWriteIsNotRepeatedOnceItWasSent(t *testing.T) {
	f := newFleet(t)
	var mu sync.Mutex
	calls := 0
	for _, name := range []string{"s1", "s2"} {
		Bind(f.add(name), set, func(context.Context, Header, *echoIn) (bool, Meta, error) {
			mu.Lock()
			calls++
			mu.Unlock()
			f.breakAll()
			return true, Meta{}, nil
		})
	}
	r := newTestRouter(t, f, "s1", "s2")
	if _, _, err := set.Call(t.Context(), r.To("dc2"), Header{}, echoIn{}); err == nil {
		t.Error("the answer was lost, and no error told so")
	}
	mu.Lock()
	defer mu.Unlock()
	if calls != 1 {
		t.Errorf("the write was done %d times", calls)
	}
}

// detour is a connection that can be superseded.
type detour struct {
	net.Conn

	better chan struct{}
}

func (d detour) Superseded() <-chan struct{} { return d.better }

func TestSupersededConnectionEndsAfterItsCalls(t *testing.T) {
	f := newFleet(t)
	better := make(chan struct{})
	f.wrapped = func(c net.Conn) net.Conn { return detour{c, better} }
	x := f.add("a")
	bindEcho(x, "a")
	answer, parked := make(chan struct{}), make(chan struct{})
	Bind(x, park, func(context.Context, Header, *echoIn) (string, Meta, error) {
		close(parked)
		<-answer
		return "late", Meta{}, nil
	})
	c := newTestPool(t, f).To(transport.Target{Addr: "a"})
	done := make(chan string, 1)
	go func() {
		out, _, err := park.Call(t.Context(), c, Header{}, echoIn{})
		if err != nil {
			t.Error(err)
		}
		done <- out
	}()
	<-parked
	f.wrapped = nil
	close(better)
	deadline := time.Now().Add(10 * time.Second)
	for {
		f.mu.Lock()
		dials := f.dials["a"]
		f.mu.Unlock()
		if dials == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("calls still go over the superseded connection")
		}
		if _, _, err := echo.Call(t.Context(), c, Header{}, echoIn{"x"}); err != nil {
			t.Fatal(err)
		}
	}
	close(answer)
	if out := <-done; out != "late" {
		t.Errorf("the call under way got %q", out)
	}
}

// TestWatchDoesNotSpin follows a method whose answers do not wait.
func TestWatchDoesNotSpin(t *testing.T) {
	for _, index := range []uint64{0, 7} {
		synctest.Test(t, func(t *testing.T) {
			x := NewHandlers()
			calls := 0
			Bind(x, echo, func(context.Context, Header, *echoIn) (string, Meta, error) {
				calls++
				return "same", Meta{Index: index}, nil
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			told := 0
			for _, err := range echo.Watch(ctx, x, Header{}, echoIn{}) {
				if err != nil {
					t.Error(err)
				}
				told++
			}
			if told != 1 || calls > 30 {
				t.Errorf("index %d: asked %d times in a minute and told %d times, want 30 at most and once", index, calls, told)
			}
		})
	}
}

func TestHoldWaitsForALeader(t *testing.T) {
	tries := 0
	r := &Request{Desc: Desc{Write: true}}
	_, err := Hold(t.Context(), 10*time.Second, r, func() (Meta, error) {
		if tries++; tries < 4 {
			return Meta{}, &RemoteError{"No cluster leader"}
		}
		return Meta{}, nil
	})
	if err != nil || tries != 4 {
		t.Errorf("got %v after %d tries", err, tries)
	}
	for _, final := range []error{api.Known(api.NoPath, nil), &RemoteError{"Permission denied"}, &ConnError{errors.New("EOF")}} {
		tries = 0
		if _, err := Hold(t.Context(), time.Second, r, func() (Meta, error) { tries++; return Meta{}, final }); tries != 1 || err == nil {
			t.Errorf("%v: tried %d times, want once", final, tries)
		}
	}
}

func BenchmarkCall(b *testing.B) {
	x := NewHandlers()
	bindEcho(x, "a")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	s := &Server{Handlers: x, Log: quiet}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go s.ServeMulti(b.Context(), conn)
		}
	}()
	p := NewPool(tcp{}, time.Minute, quiet)
	c := p.To(transport.Target{Addr: ln.Addr().String()})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := echo.Call(context.Background(), c, Header{}, echoIn{"x"}); err != nil {
			b.Fatal(err)
		}
	}
}

type tcp struct{}

func (tcp) Dial(ctx context.Context, to transport.Target, _ transport.Proto) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", to.Addr)
}

// byDatacenter reaches a server by its datacenter, as gateways do.
