package mesh_test

import (
	"context"
	"iter"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
	"isthmus/internal/mesh"
	"isthmus/internal/rpc"
	"isthmus/internal/testkit"
	"isthmus/internal/wire"
)

func TestServerIsASource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := testkit.NewServer(t)
		register := func(node, address string, svc *api.NodeService) {
			in := api.Registration{Node: node, Address: address, Service: svc}
			if _, _, err := wire.CatalogRegister.Call(t.Context(), server, rpc.Header{}, in); err != nil {
				t.Error(err)
			}
		}
		register("s1", "10.0.0.1", &api.NodeService{Service: api.ConsulService, Port: 8300})
		sidecar := &api.NodeService{Kind: "connect-proxy", Service: "web-sidecar-proxy", Port: 21000}
		sidecar.Proxy.DestinationServiceName = "web"
		register("n1", "10.0.0.2", sidecar)
		state := &api.FederationState{Datacenter: "dc2", MeshGateways: []api.CheckServiceNode{{
			Node: &api.Node{Node: "gw", Address: "203.0.113.2"}, Service: &api.NodeService{Kind: api.MeshGateway, ID: "gw", Port: 443},
		}}}
		in := wire.FederationRequest{Op: wire.FederationUpsert, State: state}
		if _, _, err := wire.FederationApply.Call(t.Context(), server, rpc.Header{}, in); err != nil {
			t.Fatal(err)
		}

		proxy := &api.NodeService{Kind: api.MeshGateway, ID: "gw", Meta: map[string]string{api.FederationKey: "1"}}
		g := &mesh.Gateway{
			Datacenter: "dc1", Domain: "consul", Caller: server, Log: slog.New(slog.DiscardHandler),
			Proxy: func(context.Context) iter.Seq[*api.NodeService] { return slices.Values([]*api.NodeService{proxy}) },
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		changed := false
		for s := range g.Snapshots(ctx) {
			web := s.Services["web"]
			if len(web) != 1 || len(s.Remote) != 1 || s.Remote[0].Gateways[0].Host != "203.0.113.2" {
				t.Errorf("got %+v", s)
			}
			switch {
			case changed:
				if !slices.ContainsFunc(s.Servers, func(e mesh.Endpoint) bool { return e.Host == "10.0.0.9" && e.Port == 8300 }) {
					t.Errorf("got servers %+v", s.Servers)
				}
				return
			case len(s.Servers) != 1 || s.Servers[0].Host != "10.0.0.1":
				t.Errorf("got servers %+v", s.Servers)
			}
			changed = true
			register("s1", "10.0.0.9", &api.NodeService{Service: api.ConsulService, Port: 8300})
		}
		t.Error("no snapshot with the change came")
	})
}
