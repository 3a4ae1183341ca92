package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"isthmus/internal/transport"
)

// The tests of this file run in bubbles: what is left behind when one ends fails
// the test, and time passes only when all wait.

func TestGRPCSpreadsAgentsOverServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, list := grpcServers(t, 3)
		seen := map[string]int{}
		for range 100 {
			seen[f.agent(list...).ask("dc1")]++
		}
		for _, s := range list {
			if n := seen[s.Name+".dc1"]; n < 15 {
				t.Errorf("%d of 100 agents ask %s", n, s.Name)
			}
		}
	})
}

func TestGRPCStaysWithItsServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, list := grpcServers(t, 3)
		name := a.ask("dc1")
		for i := range 20 { // whatever comes, goes or is asked besides
			other := serversOf("dc1", fmt.Sprintf("other%d", i))[0]
			a.AddServer(other)
			for _, s := range list {
				if s.Name+".dc1" != name && i == 10 {
					a.RemoveServer(s)
				}
			}
			synctest.Wait()
			if got := a.ask("dc1"); got != name {
				t.Fatalf("asked %s, want %s still", got, name)
			}
		}
		if f.all() != 1 {
			t.Errorf("dialled %d times", f.all())
		}
	})
}

func TestGRPCGoesOnAtTheNextServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, list := grpcServers(t, 3)
		start, seen := time.Now(), map[string]bool{}
		for range list {
			name := a.ask("dc1")
			if seen[name] {
				t.Fatalf("%s answers after it was killed", name)
			}
			seen[name] = true
			f.kill(named(list, name))
			synctest.Wait()
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("took %s, want no wait while another lives", took)
		}
		if _, err := a.try("dc1"); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("got %v while none lives", err)
		}
	})
}

func TestGRPCLosesNoCallWhenServersStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, list := grpcServers(t, 3)
		stop := make(chan struct{})
		var callers sync.WaitGroup
		var calls sync.Map
		for range 4 {
			callers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					name, err := a.try("dc1", grpc.WaitForReady(true))
					if err != nil {
						t.Errorf("a call failed: %v", err)
						return
					}
					calls.Store(name, true)
				}
			})
		}
		for range 30 {
			s := named(list, a.ask("dc1"))
			f.server(s).stop()
			f.start(s)
		}
		close(stop)
		callers.Wait()
		for _, s := range list {
			if _, ok := calls.Load(s.Name + ".dc1"); !ok {
				t.Errorf("%s was never asked", s.Name)
			}
		}
	})
}

func TestGRPCTriesTheNextBesideASlowServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, list := grpcServers(t, 2)
		slow := named(list, a.first())
		f.server(slow).delay = 3 * slowAfter / 2
		start := time.Now()
		name := a.ask("dc1")
		if name == slow.Name+".dc1" {
			t.Errorf("got an answer of %s", name)
		}
		if took := time.Since(start); took != slowAfter {
			t.Errorf("took %s, want %s", took, slowAfter)
		}
		time.Sleep(time.Minute)
		if got := a.ask("dc1"); got != name || f.all() != 2 {
			t.Errorf("asked %s after %d dials, want %s still", got, f.all(), name)
		}
	})
}

func TestGRPCAsksTheLivingFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, list := grpcServers(t, 3)
		dead := named(list, a.first())
		dead.Alive = false
		a.AddServer(dead)
		name := a.ask("dc1")
		if f.dialled(dead) > 0 {
			t.Error("a server that gossip holds for dead was dialled first")
		}
		s, _ := a.watch(t.Context())
		inUse := named(list, name)
		inUse.Alive = false
		a.AddServer(inUse)
		synctest.Wait()
		if got := a.ask("dc1"); got == name || got == dead.Name+".dc1" {
			t.Errorf("asked %s, want the one that lives", got)
		}
		f.server(inUse).health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		if _, err := s.Recv(); err != nil {
			t.Errorf("a stream to a server that gossip is wrong about: %v", err)
		}
	})
}

func TestGRPCConnectsBeforeItMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, list := grpcServers(t, 3)
		ctx, cancel := context.WithCancel(t.Context())
		stream, old := a.watch(ctx)
		a.rebalance(old)
		want := a.first()
		if got := a.ask("dc1"); got != want {
			t.Errorf("asked %s, want %s, the first of the new order", got, want)
		}
		before := f.server(named(list, old))
		before.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		if out, err := stream.Recv(); err != nil || out.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
			t.Errorf("the stream on the old connection got %v, %v", out, err)
		}
		cancel()
		synctest.Wait()
		if _, err := before.conns[0].Write([]byte{0}); err == nil {
			t.Error("the old connection is open after its last stream")
		}
	})
}

func TestGRPCStaysWhenTheFirstCannotBeReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, list := grpcServers(t, 3)
		name := a.ask("dc1")
		for _, s := range list {
			if s.Name+".dc1" != name {
				f.kill(s)
			}
		}
		dials := f.all()
		for range 10 {
			a.rebalance(name)
			if got := a.ask("dc1"); got != name {
				t.Fatalf("asked %s", got)
			}
		}
		if f.all() == dials {
			t.Error("the servers that come first were not tried")
		}
		if f.dialled(named(list, name)) != 1 {
			t.Error("the connection was not kept")
		}
		dials = f.all()
		time.Sleep(time.Hour)
		if n := f.all() - dials; n > 0 {
			t.Errorf("dialled %d times although nothing happened", n)
		}
	})
}

func TestGRPCLeavesAServerThatWasRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, list := grpcServers(t, 2)
		gone := named(list, a.ask("dc1"))
		a.RemoveServer(gone)
		synctest.Wait()
		last := named(list, a.ask("dc1"))
		if last == gone {
			t.Errorf("asked %s after it was removed", gone.Name)
		}
		a.RemoveServer(last)
		synctest.Wait()
		if _, err := a.try("dc1"); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "No known Consul servers") {
			t.Errorf("got %v without servers", err)
		}
		answer := make(chan string)
		go func() { answer <- a.ask("dc1") }()
		synctest.Wait()
		a.AddServer(gone)
		if got := <-answer; got != gone.Name+".dc1" {
			t.Errorf("got %q from the call that waited", got)
		}
		if n := f.dialled(gone); n != 2 {
			t.Errorf("dialled %d times", n)
		}
	})
}

func TestGRPCKeepsEqualServersOfTwoDatacentersApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, list := grpcServers(t, 1)
		other := serversOf("dc2", "s1")[0]
		f.start(other)
		a.AddServer(other)
		for range 3 {
			for _, dc := range []string{"dc1", "dc2"} {
				if got := a.ask(dc); got != "s1."+dc {
					t.Errorf("asked %s, got the answer of %s", dc, got)
				}
			}
		}
		f.kill(other)
		synctest.Wait()
		if got := a.ask("dc1"); got != "s1.dc1" || f.dialled(list[0]) != 1 {
			t.Errorf("got %s after %d connections: the end of one in dc2 does not concern dc1", got, f.dialled(list[0]))
		}
		if got, err := a.try("dc2"); err == nil {
			t.Errorf("%s answers for dc2", got)
		}
		if _, err := a.try("dc3"); !strings.Contains(fmt.Sprint(err), "No path to datacenter") {
			t.Errorf("unknown datacenter: got %v", err)
		}
	})
}

func TestGRPCMovesOffASupersededConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, list := grpcServers(t, 1)
		var ways []chan struct{}
		f.wrapped = func(c net.Conn) net.Conn {
			ways = append(ways, make(chan struct{}))
			return detour{c, ways[len(ways)-1]}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		first, _ := a.watch(ctx)
		close(ways[0])
		synctest.Wait()
		if n := f.dialled(list[0]); n != 2 {
			t.Fatalf("dialled %d times, want once more", n)
		}
		a.ask("dc1")
		close(ways[1])
		synctest.Wait()
		if n := f.dialled(list[0]); n != 3 {
			t.Fatalf("dialled %d times, want once more", n)
		}
		m := f.server(list[0])
		m.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		if _, err := first.Recv(); err != nil {
			t.Errorf("the stream on the first way: %v", err)
		}
	})
}

func TestGRPCComesBackWithinSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, list := grpcServers(t, 1)
		a.ask("dc1")
		f.kill(list[0])
		synctest.Wait()
		dials := f.all()
		time.Sleep(10 * time.Minute)
		if n := f.all() - dials; n < 100 || n > 200 {
			t.Errorf("dialled %d times in 10 minutes", n)
		}
		if _, err := a.try("dc1"); status.Code(err) != codes.Unavailable {
			t.Errorf("got %v", err)
		}
		f.start(list[0])
		start := time.Now()
		a.ask("dc1")
		if took := time.Since(start); took > longestPause*6/5 {
			t.Errorf("took %s until the server was found again", took)
		}
	})
}

func TestGRPCPutsItsHopeInANewServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, list := grpcServers(t, 1)
		f.kill(list[0])
		if _, err := a.try("dc1"); status.Code(err) != codes.Unavailable {
			t.Fatalf("got %v", err)
		}
		added := serversOf("dc1", "s2")[0]
		f.start(added)
		f.server(added).delay = time.Second
		a.AddServer(added)
		synctest.Wait()
		if got, err := a.try("dc1"); err != nil || got != "s2.dc1" {
			t.Errorf("got %q, %v while it connects", got, err)
		}
	})
}

func TestGRPCReplacesAConnectionOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, list := grpcServers(t, 2)
		ways := map[string][]chan struct{}{}
		f.wrapped = func(c net.Conn) net.Conn {
			name := c.RemoteAddr().String()
			ways[name] = append(ways[name], make(chan struct{}))
			return detour{c, ways[name][len(ways[name])-1]}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, name := a.watch(ctx)
		a.rebalance(name)
		a.rebalance(a.first())
		if got := a.ask("dc1"); got != name || len(ways[name]) != 2 {
			t.Fatalf("asked %s over the connections %v", got, ways)
		}
		close(ways[name][1])
		synctest.Wait()
		close(ways[name][0]) // of the connection that only ends its stream
		synctest.Wait()
		if n := f.dialled(named(list, name)); n != 3 {
			t.Errorf("dialled %d times, want once more", n)
		}
	})
}

// hangsUp is a server that talks and then ends every connection.
type hangsUp struct{ *grpcFleet }

func (h hangsUp) Dial(ctx context.Context, to transport.Target, p transport.Proto) (net.Conn, error) {
	conn, err := h.grpcFleet.Dial(ctx, to, p)
	if err == nil {
		time.AfterFunc(time.Millisecond, func() { _ = conn.Close() })
	}
	return conn, err
}

func TestGRPCLeavesAServerAloneThatHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newGRPCFleet(t)
		s := serversOf("dc1", "s1")[0]
		f.start(s)
		r := NewRouter("dc1", nil, quiet)
		r.AddServer(s)
		g := NewGRPC(hangsUp{f}, r, quiet)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- g.Run(ctx) }()
		c, err := g.Conn("dc1")
		if err != nil {
			t.Fatal(err)
		}
		c.Connect()
		time.Sleep(time.Minute)
		if n := f.dialled(s); n < 30 || n > 61 {
			t.Errorf("dialled %d times in a minute", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestGRPCEndsWithItsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newGRPCFleet(t)
		list := serversOf("dc1", "s1", "s2")
		for _, s := range list {
			f.start(s)
		}
		r := NewRouter("dc1", nil, quiet)
		g := NewGRPC(f, r, quiet)
		a := &grpcAgent{r, t, g}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- g.Run(ctx) }()
		for _, s := range list {
			a.AddServer(s)
		}
		old, name := a.watch(t.Context())
		a.rebalance(name)
		cur, _ := a.watch(t.Context())
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, s := range []grpc.ServerStreamingClient[grpc_health_v1.HealthCheckResponse]{old, cur} {
			if _, err := s.Recv(); err == nil {
				t.Error("a stream outlives its connection")
			}
		}
		for _, m := range f.servers {
			if _, err := m.conns[0].Write([]byte{0}); err == nil {
				t.Error("a connection is open after the end")
			}
		}
		if _, err := a.g.Conn("dc1"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v after the end", err)
		}
	})
}

func TestGRPCServerStopsGently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, list := grpcServers(t, 1)
		stream, _ := a.watch(t.Context())
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			f.server(list[0]).stop()
		}()
		if out, err := stream.Recv(); err != nil || out.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
			t.Errorf("a watcher of the health got %v, %v", out, err)
		}
		start := time.Now()
		<-stopped
		if took := time.Since(start); took > drainGRPC {
			t.Errorf("took %s to stop", took)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("the stream ended with %v", err)
		}
	})
}

func TestOrderIsDrawnAnewByTime(t *testing.T) {
	for name, tt := range map[string]struct {
		nodes       func() int
		least, most time.Duration
	}{
		"unknown nodes": {nil, 2 * time.Minute, 3 * time.Minute},
		"96000 nodes":   {func() int { return 96000 }, 2*time.Minute + 500*time.Second, 3*time.Minute + 500*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := NewRouter("dc1", nil, quiet)
				r.Nodes = tt.nodes
				for _, s := range serversOf("dc1", "s1", "s2", "s3") {
					r.AddServer(s)
				}
				r.Observe(rebalances{t, tt.least, tt.most, new(time.Now())})
				ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
				defer cancel()
				if err := r.Run(ctx); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// rebalances checks the time between rebalances.
type rebalances struct {
	t           *testing.T
	least, most time.Duration
	last        *time.Time
}

func (rebalances) AddServer(ServerInfo)    {}
func (rebalances) RemoveServer(ServerInfo) {}

func (r rebalances) Rebalanced(string) {
	if took := time.Since(*r.last); took < r.least || took > r.most {
		r.t.Errorf("drawn after %s, want %s to %s", took, r.least, r.most)
	}
	*r.last = time.Now()
}
