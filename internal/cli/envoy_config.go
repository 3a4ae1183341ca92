package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// errNotInBootstrap ends the message about a setting that cannot be obeyed.
var errNotInBootstrap = errors.New("is not built yet: take it out of the proxy's config, or leave that out with -no-central-config")

// bootstrapSettings is what each setting of the proxy's config that concerns the
// bootstrap does to it, in this order.
var bootstrapSettings = []struct {
	name  string
	apply func(b *envoyBootstrap, root object, text string) error
}{
	{"envoy_bootstrap_json_tpl", refuseSetting},
	{"envoy_telemetry_collector_bind_socket_dir", refuseSetting},
	{"envoy_hcp_metrics_bind_socket_dir", refuseSetting},
	{"envoy_prometheus_bind_addr", (*envoyBootstrap).servePrometheus},
	{"envoy_stats_bind_addr", (*envoyBootstrap).serveStats},
	{"envoy_statsd_url", sink("statsd", "StatsdSink")},
	{"envoy_dogstatsd_url", sink("dog_statsd", "DogStatsdSink")},
	{"envoy_extra_stats_sinks_json", func(_ *envoyBootstrap, root object, text string) error { return extend(root, "stats_sinks", text) }},
	{"envoy_stats_flush_interval", flushInterval},
	{"envoy_stats_config_json", replaceWith("stats_config")},
	{"envoy_tracing_json", replaceWith("tracing")},
	{"envoy_extra_static_clusters_json", extendStatic("clusters")},
	{"envoy_extra_static_listeners_json", extendStatic("listeners")},
}

// apply puts into the configuration what flags and the proxy's config ask for.
func (b *envoyBootstrap) apply(root object) error {
	if err := b.addTags(root); err != nil {
		return err
	}
	for _, s := range bootstrapSettings {
		value, set := b.config[s.name]
		if text := settingText(value); set && text != "" {
			if err := s.apply(b, root, text); err != nil {
				return fmt.Errorf("%s in the proxy's config: %w", s.name, err)
			}
		}
		if s.name == "envoy_stats_bind_addr" && b.ready.IsValid() {
			b.listen(root, httpListener{name: "envoy_ready", at: b.ready, match: object{"path": "/ready"}, rewrite: "/ready"})
		}
	}
	return nil
}

// settingText is a setting as text: JSON also has numbers and booleans.
func settingText(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

func refuseSetting(*envoyBootstrap, object, string) error { return errNotInBootstrap }

// addTags puts the tags of the proxy's config, NAME or NAME=VALUE each, in front.
func (b *envoyBootstrap) addTags(root object) error {
	value, set := b.config["envoy_stats_tags"]
	if !set || value == nil {
		return nil
	}
	list, ok := value.([]any)
	if !ok {
		return errors.New("envoy_stats_tags in the proxy's config: is not a list")
	}
	var tags []any
	for _, one := range list {
		name, text, given := strings.Cut(settingText(one), "=")
		if !given {
			text = "1"
		}
		tags = append(tags, object{"tag_name": name, "fixed_value": text})
	}
	root["stats_config"] = object{"stats_tags": append(tags, b.tags()...), "use_all_default_tags": true}
	return nil
}

// bindAddress reads IP:PORT that a setting listens on.
func bindAddress(text string) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(text)
	if err != nil {
		return at, fmt.Errorf("%q is not IP:PORT", text)
	}
	return at, nil
}

// The secrets of the listener for metrics.
const (
	metricsCert = "prometheus_cert"
	metricsCA   = "prometheus_validation_context"
)

func (b *envoyBootstrap) servePrometheus(root object, text string) error {
	at, err := bindAddress(text)
	if err != nil {
		return err
	}
	path := b.scrapePath
	if path == "" {
		path = "/metrics"
	}
	l := httpListener{name: "envoy_prometheus_metrics", at: at, match: object{"path": path}, rewrite: "/stats/prometheus", backend: b.backend}
	if b.certFile != "" {
		// Who reads metrics may show a certificate, but need not.
		l.tls = extension("transport_sockets.tls", "extensions.transport_sockets.tls.v3.DownstreamTlsContext", object{"require_client_certificate": false, "common_tls_context": object{
			"tls_certificate_sds_secret_configs":   []any{named(metricsCert, object{})},
			"validation_context_sds_secret_config": named(metricsCA, object{}),
		}})
		ca := object{"filename": b.caFile}
		if b.caFile == "" {
			ca = object{"inline_string": b.caText}
		}
		static(root)["secrets"] = []any{
			named(metricsCert, object{"tls_certificate": object{
				"certificate_chain": object{"filename": b.certFile}, "private_key": object{"filename": b.keyFile},
			}}),
			named(metricsCA, object{"validation_context": object{"trusted_ca": ca}}),
		}
	}
	b.listen(root, l)
	return nil
}

func (b *envoyBootstrap) serveStats(root object, text string) error {
	at, err := bindAddress(text)
	if err == nil {
		b.listen(root, httpListener{name: "envoy_metrics", at: at, match: object{"prefix": "/stats"}, rewrite: "/stats"})
	}
	return err
}

// httpListener shows one of Envoy's own pages to others.
type httpListener struct {
	name    string
	at      netip.AddrPort
	match   object
	rewrite string
	backend netip.AddrPort // instead of Envoy's own pages
	tls     object         // the socket, when it is not plain
}

// listen adds a listener, and the cluster it leads to unless that is there.
func (b *envoyBootstrap) listen(root object, l httpListener) {
	cluster, to := adminCluster, b.admin
	if l.backend.IsValid() {
		cluster, to = backendCluster, l.backend
	}
	clusters, _ := static(root)["clusters"].([]any)
	if !slices.ContainsFunc(clusters, func(c any) bool { o, ok := c.(object); return ok && o["name"] == cluster }) {
		static(root)["clusters"] = append(clusters, staticCluster(cluster, "5s", socketAddress(to)))
	}
	const filters = "extensions.filters."
	manager := extension("filters.network.http_connection_manager", filters+"network.http_connection_manager.v3.HttpConnectionManager", object{
		"stat_prefix": l.name, "codec_type": "HTTP1",
		"route_config": named("self_admin_route", object{"virtual_hosts": []any{named("self_admin", object{
			"domains": []any{"*"}, "routes": []any{
				object{"match": l.match, "route": object{"cluster": cluster, "prefix_rewrite": l.rewrite}},
				object{"match": object{"prefix": "/"}, "direct_response": object{"status": 404}},
			},
		})}}),
		"http_filters": []any{extension("filters.http.router", filters+"http.router.v3.Router", object{})},
	})
	chain := object{"filters": []any{manager}}
	if l.tls != nil {
		chain["transport_socket"] = l.tls
	}
	listeners, _ := static(root)["listeners"].([]any)
	static(root)["listeners"] = append(listeners, named(l.name+"_listener", object{
		"address": socketAddress(l.at), "filter_chains": []any{chain},
	}))
}

// static are the resources in the bootstrap itself.
func static(root object) object {
	return root["static_resources"].(object) //nolint:forcetypeassert // render made it
}

// sink makes the setting that sends figures to a URL: udp://IP:PORT or unix://PATH,
// in which variables of the environment are expanded.
func sink(name, message string) func(*envoyBootstrap, object, string) error {
	return func(_ *envoyBootstrap, root object, text string) error {
		u, err := url.Parse(os.ExpandEnv(text))
		if err != nil {
			return fmt.Errorf("%q is no URL: %w", text, err)
		}
		var address object
		switch u.Scheme {
		case "udp":
			at, err := bindAddress(u.Host)
			if err != nil {
				return err
			}
			address = socketAddress(at)
		case "unix":
			address = object{"pipe": object{"path": u.Path}}
		default:
			return fmt.Errorf("unsupported address protocol %q: udp and unix are supported", u.Scheme)
		}
		sinks, _ := root["stats_sinks"].([]any)
		root["stats_sinks"] = append(sinks, extension("stat_sinks."+name, "config.metrics.v3."+message, object{"address": address}))
		return nil
	}
}

// flushInterval writes the interval as Envoy reads it: in seconds.
func flushInterval(_ *envoyBootstrap, root object, text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is not a duration such as 30s", text)
	}
	root["stats_flush_interval"] = strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
	return nil
}

// replaceWith makes the setting that is a part of the configuration itself.
func replaceWith(key string) func(*envoyBootstrap, object, string) error {
	return func(_ *envoyBootstrap, root object, text string) error {
		var part object
		if err := json.Unmarshal([]byte(text), &part); err != nil {
			return fmt.Errorf("read JSON: %w", err)
		}
		root[key] = part
		return nil
	}
}

// extendStatic makes the setting that adds static resources.
func extendStatic(key string) func(*envoyBootstrap, object, string) error {
	return func(_ *envoyBootstrap, root object, text string) error { return extend(static(root), key, text) }
}

// extend adds objects, which stand behind each other with commas between them, to
// a list.
func extend(to object, key, text string) error {
	var more []any
	if err := json.Unmarshal([]byte("["+text+"]"), &more); err != nil {
		return fmt.Errorf("read JSON: %w", err)
	}
	list, _ := to[key].([]any)
	to[key] = append(list, more...)
	return nil
}
