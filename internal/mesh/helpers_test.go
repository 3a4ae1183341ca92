package mesh

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"reflect"
	"sync"
	"testing"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// What a source is asked for.
const (
	askRoots       = "ConnectCA.Roots"
	askList        = "Catalog.ListDatacenters"
	askServers     = "Health.ServiceNodes consul"
	askStates      = "FederationState.ListMeshGateways"
	askServices    = "Internal.ServiceDump connect-proxy"
	askGatewaysOf2 = "Internal.ServiceDump mesh-gateway dc2"
	askGatewaysOf3 = "Internal.ServiceDump mesh-gateway dc3"
)

// source is a Caller without sockets. What it is not given it never answers, as
// one that hangs.
type source struct {
	mu      sync.Mutex
	index   uint64
	answers map[string]answered
	changed chan struct{}
	calls   map[string]int // so far
	waiting map[string]int // at the moment
}

type answered struct {
	value any
	index uint64
	err   error
}

func newSource() *source {
	return &source{
		answers: map[string]answered{}, changed: make(chan struct{}), calls: map[string]int{}, waiting: map[string]int{}, index: 10,
	}
}

// complete is a source of a gateway that leads to one server, without other
// datacenters.
func complete() *source {
	s := newSource()
	s.set(askRoots, api.CARoots{TrustDomain: "1.consul"})
	s.set(askList, []string{"dc1"})
	s.set(askServers, servers(server("s1", "10.0.0.1")))
	s.set(askStates, map[string][]api.CheckServiceNode{})
	s.set(askServices, wire.DumpReply{})
	return s
}

func (s *source) put(what string, a answered) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[what] = a
	close(s.changed)
	s.changed = make(chan struct{})
}

// set changes an answer, at the next index.
func (s *source) set(what string, value any) {
	s.mu.Lock()
	s.index++
	index := s.index
	s.mu.Unlock()
	s.put(what, answered{value: value, index: index})
}

func (s *source) fail(what string, err error) { s.put(what, answered{err: err}) }

func (s *source) hang(what string) { s.put(what, answered{}) }

// clone copies one of the maps of a source.
func clone[V any](s *source, of map[string]V) map[string]V {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(of)
}

func servers(rows ...api.CheckServiceNode) []*api.Instance {
	var out []*api.Instance
	for _, c := range rows {
		out = append(out, &api.Instance{CheckServiceNode: c})
	}
	return out
}

func dumpReply(rows ...api.CheckServiceNode) wire.DumpReply { return wire.DumpReply{Nodes: rows} }

func (s *source) count(of map[string]int, what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return of[what]
}

func name(r *rpc.Request) string {
	switch in := r.In.(type) {
	case *wire.ServiceQuery:
		return r.Name + " " + in.ServiceName
	case *wire.DumpQuery:
		if r.Header.Datacenter != "" {
			return r.Name + " " + in.ServiceKind + " " + r.Header.Datacenter
		}
		return r.Name + " " + in.ServiceKind
	}
	return r.Name
}

func (s *source) Call(ctx context.Context, r *rpc.Request) (rpc.Meta, error) {
	if r.Header.Token != "secret" || !r.Header.AllowStale {
		return rpc.Meta{}, fmt.Errorf("header %+v", r.Header)
	}
	what := name(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[what]++
	s.waiting[what]++
	defer func() { s.waiting[what]-- }()
	for {
		a := s.answers[what]
		if a.err != nil {
			return rpc.Meta{}, a.err
		}
		if a.value != nil && (a.index == 0 || a.index != r.Header.MinIndex) {
			reflect.ValueOf(r.Out).Elem().Set(reflect.ValueOf(a.value))
			return rpc.Meta{Index: a.index}, nil
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-changed:
		}
		s.mu.Lock()
		if ctx.Err() != nil {
			return rpc.Meta{}, ctx.Err()
		}
	}
}

// running is a gateway that is followed.
type running struct {
	*source

	t         *testing.T
	proxies   chan *api.NodeService
	snapshots chan *Snapshot
}

// follow runs a gateway, which leads to servers, in the bubble of the test.
func follow(t *testing.T, s *source) *running {
	t.Helper()
	r := &running{source: s, t: t, proxies: make(chan *api.NodeService), snapshots: make(chan *Snapshot)}
	g := &Gateway{
		Datacenter: "dc1", Domain: "consul", Caller: s, Token: "secret", Log: slog.New(slog.DiscardHandler),
		Proxy: func(ctx context.Context) iter.Seq[*api.NodeService] {
			return func(yield func(*api.NodeService) bool) {
				for {
					select {
					case <-ctx.Done():
						return
					case p := <-r.proxies:
						if !yield(p) {
							return
						}
					}
				}
			}
		},
	}
	ctx := t.Context()
	go func() {
		defer close(r.snapshots)
		for snapshot := range g.Snapshots(ctx) {
			select {
			case r.snapshots <- snapshot:
			case <-ctx.Done():
			}
		}
	}()
	return r
}

// followed is a gateway with its first snapshot.
func followed(t *testing.T, s *source) (*running, *Snapshot) {
	t.Helper()
	r := follow(t, s)
	r.proxies <- gatewayProxy(true)
	return r, r.next()
}

// next returns the next snapshot, which must come within a second.
func (r *running) next() *Snapshot {
	r.t.Helper()
	select {
	case s := <-r.snapshots:
		return s
	case <-time.After(time.Second):
		r.t.Fatal("no snapshot came")
		return nil
	}
}

// none checks that no snapshot comes for some time.
func (r *running) none(d time.Duration) {
	r.t.Helper()
	select {
	case s := <-r.snapshots:
		r.t.Fatalf("unexpected snapshot %+v", s)
	case <-time.After(d):
	}
}

func gatewayProxy(exposes bool) *api.NodeService {
	p := &api.NodeService{Kind: api.MeshGateway, ID: "gw", Service: "mesh-gateway", Address: "10.0.0.9", Port: 8443}
	if exposes {
		p.Meta = map[string]string{api.FederationKey: "1"}
	}
	return p
}

func server(node, address string) api.CheckServiceNode {
	return api.CheckServiceNode{
		Node:    &api.Node{Node: node, Address: address},
		Service: &api.NodeService{ID: api.ConsulService, Service: api.ConsulService, Port: 8300, Weights: &api.Weights{Passing: 1, Warning: 1}},
	}
}

// gateway is one of another datacenter that was registered and last changed at
// indexes of its log.
func gateway(node, address string, created, modified uint64) api.CheckServiceNode {
	return api.CheckServiceNode{
		Node: &api.Node{Node: node, ID: "id-" + node, Address: "192.0.2.1", RaftIndex: api.RaftIndex{CreateIndex: 5, ModifyIndex: 5}},
		Service: &api.NodeService{
			Kind: api.MeshGateway, ID: "gw", Service: "mesh-gateway", Address: "10.0.0.1", Port: 8443,
			Meta:            map[string]string{api.FederationKey: "1"},
			TaggedAddresses: map[string]api.ServiceAddress{"wan": {Address: address, Port: 443}},
			RaftIndex:       api.RaftIndex{CreateIndex: created, ModifyIndex: modified},
		},
	}
}

func hosts(endpoints []Endpoint) []string {
	var out []string
	for _, e := range endpoints {
		out = append(out, e.Host)
	}
	return out
}

// remotes are the gateways' hosts by datacenter.
func remotes(s *Snapshot) map[string][]string {
	out := map[string][]string{}
	for _, r := range s.Remote {
		out[r.Datacenter] = hosts(r.Gateways)
	}
	return out
}

func (r *running) wantRemotes(s *Snapshot, want map[string][]string) {
	r.t.Helper()
	if got := remotes(s); !maps.EqualFunc(got, want, func(a, b []string) bool { return reflect.DeepEqual(a, b) }) {
		r.t.Errorf("got gateways %v, want %v", got, want)
	}
}
