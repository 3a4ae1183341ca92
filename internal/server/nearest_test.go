package server_test

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/server"
	"isthmus/internal/state"
	"isthmus/internal/testkit"
	"isthmus/internal/wire"
)

func TestDatacentersAreListedNearestFirst(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	router := rpc.NewRouter("dc3", rpc.NewPool(nil, time.Minute, log), log)
	away := map[string]float64{ // by member, in seconds; servers that are not here have no coordinate
		"a.dc3": 0,
		"a.dc1": 0.3, "b.dc1": 0.2, "c.dc1": 0.001, // the median counts
		"a.dc2": 0.1,
		"a.dc5": 0.2,
	}
	for _, member := range []string{"a.dc1", "b.dc1", "c.dc1", "a.dc2", "a.dc3", "a.dc4", "a.dc5"} {
		router.AddServer(rpc.ServerInfo{Datacenter: member[2:], Name: member[:1], ID: member, Addr: member + ":8300", Alive: true})
	}
	st := state.New()
	cfg := server.Config{Datacenter: "dc3", Primary: "dc3", Node: "a", ID: "a.dc3", Log: log}
	for _, known := range []bool{true, false} {
		want := []string{"dc3", "dc2", "dc1", "dc5", "dc4"}
		if !known {
			want = []string{"dc3", "dc1", "dc2", "dc4", "dc5"}
		}
		cfg.WANCoordinate = func(member string) (api.NetworkCoordinate, bool) {
			far, ok := away[member]
			return api.NetworkCoordinate{Vec: []float64{far, 0, 0, 0, 0, 0, 0, 0}}, ok && known
		}
		s := server.New(cfg, st, &testkit.FakeLog{State: st}, router, nil)
		got, _, err := wire.CatalogDatacenters.Call(t.Context(), s, rpc.Header{}, wire.Empty{})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("with coordinates %t: got %v, %v, want %v", known, got, err, want)
		}
	}
}
