package cli

import (
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

const (
	movesEach  = 42 // changes of an address in an iteration
	moveLimit  = 30 * time.Second
	firstMoved = 100 // last byte of the first of the addresses between which gateways move
	placesEach = 10
)

// BenchmarkGatewayMoves changes the WAN address of a gateway with its agent, in each
// datacenter in turn, and measures the time until the Envoys of both others lead to
// the new one. The gateways listen everywhere, so each change is a true one.
func BenchmarkGatewayMoves(b *testing.B) {
	r := startIsolated(b, 3, []string{
		"dc1-server-1", "dc1-gateway-1", "dc2-server-1", "dc2-gateway-1", "dc3-server-1", "dc3-gateway-1",
	}, func(n *demoNode, _, newest string) {
		n.envoy, n.flags = newest, []string{"-bind-address", "all=0.0.0.0:" + strconv.Itoa(demoGatewayPort)}
	})
	gateways := r.gateways("")
	places := map[*demoNode][]netip.Addr{}
	for i, g := range gateways {
		for k := range placesEach {
			addr := lastByte(g.wan, firstMoved+placesEach*i+k)
			r.addWAN(g, addr)
			places[g] = append(places[g], addr)
		}
	}
	r.within(time.Now(), settleLimit, "all know all gateways", func() bool { return r.settled(b.Context()) })
	var took []time.Duration
	for b.Loop() {
		for i := range movesEach {
			g := gateways[i%len(gateways)]
			took = append(took, r.moveTo(g, places[g][i/len(gateways)%placesEach]))
		}
	}
	r.within(time.Now(), settleLimit, "all know all gateways", func() bool { return r.settled(b.Context()) })
	r.nothingStraight()
	slices.Sort(took)
	at := func(share float64) float64 {
		return float64(took[min(len(took)-1, int(share*float64(len(took))))].Microseconds()) / 1000
	}
	b.ReportMetric(at(0.5), "ms/median")
	b.ReportMetric(at(0.99), "ms/p99")
	b.ReportMetric(at(1), "ms/max")
	b.ReportMetric(float64(len(took)), "moves")
	b.ReportMetric(0, "ns/op")
}

// moveTo tells the agent of a gateway that it is at another address now, and returns
// the time until the Envoys of the other datacenters lead there.
func (r *isolatedRun) moveTo(g *demoNode, addr netip.Addr) time.Duration {
	r.tb.Helper()
	g.wan = addr
	reg := meshGatewayService{
		ID: g.name, Name: "mesh-gateway", ExposeServers: true, DeregisterAfter: "6h",
		LAN: consul.ServiceAddress{Address: g.lan.String(), Port: demoGatewayPort},
		WAN: &consul.ServiceAddress{Address: addr.String(), Port: g.wanPort},
		Config: map[string]any{
			"envoy_gateway_bind_addresses":  map[string]any{"all": map[string]any{"Address": "0.0.0.0", "Port": demoGatewayPort}},
			"envoy_gateway_no_default_bind": true,
		},
	}.registration()
	begun := time.Now()
	if err := register(r.tb.Context(), r.clients[beside(g, r.nodes)].Agent(), reg, slog.New(slog.DiscardHandler)); err != nil {
		r.tb.Fatal(err)
	}
	return r.within(begun, moveLimit, "all Envoys lead to "+g.outside(), func() bool {
		return !slices.ContainsFunc(r.envoys(), func(e *demoNode) bool { return e.dc != g.dc && !r.leads(e, g.dc, g.outside()) })
	})
}
