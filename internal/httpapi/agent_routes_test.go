package httpapi

import (
	"net/http"
	"os"
	"strings"
	"testing"
)

const routesGolden = "testdata/agent_routes.golden"

// agentPaths are the routes below /v1/agent/ that the documentation of the
// reference names, and some that neither has.
const agentPaths = `
	self host version reload maintenance leave members metrics metrics/stream monitor join/ join force-leave/ force-leave
	services service/ service service/register service/deregister/ service/deregister service/maintenance/ service/maintenance
	health/service/id/ health/service/name/ health/service/ health/
	checks check/ check/register check/deregister/ check/pass/ check/warn/ check/fail/ check/update/ check/pass
	connect/ connect/authorize connect/ca/ connect/ca/roots connect/ca/leaf/ connect/ca/leaf
	token/ token token/default token/agent token/agent_recovery token/agent_master token/replication token/dns
	token/config_file_service_registration token/acl_token token/acl_agent_token token/acl_agent_master_token
	token/acl_replication_token token/nope nothing nothing/ service/nothing/ self/ self/x members/`

// routeExchanges ask which methods each route has, and for what tokens answer
// while the ACL system is off.
func routeExchanges() []exchange {
	var out []exchange
	for path := range strings.FieldsSeq(agentPaths) {
		out = append(out, exchange{method: "OPTIONS", target: "/v1/agent/" + path}, exchange{method: "DELETE", target: "/v1/agent/" + path})
		if strings.HasPrefix(path, "token/") {
			out = append(out,
				exchange{method: "PUT", target: "/v1/agent/" + path, body: `{"Token":"secret"}`},
				exchange{method: "PUT", target: "/v1/agent/" + path, body: `{`},
				exchange{method: "GET", target: "/v1/agent/" + path})
		}
	}
	return out
}

// TestAgentRoutesAreThoseOfTheReference asks ours what the reference was asked.
// With -update the reference is asked anew.
func TestAgentRoutesAreThoseOfTheReference(t *testing.T) {
	list := routeExchanges()
	if *update && os.Getenv("ISTHMUS_REFERENCE") != "" {
		addr := startReference(t, os.Getenv("ISTHMUS_REFERENCE"))
		if err := os.WriteFile(routesGolden, record(t, addr, list), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(routesGolden)
	if err != nil {
		t.Fatal(err)
	}
	a := New(config(fakeCaller{}))
	for i, want := range parseAnswers(t, b, len(list)) {
		x := list[i]
		if want.method != x.method || want.target != x.target {
			t.Fatalf("%s is out of date at %s %s: record it anew with ISTHMUS_REFERENCE and -update", routesGolden, x.method, x.target)
		}
		w := send(t, a, x)
		got, wanted := decisive(w.Header(), w.Code), decisive(want.header, want.status)
		if w.Code != want.status || w.Body.String() != string(want.body) && w.Code != http.StatusMovedPermanently {
			t.Errorf("%s %s: got %d %q, want %d %q", x.method, x.target, w.Code, w.Body, want.status, want.body)
		}
		for _, name := range []string{"Allow", "Content-Type", "Location"} {
			if got.Get(name) != wanted.Get(name) && (name != "Content-Type" || w.Code != http.StatusMovedPermanently) {
				t.Errorf("%s %s: got %s %q, want %q", x.method, x.target, name, got.Get(name), wanted.Get(name))
			}
		}
	}
}

// TestWhatIsNotBuiltNamesItself sends requests to routes of agents that are
// another part's.
func TestWhatIsNotBuiltNamesItself(t *testing.T) {
	a := New(config(fakeCaller{}))
	for _, x := range []exchange{
		{method: "POST", target: "/v1/agent/connect/authorize", body: "{}"},
		{method: "GET", target: "/v1/agent/connect/ca/leaf/web"},
	} {
		w := send(t, a, x)
		route := strings.TrimSuffix(x.target, "web")
		if w.Code != http.StatusNotImplemented || !strings.Contains(w.Body.String(), route) {
			t.Errorf("%s %s: got %d %s", x.method, x.target, w.Code, w.Body)
		}
	}
}

// TestClientKnowsNobodyInTheWAN has the texts of the reference's client agent.
func TestClientKnowsNobodyInTheWAN(t *testing.T) {
	cfg := config(fakeCaller{})
	cfg.WAN = nil
	a := New(cfg)
	for _, c := range []struct {
		method, target string
		status         int
		body           string
	}{
		{"GET", "/v1/agent/members?wan=1", http.StatusOK, "null"},
		{"PUT", "/v1/agent/join/127.0.0.9?wan=1", http.StatusInternalServerError, "Must be a server to join WAN cluster"},
		{"PUT", "/v1/agent/force-leave/x?wan=1", http.StatusInternalServerError, "Must be a server to force-leave a node from the WAN cluster"},
	} {
		if w := send(t, a, exchange{method: c.method, target: c.target}); w.Code != c.status || w.Body.String() != c.body {
			t.Errorf("%s %s: got %d %s, want %d %s", c.method, c.target, w.Code, w.Body, c.status, c.body)
		}
	}
}
