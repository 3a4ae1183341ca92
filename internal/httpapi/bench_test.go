package httpapi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"testing"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/testkit"
	"isthmus/internal/wire"
)

// discard is a writer of answers that keeps nothing.
type discard struct {
	h http.Header
	n int
}

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { d.n += len(p); return len(p), nil }

func benchmark(b *testing.B, servers rpc.Caller, target string) {
	b.Helper()
	a := New(config(servers))
	r := httptest.NewRequest(http.MethodGet, target, nil)
	b.ReportAllocs()
	w := &discard{h: http.Header{}}
	for b.Loop() {
		clear(w.h)
		w.n = 0
		a.ServeHTTP(w, r)
	}
	b.ReportMetric(float64(w.n), "bytes/answer")
}

func BenchmarkKVGet(b *testing.B) {
	f := fakeCaller{}
	e := []*api.KVPair{{Key: "some/key", Value: make([]byte, 100), RaftIndex: api.RaftIndex{CreateIndex: 5, ModifyIndex: 9}}}
	on(f, wire.KVGet, func(rpc.Header, *wire.KeyQuery) ([]*api.KVPair, rpc.Meta, error) {
		return e, rpc.Meta{Index: 9, KnownLeader: true}, nil
	})
	benchmark(b, f, "/v1/kv/some/key")
}

func BenchmarkHealthService(b *testing.B) {
	var all []*api.Instance
	for i := range 100 {
		all = append(all, instance(i))
	}
	f := fakeCaller{}
	on(f, wire.HealthServiceNodes, func(rpc.Header, *wire.ServiceQuery) ([]*api.Instance, rpc.Meta, error) {
		return all, rpc.Meta{Index: 9, KnownLeader: true}, nil
	})
	benchmark(b, f, "/v1/health/service/web?passing")
}

// instance is an instance as a real catalog has it.
func instance(i int) *api.Instance {
	node, id := fmt.Sprintf("node-%d", i), fmt.Sprintf("web-%d", i)
	return &api.Instance{CheckServiceNode: api.CheckServiceNode{
		Node: &api.Node{
			ID: "92680956-e46a-ce03-2203-27b297f6fc37", Node: node, Address: "10.0.0.1", Datacenter: "dc1",
			TaggedAddresses: map[string]string{"lan": "10.0.0.1", "wan": "10.0.0.1", "lan_ipv4": "10.0.0.1", "wan_ipv4": "10.0.0.1"},
			Meta:            map[string]string{"consul-network-segment": "", "consul-version": "1.16.4"},
		},
		Service: &api.NodeService{
			ID: id, Service: "web", Tags: []string{"v1", "blue"}, Port: 8080, Meta: map[string]string{"version": "1"},
			Weights: &api.Weights{Passing: 1, Warning: 1}, Address: "10.0.0.1",
		},
		Checks: []*api.HealthCheck{
			{Node: node, CheckID: "serfHealth", Name: "Serf Health Status", Status: "passing", Output: "Agent alive and reachable", ServiceTags: []string{}},
			{Node: node, CheckID: "service:" + id, Name: "Service 'web' check", Status: "passing", Output: "HTTP GET http://10.0.0.1:8080/health: 200 OK Output: ok", ServiceID: id, ServiceName: "web", ServiceTags: []string{"v1", "blue"}, Type: "http", Interval: "10s"},
		},
	}}
}

// BenchmarkFilteredHealth asks a server with 100 instances for all of them, for half
// and for one.
func BenchmarkFilteredHealth(b *testing.B) {
	servers := testkit.NewServer(b)
	for i := range 100 {
		c := instance(i)
		c.Service.Meta["half"] = strconv.Itoa(i % 2)
		in := api.Registration{
			Node: c.Node.Node, Address: c.Node.Address, TaggedAddresses: c.Node.TaggedAddresses, NodeMeta: c.Node.Meta,
			Service: c.Service, Checks: c.Checks,
		}
		if _, _, err := wire.CatalogRegister.Call(b.Context(), servers, rpc.Header{}, in); err != nil {
			b.Fatal(err)
		}
	}
	for name, filter := range map[string]string{"none": "", "all": `"v1" in Service.Tags`, "half": "Service.Meta.half == 1", "one": `Node.Node == "node-7"`} {
		b.Run(name, func(b *testing.B) {
			benchmark(b, servers, "/v1/health/service/web?filter="+url.QueryEscape(filter))
		})
	}
}
