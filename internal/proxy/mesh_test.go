package proxy

import (
	"slices"
	"strings"
	"testing"

	"isthmus/api"
	"isthmus/internal/mesh"
)

// meshSnapshot is one of a gateway that leads to servers, in a mesh.
func meshSnapshot() *mesh.Snapshot {
	at := func(node, host string, port int, healthy, servers bool) mesh.Endpoint {
		return mesh.Endpoint{Node: node, Host: host, Port: port, Healthy: healthy, Servers: servers}
	}
	return &mesh.Snapshot{
		Proxy:      &api.NodeService{Meta: map[string]string{api.FederationKey: "1"}},
		Datacenter: "dc1", Domain: "consul", TrustDomain: "1.consul",
		Servers: []mesh.Endpoint{
			at("Rack.7", "2001:db8::1", 8300, true, false), at("s1", "10.0.0.1", 8300, true, false), at("s2", "10.0.0.2", 8300, false, false),
		},
		Services: map[string][]mesh.Endpoint{
			"web":  {at("a", "10.0.1.1", 21000, true, false), at("b", "10.0.1.2", 21000, false, false)},
			"sick": {at("a", "10.0.1.1", 21001, false, false)},
		},
		Remote: []mesh.Remote{
			{Datacenter: "dc2", Gateways: []mesh.Endpoint{
				at("a", "gw.example", 443, true, true), at("b", "203.0.113.2", 443, true, true), at("c", "203.0.113.3", 443, false, true),
				at("d", "203.0.113.4", 443, true, false),
			}},
			{Datacenter: "dc3", Gateways: []mesh.Endpoint{at("a", "203.0.113.31", 443, false, true), at("b", "203.0.113.32", 443, true, false)}},
			{Datacenter: "dc4", Gateways: []mesh.Endpoint{at("a", "203.0.113.4", 443, true, false)}},
			{Datacenter: "dc5"},
		},
	}
}

func (r *Routes) to(name string) (route Route, known bool) {
	plain, ok := appendName(nil, []byte(name))
	if !ok {
		return route, false
	}
	i, known := r.find(plain)
	if known {
		route = r.list[i]
	}
	return route, known
}

func TestRoutesOfAMeshGateway(t *testing.T) {
	r, err := RoutesFor(meshSnapshot())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{ // route, then addresses; empty is refused
		"s1.server.dc1.consul":     "server/dc1/s1 10.0.0.1:8300",
		"S2.Server.DC1.Consul":     "server/dc1/s2 10.0.0.2:8300", // whoever asks for this one gets no other
		"rack.7.server.dc1.consul": "server/dc1/Rack.7 [2001:db8::1]:8300",
		"s9.server.dc1.consul":     "",
		"server.dc1.consul":        "server/dc1 10.0.0.1:8300 [2001:db8::1]:8300",

		"server.dc2.consul":          "remote/dc2 203.0.113.2:443 gw.example:443",
		"any.name.server.dc2.consul": "remote/dc2 203.0.113.2:443 gw.example:443",
		"s1.server.dc3.consul":       "remote/dc3 203.0.113.31:443", // unhealthy, but there is no other that leads to servers
		"s1.server.dc4.consul":       "",
		"s1.server.dc5.consul":       "",
		"s1.server.dc6.consul":       "",
		"dc2.consul":                 "",

		"web.default.dc2.internal.1.consul":    "mesh/dc2 203.0.113.2:443 203.0.113.4:443 gw.example:443",
		"v1.web.default.dc3.internal.1.consul": "mesh/dc3 203.0.113.32:443",
		"web.default.dc1.internal.1.consul":    "service/web 10.0.1.1:21000",
		"sick.default.dc1.internal.1.consul":   "service/sick",
		"other.default.dc1.internal.1.consul":  "",
		"web.default.dc5.internal.1.consul":    "",
		"web.default.dc2.internal.2.consul":    "",
	} {
		route, known := r.to(name)
		got := ""
		if known {
			got = strings.Join(append([]string{route.Name}, route.Addrs...), " ")
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestGatewayWithoutServersOrMeshHasFewerRoutes(t *testing.T) {
	s := meshSnapshot()
	s.Proxy.Meta = nil
	s.TrustDomain = ""
	r, err := RoutesFor(s)
	if err != nil || len(r.list) > 0 {
		t.Errorf("got %v, %v", r.list, err)
	}
	s.TrustDomain = "1.consul"
	if r, err = RoutesFor(s); err != nil || slices.ContainsFunc(r.list, func(r Route) bool { return strings.Contains(r.Match, "server") }) {
		t.Errorf("got %v, %v", r.list, err)
	}
}

func TestNoHealthyServerIsBetterThanNone(t *testing.T) {
	s := meshSnapshot()
	s.Servers = s.Servers[2:]
	r, err := RoutesFor(s)
	if route, known := r.to("server.dc1.consul"); err != nil || !known || !slices.Equal(route.Addrs, []string{"10.0.0.2:8300"}) {
		t.Errorf("got %v, %v", route, err)
	}
}

func TestOddRegistrationsCostTheirOwnRoutesOnly(t *testing.T) {
	s := meshSnapshot()
	odd := []mesh.Endpoint{
		{Node: "no port", Host: "10.0.0.7", Healthy: true, Servers: true},
		{Node: "no-host", Port: 8300, Healthy: true, Servers: true},
		{Node: "S1", Host: "10.0.0.8", Port: 8300, Healthy: true, Servers: true},
	}
	s.Servers = append(s.Servers, odd...)
	s.Remote[0].Gateways = append(s.Remote[0].Gateways, odd[:2]...)
	s.Services["no/name"] = s.Services["web"]
	r, err := RoutesFor(s)
	for _, want := range []string{"no port", "no-host", "S1", "no/name"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("nothing is said of %s: %v", want, err)
		}
	}
	for _, name := range []string{"s1.server.dc1.consul", "s2.server.dc1.consul", "s1.server.dc2.consul", "web.default.dc1.internal.1.consul"} {
		if route, known := r.to(name); !known || slices.ContainsFunc(route.Addrs, func(a string) bool { return strings.Contains(a, "10.0.0.8") }) {
			t.Errorf("%s: got %+v, %v", name, route, known)
		}
	}
}
