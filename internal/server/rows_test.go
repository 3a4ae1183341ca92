package server_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/testkit"
	"isthmus/internal/wire"
)

func putCoordinate(t *testing.T, c rpc.Caller, node string, where float64) error {
	t.Helper()
	in := wire.CoordinateRequest{Node: node, Coord: &api.NetworkCoordinate{Vec: []float64{where, 0, 0, 0, 0, 0, 0, 0}, Error: 1.5}}
	_, _, err := wire.CoordinateUpdate.Call(t.Context(), c, rpc.Header{}, in)
	return err
}

func nodesOf[T any](rows []T, node func(T) string) string {
	names := make([]string, len(rows))
	for i, row := range rows {
		names[i] = node(row)
	}
	return strings.Join(names, " ")
}

// TestPeersMayFilterAndSort calls every method as another agent does: with a
// filter in the header and where it is in the argument.
func TestPeersMayFilterAndSort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testkit.NewServer(t)
		synctest.Wait() // it leads
		for i, node := range []string{"n1", "n2", "n3", "n4"} {
			register(t, c, node, "web", 80+i)
		}
		for node, where := range map[string]float64{"n1": 3, "n2": 1, "n3": 2} {
			if err := putCoordinate(t, c, node, where); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(6 * time.Second) // until they are written

		near := wire.Source{Datacenter: "dc1", Node: "n2"}
		ctx := t.Context()
		for expression, want := range map[string]string{
			"Node != n4":            "n2 n3 n1",
			`Node matches "[1234]"`: "n2 n3 n1 n4",
			"Node == none":          "",
		} {
			h := rpc.Header{Filter: expression}
			nodes, _, err := wire.CatalogNodes.Call(ctx, c, h, wire.DCQuery{Source: near})
			if got := nodesOf(nodes, func(n *api.Node) string { return n.Node }); got != want || err != nil {
				t.Errorf("nodes %s: got %q, %v, want %q", expression, got, err, want)
			}
			rows, _, err := wire.CatalogServiceNodes.Call(ctx, c, h, wire.ServiceQuery{ServiceName: "web", Source: near})
			if got := nodesOf(rows, func(n *api.ServiceNode) string { return n.Node }); got != want || err != nil {
				t.Errorf("service nodes %s: got %q, %v, want %q", expression, got, err, want)
			}
			checks, _, err := wire.HealthServiceChecks.Call(ctx, c, h, wire.ServiceQuery{ServiceName: "web", Source: near})
			if got := nodesOf(checks, func(n *api.HealthCheck) string { return n.Node }); got != want || err != nil {
				t.Errorf("checks %s: got %q, %v, want %q", expression, got, err, want)
			}
			checks, _, err = wire.HealthChecksInState.Call(ctx, c, h, wire.StateQuery{State: api.Any, Source: near})
			if got := nodesOf(checks, func(n *api.HealthCheck) string { return n.Node }); got != want || err != nil {
				t.Errorf("checks in a state %s: got %q, %v, want %q", expression, got, err, want)
			}
			h.Filter = strings.ReplaceAll(expression, "Node ", "Node.Node ")
			instances, _, err := wire.HealthServiceNodes.Call(ctx, c, h, wire.ServiceQuery{ServiceName: "web", Source: near})
			if got := nodesOf(instances, func(n *api.Instance) string { return n.Node.Node }); got != want || err != nil {
				t.Errorf("health %s: got %q, %v, want %q", expression, got, err, want)
			}
		}
		for what, from := range map[string]wire.Source{
			"of another datacenter": {Datacenter: "dc2", Node: "n2"}, "that is nowhere": {Datacenter: "dc1", Node: "n4"},
			"that is unknown": {Datacenter: "dc1", Node: "none"},
		} {
			nodes, _, err := wire.CatalogNodes.Call(ctx, c, rpc.Header{}, wire.DCQuery{Source: from})
			if got := nodesOf(nodes, func(n *api.Node) string { return n.Node }); got != "n1 n2 n3 n4" || err != nil {
				t.Errorf("near a node %s: got %q, %v", what, got, err)
			}
		}
	})
}

// TestFilterErrorsComeAtOnce has a blocking read with a wrong expression.
func TestFilterErrorsComeAtOnce(t *testing.T) {
	c := testkit.NewServer(t)
	register(t, c, "n1", "web", 80)
	h := rpc.Header{Filter: "Foo == 1", MinIndex: 1 << 40, MaxWait: time.Hour}
	_, _, err := wire.CatalogNodes.Call(t.Context(), c, h, wire.DCQuery{})
	if err == nil || err.Error() != `Failed to create boolean expression evaluator: Selector "Foo" is not valid` {
		t.Errorf("got %v", err)
	}
	h = rpc.Header{Filter: "Foo == 1"}
	if _, _, err := wire.KVList.Call(t.Context(), c, h, wire.KeyQuery{}); err != nil {
		t.Errorf("keys have no filters, which are passed over: %v", err)
	}
}

func TestFilteredReadWakesWhenItsAnswerMayChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testkit.NewServer(t)
		for _, node := range []string{"n1", "n2"} { // of the node, as an agent has one
			in := api.Registration{Node: node, Address: "192.0.2.7", Check: &api.HealthCheck{CheckID: "node", Status: api.Passing}}
			if _, _, err := wire.CatalogRegister.Call(t.Context(), c, rpc.Header{}, in); err != nil {
				t.Fatal(err)
			}
		}
		seen := register(t, c, "n1", "web", 80)
		woke := make(chan int, 1)
		go func() {
			h := rpc.Header{MinIndex: seen, MaxWait: time.Hour, Filter: "Service.Port == 81"}
			got, _, err := wire.HealthServiceNodes.Call(t.Context(), c, h, wire.ServiceQuery{ServiceName: "web"})
			if err != nil {
				t.Error(err)
			}
			woke <- len(got)
		}()
		synctest.Wait() // the read is parked
		register(t, c, "n2", "api", 81)
		synctest.Wait()
		if len(woke) > 0 {
			t.Fatal("woke by another service")
		}
		register(t, c, "n1", "web", 81)
		if got := <-woke; got != 1 {
			t.Errorf("got %d instances, want 1", got)
		}
	})
}

func TestCoordinatesAreWrittenInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testkit.NewServer(t)
		synctest.Wait() // it leads
		const nodes = 300
		for i := range nodes {
			register(t, c, fmt.Sprintf("n%d", i), "web", 80)
			if err := putCoordinate(t, c, fmt.Sprintf("n%d", i), float64(i)); err != nil {
				t.Fatal(err)
			}
		}
		all := func() ([]*api.NodeCoordinate, rpc.Meta) {
			got, meta, err := wire.CoordinateNodes.Call(t.Context(), c, rpc.Header{}, wire.DCQuery{})
			if err != nil {
				t.Fatal(err)
			}
			return got, meta
		}
		if got, _ := all(); len(got) != 0 {
			t.Errorf("%d are written before the period is over", len(got))
		}
		last := register(t, c, "last", "web", 80)
		time.Sleep(5*time.Second + time.Millisecond)
		synctest.Wait()
		got, meta := all()
		if len(got) != nodes || meta.Index != last+3 {
			t.Errorf("got %d coordinates at index %d, want %d in three entries after %d", len(got), meta.Index, nodes, last)
		}
		one, _, err := wire.CoordinateNode.Call(t.Context(), c, rpc.Header{}, wire.NodeQuery{Node: "N7"})
		if err != nil || len(one) != 1 || one[0].Coord.Vec[0] != 7 {
			t.Errorf("got %+v, %v", one, err)
		}
	})
}

// TestCoordinatesAreChecked has what a peer may send by mistake; without a coordinate the
// reference's servers end.
func TestCoordinatesAreChecked(t *testing.T) {
	c := testkit.NewServer(t)
	for want, in := range map[string]wire.CoordinateRequest{
		"Must provide node":       {Coord: &api.NetworkCoordinate{Vec: make([]float64, 8)}},
		"invalid coordinate":      {Node: "n1"},
		"incompatible coordinate": {Node: "n1", Coord: &api.NetworkCoordinate{Vec: []float64{1}}},
	} {
		if _, _, err := wire.CoordinateUpdate.Call(t.Context(), c, rpc.Header{}, in); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if err := putCoordinate(t, c, "n1", math.NaN()); err == nil || err.Error() != "invalid coordinate" {
		t.Errorf("not a number: got %v", err)
	}
}

func TestAnswersThatArePrepared(t *testing.T) {
	c := testkit.NewServer(t)
	services, meta, err := wire.CatalogGatewayServices.Call(t.Context(), c, rpc.Header{}, wire.ServiceQuery{ServiceName: "gw"})
	if services == nil || len(services) != 0 || meta.Index == 0 || err != nil {
		t.Errorf("gateway services: got %v at %d, %v", services, meta.Index, err)
	}
	gateways, meta, err := wire.HealthServiceNodes.Call(t.Context(), c, rpc.Header{}, wire.ServiceQuery{ServiceName: "web", Ingress: true})
	if gateways == nil || len(gateways) != 0 || meta.Index == 0 || err != nil {
		t.Errorf("ingress: got %v at %d, %v", gateways, meta.Index, err)
	}
}

// TestInstancesAreFoundAsDNSAsks looks up by address, for a reverse lookup, and by a
// tag in another case.
func TestInstancesAreFoundAsDNSAsks(t *testing.T) {
	c := testkit.NewServer(t)
	for id, address := range map[string]string{"web1": "192.0.2.81", "web2": "192.0.2.82"} {
		_, _, err := wire.CatalogRegister.Call(t.Context(), c, rpc.Header{}, api.Registration{
			Node: "n1", Address: "192.0.2.7", Service: &api.NodeService{ID: id, Service: "web", Address: address, Tags: []string{"Blue", id}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, in := range map[string]wire.ServiceQuery{
		"by address": {ServiceAddress: "192.0.2.82"},
		"by tag":     {ServiceName: "web", ServiceTags: []string{"blue", "WEB2"}, TagFilter: true},
	} {
		got, _, err := wire.CatalogServiceNodes.Call(t.Context(), c, rpc.Header{}, in)
		if err != nil || len(got) != 1 || got[0].ServiceID != "web2" {
			t.Errorf("%s: got %d instances, %v; want web2", name, len(got), err)
		}
	}
}
