package dns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// servers are a fake of the servers of all datacenters.
type servers struct {
	mu      sync.Mutex
	index   uint64
	changed chan struct{} // closed at each change
	data    map[string]*catalogOf

	calls atomic.Int64
	last  atomic.Pointer[rpc.Request]
	hang  string // the datacenter that does not answer
	err   error
	stale time.Duration
}

type catalogOf struct {
	nodes     []*api.Node
	instances []*api.Instance
}

// newServers returns servers with the catalog of the tests.
func newServers(t testing.TB) *servers {
	t.Helper()
	s := &servers{index: 10, changed: make(chan struct{}), data: map[string]*catalogOf{}}
	for _, dc := range []string{"dc1", "dc2"} {
		addr := map[string]string{"dc1": "127.61.0.1", "dc2": "127.61.0.2"}[dc]
		s.register(&api.Registration{
			Datacenter: dc, Node: "srv-" + dc, Address: addr, NodeMeta: map[string]string{"consul-network-segment": "", "consul-version": "1.16.4"},
			TaggedAddresses: map[string]string{"lan": addr, "lan_ipv4": addr, "wan": addr, "wan_ipv4": addr},
			Service:         &api.NodeService{ID: "consul", Service: "consul", Port: 8300},
		})
	}
	for _, raw := range catalog(t) {
		var one api.Registration
		if err := json.Unmarshal(raw, &one); err != nil {
			t.Fatal(err)
		}
		s.register(&one)
	}
	return s
}

func (s *servers) register(one *api.Registration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one.Datacenter == "" {
		one.Datacenter = "dc1"
	}
	c := s.data[one.Datacenter]
	if c == nil {
		c = &catalogOf{}
		s.data[one.Datacenter] = c
	}
	i := slices.IndexFunc(c.nodes, func(n *api.Node) bool { return n.Node == one.Node })
	if i < 0 {
		i = len(c.nodes)
		c.nodes = append(c.nodes, &api.Node{Node: one.Node, Address: one.Address, Meta: one.NodeMeta, TaggedAddresses: one.TaggedAddresses})
	}
	checks := one.Checks
	if one.Check != nil {
		checks = append(checks, one.Check)
	}
	if one.Service != nil {
		if one.Service.Weights == nil {
			one.Service.Weights = &api.Weights{Passing: 1, Warning: 1}
		}
		c.instances = append(c.instances, &api.Instance{CheckServiceNode: api.CheckServiceNode{Node: c.nodes[i], Service: one.Service, Checks: checks}})
	}
	s.index++
	close(s.changed)
	s.changed = make(chan struct{})
}

// remove takes the instances of a service away.
func (s *servers) remove(dc, service string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.data[dc]
	c.instances = slices.DeleteFunc(slices.Clone(c.instances), func(one *api.Instance) bool { return one.Service.Service == service })
	s.index++
	close(s.changed)
	s.changed = make(chan struct{})
}

// Call implements rpc.Caller.
func (s *servers) Call(ctx context.Context, r *rpc.Request) (rpc.Meta, error) {
	s.calls.Add(1)
	s.last.Store(r)
	if s.hang != "" && r.Header.Datacenter == s.hang {
		<-ctx.Done()
		return rpc.Meta{}, ctx.Err()
	}
	if s.err != nil {
		return rpc.Meta{}, s.err
	}
	for {
		s.mu.Lock()
		index, changed := s.index, s.changed
		s.mu.Unlock()
		if r.Header.MinIndex < index {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return rpc.Meta{}, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.data[r.Header.Datacenter]
	if c == nil {
		return rpc.Meta{}, api.Known(api.NoPath, nil)
	}
	meta := rpc.Meta{Index: s.index, KnownLeader: true}
	if r.Header.AllowStale {
		meta.LastContact = s.stale
	}
	return meta, c.answer(r)
}

func (c *catalogOf) answer(r *rpc.Request) error {
	switch r.Name {
	case wire.CatalogNodes.Name:
		*r.Out.(*[]*api.Node) = slices.Clone(c.nodes)
	case wire.CatalogNodeServiceList.Name:
		in := r.In.(*wire.NodeQuery)
		for _, n := range c.nodes {
			if strings.EqualFold(n.Node, in.Node) {
				r.Out.(*api.NodeServiceList).Node = n
			}
		}
	case wire.CatalogServiceNodes.Name:
		in := r.In.(*wire.ServiceQuery)
		for _, one := range c.instances {
			if one.Service.Address == in.ServiceAddress {
				*r.Out.(*[]*api.ServiceNode) = append(*r.Out.(*[]*api.ServiceNode), &api.ServiceNode{ServiceName: one.Service.Service, ServiceAddress: one.Service.Address})
			}
		}
	case wire.HealthServiceNodes.Name:
		in := r.In.(*wire.ServiceQuery)
		for _, one := range c.instances {
			name := one.Service.Service
			if in.Connect {
				name = one.Service.Proxy.DestinationServiceName
			}
			if strings.EqualFold(name, in.ServiceName) && hasTags(one.Service.Tags, in.Tags()) {
				*r.Out.(*[]*api.Instance) = append(*r.Out.(*[]*api.Instance), one)
			}
		}
	default:
		return fmt.Errorf("unexpected call of %s", r.Name)
	}
	return nil
}

func hasTags(tags, want []string) bool {
	for _, tag := range want {
		if !slices.ContainsFunc(tags, func(t string) bool { return strings.EqualFold(t, tag) }) {
			return false
		}
	}
	return true
}

// usual are the settings that nobody has changed.
func usual() Settings {
	return Settings{
		AllowStale: true, MaxStale: 87600 * time.Hour, UDPAnswerLimit: 3, NodeMetaTXT: true,
		SOA: SOA{Refresh: 3600, Retry: 600, Expire: 86400}, RecursorTimeout: 2 * time.Second,
	}
}

func config(caller rpc.Caller) Config {
	return Config{Datacenter: "dc1", Domain: "consul.", Caller: caller, Settings: usual(), Log: slog.New(slog.DiscardHandler)}
}

// serve serves a front over UDP and TCP on one port until the test ends.
func serve(t testing.TB, f *Front) string {
	t.Helper()
	conn, ln := bothPorts(t)
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	for _, run := range []func() error{
		func() error { return f.ServeUDP(ctx, conn.(*net.UDPConn)) },
		func() error { return f.ServeTCP(ctx, ln) },
		func() error { return f.Run(ctx) },
	} {
		parts.Go(func() {
			if err := run(); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		parts.Wait()
	})
	return conn.LocalAddr().String()
}
