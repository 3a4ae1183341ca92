package federation

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
)

var quiet = slog.New(slog.DiscardHandler)

// gateway is a registered mesh gateway.
func gateway(addr string, edit ...func(*api.CheckServiceNode)) api.CheckServiceNode {
	c := api.CheckServiceNode{
		Node: &api.Node{Node: "n", Address: "10.0.0.9", TaggedAddresses: map[string]string{"wan": "198.51.100.9"}},
		Service: &api.NodeService{
			Kind: api.MeshGateway, ID: addr, Service: api.MeshGateway, Address: addr, Port: 8443,
			Meta: map[string]string{api.FederationKey: "1"},
		},
		Checks: []*api.HealthCheck{{CheckID: "listening", Status: api.Passing}},
	}
	for _, e := range edit {
		e(&c)
	}
	return c
}

func wan(addr string, port int) func(*api.CheckServiceNode) {
	return func(c *api.CheckServiceNode) {
		c.Service.TaggedAddresses = map[string]api.ServiceAddress{"wan": {Address: addr, Port: port}}
	}
}

func TestAddressesOfGateways(t *testing.T) {
	for name, c := range map[string]struct {
		gateway  api.CheckServiceNode
		lan, wan string
	}{
		"service address":       {gateway("10.0.0.1"), "10.0.0.1:8443", "10.0.0.1:8443"},
		"tagged WAN address":    {gateway("10.0.0.1", wan("198.51.100.1", 443)), "10.0.0.1:8443", "198.51.100.1:443"},
		"tagged without a port": {gateway("10.0.0.1", wan("198.51.100.1", 0)), "10.0.0.1:8443", "198.51.100.1:8443"},
		"IPv6":                  {gateway("2001:db8::1", wan("2001:db8::2", 443)), "[2001:db8::1]:8443", "[2001:db8::2]:443"},
		"node's addresses":      {gateway(""), "10.0.0.9:8443", "198.51.100.9:8443"},
		"node without WAN":      {gateway("", func(c *api.CheckServiceNode) { c.Node.TaggedAddresses = nil }), "10.0.0.9:8443", "10.0.0.9:8443"},
	} {
		if got := LANAddress(&c.gateway); got != c.lan {
			t.Errorf("%s: LAN %s, want %s", name, got, c.lan)
		}
		if got := WANAddress(&c.gateway); got != c.wan {
			t.Errorf("%s: WAN %s, want %s", name, got, c.wan)
		}
	}
}

func states(list ...*api.FederationState) iter.Seq2[rpc.Update[[]*api.FederationState], error] {
	return func(yield func(rpc.Update[[]*api.FederationState], error) bool) {
		if yield(rpc.Update[[]*api.FederationState]{}, errors.New("not readable yet")) {
			yield(rpc.Update[[]*api.FederationState]{Out: list}, nil)
		}
	}
}

func TestStatesTellOfUsableGatewaysOnly(t *testing.T) {
	critical := func(c *api.CheckServiceNode) { c.Checks[0].Status = api.Critical }
	warning := func(c *api.CheckServiceNode) { c.Checks[0].Status = api.Warning }
	ordinary := func(c *api.CheckServiceNode) { c.Service.Meta = nil }
	src := FromStates(states(
		&api.FederationState{Datacenter: "dc1", MeshGateways: []api.CheckServiceNode{
			gateway("10.1.0.2", wan("198.51.100.2", 443), warning),
			gateway("10.1.0.1", wan("198.51.100.1", 443)),
			gateway("10.1.0.3", critical), gateway("10.1.0.4", ordinary),
		}},
		&api.FederationState{Datacenter: "dc2", MeshGateways: []api.CheckServiceNode{gateway("10.2.0.1", wan("198.51.100.7", 443))}},
		&api.FederationState{Datacenter: "dc3", MeshGateways: []api.CheckServiceNode{gateway("10.3.0.1")}},
	), "dc2", "dc1", quiet)
	want := Gateways{Own: []string{"10.2.0.1:8443"}, Primary: []string{"198.51.100.1:443", "198.51.100.2:443"}}
	if got := slices.Collect(src); len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestConfiguredGatewaysAreDiscoveredAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		answers := []struct {
			addrs []string
			err   error
		}{{addrs: []string{"198.51.100.1"}}, {err: errors.New("the cloud is silent")}, {addrs: []string{"198.51.100.1"}}, {addrs: []string{"198.51.100.2:443", "2001:db8::1"}}}
		asked := 0
		discover := func(context.Context, string) ([]string, error) {
			a := answers[min(asked, len(answers)-1)]
			asked++
			return a.addrs, a.err
		}
		var got []Gateways
		start := time.Now()
		for g := range Configured(ctx, []string{"literal:8443", "provider=x"}, 30*time.Second, discover, quiet) {
			if got = append(got, g); len(got) == 2 {
				cancel()
			}
		}
		want := []Gateways{{Primary: []string{"198.51.100.1:8443", "literal:8443"}}, {Primary: []string{"198.51.100.2:443", "[2001:db8::1]:8443", "literal:8443"}}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v: an answer that fails keeps the last one, and nothing new is not told", got, want)
		}
		if took := time.Since(start); took != 90*time.Second {
			t.Errorf("asked for %s, want an interval between two questions", took)
		}
	})
}

func TestGateOpensOnceAllServersSupportFederationStates(t *testing.T) {
	servers := map[string][]rpc.ServerInfo{"dc2": {{Name: "a", FedStates: true}}}
	stored := false
	g := Gate{
		Servers: func(dc string) []rpc.ServerInfo { return servers[dc] }, Stored: func() bool { return stored },
		Datacenters: []string{"dc2", "dc1"},
	}
	if g.Open() {
		t.Error("open although no server of the primary is known")
	}
	servers["dc1"] = []rpc.ServerInfo{{Name: "a", FedStates: true}, {Name: "old"}}
	if g.Open() {
		t.Error("open although a server of the primary is too old")
	}
	servers["dc1"] = servers["dc1"][:1]
	if !g.Open() {
		t.Error("closed although every server supports them")
	}
	servers["dc1"] = []rpc.ServerInfo{{Name: "old"}}
	if !g.Open() {
		t.Error("closed again")
	}
	stored = true
	if other := (Gate{Servers: g.Servers, Stored: g.Stored, Datacenters: g.Datacenters}); !other.Open() {
		t.Error("closed although a state is stored")
	}
}
