package node

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"isthmus/api"
	"isthmus/internal/config"
)

func loadDefinitions(t *testing.T, name, text string) ([]api.ServiceDefinition, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	flags, err := config.ParseFlags([]string{"-data-dir=" + t.TempDir(), "-node=n1", "-bind=127.0.0.1", "-config-file=" + path}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	res, err := config.Load(flags)
	if err != nil {
		t.Fatal(err)
	}
	services, _, err := definitions(res.Settings)
	return services, err
}

// TestProxyOfAConfiguredService reads what stands behind proxy in the spelling of
// files and in that of the API.
func TestProxyOfAConfiguredService(t *testing.T) {
	for name, text := range map[string]string{
		"a.hcl": `services { name = "gw" kind = "mesh-gateway" port = 1
			proxy { mesh_gateway { mode = "local" } config { envoy_gateway_no_default_bind = true
				envoy_gateway_bind_addresses { a_b { address = "127.0.0.1" port = 5 } } } } }`,
		"b.hcl": `services = [{ name = "gw", kind = "mesh-gateway", port = 1
			proxy = { mesh_gateway = { mode = "local" }, config = { envoy_gateway_no_default_bind = true
				envoy_gateway_bind_addresses = { a_b = { address = "127.0.0.1", port = 5 } } } } }]`,
		"c.json": `{"service": {"name": "gw", "kind": "mesh-gateway", "port": 1, "proxy": {"MeshGateway": {"Mode": "local"},
			"Config": {"envoy_gateway_no_default_bind": true, "envoy_gateway_bind_addresses": {"a_b": {"address": "127.0.0.1", "port": 5}}}}}}`,
	} {
		got, err := loadDefinitions(t, name, text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := []api.ServiceDefinition{{
			Name: "gw", Kind: api.MeshGateway, Port: 1, Proxy: &api.ConnectProxyConfig{
				MeshGateway: api.MeshGatewayConfig{Mode: "local"},
				Config: map[string]any{
					"envoy_gateway_no_default_bind": true,
					"envoy_gateway_bind_addresses":  map[string]any{"a_b": map[string]any{"address": "127.0.0.1", "port": 5.0}},
				},
			},
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	_, err := loadDefinitions(t, "d.hcl", `services = [{ name = "gw", proxy = { nonsense = 1 } }]`)
	if err == nil || !strings.Contains(err.Error(), `service "gw": proxy: read: json: unknown field "nonsense"`) {
		t.Errorf("got %v", err)
	}
}
