package httpapi

import (
	"net/http"
	"strconv"
	"testing"

	"isthmus/internal/testkit"
)

// TestIndexStandsOnEmptyAndMissingAnswers lets a client wait for what is not there
// yet: it needs an index to wait from.
func TestIndexStandsOnEmptyAndMissingAnswers(t *testing.T) {
	a := New(config(testkit.NewServer(t)))
	for target, status := range map[string]int{
		"/v1/kv/none":                           http.StatusNotFound,
		"/v1/kv/none?recurse":                   http.StatusNotFound,
		"/v1/kv/none?keys":                      http.StatusNotFound,
		"/v1/catalog/nodes":                     http.StatusOK,
		"/v1/catalog/services":                  http.StatusOK,
		"/v1/catalog/service/none":              http.StatusOK,
		"/v1/catalog/connect/none":              http.StatusOK,
		"/v1/catalog/gateway-services/none":     http.StatusOK,
		"/v1/catalog/node/none":                 http.StatusOK,
		"/v1/catalog/node-services/none":        http.StatusOK,
		"/v1/health/service/none":               http.StatusOK,
		"/v1/health/connect/none?stale=":        http.StatusOK,
		"/v1/health/ingress/none":               http.StatusOK,
		"/v1/health/checks/none":                http.StatusOK,
		"/v1/health/node/none":                  http.StatusOK,
		"/v1/health/state/any?wait=1.995s":      http.StatusOK,
		"/v1/coordinate/nodes":                  http.StatusOK,
		"/v1/coordinate/node/none":              http.StatusNotFound,
		"/v1/catalog/nodes?filter=Node+==+none": http.StatusOK,
	} {
		w := do(t, a, "GET", target, "")
		index, err := strconv.ParseUint(w.Header().Get("X-Consul-Index"), 10, 64)
		if w.Code != status || err != nil || index == 0 {
			t.Errorf("%s: got %d with index %q, want %d and one above 0", target, w.Code, w.Header().Get("X-Consul-Index"), status)
		}
	}
}

// TestExpressionsOfThisNodeAreEvaluatedHere asks for what the agent itself knows.
func TestExpressionsOfThisNodeAreEvaluatedHere(t *testing.T) {
	agent := newAgent(t)
	cfg := config(testkit.NewServer(t))
	cfg.Local = agent
	a := New(cfg)
	do(t, a, "PUT", "/v1/agent/service/register", `{"Name":"web","Tags":["a"],"Check":{"TTL":"90s"}}`)
	do(t, a, "PUT", "/v1/agent/service/register", `{"Name":"db","Port":5432}`)
	for target, want := range map[string]string{
		"/v1/agent/services?filter=a+in+Tags+and+Port+==+1":                                 `{}`,
		"/v1/agent/checks?filter=ServiceName+==+db":                                         `{}`,
		"/v1/agent/members?filter=Name+==+none":                                             `[]`,
		"/v1/agent/services?filter=Foo+==+1":                                                `Failed to create boolean expression evaluator: Selector "Foo" is not valid`,
		"/v1/agent/checks?filter=Foo+==+1":                                                  `Failed to create boolean expression evaluator: Selector "Foo" is not valid`,
		"/v1/agent/members?filter=Foo+==+1":                                                 `Failed to create boolean expression evaluator: Selector "Foo" is not valid`,
		"/v1/agent/members?wan&filter=Tags.role+!=+consul":                                  `[]`,
		"/v1/agent/services?filter=Service+==+none+or+Connect.Native+==+true":               `{}`,
		"/v1/agent/checks?filter=Status+==+critical+and+ServiceID+==+web+and+Name+==+other": `{}`,
	} {
		w := do(t, a, "GET", target, "")
		status := http.StatusOK
		if want[0] == 'F' {
			status = http.StatusInternalServerError
		}
		if w.Code != status || w.Body.String() != want {
			t.Errorf("%s: got %d %s, want %d %s", target, w.Code, w.Body, status, want)
		}
	}
	for target, part := range map[string]int{
		"/v1/agent/services?filter=Port+==+5432": 1, "/v1/agent/services": 2, "/v1/agent/checks?filter=ServiceName+==+web": 1,
	} {
		w := do(t, a, "GET", target, "")
		var got map[string]any
		if err := Unmarshal(w.Body.Bytes(), &got); err != nil || len(got) != part {
			t.Errorf("%s: got %s, want %d entries", target, w.Body, part)
		}
	}
	for _, path := range []string{"/v1/catalog/nodes", "/v1/agent/services", "/v1/agent/members"} {
		long := make([]byte, 9000)
		for i := range long {
			long[i] = 'a'
		}
		if w := do(t, a, "GET", path+"?filter="+string(long), ""); w.Code != http.StatusBadRequest {
			t.Errorf("%s with a long expression: got %d %s", path, w.Code, w.Body)
		}
	}
}
