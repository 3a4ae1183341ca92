package node

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"isthmus/api"
	"isthmus/internal/config"
	"isthmus/internal/local"
)

func TestPingOfAFileUsesTLSUnlessItSaysOtherwise(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		target string
		said   *bool
		want   bool
	}{{"a:1", nil, true}, {"a:1", &yes, true}, {"a:1", &no, false}, {"", nil, false}} {
		if got := checkType(&config.CheckDefinition{H2Ping: c.target, H2PingUseTLS: c.said}).H2PingUseTLS; got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

func TestScriptSettings(t *testing.T) {
	for _, c := range []struct {
		all, local bool
		want       local.Scripts
	}{
		{false, false, local.ScriptsNever},
		{false, true, local.ScriptsLocal},
		{true, false, local.ScriptsAlways},
		{true, true, local.ScriptsAlways},
	} {
		if got := scripts(&config.Settings{EnableScriptChecks: c.all, EnableLocalScriptChecks: c.local}); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

func TestSidecarOfAFile(t *testing.T) {
	const hcl = `
		service {
			name = "web"
			port = 80
			connect {
				sidecar_service {
					tags = ["x"]
					enable_tag_override = true
					tagged_addresses { wan { address = "1.2.3.4" port = 5 } }
					proxy {
						local_service_port = 7
						upstreams = [{ destination_name = "db" local_bind_port = 5 }]
						upstreams {
							destination_name = "q"
							local_bind_port = 6
							mesh_gateway { mode = "local" }
							config { some_key = 1 }
						}
						expose { paths { path = "/x" listener_port = 9 } }
					}
					checks = [{ id = "last" ttl = "5s" }]
					check { id = "first" name = "n" args = ["true"] interval = "10s" header { X-Y = ["z"] } }
				}
			}
		}`
	const json = `{"service": {"name": "web", "port": 80, "connect": {"SidecarService": {
		"Tags": ["x"], "EnableTagOverride": true, "TaggedAddresses": {"wan": {"Address": "1.2.3.4", "Port": 5}},
		"proxy": {"LocalServicePort": 7, "upstreams": [{"DestinationName": "db", "LocalBindPort": 5},
			{"destination_name": "q", "LocalBindPort": 6, "MeshGateway": {"Mode": "local"}, "config": {"some_key": 1}}],
			"Expose": {"Paths": [{"Path": "/x", "ListenerPort": 9}]}},
		"Check": {"CheckID": "first", "Name": "n", "ScriptArgs": ["true"], "Interval": "10s", "Header": {"X-Y": ["z"]}},
		"Checks": [{"CheckID": "last", "TTL": "5s"}]}}}}`
	want := &api.ServiceDefinition{
		Tags: []string{"x"}, EnableTagOverride: true, TaggedAddresses: map[string]api.ServiceAddress{"wan": {Address: "1.2.3.4", Port: 5}},
		Proxy: &api.ConnectProxyConfig{
			LocalServicePort: 7,
			Upstreams: []api.Upstream{
				{DestinationName: "db", LocalBindPort: 5},
				{DestinationName: "q", LocalBindPort: 6, MeshGateway: api.MeshGatewayConfig{Mode: "local"}, Config: map[string]any{"some_key": 1.0}},
			},
			Expose: api.ExposeConfig{Paths: []api.ExposePath{{Path: "/x", ListenerPort: 9}}},
		},
		Checks: []*api.CheckType{
			{CheckID: "first", Name: "n", ScriptArgs: []string{"true"}, Interval: api.Duration(10 * time.Second), Header: map[string][]string{"X-Y": {"z"}}},
			{CheckID: "last", TTL: api.Duration(5 * time.Second)},
		},
	}
	for _, text := range []string{hcl, json} {
		got, err := definedBy(t, text)
		if err != nil || !reflect.DeepEqual(got[0].Connect.SidecarService, want) {
			t.Errorf("%s:\ngot %+v, %v", text, got, err)
		}
	}
	for text, part := range map[string]string{
		`service { name = "web" connect { sidecar_service { prot = 1 } } }`:                         `unknown field "prot"`,
		`service { name = "web" connect { sidecar_service { proxy { upstreams { port = 1 } } } } }`: `unknown field "port"`,
	} {
		if _, err := definedBy(t, text); err == nil || !strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), `service "web": connect`) {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

// definedBy are the services that a text of settings defines.
func definedBy(t *testing.T, text string) ([]api.ServiceDefinition, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "settings.hcl")
	if strings.HasPrefix(text, "{") {
		name = strings.TrimSuffix(name, "hcl") + "json"
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := config.ParseFlags([]string{"-dev", "-config-file", name}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	r, err := config.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	services, _, err := definitions(r.Settings)
	return services, err
}

// TestEachKeyOfADefinitionOfTheReferenceIsRead goes through all that may stand in a
// service or a check of the reference.
func TestEachKeyOfADefinitionOfTheReferenceIsRead(t *testing.T) {
	recorded, err := os.ReadFile("../config/testdata/reference-keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.SplitSeq(strings.TrimSpace(string(recorded)), "\n") {
		path, kind, _ := strings.Cut(line, " ")
		keys := strings.Split(path, ".")
		if len(keys) < 2 || !slices.Contains([]string{"service", "services[]", "check", "checks[]"}, keys[0]) {
			continue
		}
		seen++
		text := map[string]string{
			"bool": "false", "int": "0", "object": "{}", "list-of-string": "[]", "list-of-object": "[]", "string": `""`,
			"float64": "0", "list-of-int": "[]",
		}[kind]
		if text == "" {
			t.Fatalf("%s: %s is a kind without a sample", path, kind)
		}
		if len(keys) == 2 && keys[1] == "name" {
			continue // stands in all of them
		}
		for i, key := range slices.Backward(keys) {
			name, list := strings.CutSuffix(key, "[]")
			if list {
				text = "[" + text + "]"
			}
			if i == 1 {
				text = fmt.Sprintf(`{"name": "n", %q: %s}`, name, text)
				continue
			}
			text = fmt.Sprintf("{%q: %s}", name, text)
		}
		for _, err := range readDefinition(t, text) {
			for _, part := range []string{"no known key", "unknown field", "is expected", "cannot unmarshal"} {
				if strings.Contains(err, part) {
					t.Errorf("%s: got %s", text, err)
				}
			}
		}
	}
	if seen < 400 {
		t.Errorf("%d keys of definitions are recorded", seen)
	}
}

// readDefinition yields what is wrong with the definitions in a text of settings.
func readDefinition(t *testing.T, text string) []string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "settings.json")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := config.ParseFlags([]string{"-dev", "-config-file", name}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	r, err := config.Load(f)
	if err != nil {
		return strings.Split(err.Error(), "\n")
	}
	if _, _, err := definitions(r.Settings); err != nil {
		return []string{err.Error()}
	}
	return nil
}
