package rpc

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"isthmus/internal/transport"
)

func TestLeaderElsewhereIsAskedFirst(t *testing.T) {
	f := newFleet(t)
	leads := "s2"
	for _, name := range []string{"s1", "s2", "s3"} {
		x := f.add(name)
		bindEcho(x, name)
		Bind(x, statusLeader, func(context.Context, Header, *struct{}) (string, Meta, error) {
			return leads, Meta{}, nil
		})
	}
	r := newTestRouter(t, f, "s1", "s2", "s3")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	ask := func(h Header) string {
		t.Helper()
		out, _, err := echo.Call(t.Context(), r.To("dc2"), h, echoIn{"x"})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	deadline := time.Now().Add(10 * time.Second)
	for r.leaderAt("dc2") != "s2" {
		ask(Header{})
		if time.Now().After(deadline) {
			t.Fatal("the leader is not found")
		}
	}
	seen := map[string]bool{}
	for range 100 {
		r.Rebalance()
		if got := ask(Header{}); got != "s2:x" {
			t.Fatalf("asked %s for what only the leader answers", got)
		}
		seen[ask(Header{AllowStale: true})] = true
	}
	if len(seen) != 3 {
		t.Errorf("stale reads go to %v alone", seen)
	}
	f.mu.Lock()
	f.by["s2"] = nil // the leader is gone, and its address still known
	f.mu.Unlock()
	f.breakAll()
	if got := ask(Header{}); got == "s2:x" {
		t.Errorf("got an answer of %s", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func (r *Router) leaderAt(datacenter string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.leaders[datacenter].addr
}

type watcher struct {
	mu     sync.Mutex
	events []string
}

func (w *watcher) note(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, s)
}
func (w *watcher) AddServer(s ServerInfo)    { w.note("+" + s.Name) }
func (w *watcher) RemoveServer(s ServerInfo) { w.note("-" + s.Name) }
func (w *watcher) Rebalanced(dc string)      { w.note("~" + dc) }

func TestObserversSeeServersComeAndGo(t *testing.T) {
	r := newTestRouter(t, newFleet(t), "s1")
	w := &watcher{}
	r.Observe(w)
	s2 := ServerInfo{Datacenter: "dc2", Name: "s2", Addr: "s2", Alive: true}
	r.AddServer(s2)
	r.AddServer(s2) // nothing new
	s2.Alive = false
	r.AddServer(s2)
	r.RemoveServer(s2)
	r.Rebalance()
	if want := []string{"+s1", "+s2", "+s2", "-s2", "~dc2"}; !slices.Equal(w.events, want) {
		t.Errorf("got %v, want %v", w.events, want)
	}
	if got := r.Datacenters(); !slices.Equal(got, []string{"dc2"}) {
		t.Errorf("datacenters %v", got)
	}
}

type byDatacenter map[string]*Server

func (d byDatacenter) Dial(_ context.Context, to transport.Target, _ transport.Proto) (net.Conn, error) {
	a, b := net.Pipe()
	go d[to.Datacenter].ServeMulti(context.Background(), b)
	return a, nil
}

func TestEqualNamesAndAddressesInTwoDatacenters(t *testing.T) {
	servers := byDatacenter{}
	for _, dc := range []string{"dc1", "dc2"} {
		x := NewHandlers()
		bindEcho(x, dc)
		servers[dc] = &Server{Handlers: x, Log: quiet}
	}
	r := NewRouter("dc1", NewPool(servers, time.Minute, quiet), quiet)
	for dc := range servers {
		r.AddServer(ServerInfo{Datacenter: dc, Name: "s1", Addr: "10.0.0.1:8300", Alive: true})
	}
	for range 3 {
		for dc := range servers {
			if out, _, err := echo.Call(t.Context(), r.To(dc), Header{}, echoIn{"x"}); err != nil || out != dc+":x" {
				t.Errorf("asked %s, got %q, %v", dc, out, err)
			}
		}
	}
}
