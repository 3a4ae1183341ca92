package server_test

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
	"isthmus/internal/gossip"
	"isthmus/internal/rpc"
	"isthmus/internal/server"
	"isthmus/internal/state"
	"isthmus/internal/telemetry"
	"isthmus/internal/testkit"
	"isthmus/internal/wire"
)

// measured are the metrics of the process by name, with their labels.
func measured(t *testing.T) telemetry.Summary {
	t.Helper()
	m, err := telemetry.NewMetrics(telemetry.MetricsConfig{FilterDefault: true})
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.Summary()
	if err != nil {
		t.Fatal(err)
	}
	s, _ := out.(telemetry.Summary)
	return s
}

// TestServerMeasuresWhatThereIs: how much, how many members, and how the log is.
func TestServerMeasuresWhatThereIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, log := state.New(), slog.New(slog.DiscardHandler)
		fake := &testkit.FakeLog{State: st}
		var lan roster
		lan.set(
			gossip.Member{Name: "s1", Addr: netip.MustParseAddr("192.0.2.1"), Status: gossip.StatusAlive, Tags: map[string]string{"role": "consul", "id": "id"}},
			gossip.Member{Name: "c1", Addr: netip.MustParseAddr("192.0.2.2"), Status: gossip.StatusAlive, Tags: map[string]string{"role": "node"}},
			gossip.Member{Name: "c2", Addr: netip.MustParseAddr("192.0.2.3"), Status: gossip.StatusFailed, Tags: map[string]string{"role": "node"}},
		)
		s := server.New(server.Config{
			Datacenter: "measured", Primary: "measured", Node: "s1", ID: "id", Hold: time.Second, Log: log, Members: lan.list,
		}, st, fake, rpc.NewRouter("measured", rpc.NewPool(nil, time.Minute, log), log), nil)
		entry := testkit.Must(state.Register.Entry("measured", &api.Registration{
			Node: "n1", Address: "192.0.2.9", Service: &api.NodeService{ID: "web1", Service: "web", Port: 80},
		}))
		server.Measured(st, "measured").Apply(1, entry)
		entry = testkit.Must(state.KVApply.Entry("measured", &wire.KVRequest{Op: wire.KVSet, DirEnt: api.KVPair{Key: "a"}}))
		server.Measured(st, "measured").Apply(2, entry)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Measure(ctx) }()
		synctest.Wait()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		shown := measured(t)
		got := map[string]float64{}
		for _, g := range shown.Gauges {
			if dc, ok := g.Labels["datacenter"]; !ok || dc == "measured" && g.Labels["kind"] == "" {
				got[g.Name] = g.Value
			}
		}
		for name, want := range map[string]float64{
			"state.nodes": 1, "state.services": 1, "state.service_instances": 1, "state.kv_entries": 1,
			"members.servers": 1, "members.clients": 1, "server.isLeader": 1, "raft.last_index": 7,
			"autopilot.healthy": 1, "autopilot.failure_tolerance": 0,
		} {
			if v, ok := got[name]; !ok || v != want {
				t.Errorf("%s: got %v (%t), want %v", name, v, ok, want)
			}
		}
		ops := map[string]bool{}
		for _, one := range shown.Samples {
			ops[one.Name+one.Labels["op"]] = true
		}
		for _, want := range []string{"raft.fsm.apply", "fsm.register", "fsm.kvs" + string(wire.KVSet)} {
			if !ops[want] {
				t.Errorf("%s was not measured", want)
			}
		}
	})
}

// TestReadsOfServicesAreCounted: by name, form, tags, and whether there was any.
func TestReadsOfServicesAreCounted(t *testing.T) {
	s := testkit.NewServer(t)
	h := rpc.Header{AllowStale: true}
	read := func(in wire.ServiceQuery) {
		t.Helper()
		if _, _, err := wire.HealthServiceNodes.Call(t.Context(), s, h, in); err != nil {
			t.Fatal(err)
		}
	}
	read(wire.ServiceQuery{ServiceName: "counted", ServiceTags: []string{"b", "a"}, TagFilter: true})
	read(wire.ServiceQuery{ServiceName: "counted", Connect: true})
	if _, _, err := wire.CatalogServiceNodes.Call(t.Context(), s, h, wire.ServiceQuery{ServiceName: "counted"}); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, c := range measured(t).Counters {
		if c.Labels["service"] == "counted" {
			got[c.Name+c.Labels["tag"]] += c.Count
		}
	}
	want := map[string]int{
		"health.service.query": 1, "health.service.query-tagsa,b": 1, "health.service.not-found": 1,
		"health.connect.query": 1, "health.connect.not-found": 1,
		"catalog.service.query": 1, "catalog.service.not-found": 1,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
