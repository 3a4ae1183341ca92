package server_test

import (
	"reflect"
	"testing"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/testkit"
	"isthmus/internal/wire"
)

// TestOverviewCountsByState: nodes by their own checks alone, instances by all of
// theirs, checks each by itself. The reference counts so too, every half minute.
func TestOverviewCountsByState(t *testing.T) {
	s := testkit.NewServer(t)
	register := func(node, service string, checks ...*api.HealthCheck) {
		t.Helper()
		in := api.Registration{Node: node, Address: "192.0.2.1", Checks: checks}
		if service != "" {
			in.Service = &api.NodeService{Service: service}
		}
		if _, _, err := wire.CatalogRegister.Call(t.Context(), s, rpc.Header{}, in); err != nil {
			t.Fatal(err)
		}
	}
	before, _, err := wire.CatalogOverview.Call(t.Context(), s, rpc.Header{}, wire.DCQuery{})
	if err != nil {
		t.Fatal(err)
	}
	register("n1", "web", &api.HealthCheck{Name: "c", ServiceID: "web", Status: api.Critical})
	register("n2", "web", &api.HealthCheck{Name: "c", ServiceID: "web", Status: api.Passing})
	register("n3", "db", &api.HealthCheck{Name: "disk", Status: api.Warning})
	register("n4", "")
	got, _, err := wire.CatalogOverview.Call(t.Context(), s, rpc.Header{}, wire.DCQuery{})
	if err != nil {
		t.Fatal(err)
	}
	want := wire.CatalogSummary{
		Nodes: []wire.HealthSummary{{Total: 4, Passing: 3, Warning: 1}},
		Services: []wire.HealthSummary{
			{Name: "db", Total: 1, Warning: 1}, {Name: "web", Total: 2, Passing: 1, Critical: 1},
		},
		Checks: []wire.HealthSummary{{Name: "c", Total: 2, Passing: 1, Critical: 1}, {Name: "disk", Total: 1, Warning: 1}},
	}
	if len(before.Nodes)+len(before.Services)+len(before.Checks) > 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, then %+v, want nothing and %+v", before, got, want)
	}
}
