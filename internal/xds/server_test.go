package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"isthmus/api"
	"isthmus/internal/mesh"
	"isthmus/internal/testkit"
)

// proxies is a Source. Its snapshots bear only a datacenter, by which the
// renderer of the tests finds their resources.
type proxies struct {
	mu      sync.Mutex
	now     map[string]Resources
	tokens  map[string]bool // those that may; nil is any
	changed chan struct{}
	follows int
	renders int
	failing error // of the renderer
}

func newProxies() *proxies {
	return &proxies{now: make(map[string]Resources), changed: make(chan struct{})}
}

// set registers a proxy or changes it; nil deregisters it.
func (p *proxies) set(id string, all Resources) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now[id] = all
	if all == nil {
		delete(p.now, id)
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *proxies) get(id string) (Resources, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now[id], p.changed
}

func (p *proxies) allows(token string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tokens == nil || p.tokens[token]
}

// counts returns how often Follow and render were called.
func (p *proxies) counts() (follows, renders int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.follows, p.renders
}

func (p *proxies) Follow(ctx context.Context, id, token string) (iter.Seq[*mesh.Snapshot], error) {
	p.mu.Lock()
	p.follows++
	p.mu.Unlock()
	if !p.allows(token) {
		return nil, api.Known(api.NotAllowed, nil)
	}
	if all, _ := p.get(id); all == nil {
		return nil, api.Errorf(api.NotFound, "proxy %q is not registered", id)
	}
	return func(yield func(*mesh.Snapshot) bool) {
		for {
			all, changed := p.get(id)
			if all == nil || !p.allows(token) || !yield(&mesh.Snapshot{Proxy: &api.NodeService{ID: id}}) {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}, nil
}

func (p *proxies) render(s *mesh.Snapshot) (Resources, error) {
	all, _ := p.get(s.Proxy.ID)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.renders++
	return all, p.failing
}

func (p *proxies) server(t testing.TB, cfg Config) *Server {
	t.Helper()
	cfg.Source, cfg.Render = p, p.render
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// client is the far end of a stream, without a connection.
type client struct {
	ctx  context.Context //nolint:containedctx // it stands for the connection
	in   chan incoming
	out  chan *response
	done chan error
	hang context.CancelFunc
}

func (c *client) Recv() (*hello, *request, error) {
	select {
	case in := <-c.in:
		return in.hello, in.request, nil
	case <-c.ctx.Done():
		return nil, nil, io.EOF
	}
}

func (c *client) Send(p *response) error {
	select {
	case c.out <- p:
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// connect begins a stream.
func connect(t testing.TB, s *Server, token string) *client {
	t.Helper()
	ctx, hang := context.WithCancel(context.Background())
	if token != "" {
		ctx = metadata.NewIncomingContext(ctx, metadata.Pairs(tokenHeader, token))
	}
	c := &client{ctx: ctx, hang: hang, in: make(chan incoming), out: make(chan *response, 16), done: make(chan error, 1)}
	go func() { c.done <- s.serve(ctx, c, false) }()
	t.Cleanup(hang)
	return c
}

func (c *client) ask(id, kind string, names ...string) {
	c.in <- incoming{&hello{id: id}, &request{typeURL: kind, subscribe: names}}
}

// got is the next response as a text, taken at once.
func (c *client) got(t testing.TB) string {
	t.Helper()
	select {
	case p := <-c.out:
		text := fmt.Sprint(p.removed)
		for _, r := range p.resources {
			text += " " + r.Name + r.Version
		}
		c.in <- incoming{nil, &request{typeURL: kinds[p.kind], nonce: p.nonce}}
		return text
	case err := <-c.done:
		t.Fatalf("the stream ended: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("nothing came")
	}
	return ""
}

func (c *client) silent(t testing.TB) {
	t.Helper()
	synctest.Wait()
	select {
	case p := <-c.out:
		t.Fatalf("sent %+v, want nothing", p)
	default:
	}
}

// sleep lets the time of a bubble pass.
func sleep(d time.Duration) { <-time.After(d) }

func all(words ...string) Resources { return parse(words) }

func TestStreamsOfOneProxyShareItsFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxies()
		p.set("gw", all("C", "a1"))
		s := p.server(t, Config{})
		one, two := connect(t, s, ""), connect(t, s, "")
		for _, c := range []*client{one, two} {
			c.ask("gw", ClusterType)
			if got := c.got(t); got != "[] a1" {
				t.Errorf("got %q", got)
			}
		}
		sleep(time.Second)
		p.set("gw", all("C", "a2"))
		for _, c := range []*client{one, two} {
			if got := c.got(t); got != "[] a2" {
				t.Errorf("got %q", got)
			}
		}
		if follows, renders := p.counts(); follows != 1 || renders != 2 {
			t.Errorf("%d follows and %d renders, want 1 and 2", follows, renders)
		}
		other := connect(t, s, "another token")
		other.ask("gw", ClusterType)
		other.got(t)
		if follows, _ := p.counts(); follows != 2 {
			t.Error("a stream with another token shares a feed")
		}
		one.hang()
		two.hang()
		other.hang()
		synctest.Wait()
		if len(s.feeds) != 0 || len(s.streams) != 0 {
			t.Errorf("%d feeds and %d streams are left", len(s.feeds), len(s.streams))
		}
	})
}

func TestFirstChangeIsSentAtOnceAndABurstOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxies()
		p.set("gw", all("C", "a1"))
		s := p.server(t, Config{})
		c := connect(t, s, "")
		begin := time.Now()
		c.ask("gw", ClusterType)
		c.got(t)
		if d := time.Since(begin); d != 0 {
			t.Errorf("the first view took %s", d)
		}
		sleep(time.Second)
		begin = time.Now()
		p.set("gw", all("C", "a2"))
		c.got(t)
		if d := time.Since(begin); d != 0 {
			t.Errorf("the first change took %s", d)
		}
		synctest.Wait()
		_, before := p.counts()
		for i := range 50 {
			p.set("gw", all("C", fmt.Sprintf("a%d", i%8)))
			synctest.Wait()
			sleep(time.Millisecond)
		}
		sleep(time.Second)
		if _, after := p.counts(); after > before+2 {
			t.Errorf("a burst of 50 was rendered %d times", after-before)
		}
		if got := c.got(t); got != "[] a1" {
			t.Errorf("got %q, want the last of the burst", got)
		}
		p.set("gw", all("C", "a1"))
		sleep(time.Second)
		c.silent(t)
	})
}

func TestUnknownProxyIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxies()
		s := p.server(t, Config{})
		c := connect(t, s, "")
		c.ask("gw", ClusterType)
		sleep(10 * time.Second)
		c.silent(t)
		if list := s.Proxies(); len(list) != 1 || list[0].Registered || list[0].Problem == "" {
			t.Errorf("while waiting: %+v", list)
		}
		p.set("gw", all("C", "a1"))
		if got := c.got(t); got != "[] a1" {
			t.Errorf("got %q", got)
		}
	})
}

func TestStreamEndsWithItsReason(t *testing.T) {
	cases := map[string]struct {
		tokens map[string]bool
		do     func(t *testing.T, p *proxies, s *Server, c *client)
		want   codes.Code
	}{
		"proxy deregistered": {nil, func(t *testing.T, p *proxies, _ *Server, c *client) {
			t.Helper()
			c.ask("gw", ClusterType)
			c.got(t)
			p.set("gw", nil)
		}, codes.NotFound},
		"token may not": {map[string]bool{}, func(_ *testing.T, _ *proxies, _ *Server, c *client) {
			c.ask("gw", ClusterType)
		}, codes.PermissionDenied},
		"token may not any more": {map[string]bool{"secret": true}, func(t *testing.T, p *proxies, _ *Server, c *client) {
			t.Helper()
			c.ask("gw", ClusterType)
			c.got(t)
			p.mu.Lock()
			p.tokens = map[string]bool{}
			p.mu.Unlock()
			p.set("gw", all("C", "a2"))
		}, codes.PermissionDenied},
		"no node": {nil, func(_ *testing.T, _ *proxies, _ *Server, c *client) {
			c.in <- incoming{nil, &request{typeURL: ClusterType}}
		}, codes.InvalidArgument},
		"no id": {nil, func(_ *testing.T, _ *proxies, _ *Server, c *client) {
			c.ask("", ClusterType)
		}, codes.InvalidArgument},
		"too much metadata": {nil, func(_ *testing.T, _ *proxies, _ *Server, c *client) {
			c.in <- incoming{&hello{id: "gw", size: maxMetadata + 1}, &request{typeURL: ClusterType}}
		}, codes.InvalidArgument},
		"no type": {nil, func(_ *testing.T, _ *proxies, _ *Server, c *client) {
			c.ask("gw", "")
		}, codes.InvalidArgument},
		"too many names": {nil, func(_ *testing.T, _ *proxies, _ *Server, c *client) {
			c.ask("gw", EndpointType, "a", "b", "c", "d")
		}, codes.ResourceExhausted},
		"no request": {nil, func(*testing.T, *proxies, *Server, *client) {}, codes.DeadlineExceeded},
		"client leaves": {nil, func(_ *testing.T, _ *proxies, _ *Server, c *client) {
			c.ask("gw", ClusterType)
			c.hang()
		}, codes.OK},
		"one stream too many": {nil, func(t *testing.T, _ *proxies, s *Server, c *client) {
			t.Helper()
			c.ask("gw", ClusterType)
			c.got(t)
			for range 2 {
				more := connect(t, s, "")
				synctest.Wait()
				if len(more.done) > 0 {
					c.hang()
					if err := <-c.done; err != nil && !errors.Is(err, io.EOF) {
						t.Logf("the first stream ended: %v", err)
					}
					c.done <- <-more.done
					return
				}
			}
			t.Error("three streams were admitted")
		}, codes.ResourceExhausted},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProxies()
				p.set("gw", all("C", "a1"))
				p.tokens = c.tokens
				s := p.server(t, Config{MaxNames: 3, MaxStreams: 2})
				cl := connect(t, s, "secret")
				c.do(t, p, s, cl)
				err := <-cl.done
				if errors.Is(err, context.Canceled) {
					err = nil
				}
				if got := status.Code(err); got != c.want && !(c.want == codes.OK && got == codes.Canceled) {
					t.Errorf("got %v, want %v", err, c.want)
				}
			})
		})
	}
}

func TestTokenThatDoesNotExistIsUnauthenticated(t *testing.T) {
	if got := codeOf(errors.New("ACL not found")); got != codes.Unauthenticated {
		t.Errorf("got %v", got)
	}
}

func TestStoppedServerEndsItsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxies()
		p.set("gw", all("C", "a1"))
		s := New(Config{Source: p, Render: p.render, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		c, idle := connect(t, s, ""), connect(t, s, "")
		c.ask("gw", ClusterType)
		c.got(t)
		cancel()
		for _, c := range []*client{c, idle, connect(t, s, "")} {
			if err := <-c.done; status.Code(err) != codes.Unavailable {
				t.Errorf("got %v", err)
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestFailedRenderKeepsTheLastGoodView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxies()
		p.set("gw", all("C", "a1"))
		s := p.server(t, Config{})
		c := connect(t, s, "")
		c.ask("gw", ClusterType)
		c.got(t)
		p.mu.Lock()
		p.failing = errors.New("out of shape")
		p.mu.Unlock()
		p.set("gw", all("C", "a2"))
		sleep(time.Second)
		c.silent(t)
		if list := s.Proxies(); list[0].Problem == "" {
			t.Error("the problem is not shown")
		}
		p.mu.Lock()
		p.failing = nil
		p.mu.Unlock()
		p.set("gw", all("C", "a3"))
		if got := c.got(t); got != "[] a3" {
			t.Errorf("got %q", got)
		}
		if list := s.Proxies(); list[0].Problem != "" {
			t.Errorf("still shows %q", list[0].Problem)
		}
	})
}

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxies()
		p.set("gw", all("C", "a1", "b1", "L", "l1"))
		s := p.server(t, Config{})
		c := connect(t, s, "")
		c.in <- incoming{
			&hello{id: "gw", version: "1.40.0", metadata: map[string]string{"namespace": "default"}},
			&request{typeURL: ClusterType},
		}
		c.got(t)
		c.ask("gw", ListenerType)
		bad := <-c.out
		c.in <- incoming{nil, &request{typeURL: ListenerType, nonce: bad.nonce, refused: true, reason: "port in use"}}
		synctest.Wait()
		list := s.Proxies()
		if len(list) != 1 || len(list[0].Streams) != 1 || len(list[0].Streams[0].Types) != 2 {
			t.Fatalf("got %+v", list)
		}
		got, st := list[0], list[0].Streams[0]
		if got.ID != "gw" || !got.Registered || got.Resources["Cluster"] != 2 || st.Envoy != "1.40.0" || st.Protocol != "delta" {
			t.Errorf("got %+v", got)
		}
		if c := st.Types[0]; c.Type != "Cluster" || !c.InSync() || c.Has != 2 || c.Acked == "" || c.Acked != c.Sent {
			t.Errorf("clusters are %+v", c)
		}
		if l := st.Types[1]; l.InSync() || l.Has != 0 || l.Rejected.Error != "port in use" || !slices.Equal(l.Rejected.Names, []string{"l"}) {
			t.Errorf("listeners are %+v", l)
		}
		c.hang()
		synctest.Wait()
		if list := s.Proxies(); len(list) != 0 {
			t.Errorf("after its end: %+v", list)
		}
	})
}

func TestMovedGatewayAmongHundredDatacentersIsOneResource(t *testing.T) {
	rendered := func(host string) Resources {
		s := &mesh.Snapshot{
			Proxy: &api.NodeService{
				Kind: api.MeshGateway, ID: "gw", Service: "mesh-gateway", Address: "192.0.2.1", Port: 8443,
				Meta: map[string]string{api.FederationKey: "1"},
			},
			Datacenter: "dc1", Domain: "consul",
			Servers: []mesh.Endpoint{{Node: "s1", Host: "192.0.2.2", Port: 8300, Healthy: true}},
		}
		for i := range 100 {
			gateways := []mesh.Endpoint{
				{Node: "g1", Host: fmt.Sprintf("198.51.100.%d", i), Port: 443, Healthy: true, Servers: true},
				{Node: "g2", Host: fmt.Sprintf("203.0.113.%d", i), Port: 443, Healthy: true, Servers: true},
			}
			if i == 42 {
				gateways[0].Host = host
			}
			s.Remote = append(s.Remote, mesh.Remote{Datacenter: fmt.Sprintf("remote%03d", i), Gateways: gateways})
		}
		return testkit.Must(Render(s))
	}
	synctest.Test(t, func(t *testing.T) {
		p := newProxies()
		p.set("gw", rendered("198.51.100.42"))
		s := p.server(t, Config{})
		c := connect(t, s, "")
		c.ask("gw", ClusterType)
		c.got(t)
		c.ask("gw", EndpointType, anyName)
		c.got(t)
		c.ask("gw", ListenerType)
		c.got(t)
		p.set("gw", rendered("192.0.2.99"))
		if got := strings.Fields(c.got(t)); len(got) != 2 || !strings.HasPrefix(got[1], "server.remote042.consul") {
			t.Errorf("got %q, want the endpoints of one cluster", got)
		}
		p.set("gw", rendered("192.0.2.99"))
		sleep(time.Hour)
		c.silent(t)
	})
}

// federation is what a gateway of 100 datacenters has; moved is the version of the
// endpoints of the one that moves.
func federation(moved string) Resources {
	out := Resources{ListenerType: {{Name: "public", Version: "1"}}}
	for i := range 100 {
		for _, form := range []string{"dc%03d.internal.mesh.consul", "server.dc%03d.consul"} {
			name, version := fmt.Sprintf(form, i), "1"
			if name == "server.dc042.consul" {
				version = moved
			}
			out[ClusterType] = append(out[ClusterType], Resource{Name: name, Version: "1"})
			out[EndpointType] = append(out[EndpointType], Resource{Name: name, Version: version})
		}
	}
	return out
}

// BenchmarkFanOut is one change reaching 100 streams of as many proxies, each of
// which has 401 resources, until all have taken it.
func BenchmarkFanOut(b *testing.B) {
	p := newProxies()
	s := p.server(b, Config{})
	const n = 100
	views := []*view{newView(federation("1")), newView(federation("2"))}
	streams := make([]*client, n)
	for i := range streams {
		p.set(fmt.Sprint("gw", i), federation("1"))
	}
	for i := range streams {
		id := fmt.Sprint("gw", i)
		c := connect(b, s, "")
		c.ask(id, ClusterType)
		c.got(b)
		c.ask(id, EndpointType, "*")
		c.got(b)
		streams[i] = c
	}
	s.mu.Lock()
	feeds := make([]*feed, 0, n)
	for _, f := range s.feeds {
		feeds = append(feeds, f)
	}
	s.mu.Unlock()
	i := 0
	for b.Loop() {
		i++
		for _, f := range feeds {
			f.put(views[i%2])
		}
		var wg sync.WaitGroup
		for _, c := range streams {
			wg.Go(func() { c.got(b) })
		}
		wg.Wait()
	}
}
