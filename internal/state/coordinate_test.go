package state

import (
	"encoding/hex"
	"math"
	"slices"
	"testing"

	"isthmus/api"
)

func at(node string, vec ...float64) *api.NodeCoordinate {
	return &api.NodeCoordinate{Node: node, Coord: &api.NetworkCoordinate{Vec: vec, Error: 1.5, Height: 0.00001}}
}

// applied returns a state in which the nodes and coordinates are.
func applied(t *testing.T, nodes []string, all ...*api.NodeCoordinate) *State {
	t.Helper()
	s := New()
	for i, name := range nodes {
		entry, err := Register.Entry("dc1", &api.Registration{Node: name, Address: "192.0.2.1"})
		if err != nil {
			t.Fatal(err)
		}
		s.Apply(uint64(i)+2, entry)
	}
	entry, err := CoordinateUpdate.Entry("dc1", &all)
	if err != nil {
		t.Fatal(err)
	}
	s.Apply(10, entry)
	return s
}

// TestCoordinatesStandInTheLogAsInTheProtocol has the bytes of an entry: the type
// and the bare list.
func TestCoordinatesStandInTheLogAsInTheProtocol(t *testing.T) {
	in := []*api.NodeCoordinate{at("n1", 0, 1)}
	entry, err := CoordinateUpdate.Entry("dc1", &in)
	if err != nil {
		t.Fatal(err)
	}
	want := "069184a5436f6f726484aa41646a7573746d656e74cb0000000000000000a54572726f72cb3ff8000000000000a6486569676874cb3ee4f8b588e368f1" +
		"a356656392cb0000000000000000cb3ff0000000000000a44e6f6465a26e31a9506172746974696f6ea0a75365676d656e74a0"
	if got := hex.EncodeToString(entry); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestCoordinatesOfUnknownNodesAreNotKept(t *testing.T) {
	s := applied(t, []string{"n1"}, at("N1", 1), at("none", 2))
	if got := slices.Collect(Coordinates(s.Read())); len(got) != 1 || got[0].Node != "N1" {
		t.Errorf("got %+v", got)
	}
}

func TestCoordinatesGoWithTheirNodeAndOnlyChangesCount(t *testing.T) {
	s := applied(t, []string{"n1", "n11"}, at("n1", 1), at("n11", 2))
	index := func() uint64 {
		tx := s.Read()
		for range Coordinates(tx) {
			continue
		}
		return tx.Index()
	}
	before := index()
	same := []*api.NodeCoordinate{at("n1", 1)}
	entry, _ := CoordinateUpdate.Entry("dc1", &same)
	s.Apply(11, entry)
	if index() != before {
		t.Error("the same coordinate counts as a change")
	}
	entry, _ = Deregister.Entry("dc1", &api.Deregistration{Node: "n1"})
	s.Apply(12, entry)
	if got := slices.Collect(Coordinates(s.Read())); len(got) != 1 || got[0].Node != "n11" || index() != 12 {
		t.Errorf("got %+v at %d", got, index())
	}
}

func TestDistancesAreThoseOfTheCoordinates(t *testing.T) {
	far := at("far", 3, 4)
	adjusted := at("adjusted", 3, 4)
	adjusted.Coord.Adjustment = -1
	below := at("below", 0.001, 0)
	below.Coord.Adjustment = -1
	other := at("other", 1, 1)
	other.Segment = "s"
	nodes := []string{"here", "far", "adjusted", "below", "other", "odd", "nowhere"}
	s := applied(t, nodes, at("here", 0, 0), far, adjusted, below, other, at("odd", 1))
	distance := Distances(s.Read(), "Here", "")
	for node, want := range map[string]float64{
		"far": 5.00002, "adjusted": 4.00002, "below": 0.00102, "here": 0.00002, "nowhere": math.Inf(1), "other": math.Inf(1), "odd": math.Inf(1),
	} {
		if got := distance(node); got != want && math.Abs(got-want) > 1e-9 {
			t.Errorf("%s: got %v, want %v", node, got, want)
		}
	}
	if Distances(s.Read(), "nowhere", "") != nil {
		t.Error("there are distances from a node that is nowhere")
	}
}

func TestConnectFindsSidecarsAndNativeInstances(t *testing.T) {
	s := New()
	for i, svc := range []*api.NodeService{
		{ID: "web", Service: "web"},
		{ID: "p", Service: "web-sidecar-proxy", Kind: api.ConnectProxy, Proxy: api.ConnectProxyConfig{DestinationServiceName: "Web"}},
		{ID: "n", Service: "web", Connect: api.ServiceConnect{Native: true}},
		{ID: "o", Service: "o", Kind: api.ConnectProxy, Proxy: api.ConnectProxyConfig{DestinationServiceName: "api"}},
	} {
		entry, err := Register.Entry("dc1", &api.Registration{Node: "n1", Address: "192.0.2.1", Service: svc})
		if err != nil {
			t.Fatal(err)
		}
		s.Apply(uint64(i)+2, entry)
	}
	var ids, rows []string
	for c := range ConnectInstances(s.Read(), "web") {
		ids = append(ids, c.Service.ID)
	}
	for n := range ConnectNodes(s.Read(), "WEB") {
		rows = append(rows, n.ServiceID)
	}
	if want := []string{"n", "p"}; !slices.Equal(ids, want) || !slices.Equal(rows, want) {
		t.Errorf("got %v and %v, want %v", ids, rows, want)
	}
}
