package httpapi

import (
	"net/http"
	"testing"

	"isthmus/internal/telemetry"
)

// TestRequestsAreMeasuredByRoute: under the pattern, not under the path, which
// anybody may choose.
func TestRequestsAreMeasuredByRoute(t *testing.T) {
	all := newTable(routes())
	for path, want := range map[string]string{
		"/v1/kv/some/key": "v1_kv_", "/v1/agent/self": "v1_agent_self", "/v1/health/service/web": "v1_health_service_",
	} {
		if p, _ := all.find(path); p.label != want {
			t.Errorf("%s: got %q, want %q", path, p.label, want)
		}
	}
	for pattern := range catalogCalls {
		if all[pattern] == nil {
			t.Errorf("%s is counted, but is no route", pattern)
		}
	}
	do(t, New(config(fakeCaller{})), http.MethodGet, "/v1/agent/version", "")
	m, err := telemetry.NewMetrics(telemetry.MetricsConfig{FilterDefault: true})
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.Summary()
	if err != nil {
		t.Fatal(err)
	}
	shown, _ := out.(telemetry.Summary)
	for _, one := range shown.Samples {
		if one.Name == "api.http" && one.Labels["path"] == "v1_agent_version" && one.Labels["method"] == http.MethodGet {
			return
		}
	}
	t.Errorf("the request was not measured: %v", shown.Samples)
}
