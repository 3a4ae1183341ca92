package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"isthmus/internal/testkit"
)

// The reference has no gateway without Envoy, so its datacenter uses ours beside
// its agent.

func TestOurSecondaryFederatesWithTheReferencesPrimary(t *testing.T) {
	f, ref := newFleet(t), reference(t)
	f.servers(1, 1, ref)
	f.gateway(1, 1)
	f.servers(2, 1, "")
	f.gateway(2, 1)
	f.federated(1)
}

func TestReferencesSecondaryFederatesWithOurPrimary(t *testing.T) {
	f, ref := newFleet(t), reference(t)
	f.servers(1, 1, "")
	f.gateway(1, 1)
	f.servers(2, 1, ref)
	f.gateway(2, 1)
	f.federated(1)
}

func TestReferencesClientRegistersWithOurServers(t *testing.T) {
	f, ref := newFleet(t), reference(t)
	f.servers(1, 3, "")
	f.agent("client", ref, map[string]any{
		"datacenter": "dc1", "node_name": "client", "data_dir": f.dir + "/client", "bind_addr": f.addr(1, 9), "client_addr": f.addr(1, 9),
		"ports": map[string]any{"dns": -1, "grpc": -1, "grpc_tls": -1}, "encrypt": f.key, "retry_join": []string{f.addr(1, 1)}, "retry_interval": "1s",
		"tls": map[string]any{
			"defaults": map[string]any{"ca_file": f.dir + "/ca.pem", "verify_outgoing": true},
			"internal_rpc": map[string]any{
				"verify_server_hostname": true, "cert_file": f.dir + "/dc1s1.pem", "key_file": f.dir + "/dc1s1-key.pem",
			},
		},
		"disable_update_check": true, "use_streaming_backend": false,
	})
	service, err := json.Marshal(map[string]any{"Name": "web", "Port": 80, "Check": map[string]any{"TTL": "10m", "Status": "passing"}})
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, func() error {
		_, err := f.do(http.MethodPut, 1, 9, "/v1/agent/service/register", service)
		return err
	})
	testkit.Eventually(t, func() error {
		var web []struct{ Node struct{ Node string } }
		if err := f.get(1, 2, "/v1/health/service/web?passing", &web); err != nil {
			return err
		}
		if len(web) != 1 || web[0].Node.Node != "client" {
			return fmt.Errorf("got %+v, want the instance on the client", web)
		}
		return f.get(1, 9, "/v1/health/service/web?passing", &web) // the reference asks our servers
	})
	if err := f.put(1, 9, 1, "k", "v"); err != nil {
		t.Error(err)
	}
	if got, err := f.read(1, 9, 1, "k"); err != nil || got != "v" {
		t.Errorf("got %q, %v", got, err)
	}
}
