package proxy

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// startEnvoy starts an Envoy with two threads whose listener is what package xds
// makes for a mesh gateway: a TLS inspector, a chain with a TCP proxy for each
// name, a last one that goes by the name itself.
func startEnvoy(b *testing.B, path, backend string) *benchTarget {
	b.Helper()
	type object = map[string]any
	typed := func(name, kind string, fields object) object {
		fields["@type"] = "type.googleapis.com/envoy.extensions.filters." + kind
		return object{"name": name, "typed_config": fields}
	}
	tcp := func(cluster string) object {
		return typed("envoy.filters.network.tcp_proxy", "network.tcp_proxy.v3.TcpProxy", object{
			"cluster": cluster, "stat_prefix": "mesh_gateway_local_server." + cluster,
		})
	}
	socket := func(addr string) object {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			b.Fatal(err)
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			b.Fatal(err)
		}
		return object{"socket_address": object{"address": host, "port_value": n}}
	}
	var chains, clusters []object
	for i := range benchNames {
		name := benchName(i)
		chains = append(chains, object{
			"filter_chain_match": object{"server_names": []string{name}}, "filters": []object{tcp(name)},
		})
		clusters = append(clusters, object{
			"name": name, "type": "STATIC", "connect_timeout": "5s", "outlier_detection": object{},
			"circuit_breakers": object{"thresholds": []object{{"max_connections": 1 << 20}}},
			"load_assignment": object{"cluster_name": name, "endpoints": []object{
				{"lb_endpoints": []object{{"endpoint": object{"address": socket(backend)}}}},
			}},
		})
	}
	chains = append(chains, object{"filters": []object{
		typed("envoy.filters.network.sni_cluster", "network.sni_cluster.v3.SniCluster", object{}), tcp(""),
	}})
	addr := closedAddr(b)
	config, err := json.Marshal(object{"static_resources": object{
		"clusters": clusters,
		"listeners": []object{{
			"name": "default", "address": socket(addr), "filter_chains": chains,
			"listener_filters": []object{
				typed("envoy.filters.listener.tls_inspector", "listener.tls_inspector.v3.TlsInspector", object{}),
			},
		}},
	}})
	if err != nil {
		b.Fatal(err)
	}
	file := filepath.Join(b.TempDir(), "envoy.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), path, "-c", file, "--concurrency", "2", "--log-level", "error", "--use-dynamic-base-id")
	cmd.Stderr = os.Stderr
	run(b, cmd)
	awaitListener(addr)
	return &benchTarget{name: fmt.Sprintf("envoy %s", filepath.Base(path)[len("envoy-"):]), addr: addr, pid: cmd.Process.Pid}
}

// awaitListener returns once somebody listens.
func awaitListener(addr string) {
	for c, err := net.Dial("tcp", addr); ; c, err = net.Dial("tcp", addr) {
		if err == nil {
			_ = c.Close()
			return
		}
	}
}
