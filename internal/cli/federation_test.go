package cli

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"isthmus/internal/wire"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return noon.Add(-d) }

// whole is a secondary with three servers that sees all of a federation.
func whole() *federation {
	f := &federation{Datacenter: "dc2", Primary: "dc1"}
	for _, node := range []string{"b1", "b2", "b3"} {
		f.Servers = append(f.Servers, wire.ServerView{
			Node: node, Datacenter: "dc2", Leader: node == "b1",
			Datacenters: []wire.DatacenterView{
				{Name: "dc2", ServersAlive: 3, Servers: 3, Route: "direct", UpdatedAt: ago(3 * time.Hour)},
				{
					Name: "dc1", Primary: true, ServersAlive: 3, Servers: 3, Route: "own gateway", UpdatedAt: ago(50 * time.Hour),
					Gateways: []wire.GatewayView{
						{Address: "10.2.0.9:8443", Source: "replicated", Own: true, LastSuccess: ago(3 * time.Second)},
						{Address: "203.0.113.1:443", Source: "configured"},
					},
				},
			},
		})
	}
	f.Servers[0].Replication = wire.ReplicationView{Running: true, LastSuccess: ago(70 * time.Second), Index: 812}
	return f
}

func TestFederationReport(t *testing.T) {
	for _, one := range []struct {
		name   string
		change func(f *federation)
	}{
		{"whole", func(*federation) {}},
		{"alone", func(f *federation) {
			*f = federation{Datacenter: "dc1", Primary: "dc1", Servers: []wire.ServerView{{
				Node: "a1", Leader: true, Datacenters: []wire.DatacenterView{{Name: "dc1", Primary: true, ServersAlive: 1, Servers: 1, Route: "direct"}},
			}}}
		}},
		{"gateway-fails", func(f *federation) {
			g := &f.Servers[1].Datacenters[1].Gateways[0]
			g.LastSuccess, g.LastFailure, g.Error = ago(5*time.Minute), ago(2*time.Second), "dial tcp 10.2.0.9:8443: connection refused"
			f.Servers[1].Datacenters[1].Route = "primary gateway"
		}},
		{"cut", func(f *federation) {
			f.Servers = f.Servers[:2]
			for i := range f.Servers {
				dc := &f.Servers[i].Datacenters[1]
				dc.ServersAlive, dc.Route = 0, "none"
				for j := range dc.Gateways {
					dc.Gateways[j].LastFailure, dc.Gateways[j].Error = ago(time.Second), "i/o timeout"
				}
			}
			f.Servers[0].Replication = wire.ReplicationView{Running: true, LastSuccess: ago(time.Hour), Index: 812, LastError: "no route to dc1"}
		}},
		{"no-leader", func(f *federation) {
			f.Servers[0].Replication = wire.ReplicationView{}
			f.Servers[2].Datacenters[1].UpdatedAt = time.Time{}
			f.Servers[2].Datacenters[1].Problems = []string{"the certificate of a2 lacks the name a2.server.dc1.consul"}
			f.Servers[2].Datacenters[0].ServersAlive = 2
		}},
	} {
		t.Run(one.name, func(t *testing.T) {
			f := whole()
			one.change(f)
			path := filepath.Join("testdata", "federation-"+one.name+".txt")
			if *update {
				writeFile(t, path, f.report(noon).String())
			}
			golden(t, path, f.report(noon).String())
		})
	}
}

func TestFederationStatusExitCodes(t *testing.T) {
	node := newFakeNode(t, map[string]any{"GET /v1/federation/status": whole()})
	got := run(t, "federation", "status")
	if got.code != 0 || !strings.HasPrefix(got.stdout, "Federation is whole: 2 datacenters, 6 of 6 servers alive") {
		t.Errorf("whole: got %+v", got)
	}
	got = run(t, "federation", "status", "-json")
	var back federation
	if err := json.Unmarshal([]byte(got.stdout), &back); err != nil || got.code != 0 || len(back.Servers) != 3 || !strings.Contains(got.stdout, "\n    \"Datacenter\"") {
		t.Errorf("json: got %+v, %v", got, err)
	}

	broken := whole()
	broken.Servers[0].Datacenters[1].Route = routeNone
	node.answers["GET /v1/federation/status"] = broken
	if got = run(t, "federation", "status"); got.code != 1 || !strings.HasPrefix(got.stdout, "Federation is BROKEN: ") || got.stderr != "" {
		t.Errorf("broken: got %+v", got)
	}
	node.answers["GET /v1/federation/status"] = &federation{Datacenter: "dc1"}
	run(t, "federation", "status").expect(t, 1, "", "no server has told")
	node.answers["GET /v1/federation/status"] = 500
	run(t, "federation", "status").expect(t, 1, "", "Error querying federation status: ")
}

func TestAgesAreInOneUnit(t *testing.T) {
	r := &report{now: noon}
	for d, want := range map[time.Duration]string{
		-time.Hour: "now", 0: "now", 90 * time.Second: "90s ago", 119 * time.Minute: "119m ago", 47 * time.Hour: "47h ago", 48 * time.Hour: "2d ago",
	} {
		if got := r.age(ago(d), "never"); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
	if got := r.age(time.Time{}, "never"); got != "never" {
		t.Errorf("zero: got %q", got)
	}
}
