package local

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// catalog is what servers are to an agent, in a map.
type catalog struct {
	*rpc.Handlers

	mu       sync.Mutex
	fail     func(r *rpc.Request) error // called before every request
	lose     func(r *rpc.Request) error // called after it was carried out
	node     *api.Node
	services map[string]*api.NodeService
	checks   map[string]*api.HealthCheck
	log      []string // of the writes
}

func newCatalog() *catalog {
	c := &catalog{Handlers: rpc.NewHandlers(), services: map[string]*api.NodeService{}, checks: map[string]*api.HealthCheck{}}
	rpc.Bind(c.Handlers, wire.CatalogRegister, c.register)
	rpc.Bind(c.Handlers, wire.CatalogDeregister, c.deregister)
	rpc.Bind(c.Handlers, wire.CatalogNodeServiceList, func(_ context.Context, _ rpc.Header, in *wire.NodeQuery) (out api.NodeServiceList, m rpc.Meta, err error) {
		if c.node == nil || in.Node != c.node.Node {
			return out, m, nil
		}
		return api.NodeServiceList{Node: c.node, Services: slices.Collect(maps.Values(c.services))}, m, nil
	})
	rpc.Bind(c.Handlers, wire.HealthNodeChecks, func(context.Context, rpc.Header, *wire.NodeQuery) ([]*api.HealthCheck, rpc.Meta, error) {
		return slices.Collect(maps.Values(c.checks)), rpc.Meta{}, nil
	})
	return c
}

// Call implements rpc.Caller.
func (c *catalog) Call(ctx context.Context, r *rpc.Request) (rpc.Meta, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		if err := c.fail(r); err != nil {
			return rpc.Meta{}, err
		}
	}
	meta, err := c.Handlers.Call(ctx, r)
	if err == nil && c.lose != nil {
		err = c.lose(r)
	}
	return meta, err
}

func (c *catalog) register(_ context.Context, h rpc.Header, in *api.Registration) (out wire.Empty, m rpc.Meta, err error) {
	what := []string{"put"}
	if c.node == nil || !in.SkipNodeUpdate {
		c.node = &api.Node{
			ID: in.ID, Node: in.Node, Address: in.Address, Datacenter: in.Datacenter,
			TaggedAddresses: in.TaggedAddresses, Meta: in.NodeMeta,
		}
		what = append(what, "node")
	}
	if in.Service != nil {
		c.services[in.Service.ID] = in.Service
		what = append(what, in.Service.ID)
	}
	for _, check := range in.Checks {
		row := *check
		if row.ServiceID != "" {
			s := c.services[row.ServiceID]
			if s == nil {
				return out, m, &rpc.RemoteError{Text: "Unknown service ID"}
			}
			row.ServiceName, row.ServiceTags = s.Service, s.Tags
		}
		c.checks[row.CheckID] = &row
		what = append(what, row.CheckID+"="+row.Status)
	}
	if h.Token != "" {
		what = append(what, "by", h.Token)
	}
	c.log = append(c.log, strings.Join(what, " "))
	return out, m, nil
}

func (c *catalog) deregister(_ context.Context, h rpc.Header, in *api.Deregistration) (out wire.Empty, m rpc.Meta, err error) {
	what := "delete " + in.ServiceID + in.CheckID
	if h.Token != "" {
		what += " by " + h.Token
	}
	c.log = append(c.log, what)
	delete(c.checks, in.CheckID)
	if in.ServiceID == "" {
		return out, m, nil
	}
	delete(c.services, in.ServiceID)
	maps.DeleteFunc(c.checks, func(_ string, check *api.HealthCheck) bool { return check.ServiceID == in.ServiceID })
	return out, m, nil
}

// edit changes the catalog behind the agent's back.
func (c *catalog) edit(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// writes returns the writes since the last time, sorted.
func (c *catalog) writes() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Sorted(slices.Values(c.log))
	c.log = nil
	return all
}

func (c *catalog) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := c.writes(); !slices.Equal(got, want) {
		t.Errorf("got the writes\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// down makes every request fail as without servers.
func (c *catalog) down() {
	c.edit(func() { c.fail = func(*rpc.Request) error { return api.Known(api.NoServers, nil) } })
}

func (c *catalog) up() { c.edit(func() { c.fail, c.lose = nil, nil }) }

// newAgent makes an agent with a fixed pause of a minute between comparisons.
func newAgent(t testing.TB, c *catalog, change ...func(*Config)) *Agent {
	t.Helper()
	return newLoggingAgent(t, c, io.Discard, change...)
}

func newLoggingAgent(t testing.TB, c *catalog, log io.Writer, change ...func(*Config)) *Agent {
	t.Helper()
	cfg := Config{
		Node: "n1", NodeID: "id1", Datacenter: "dc1", Address: "10.0.0.1",
		TaggedAddresses: map[string]string{"lan": "10.0.0.1"}, Meta: map[string]string{"rack": "a"},
		Caller: c, Log: slog.New(slog.NewTextHandler(log, nil)),
	}
	for _, f := range change {
		f(&cfg)
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// start runs an agent until the test ends or stop is called, which waits for it.
func start(t *testing.T, a *Agent) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	synctest.Wait()
	return stop
}

// advance moves the clock of a bubble and lets all that follows happen.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ttlCheck() api.CheckType {
	return api.CheckType{TTL: api.Duration(1000 * time.Hour), Status: api.Passing}
}

func web() api.ServiceDefinition {
	return api.ServiceDefinition{ID: "web1", Name: "web", Tags: []string{"v1"}, Port: 80, Check: ttlCheck()}
}

// expectSame checks that the catalog has what the agent has, and nothing else but
// what servers own.
func expectSame(t *testing.T, a *Agent, c *catalog) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	services, all := a.Services(), a.Checks()
	for id, s := range c.services {
		if id != api.ConsulService && (services[id] == nil || !sameService(services[id], s)) {
			t.Errorf("service %s: catalog has %+v, agent %+v", id, s, services[id])
		}
		delete(services, id)
	}
	for id, check := range c.checks {
		if id != api.SerfHealth && (all[id] == nil || !sameCheck(all[id], check, false)) {
			t.Errorf("check %s: catalog has %+v, agent %+v", id, check, all[id])
		}
		delete(all, id)
	}
	if len(services)+len(all) > 0 {
		t.Errorf("catalog lacks %v %v", slices.Collect(maps.Keys(services)), slices.Collect(maps.Keys(all)))
	}
	want := fmt.Sprint("id1 10.0.0.1 ", a.node.tagged, a.node.meta)
	if c.node == nil || fmt.Sprint(c.node.ID, " ", c.node.Address, " ", c.node.TaggedAddresses, c.node.Meta) != want {
		t.Errorf("catalog has the node %+v, want %s", c.node, want)
	}
}
