package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
)

// envoyBootstrap is what the bootstrap configuration of an Envoy says. Addresses
// that are not valid are left out.
type envoyBootstrap struct {
	id, cluster, nodeName string
	service, datacenter   string
	namespace, partition  string
	token                 string
	config                map[string]any // of the proxy, with the agent

	agent     agentEndpoint
	admin     netip.AddrPort
	accessLog string // of the admin listener
	ready     netip.AddrPort

	omitDeprecatedTags bool

	backend           netip.AddrPort // what metrics are read from
	scrapePath        string
	certFile, keyFile string // of the listener for metrics
	caFile, caText    string // one of them, when there is a certFile
}

// object is one of JSON.
type object = map[string]any

// typed is an object that names its protobuf type.
func typed(name string, fields object) object {
	fields["@type"] = "type.googleapis.com/envoy." + name
	return fields
}

// named is an object with a name.
func named(name string, fields object) object {
	fields["name"] = name
	return fields
}

// extension is a part of Envoy with its settings.
func extension(name, message string, settings object) object {
	return named("envoy."+name, object{"typed_config": typed(message, settings)})
}

// The names of the clusters in the bootstrap.
const (
	agentCluster   = "local_agent"
	adminCluster   = "self_admin"
	backendCluster = "prometheus_backend"
)

// render makes the configuration, in JSON.
func (b *envoyBootstrap) render() ([]byte, error) {
	root := object{
		"admin": b.adminPages(),
		"node":  b.node(),
		"layered_runtime": object{"layers": []any{
			// The patterns of the tags are long.
			named("base", object{"static_layer": object{"re2.max_program_size.error_level": 1 << 20}}),
		}},
		"static_resources":  object{"clusters": []any{b.agentCluster()}},
		"stats_config":      object{"stats_tags": b.tags(), "use_all_default_tags": true},
		"dynamic_resources": b.discovery(),
	}
	if err := b.apply(root); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		return nil, fmt.Errorf("write the bootstrap configuration: %w", err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

func (b *envoyBootstrap) adminPages() object {
	admin := object{"address": socketAddress(b.admin)}
	if b.accessLog != "" && b.accessLog != "/dev/null" {
		admin["access_log"] = []any{
			extension("access_loggers.file", "extensions.access_loggers.file.v3.FileAccessLog", object{"path": b.accessLog}),
		}
	}
	return admin
}

func (b *envoyBootstrap) node() object {
	meta := object{"namespace": orDefault(b.namespace), "partition": orDefault(b.partition)}
	if b.nodeName != "" {
		meta["node_name"] = b.nodeName
	}
	return object{"id": b.id, "cluster": b.cluster, "metadata": meta}
}

// orDefault names the namespace or partition of who is in none.
func orDefault(name string) string {
	if name == "" {
		return "default"
	}
	return name
}

func socketAddress(at netip.AddrPort) object {
	return object{"socket_address": object{"address": at.Addr().String(), "port_value": at.Port()}}
}

// staticCluster is a cluster with one address.
func staticCluster(name, timeout string, address object) object {
	return named(name, object{
		"type": "STATIC", "connect_timeout": timeout,
		"load_assignment": object{
			"cluster_name": name,
			"endpoints": []any{object{
				"lb_endpoints": []any{object{"endpoint": object{"address": address}}},
			}},
		},
	})
}

func (b *envoyBootstrap) agentCluster() object {
	address := object{"pipe": object{"path": b.agent.path}}
	if b.agent.path == "" {
		address = socketAddress(b.agent.at)
	}
	c := staticCluster(agentCluster, "1s", address)
	const http = "extensions.upstreams.http.v3.HttpProtocolOptions"
	c["typed_extension_protocol_options"] = object{
		"envoy." + http: typed(http, object{"explicit_http_config": object{"http2_protocol_options": object{}}}),
	}
	if b.agent.tls {
		common := object{}
		if b.agent.ca != "" {
			common["validation_context"] = object{"trusted_ca": object{"inline_string": b.agent.ca}}
		}
		c["transport_socket"] = extension("transport_sockets.tls",
			"extensions.transport_sockets.tls.v3.UpstreamTlsContext", object{"common_tls_context": common})
	}
	return c
}

// discovery says that everything else comes from the agent. Envoy waits for it as
// long as it takes.
func (b *envoyBootstrap) discovery() object {
	source := object{"ads": object{}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
	return object{
		"lds_config": source,
		"cds_config": source,
		"ads_config": object{
			"api_type": "DELTA_GRPC", "transport_api_version": "V3",
			"grpc_services": object{
				"initial_metadata": []any{object{"key": "x-consul-token", "value": b.token}},
				"envoy_grpc":       object{"cluster_name": agentCluster},
			},
		},
	}
}
