package checks

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// services tells an alias of one local service; each value replaces the last.
type services struct {
	of      string
	targets chan Target
}

func (s *services) follow(ctx context.Context, service string) iter.Seq[Target] {
	s.of = service
	return func(yield func(Target) bool) {
		for {
			select {
			case <-ctx.Done():
				return
			case target := <-s.targets:
				if !yield(target) {
					return
				}
			}
		}
	}
}

func checkRow(id, service, status string) *api.HealthCheck {
	return &api.HealthCheck{CheckID: id, Name: id + " name", ServiceID: service, Status: status, Output: id + " output"}
}

func TestAliasFollowsALocalServiceAtOnce(t *testing.T) {
	for _, node := range []string{"", "Here"} {
		synctest.Test(t, func(t *testing.T) {
			got, local := newResults(), &services{targets: make(chan Target)}
			env := quiet
			env.Node, env.Local = "here", local.follow
			r, err := New(api.CheckType{AliasService: "web", AliasNode: node}, got.report, env)
			if err != nil {
				t.Fatal(err)
			}
			defer run(t, r)()
			var want []string
			for _, c := range []struct {
				target Target
				want   string
			}{
				{Target{}, "critical Service web could not be found on node " + node},
				{Target{Exists: true}, "passing No checks found."},
				{
					Target{true, []*api.HealthCheck{checkRow("b", "web", "passing"), checkRow("node", "", "passing"), checkRow("o", "other", "critical")}},
					"passing All checks passing.",
				},
				{
					Target{true, []*api.HealthCheck{checkRow("b", "web", "warning"), checkRow("a", "web", "warning")}},
					`warning Aliased check "a name" failing: a output`,
				},
				{
					Target{true, []*api.HealthCheck{checkRow("a", "web", "warning"), checkRow("node", "", "critical")}},
					`critical Aliased check "node name" failing: node output`,
				},
				{Target{true, []*api.HealthCheck{checkRow("m", "web", "maintenance")}}, "passing All checks passing."},
				{Target{}, "critical Service web could not be found on node " + node},
			} {
				local.targets <- c.target
				synctest.Wait()
				want = append(want, "0s "+c.want)
				got.expect(t, want...)
			}
			if local.of != "web" {
				t.Errorf("followed %q", local.of)
			}
		})
	}
}

// catalog answers for one node, and wakes who waits when it changes.
type catalog struct {
	mu      sync.Mutex
	index   uint64
	changed chan struct{}
	node    *api.NodeServices
	checks  []*api.HealthCheck
	down    bool
}

func (c *catalog) Call(ctx context.Context, r *rpc.Request) (rpc.Meta, error) {
	query, ok := r.In.(*wire.NodeQuery)
	if !ok || query.Node != "there" || r.Header.Token != "secret" || !r.Header.AllowStale {
		return rpc.Meta{}, errors.New("asked the wrong thing")
	}
	for {
		c.mu.Lock()
		index, changed, down := c.index, c.changed, c.down
		switch out := r.Out.(type) {
		case **api.NodeServices:
			*out = c.node
		case *[]*api.HealthCheck:
			*out = c.checks
		}
		c.mu.Unlock()
		switch {
		case down:
			return rpc.Meta{}, errors.New("no servers")
		case index > r.Header.MinIndex:
			return rpc.Meta{Index: index}, nil
		}
		select {
		case <-ctx.Done():
			return rpc.Meta{}, ctx.Err()
		case <-changed:
		}
	}
}

func (c *catalog) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	c.index++
	if c.changed != nil {
		close(c.changed)
	}
	c.changed = make(chan struct{})
}

func TestAliasFollowsAnotherNode(t *testing.T) {
	for _, service := range []string{"web", ""} {
		t.Run(service, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &catalog{}
				c.set(func() {})
				env := quiet
				env.Node, env.Caller, env.Token = "here", c, "secret"
				var mu sync.Mutex
				var last string
				r, err := New(api.CheckType{AliasNode: "there", AliasService: service}, func(status, output string) {
					mu.Lock()
					defer mu.Unlock()
					last = status + " " + output
				}, env)
				if err != nil {
					t.Fatal(err)
				}
				defer run(t, r)()
				expect := func(web, node string) {
					t.Helper()
					synctest.Wait()
					mu.Lock()
					defer mu.Unlock()
					if want := map[string]string{"web": web, "": node}[service]; last != want {
						t.Errorf("got %q, want %q", last, want)
					}
				}
				expect("critical Service web could not be found on node there", "critical Node there could not be found")
				c.set(func() { c.node = &api.NodeServices{Node: &api.Node{}} })
				expect("critical Service web could not be found on node there", "passing No checks found.")
				c.set(func() { c.node = &api.NodeServices{Services: map[string]*api.NodeService{"web": {}}} })
				expect("passing No checks found.", "passing No checks found.")
				c.set(func() { c.checks = []*api.HealthCheck{checkRow("c", "web", "critical"), checkRow("n", "", "warning")} })
				expect(`critical Aliased check "c name" failing: c output`, `warning Aliased check "n name" failing: n output`)
				c.set(func() { c.down = true })
				advance(time.Minute)
				expect(`critical Aliased check "c name" failing: c output`, `warning Aliased check "n name" failing: n output`)
				c.set(func() {
					c.down, c.checks = false, []*api.HealthCheck{checkRow("c", "web", "passing"), checkRow("n", "", "passing")}
				})
				advance(time.Hour)
				expect("passing All checks passing.", "passing All checks passing.")
			})
		})
	}
}

func TestTLSOfChecks(t *testing.T) {
	got := tlsFor(nil, &api.CheckType{TLSServerName: "a", TLSSkipVerify: true}, "h2")
	if got.ServerName != "a" || !got.InsecureSkipVerify || !reflect.DeepEqual(got.NextProtos, []string{"h2"}) {
		t.Errorf("got %+v", got)
	}
}
