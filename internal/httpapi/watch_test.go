package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/server"
	"isthmus/internal/testkit"
	"isthmus/internal/wire"
)

// counted is a server that counts evaluations, and that may cease to lead.
type countedServer struct {
	*server.Server

	evaluations atomic.Int32
	calls       atomic.Int32
	deposed     atomic.Bool
}

func (c *countedServer) Call(ctx context.Context, r *rpc.Request) (rpc.Meta, error) {
	c.calls.Add(1)
	return c.Server.Call(ctx, r)
}

func (c *countedServer) Park(ctx context.Context, r *rpc.Request, changed func()) (*rpc.Parked, error) {
	if c.deposed.Load() {
		return nil, nil
	}
	c.evaluations.Add(1)
	p, err := c.Server.Park(ctx, r, changed)
	if p != nil {
		holds := p.Holds
		p.Holds = func(minIndex uint64) bool { return !c.deposed.Load() && holds(minIndex) }
	}
	return p, err
}

// front is an API before a server, and what is written to it.
type front struct {
	t    *testing.T
	by   *countedServer
	api  *API
	base string
}

func newFront(t *testing.T, serve func(*API) string) *front {
	t.Helper()
	by := &countedServer{Server: testkit.NewServer(t)}
	a := New(config(by))
	return &front{t, by, a, serve(a)}
}

// overLot serves a as a node does, and inPlace so that nothing can be parked.
func overLot(t *testing.T) func(*API) string {
	t.Helper()
	return func(a *API) string {
		addr, _ := listen(t, a, 0)
		return "http://" + addr
	}
}

func inPlace(t *testing.T) func(*API) string {
	t.Helper()
	return func(a *API) string {
		s := httptest.NewServer(a)
		t.Cleanup(s.Close)
		return s.URL
	}
}

func (f *front) register(node, service, status string) {
	f.t.Helper()
	in := api.Registration{
		Node: node, Address: "192.0.2.1", Service: &api.NodeService{ID: service, Service: service},
		Checks: []*api.HealthCheck{{CheckID: service, ServiceID: service, Status: status}},
	}
	if _, _, err := wire.CatalogRegister.Call(context.Background(), f.by.Server, rpc.Header{}, in); err != nil {
		f.t.Error(err)
	}
}

// heard is an answer to a read.
type heard struct {
	status int
	index  uint64
	body   string
}

func (f *front) get(ctx context.Context, path string) (heard, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.base+path, nil)
	if err != nil {
		return heard{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return heard{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	index, _ := strconv.ParseUint(resp.Header.Get("X-Consul-Index"), 10, 64)
	return heard{resp.StatusCode, index, string(body)}, err
}

// wait reads in the background.
func (f *front) wait(path string) <-chan heard {
	f.t.Helper()
	out := make(chan heard, 1)
	go func() {
		got, err := f.get(f.t.Context(), path)
		if err != nil && f.t.Context().Err() == nil {
			f.t.Error(err)
		}
		out <- got
	}()
	return out
}

// parked waits until so many requests wait.
func (f *front) parked(want int) {
	f.t.Helper()
	testkit.Eventually(f.t, func() error {
		f.api.topics.mu.Lock()
		defer f.api.topics.mu.Unlock()
		n := 0
		for _, t := range f.api.topics.all {
			t.mu.Lock()
			n += len(t.waiting)
			t.mu.Unlock()
		}
		if n != want {
			return fmt.Errorf("%d requests wait, want %d", n, want)
		}
		return nil
	})
}

// forgotten waits until nothing is kept of any wait.
func (f *front) forgotten() {
	f.t.Helper()
	testkit.Eventually(f.t, func() error {
		f.api.topics.mu.Lock()
		defer f.api.topics.mu.Unlock()
		if n := len(f.api.topics.all); n != 0 {
			return fmt.Errorf("%d topics are kept", n)
		}
		return nil
	})
}

func (f *front) index() uint64 {
	f.t.Helper()
	got, err := f.get(f.t.Context(), webHealth)
	if err != nil || got.index == 0 {
		f.t.Fatal(got, err)
	}
	return got.index
}

const webHealth = "/v1/health/service/web"

func TestWaitersShareOneEvaluation(t *testing.T) {
	for name, serve := range map[string]func(*API) string{"parked": overLot(t), "in goroutines": inPlace(t)} {
		t.Run(name, func(t *testing.T) {
			f := newFront(t, serve)
			f.register("n1", "web", api.Passing)
			index := f.index()
			before, goroutines := f.by.evaluations.Load(), runtime.NumGoroutine()
			const many = 50
			var all []<-chan heard
			for range many {
				all = append(all, f.wait(fmt.Sprintf("%s?index=%d&wait=60s", webHealth, index)))
			}
			f.parked(many)
			// Of each waiter there are three goroutines of the client.
			if more := runtime.NumGoroutine() - goroutines; name == "parked" && more > 3*many+many/2 {
				t.Errorf("%d more goroutines for %d waiters", more, many)
			}
			f.register("n1", "api", api.Passing)
			f.register("n2", "api", api.Critical)
			f.register("n1", "web", api.Warning)
			var first heard
			for i, c := range all {
				got := <-c
				if i == 0 {
					first = got
				}
				if got != first || got.status != http.StatusOK || got.index <= index {
					t.Fatalf("waiter %d got %v, the first one %v", i, got, first)
				}
			}
			var rows []api.CheckServiceNode
			if err := json.Unmarshal([]byte(first.body), &rows); err != nil || rows[0].Checks[0].Status != api.Warning {
				t.Errorf("%v in %s", err, first.body)
			}
			if n := f.by.evaluations.Load() - before; n != 2 {
				t.Errorf("%d evaluations for %d waiters and one change that concerns them, want 2", n, many)
			}
			f.forgotten()
		})
	}
}

func TestWaitersForDifferentThingsDoNotShare(t *testing.T) {
	f := newFront(t, overLot(t))
	f.register("n1", "web", api.Critical)
	index := f.index()
	paths := []string{webHealth + "?", webHealth + "?passing&", "/v1/health/connect/web?", webHealth + "?filter=Node.Node==n2&", webHealth + "?tag=a&", webHealth + "?tag=b&"}
	for _, p := range paths {
		f.wait(fmt.Sprintf("%sindex=%d&wait=60s", p, index))
	}
	f.parked(len(paths))
	f.api.topics.mu.Lock()
	defer f.api.topics.mu.Unlock()
	if n := len(f.api.topics.all); n != len(paths) {
		t.Errorf("%d topics for %d different reads", n, len(paths))
	}
}

// TestOnlyRequestsWithTheSameAnswerShareATopic: what differs in anything but index and
// wait has another key, however it is written.
func TestOnlyRequestsWithTheSameAnswerShareATopic(t *testing.T) {
	key := func(target string, header ...string) string {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, target, nil)
		for _, h := range header {
			name, value, _ := strings.Cut(h, ": ")
			r.Header.Set(name, value)
		}
		return (&request{Request: r, query: r.URL.Query()}).topicKey()
	}
	alike := key("/v1/health/service/web?near=n1&passing&index=5&wait=1s")
	for _, same := range []string{"/v1/health/service/web?passing=&near=n1&index=7", "/v1/health/service/web?wait=9s&passing&near=n1&index=1"} {
		if got := key(same); got != alike {
			t.Errorf("%s has the key %q, want %q", same, got, alike)
		}
	}
	seen := map[string]string{alike: "the first"}
	for _, other := range []string{
		"/v1/health/service/web?near=n1%00passing%01", "/v1/health/service/web?near=n1%26passing=", "/v1/health/service/web?near=n1",
		"/v1/health/service/web%3Fnear=n1&passing=", "/v1/health/service/web%3Fnear=n1%26passing=", "/v1/health/service/web?near=n1&passing=1",
		"/v1/health/service/web?near=n1&passing&passing", "/v1/health/service/web?near=n1&passing=%23plain+", "/v1/health/service/WEB?near=n1&passing",
	} {
		k := key(other)
		if seen[k] != "" {
			t.Errorf("%s shares with %s", other, seen[k])
		}
		seen[k] = other
	}
	for _, header := range []string{"X-Consul-Token: t", "X-Consul-Token: plain t", "Accept-Encoding: gzip", "Authorization: Bearer u"} {
		k := key("/v1/health/service/web?near=n1&passing", header)
		if seen[k] != "" {
			t.Errorf("%s shares with %s", header, seen[k])
		}
		seen[k] = header
	}
}

func TestEachWaiterHearsWhatIsNewToIt(t *testing.T) {
	f := newFront(t, overLot(t))
	f.register("n1", "web", api.Passing)
	old := f.index()
	f.register("n1", "web", api.Warning)
	if got := <-f.wait(fmt.Sprintf("%s?index=%d&wait=60s", webHealth, old)); got.index <= old {
		t.Errorf("who lags got %v at once", got)
	}
	now := f.index()
	a := f.wait(fmt.Sprintf("%s?index=%d&wait=60s", webHealth, now))
	f.parked(1)
	if got := <-f.wait(fmt.Sprintf("%s?index=%d&wait=60s", webHealth, old)); got.index != now {
		t.Errorf("who lags got %v from a watched topic, want index %d", got, now)
	}
	f.register("n1", "web", api.Critical)
	if got := <-a; got.index <= now {
		t.Errorf("who waited got %v", got)
	}
}

func TestWhatIsNotThereWakesOnceItIs(t *testing.T) {
	f := newFront(t, overLot(t))
	f.register("n1", "x", api.Passing)
	first, err := f.get(t.Context(), "/v1/kv/missing")
	if err != nil || first.status != http.StatusNotFound {
		t.Fatal(first, err)
	}
	c := f.wait(fmt.Sprintf("/v1/kv/missing?index=%d&wait=60s", first.index))
	f.parked(1)
	put := func(key string) {
		t.Helper()
		in := wire.KVRequest{Op: wire.KVSet, DirEnt: api.KVPair{Key: key, Value: []byte("v")}}
		if _, _, err := wire.KVApply.Call(t.Context(), f.by.Server, rpc.Header{}, in); err != nil {
			t.Fatal(err)
		}
	}
	for _, neighbour := range []string{"missin", "missing2", "m", "missing/a"} {
		put(neighbour)
	}
	f.parked(1)
	put("missing")
	if got := <-c; got.status != http.StatusOK || got.index <= first.index {
		t.Errorf("got %v", got)
	}
}

func TestAWaitEnds(t *testing.T) {
	for name, serve := range map[string]func(*API) string{"parked": overLot(t), "in goroutines": inPlace(t)} {
		t.Run(name, func(t *testing.T) {
			f := newFront(t, serve)
			f.register("n1", "web", api.Passing)
			index := f.index()
			want, err := f.get(t.Context(), webHealth)
			if err != nil {
				t.Fatal(err)
			}
			if got := <-f.wait(fmt.Sprintf("%s?index=%d&wait=20ms", webHealth, index)); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
			f.forgotten()
		})
	}
}

func TestWaitersOfAServerThatLeadsNoMoreAskWhoeverDoes(t *testing.T) {
	f := newFront(t, overLot(t))
	f.register("n1", "web", api.Passing)
	index := f.index()
	long := f.wait(fmt.Sprintf("%s?index=%d&wait=60s", webHealth, index))
	f.parked(1)
	f.by.deposed.Store(true)
	calls := f.by.calls.Load()
	if got := <-f.wait(fmt.Sprintf("%s?index=%d&wait=5ms", webHealth, index)); got.index != index || f.by.calls.Load() == calls {
		t.Errorf("a new waiter got %v, and %d calls were made", got, f.by.calls.Load()-calls)
	}
	f.register("n1", "web", api.Warning)
	if got := <-long; got.index <= index || got.status != http.StatusOK {
		t.Errorf("the old waiter got %v", got)
	}
	f.parked(0)
}

func TestAWaiterThatGoesAwayIsForgotten(t *testing.T) {
	for name, serve := range map[string]func(*API) string{"parked": overLot(t), "in goroutines": inPlace(t)} {
		t.Run(name, func(t *testing.T) {
			f := newFront(t, serve)
			f.register("n1", "web", api.Passing)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			path := fmt.Sprintf("%s?index=%d&wait=60s", webHealth, f.index())
			go func() {
				_, err := f.get(ctx, path)
				done <- err
			}()
			f.parked(1)
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			f.forgotten()
		})
	}
}

func TestWaitersAreToldThatTheServerStops(t *testing.T) {
	by := &countedServer{Server: testkit.NewServer(t)}
	a := New(config(by))
	addr, stop := listen(t, a, 0)
	f := &front{t, by, a, "http://" + addr}
	f.register("n1", "web", api.Passing)
	c := f.wait(fmt.Sprintf("%s?index=%d&wait=60s", webHealth, f.index()))
	f.parked(1)
	if err := stop(); err != nil {
		t.Error(err)
	}
	if got := <-c; got.status != http.StatusServiceUnavailable {
		t.Errorf("got %v", got)
	}
}

// TestNoChangeIsMissed has clients follow a service that changes all the time, some
// of which hang up; each that stays must come to the last state.
func TestNoChangeIsMissed(t *testing.T) {
	f := newFront(t, overLot(t))
	f.register("n1", "web", api.Passing)
	const clients, changes = 20, 200
	var last atomic.Uint64
	ended := make(chan struct{})
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			var index uint64 = 1
			for last.Load() == 0 || index < last.Load() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+c%3*1000)*10*time.Millisecond)
				got, err := f.get(ctx, fmt.Sprintf("%s?index=%d&wait=%dms", webHealth, index, 5+c*50))
				cancel()
				switch {
				case err != nil && c%3 == 0: // hung up
				case err != nil || got.status != http.StatusOK || got.index < index:
					t.Errorf("client %d at %d got %v, %v", c, index, got, err)
					return
				default:
					index = got.index
				}
			}
		})
	}
	for i := range changes {
		f.register("n1", "web", []string{api.Passing, api.Warning, api.Critical}[i%3])
		f.register("n2", "other", []string{api.Passing, api.Warning}[i%2])
	}
	last.Store(f.index())
	f.register("n1", "web", "passing") // wakes who came to the last one before it was known
	go func() { all.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("a client never came to the last state")
	}
	f.forgotten()
}
