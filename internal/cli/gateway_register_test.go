package cli

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	consul "github.com/hashicorp/consul/api"
)

// TestGatewayThatMovedRegistersAnew starts a gateway while the agent still has the
// one that was killed, at its old address.
func TestGatewayThatMovedRegistersAnew(t *testing.T) {
	reg := func(wan string) *consul.AgentServiceRegistration {
		return meshGatewayService{
			ID: "g1", Name: "mesh-gateway", LAN: consul.ServiceAddress{Address: "10.0.0.1", Port: 8443},
			WAN: &consul.ServiceAddress{Address: wan, Port: 8443}, ExposeServers: true,
		}.registration()
	}
	f := newFakeNode(t, map[string]any{"PUT /v1/agent/service/register": "", "PUT /v1/agent/service/deregister/g1": ""})
	known := func(wan string) {
		r := reg(wan)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.answers["GET /v1/agent/service/g1"] = consul.AgentService{
			Kind: r.Kind, ID: r.ID, Service: r.Name, Address: r.Address, Port: r.Port, TaggedAddresses: r.TaggedAddresses, Meta: r.Meta,
		}
	}
	// registered starts the gateway, and yields what it registered by the time it
	// had sent so many requests.
	registered := func(wan string, requests int) (bodies []string) {
		client, err := consul.NewClient(consul.DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var keeping sync.WaitGroup
		keeping.Go(func() { _ = keepRegistered(ctx, client.Agent(), reg(wan), slog.New(slog.DiscardHandler)) })
		var seen []request
		waitFor(t, func() bool {
			seen = append(seen, f.requests()...)
			return len(seen) >= requests
		})
		cancel()
		keeping.Wait()
		for _, r := range append(seen, f.requests()...) {
			if strings.HasPrefix(r.line, http.MethodPut+" /v1/agent/service/register") {
				bodies = append(bodies, r.body)
			}
		}
		return bodies
	}
	known("198.51.100.1")
	if got := registered("198.51.100.1", 1); len(got) != 0 {
		t.Errorf("as before, but registered again: %v", got)
	}
	if got := registered("198.51.100.2", 2); len(got) != 1 || !strings.Contains(got[0], `"198.51.100.2"`) {
		t.Errorf("at another address: registered %v", got)
	}
}
