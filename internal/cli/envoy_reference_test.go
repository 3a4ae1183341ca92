package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEnvoyBootstrapMeansWhatTheReferencesDoes compares each bootstrap with the
// one that the reference makes of the same flags and the same agent.
func TestEnvoyBootstrapMeansWhatTheReferencesDoes(t *testing.T) {
	binary := reference(t)
	newEnvoyFiles(t)
	for _, c := range envoyCases {
		t.Run(c.name, func(t *testing.T) {
			node := newEnvoyNode(t, orEmpty(c.config))
			// Of two ports the two choose differently when they know no CA.
			node.answer("GET /v1/agent/self", `{"Config": {"Datacenter": "dc1"}, "DebugConfig": {"GRPCPort": 8502},
				"xDS": {"Port": 8502, "Ports": {"Plaintext": 8502, "TLS": -1}}}`)
			args := c.args()
			if strings.Contains(c.flags, "-grpc-ca") {
				args = append(args, "-grpc-addr=https://127.0.0.1:8503")
			}
			want := runReference(t, binary, "", args...)
			asked := registered(node.requests())
			got := run(t, args...)
			if got.code != 0 || want.code != 0 {
				t.Fatalf("got %d %s, want %d %s", got.code, got.stderr, want.code, want.stderr)
			}
			if diff := cmp.Diff(asked, registered(node.requests())); diff != "" {
				t.Errorf("registration (-reference +ours):\n%s", diff)
			}
			if diff := cmp.Diff(meaning(t, want.stdout), meaning(t, got.stdout)); diff != "" {
				t.Errorf("bootstrap (-reference +ours):\n%s", diff)
			}
		})
	}
}

// registered is the body that registers a service, if one was sent.
func registered(all []request) string {
	for _, r := range all {
		if strings.HasPrefix(r.line, "PUT ") {
			return strings.TrimSpace(r.body)
		}
	}
	return ""
}

var capital = regexp.MustCompile(`[A-Z]`)

// meaning is a bootstrap in which what can be said in several ways is said in one.
func meaning(t *testing.T, text string) any {
	t.Helper()
	var root object
	if err := json.Unmarshal([]byte(text), &root); err != nil {
		t.Fatal(err)
	}
	admin, ok := root["admin"].(object)
	if !ok {
		t.Fatal("no admin")
	}
	if path := admin["access_log_path"]; path != nil {
		delete(admin, "access_log_path") // deprecated
		if path != "/dev/null" {
			admin["access_log"] = []any{object{
				"name":         "envoy.access_loggers.file",
				"typed_config": typed("extensions.access_loggers.file.v3.FileAccessLog", object{"path": path}),
			}}
		}
	}
	return unified(root)
}

func unified(v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = unified(v[i])
		}
		return out
	case object:
		out := object{}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			// Both spellings are the same field.
			name := capital.ReplaceAllStringFunc(key, func(c string) string { return "_" + strings.ToLower(c) })
			out[name] = unified(v[key])
		}
		plainer(out)
		return out
	case string:
		if at := strings.Index(v, "-----BEGIN"); at >= 0 {
			v = v[at:] // the reference takes whatever files hold beside certificates
		}
		return strings.TrimSpace(v)
	default:
		return v
	}
}

// plainer takes out what is the default, deprecated, or said better.
func plainer(o object) {
	delete(o, "typed_extension_protocol_options") // instead of http2_protocol_options
	delete(o, "http2_protocol_options")
	delete(o, "http_protocol_options")
	delete(o, "ignore_health_on_host_removal")
	delete(o, "require_client_certificate")
	if fmt.Sprint(o["name"]) == "tls" {
		o["name"] = "envoy.transport_sockets.tls"
	}
	// The reference names a directory in a way in which nothing is checked.
	if ca, ok := o["validation_context"].(object); ok && o["name"] == "prometheus_validation_context" {
		delete(ca, "watched_directory")
		if trusted, ok := ca["trusted_ca"].(object); ok && trusted["inline_string"] != nil {
			delete(ca, "trusted_ca")
		}
	}
	// The reference gives the duration as it was written, which Envoy refuses.
	if o["stats_flush_interval"] == "1m30s" {
		o["stats_flush_interval"] = "90s"
	}
}
