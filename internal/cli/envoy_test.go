package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"isthmus/api"
	"isthmus/internal/httpapi"
	"isthmus/internal/local"
	"isthmus/internal/rpc"
	"isthmus/internal/testkit"
)

// newEnvoyNode is an agent with one mesh gateway, whose proxy has a config.
func newEnvoyNode(t *testing.T, config string) *fakeNode {
	t.Helper()
	service := func(id, kind, config string) string {
		return fmt.Sprintf(`{"ID": %q, "Service": "mesh-gateway", "Kind": %q, "Datacenter": "dc1", "Proxy": {"Config": %s}}`, id, kind, config)
	}
	return newFakeNode(t, map[string]any{
		"PUT /v1/agent/service/register":     http.StatusOK,
		"GET /v1/agent/self":                 `{"xDS": {"Port": 8503, "Ports": {"Plaintext": 8502, "TLS": 8503}}}`,
		"GET /v1/agent/services":             `{"web": {"ID": "web"}, "gw": ` + service("gw", "mesh-gateway", "{}") + `}`,
		"GET /v1/agent/service/gw":           service("gw", "mesh-gateway", config),
		"GET /v1/agent/service/web":          `{"ID": "web", "Service": "web"}`,
		"GET /v1/agent/service/web-proxy":    service("web-proxy", "connect-proxy", "{}"),
		"GET /v1/catalog/node-services/n1":   `{"Node": {"Node": "n1", "Datacenter": "dc1"}, "Services": [` + service("gw", "mesh-gateway", config) + `]}`,
		"GET /v1/agent/service/mesh-gateway": service("mesh-gateway", "mesh-gateway", config),
	})
}

// answer changes an answer of a node that is running.
func (f *fakeNode) answer(request string, answer any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[request] = answer
}

func TestEnvoyFlagsThatDoNotGoTogether(t *testing.T) {
	node := newEnvoyNode(t, "{}")
	for line, want := range map[string]string{
		"":                                 "No proxy ID specified. One of -proxy-id, -sidecar-for, or -gateway is required",
		"-register":                        "No proxy ID specified. One of -proxy-id, -sidecar-for, or -gateway is required",
		"-gateway=foo":                     "Gateway must be one of: api, terminating, mesh, or ingress",
		"-gateway=mesh -mesh-gateway":      "The mesh-gateway flag is deprecated and cannot be used alongside the gateway flag",
		"-gateway=ingress -register":       "-gateway=ingress is not built yet",
		"-gateway=terminating":             "-gateway=terminating is not built yet",
		"-gateway=api":                     "-gateway=api is not built yet",
		"-gateway=mesh -expose-servers":    "'-expose-servers' requires '-register'",
		"-gateway=ingress -expose-servers": "'-expose-servers' can only be used for mesh gateways",
		"-expose-servers -register":        "'-expose-servers' can only be used for mesh gateways",
		"-proxy-id=gw -register":           "Auto-Registration can only be used for gateways",
		"-sidecar-for=web":                 "-sidecar-for=web: sidecars are not built yet",
		"-proxy-id=web-proxy":              "-proxy-id=web-proxy is a connect-proxy, which is not built yet",
		"-proxy-id=web":                    "service is not a Connect proxy or gateway",
		"-proxy-id=nope":                   "failed fetch proxy config from local agent: Unexpected response code: 404",
		"-gateway=mesh -node-name=n1":      "'-node-name' requires '-proxy-id'",
		"-proxy-id=x -node-name=n1":        `Proxy service with ID "x" not found`,
		"-proxy-id=gw -admin-bind=foo":     "-admin-bind:",
		"-proxy-id=gw -grpc-addr=foo":      "is not HOST:PORT",
		"-proxy-id=gw -grpc-addr=ftp://x":  `scheme "ftp" is not known`,
		"-proxy-id=gw -grpc-ca-file=nope":  "open nope: no such file or directory",

		"-proxy-id=gw -envoy-ready-bind-port=1":                               "go together",
		"-proxy-id=gw -prometheus-cert-file=c":                                "Must provide a CA (-prometheus-ca-file or -prometheus-ca-path)",
		"-proxy-id=gw -prometheus-backend-port=x":                             "-prometheus-backend-port:",
		"-gateway=mesh -register -address=gw.example:1":                       `The LAN address "gw.example" will not be bindable`,
		"-gateway=mesh -register -address=0.0.0.0:1":                          `The LAN address "0.0.0.0" will not be bindable`,
		"-gateway=mesh -register -address=192.0.2.77:1":                       `The LAN address "192.0.2.77" will not be bindable`,
		"-gateway=mesh -register -address=127.0.0.1:x":                        `port "x" is not a number up to 65535`,
		"-gateway=mesh -register -address=127.0.0.1:70000":                    `port "70000" is not a number up to 65535`,
		"-gateway=mesh -register -address=127.0.0.1 -wan-address=1.2.3.4:x":   "-wan-address:",
		"-gateway=mesh -register -address=127.0.0.1 -bind-address=127.0.0.1":  "is not NAME=IP:PORT",
		"-gateway=mesh -register -address=127.0.0.1 -bind-address=a=host:1":   `-bind-address a: "host" is not an IP address`,
		"-gateway=mesh -register -address=127.0.0.1 -bind-address==1.2.3.4:1": "is not NAME=IP:PORT",
	} {
		got := run(t, append([]string{"connect", "envoy", "-bootstrap"}, strings.Fields(line)...)...)
		if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: got %d %q %q, want %q", line, got.code, got.stdout, got.stderr, want)
		}
		if slices.ContainsFunc(node.requests(), func(r request) bool { return strings.HasPrefix(r.line, "PUT") }) {
			t.Errorf("%s: registered something", line)
		}
	}
}

func TestEnvoyFindsTheOneGatewayOfTheAgent(t *testing.T) {
	node := newEnvoyNode(t, "{}")
	if got := run(t, "connect", "envoy", "-gateway=mesh", "-bootstrap"); got.code != 0 || !strings.Contains(got.stdout, `"id": "gw"`) {
		t.Errorf("got %+v", got)
	}
	node.answer("GET /v1/agent/services", `{}`)
	run(t, "connect", "envoy", "-gateway=mesh", "-bootstrap").
		expect(t, 1, "", "No mesh-gateway services registered with this agent")
	node.answer("GET /v1/agent/services", `{"b": {"ID": "b", "Kind": "mesh-gateway"}, "a": {"ID": "a", "Kind": "mesh-gateway"}}`)
	run(t, "connect", "envoy", "-gateway=mesh", "-bootstrap").
		expect(t, 1, "", "because multiple are registered with the agent: choose with -proxy-id one of a, b")
}

// TestEnvoyRegistersTheGateway shows the body of the registration, which is the
// same in meaning as the one that the reference sends for these flags.
func TestEnvoyRegistersTheGateway(t *testing.T) {
	node := newEnvoyNode(t, "{}")
	check := func(at string) string {
		return fmt.Sprintf(`"Check":{"Name":"mesh-gateway listening","Interval":"10s","TCP":%q,"DeregisterCriticalServiceAfter":"6h"},"Checks":null`, at)
	}
	const both = `"Proxy":{"Config":{"envoy_gateway_bind_tagged_addresses":true,"envoy_gateway_no_default_bind":true},"MeshGateway":{},"Expose":{}}`
	const self = `"Kind":"mesh-gateway","ID":"mesh-gateway","Name":"mesh-gateway"`
	for line, want := range map[string]string{
		"": `{` + self + `,"Port":8443,` + check("127.0.0.1:8443") + `}`,
		"-address 127.0.0.1:9443 -wan-address 1.2.3.4:5 -expose-servers": `{` + self + `,"Port":9443,"Address":"127.0.0.1",` +
			`"TaggedAddresses":{"lan":{"Address":"127.0.0.1","Port":9443},"wan":{"Address":"1.2.3.4","Port":5}},` +
			`"Meta":{"consul-wan-federation":"1"},` + check("127.0.0.1:9443") + `}`,
		"-address 127.0.0.1 -wan-address 127.0.0.1:7": `{` + self + `,"Port":8443,"Address":"127.0.0.1",` +
			`"TaggedAddresses":{"lan":{"Address":"127.0.0.1","Port":8443},"wan":{"Address":"127.0.0.1","Port":7}},` +
			check("127.0.0.1:8443") + `,` + both + `}`,
		"-address :9443 -wan-address 127.0.0.1:7": `{` + self + `,"Port":9443,"TaggedAddresses":{"wan":{"Address":"127.0.0.1","Port":7}},` +
			check("127.0.0.1:9443") + `,` + both + `}`,
		"-address [::1]:9443 -service mesh-gateway": `{` + self + `,"Port":9443,"Address":"::1",` +
			`"TaggedAddresses":{"lan":{"Address":"::1","Port":9443}},` + check("[::1]:9443") + `}`,
		"-address x.example:9443 -bind-address a=127.0.0.1:5 -bind-address b=0.0.0.0 -deregister-after-critical=": `{` + self + `,"Port":9443,"Address":"x.example",` +
			`"TaggedAddresses":{"lan":{"Address":"x.example","Port":9443}},` +
			`"Check":{"Name":"mesh-gateway listening","Interval":"10s","TCP":"x.example:9443"},"Checks":null,` +
			`"Proxy":{"Config":{"envoy_gateway_bind_addresses":{"a":{"Address":"127.0.0.1","Port":5},"b":{"Address":"0.0.0.0","Port":8443}},"envoy_gateway_no_default_bind":true},"MeshGateway":{},"Expose":{}}}`,
		"-service foo -proxy-id gw": `{"Kind":"mesh-gateway","ID":"gw","Name":"foo","Port":8443,` + check("127.0.0.1:8443") + `}`,
	} {
		for _, kind := range []string{"-gateway=mesh", "-mesh-gateway"} {
			args := append([]string{"connect", "envoy", "-register", "-bootstrap", kind}, strings.Fields(line)...)
			if got := run(t, args...); got.code != 0 {
				t.Fatalf("%s: got %+v", line, got)
			}
			var got string
			for _, r := range node.requests() {
				if strings.HasPrefix(r.line, "PUT /v1/agent/service/register") {
					got = strings.TrimSpace(r.body)
				}
			}
			if got != want {
				t.Errorf("%s: got\n%s\nwant\n%s", line, got, want)
			}
		}
	}
}

// envoyCase is a bootstrap.
type envoyCase struct{ name, flags, config string }

var envoyCases = []envoyCase{
	{"plain", "", ""},
	{"register", "-gateway=mesh -register -address=127.0.0.1 -expose-servers -token=t1 -admin-bind=127.0.0.1:19001", ""},
	{"other-node", "-proxy-id=gw -node-name=n1 -omit-deprecated-tags -admin-access-log-path=/dev/stdout", ""},
	{"tls", "-grpc-ca-file=consul-agent-ca.pem", ""},
	{"tls-directory", "-grpc-ca-path=cas -admin-bind=0.0.0.0:19000", ""},
	{"grpc-unix", "-grpc-addr=unix:///run/x.sock -omit-deprecated-tags", ""},
	{"ready", "-envoy-ready-bind-address=127.0.0.1 -envoy-ready-bind-port=21000 -omit-deprecated-tags", ""},
	{"prometheus", "-omit-deprecated-tags", `{"envoy_prometheus_bind_addr": "0.0.0.0:9102"}`},
	{
		"prometheus-backend", "-omit-deprecated-tags -prometheus-backend-port=20100 -prometheus-scrape-path=/scrape " +
			"-prometheus-ca-file=consul-agent-ca.pem -prometheus-cert-file=dc1-server-consul-0.pem -prometheus-key-file=dc1-server-consul-0-key.pem",
		`{"envoy_prometheus_bind_addr": "[::]:9102"}`,
	},
	{
		"prometheus-ca-directory", "-omit-deprecated-tags -prometheus-ca-path=cas -prometheus-cert-file=dc1-server-consul-0.pem " +
			"-prometheus-key-file=dc1-server-consul-0-key.pem", `{"envoy_prometheus_bind_addr": "0.0.0.0:9102"}`,
	},
	{
		"stats", "-omit-deprecated-tags -envoy-ready-bind-address=127.0.0.1 -envoy-ready-bind-port=21000",
		`{"envoy_stats_bind_addr": "0.0.0.0:9103", "envoy_prometheus_bind_addr": "0.0.0.0:9102", "envoy_statsd_url": "udp://127.0.0.1:9125",
		  "envoy_dogstatsd_url": "unix:///run/dog.sock", "envoy_stats_tags": ["a=b", "c"], "envoy_stats_flush_interval": "1m30s", "bind_port": 5}`,
	},
	{
		"extra", "-omit-deprecated-tags",
		`{"envoy_statsd_url": "$STATSD",
		  "envoy_extra_stats_sinks_json": "{\"name\":\"envoy.stat_sinks.statsd\",\"typed_config\":{\"@type\":\"type.googleapis.com/envoy.config.metrics.v3.StatsdSink\",\"tcp_cluster_name\":\"c1\"}}",
		  "envoy_extra_static_clusters_json": "{\"name\":\"c1\",\"type\":\"STATIC\"},{\"name\":\"c2\",\"type\":\"STATIC\"}",
		  "envoy_extra_static_listeners_json": "{\"name\":\"l1\",\"address\":{\"socket_address\":{\"address\":\"127.0.0.1\",\"port_value\":7777}},\"filter_chains\":[{\"filters\":[{\"name\":\"envoy.filters.network.tcp_proxy\",\"typed_config\":{\"@type\":\"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\",\"stat_prefix\":\"x\",\"cluster\":\"c1\"}}]}]}",
		  "envoy_stats_config_json": "{\"stats_matcher\":{\"reject_all\":true}}",
		  "envoy_tracing_json": "{\"http\":{\"name\":\"envoy.tracers.zipkin\",\"typed_config\":{\"@type\":\"type.googleapis.com/envoy.config.trace.v3.ZipkinConfig\",\"collector_cluster\":\"c1\",\"collector_endpoint\":\"/api/v2/spans\",\"collector_endpoint_version\":\"HTTP_JSON\"}}}"}`,
	},
	{"no-central-config", "-no-central-config -omit-deprecated-tags", `{"envoy_statsd_url": "x", "envoy_bootstrap_json_tpl": "y"}`},
}

// args are the arguments of the command.
func (c envoyCase) args() []string {
	args := append([]string{"connect", "envoy", "-bootstrap"}, strings.Fields(c.flags)...)
	if !strings.Contains(c.flags, "-gateway") && !strings.Contains(c.flags, "-proxy-id") {
		args = append(args, "-proxy-id=gw")
	}
	return args
}

// newEnvoyFiles makes a directory with the files that the cases name.
func newEnvoyFiles(t *testing.T) {
	t.Helper()
	t.Setenv("STATSD", "udp://127.0.0.9:1")
	t.Chdir(t.TempDir())
	for _, args := range [][]string{{"tls", "ca", "create"}, {"tls", "cert", "create", "-server"}} {
		if got := run(t, args...); got.code != 0 {
			t.Fatal(got)
		}
	}
	ca, err := os.ReadFile("consul-agent-ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, "cas/ca.pem", string(ca))
	writeFile(t, "cas/README", "not a certificate\n")
}

// bootstrap makes the bootstrap of a case.
func (c envoyCase) bootstrap(t *testing.T) string {
	t.Helper()
	node := newEnvoyNode(t, orEmpty(c.config))
	got := run(t, c.args()...)
	if got.code != 0 {
		t.Fatalf("%s: got %+v", c.name, got)
	}
	return strings.ReplaceAll(got.stdout, node.Listener.Addr().String(), "agent")
}

func orEmpty(config string) string {
	if config == "" {
		return "{}"
	}
	return config
}

var certificate = regexp.MustCompile(`-----BEGIN CERTIFICATE-----[^"]*`)

func TestEnvoyBootstrap(t *testing.T) {
	dir := absolute(t, "testdata/envoy")
	newEnvoyFiles(t)
	for _, c := range envoyCases {
		t.Run(c.name, func(t *testing.T) {
			got := certificate.ReplaceAllString(c.bootstrap(t), "a certificate")
			path := filepath.Join(dir, c.name+".json")
			if *update {
				writeFile(t, path, got)
			}
			golden(t, path, got)
		})
	}
}

// TestEnvoyTakesTheBootstrap gives each bootstrap to the real Envoys.
func TestEnvoyTakesTheBootstrap(t *testing.T) {
	envoys := testkit.Envoys(t)
	newEnvoyFiles(t)
	for _, c := range envoyCases {
		writeFile(t, "bootstrap.json", c.bootstrap(t))
		for _, envoy := range envoys {
			out, err := exec.CommandContext(t.Context(), envoy, "--mode", "validate", "--config-path", "bootstrap.json").CombinedOutput()
			// What the user writes into the proxy's config is the user's.
			old := bytes.Contains(out, []byte("deprecated")) && !bytes.Contains(out, []byte("Bootstrap.tracing"))
			if err != nil || old {
				t.Errorf("%s: %s: %v\n%s", c.name, filepath.Base(envoy), err, out)
			}
		}
	}
}

func TestSettingsThatEnvoyCannotHave(t *testing.T) {
	for config, want := range map[string]string{
		`{"envoy_bootstrap_json_tpl": "{}"}`:                    "envoy_bootstrap_json_tpl in the proxy's config: is not built yet",
		`{"envoy_telemetry_collector_bind_socket_dir": "/tmp"}`: "is not built yet",
		`{"envoy_prometheus_bind_addr": 5}`:                     `envoy_prometheus_bind_addr in the proxy's config: "5" is not IP:PORT`,
		`{"envoy_stats_bind_addr": "host:5"}`:                   `"host:5" is not IP:PORT`,
		`{"envoy_statsd_url": "http://127.0.0.1:1"}`:            `unsupported address protocol "http"`,
		`{"envoy_dogstatsd_url": "udp://127.0.0.1"}`:            "is not IP:PORT",
		`{"envoy_stats_tags": "a=b"}`:                           "is not a list",
		`{"envoy_stats_flush_interval": "x"}`:                   "is not a duration",
		`{"envoy_stats_config_json": "{"}`:                      "envoy_stats_config_json in the proxy's config: read JSON:",
		`{"envoy_tracing_json": "[]"}`:                          "read JSON:",
		`{"envoy_extra_static_clusters_json": "{\"name\":"}`:    "read JSON:",
		`{"envoy_extra_static_listeners_json": "{} {}"}`:        "read JSON:",
		`{"envoy_extra_stats_sinks_json": "]"}`:                 "read JSON:",
	} {
		newEnvoyNode(t, config)
		got := run(t, "connect", "envoy", "-proxy-id=gw", "-bootstrap")
		got.expect(t, 1, "", want)
	}
}

func TestEnvoyFindsTheAgentsGRPCAddress(t *testing.T) {
	newEnvoyFiles(t)
	const ports = `{"xDS": {"Port": 8503, "Ports": {"Plaintext": 8502, "TLS": 8503}}}`
	const only = `{"xDS": {"Port": 8503, "Ports": {"Plaintext": -1, "TLS": 8503}}}`
	type found struct {
		at      string
		tls, ca bool
	}
	for _, c := range []struct {
		name, self, flags string
		env               map[string]string
		want              found
		stderr            string
	}{
		{name: "both ports, no CA", self: ports, want: found{"127.0.0.1:8502", false, false}},
		{name: "both ports, CA", self: ports, flags: "-grpc-ca-file=consul-agent-ca.pem", want: found{"127.0.0.1:8503", true, true}},
		{name: "CA of the HTTP API", self: ports, flags: "-ca-file=consul-agent-ca.pem", want: found{"127.0.0.1:8503", true, true}},
		{name: "CA of the environment", self: ports, env: map[string]string{"CONSUL_GRPC_CACERT": "consul-agent-ca.pem"}, want: found{"127.0.0.1:8503", true, true}},
		{name: "our alias", self: ports, env: map[string]string{"ISTHMUS_GRPC_CAPATH": "cas"}, want: found{"127.0.0.1:8503", true, true}},
		{name: "TLS alone, no CA", self: only, want: found{"127.0.0.1:8503", true, false}, stderr: "certificate is not checked"},
		{name: "one port", self: `{"xDS": {"Port": 77}}`, want: found{"127.0.0.1:77", false, false}},
		{name: "old agent", self: `{"DebugConfig": {"GRPCPort": 99}}`, want: found{"127.0.0.1:99", false, false}},
		{name: "flag", flags: "-grpc-addr=127.0.0.2:5", want: found{"127.0.0.2:5", false, false}},
		{name: "flag without a host", flags: "-grpc-addr=:5", want: found{"127.0.0.1:5", false, false}},
		{name: "flag with a name", flags: "-grpc-addr=localhost:5", want: found{"127.0.0.1:5", false, false}},
		{name: "IPv6", flags: "-grpc-addr=http://[::1]:5", want: found{"::1:5", false, false}},
		{name: "https", flags: "-grpc-addr=https://127.0.0.2:5 -grpc-ca-path=cas", want: found{"127.0.0.2:5", true, true}},
		{name: "CA without https", flags: "-grpc-addr=127.0.0.2:5 -grpc-ca-path=cas", want: found{"127.0.0.2:5", false, false}, stderr: "CA for gRPC is not used"},
		{name: "environment", env: map[string]string{"CONSUL_GRPC_ADDR": "127.0.0.3:6", "ISTHMUS_GRPC_ADDR": "127.0.0.4:6"}, want: found{"127.0.0.3:6", false, false}},
		{name: "our alias for it", env: map[string]string{"ISTHMUS_GRPC_ADDR": "https://127.0.0.4:6"}, want: found{"127.0.0.4:6", true, false}, stderr: "not checked"},
		{name: "flag over environment", flags: "-grpc-addr=127.0.0.2:5", env: map[string]string{"CONSUL_GRPC_ADDR": "127.0.0.3:6"}, want: found{"127.0.0.2:5", false, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			node := newEnvoyNode(t, "{}")
			node.answer("GET /v1/agent/self", c.self)
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			got := run(t, append([]string{"connect", "envoy", "-proxy-id=gw", "-bootstrap"}, strings.Fields(c.flags)...)...)
			if got.code != 0 || !strings.Contains(got.stderr, c.stderr) || c.stderr == "" && got.stderr != "" {
				t.Fatalf("got %d, stderr %q, want %q", got.code, got.stderr, c.stderr)
			}
			var out struct {
				Static struct {
					Clusters []struct {
						TLS *struct {
							Config struct {
								Common struct {
									Validation *struct{} `json:"validation_context"`
								} `json:"common_tls_context"`
							} `json:"typed_config"`
						} `json:"transport_socket"`
						Load struct {
							Endpoints []struct {
								LB []struct {
									Endpoint struct {
										Address struct {
											Socket struct {
												Address string
												Port    int `json:"port_value"`
											} `json:"socket_address"`
										}
									}
								} `json:"lb_endpoints"`
							}
						} `json:"load_assignment"`
					}
				} `json:"static_resources"`
			}
			if err := json.Unmarshal([]byte(got.stdout), &out); err != nil {
				t.Fatal(err)
			}
			agent := out.Static.Clusters[0]
			at := agent.Load.Endpoints[0].LB[0].Endpoint.Address.Socket
			f := found{at: fmt.Sprintf("%s:%d", at.Address, at.Port), tls: agent.TLS != nil}
			f.ca = f.tls && agent.TLS.Config.Common.Validation != nil
			if f != c.want {
				t.Errorf("got %+v, want %+v", f, c.want)
			}
		})
	}
	node := newEnvoyNode(t, "{}")
	node.answer("GET /v1/agent/self", `{"xDS": {"Port": -1, "Ports": {"Plaintext": -1, "TLS": -1}}}`)
	run(t, "connect", "envoy", "-proxy-id=gw", "-bootstrap").
		expect(t, 1, "", "Error looking up xDS port: agent has grpc disabled: set ports.grpc")
}

// TestEnvoyTags shows what the tags make of the names of figures.
func TestEnvoyTags(t *testing.T) {
	b := &envoyBootstrap{cluster: "c", service: "s", datacenter: "dc1"}
	for name, want := range map[string]string{
		"cluster.web.default.dc2.internal.td.consul.upstream_cx_total": "destination.service=web destination.namespace=default destination.datacenter=dc2 " +
			"destination.routing_type=internal destination.trust_domain=td destination.target=web.default.dc2 destination.full_target=web.default.dc2.internal.td " +
			"service=web namespace=default datacenter=dc2 routing_type=internal trust_domain=td target=web.default.dc2 full_target=web.default.dc2.internal.td",
		"cluster.passthrough~h1~v2.web.ns.part.dc2.internal-v1.td.consul.x": "destination.custom_hash=h1 destination.service_subset=v2 destination.service=web " +
			"destination.namespace=ns destination.partition=part destination.datacenter=dc2 destination.routing_type=internal-v1 " +
			"destination.trust_domain=td destination.target=h1~v2.web.ns.part.dc2 destination.full_target=h1~v2.web.ns.part.dc2.internal-v1.td",
		"cluster.server.dc2.consul.upstream_cx_total": "",
		"http.upstream.web.default.part.dc3.rq":       "upstream.service=web upstream.datacenter=dc3 upstream.namespace=default upstream.partition=part",
		"tcp.upstream_peered.web.default.peer1.x":     "upstream.service=web upstream.peer=peer1 upstream.namespace=default",
	} {
		var got []string
		for _, tag := range b.tags() {
			o, _ := tag.(object)
			pattern, _ := o["regex"].(string)
			if pattern == "" {
				continue
			}
			match := regexp.MustCompile(pattern).FindStringSubmatch(name)
			short := strings.TrimPrefix(fmt.Sprint(o["tag_name"]), "consul.")
			if len(match) > 2 && match[2] != "" && !(strings.HasPrefix(name, "cluster.passthrough") && !strings.HasPrefix(short, "destination.")) {
				got = append(got, short+"="+match[2])
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, strings.Join(got, " "), want)
		}
	}
}

func TestSupportedEnvoysAreTheTestedOnes(t *testing.T) {
	all := httpapi.EnvoyVersions
	if first, last := fmt.Sprintf("1.%d.", newestEnvoy), fmt.Sprintf("1.%d.", oldestEnvoy); !strings.HasPrefix(all[0], first) || !strings.HasPrefix(all[len(all)-1], last) {
		t.Errorf("%v are not from %s to %s", all, last, first)
	}
	for _, path := range testkit.Envoys(t) {
		if version := strings.TrimPrefix(filepath.Base(path), "envoy-"); !slices.Contains(all, version) {
			t.Errorf("%s is tested, but %v are told to agents", version, all)
		}
	}
}

// TestOurAgentTakesTheGateway registers with the agent's real routes, and finds
// there what it then asks for.
func TestOurAgentTakesTheGateway(t *testing.T) {
	cleanEnv(t)
	nobody := rpc.NewHandlers()
	agent, err := local.New(local.Config{Node: "n1", Caller: nobody, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(httpapi.New(httpapi.Config{Datacenter: "dc7", Node: "n1", Caller: nobody, Local: agent}))
	t.Cleanup(front.Close)
	t.Setenv("CONSUL_HTTP_ADDR", front.URL)
	got := run(t, "connect", "envoy", "-gateway=mesh", "-register", "-expose-servers", "-address=127.0.0.1:1", "-wan-address=127.0.0.1:2",
		"-bind-address=a=127.0.0.1:3", "-bootstrap", "-grpc-addr=127.0.0.1:8502")
	if got.code != 0 || !strings.Contains(got.stdout, `"fixed_value": "dc7"`) {
		t.Fatalf("got %+v", got)
	}
	s := agent.Service("mesh-gateway")
	want := api.NodeService{
		Kind: api.MeshGateway, ID: "mesh-gateway", Service: "mesh-gateway", Tags: []string{}, Address: "127.0.0.1", Port: 1,
		TaggedAddresses: map[string]api.ServiceAddress{
			"lan": {Address: "127.0.0.1", Port: 1}, "wan": {Address: "127.0.0.1", Port: 2},
			"lan_ipv4": {Address: "127.0.0.1", Port: 1}, "wan_ipv4": {Address: "127.0.0.1", Port: 1},
		},
		Meta: map[string]string{api.FederationKey: "1"}, Weights: &api.Weights{Passing: 1, Warning: 1},
		Proxy: api.ConnectProxyConfig{Config: map[string]any{
			"envoy_gateway_bind_addresses":  map[string]any{"a": map[string]any{"Address": "127.0.0.1", "Port": 3.0}},
			"envoy_gateway_no_default_bind": true,
		}},
	}
	if diff := cmp.Diff(&want, s); diff != "" {
		t.Errorf("registered (-want +got):\n%s", diff)
	}
	c := agent.Checks()["service:mesh-gateway"]
	if c == nil || c.Name != "mesh-gateway listening" || c.Type != "tcp" || c.Interval != "10s" {
		t.Errorf("got the check %+v", c)
	}
	got = run(t, "connect", "envoy", "-gateway=mesh", "-register", "-address=127.0.0.1:0", "-bootstrap", "-grpc-addr=127.0.0.1:8502")
	got.expect(t, 1, "", "register the gateway: Unexpected response code: 400 (Validation failed: 1 error occurred:\n\t* Port must be non-zero for a mesh-gateway")
}
