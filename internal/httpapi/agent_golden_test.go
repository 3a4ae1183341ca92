package httpapi

import (
	"net/http"
	"os"
	"testing"
)

const agentGolden = "testdata/agent.golden"

// agentExchanges are sent to the reference and to us alike, one after the other.
// Lists that the reference shows in any order have one entry at most.
func agentExchanges() []exchange {
	var out []exchange
	get := func(target string) { out = append(out, exchange{method: "GET", target: target}) }
	put := func(target, body string) { out = append(out, exchange{method: "PUT", target: target, body: body}) }
	sidecar := func(parent, inner string) {
		put("/v1/agent/service/register", `{"Name":"web","ID":"w1",`+parent+`"Connect":{"SidecarService":`+inner+`}}`)
	}
	shown := func(parent, inner string) {
		sidecar(parent, inner)
		get("/v1/agent/service/w1")
		get("/v1/agent/service/w1-sidecar-proxy")
		put("/v1/agent/service/deregister/w1", "")
		put("/v1/agent/service/deregister/w1-sidecar-proxy", "") // is gone
	}
	const parent = `"Port":80,"Tags":["a","b"],"Meta":{"v":"1"},`
	shown(parent, `{}`)
	shown(parent, `{"Tags":["own"],"meta":{"x":"y"},"Port":9999,"name":"other","Address":"1.2.3.4","weights":{"Passing":3,"Warning":2},"enable_tag_override":true}`)
	shown(`"Address":"5.6.7.8","EnableTagOverride":true,"Weights":{"Passing":7,"Warning":2},"TaggedAddresses":{"lan":{"Address":"9.9.9.9","Port":1}},"Locality":{"Region":"r"},`, `{"Tags":[]}`)
	shown(parent, `{"proxy":{"local_service_port":5,"destination_service_name":"q","upstreams":[{"destination_name":"db","local_bind_port":5,"config":{"a_b":1}},{"DestinationName":"x","LocalBindSocketPath":"/x"}],"config":{"a_b":1}}}`)
	shown(`"SocketPath":"/p",`, `{"SocketPath":"/q"}`)
	shown(`"SocketPath":"/p",`, `{"Proxy":{"LocalServiceAddress":"1.1.1.1","LocalServicePort":5}}`)
	shown(`"Kind":"connect-proxy","Port":1,"Proxy":{"DestinationServiceName":"z"},`, `{}`)
	shown(parent, `null`)
	shown(parent, `{"Port":-1,"Checks":[],"Connect":{}}`)
	for _, inner := range []string{
		`{"ID":"x"}`, `{"Connect":{"SidecarService":{}}}`, `{"ID":"x","Connect":{"SidecarService":{}}}`, `{"Connect":{"Native":true}}`,
		`{"Kind":"mesh-gateway"}`, `{"Meta":{"consul-x":"1"}}`, `{"Meta":{"consul-x":"1"},"Kind":"mesh-gateway"}`,
		`{"Check":{"TCP":"x:1"}}`, `{"Check":{"ID":"q","TTL":"90s"}}`, `{"Check":{"Status":"bad","TTL":"90s"}}`, `{"unknown":1}`,
		`{"Proxy":{"Upstreams":[{"LocalBindPort":5}]}}`, `{"Proxy":{"Upstreams":[{"DestinationName":"x"}]}}`,
		`{"Proxy":{"Upstreams":[{"DestinationName":"x","LocalBindPort":5},{"DestinationName":"x","LocalBindPort":6}]}}`,
		`{"Proxy":{"Upstreams":[{"DestinationName":"x","LocalBindPort":5},{"DestinationName":"y","LocalBindPort":5}]}}`,
		`{"Proxy":{"Upstreams":[{"DestinationName":"x","LocalBindPort":5},{"DestinationName":"x","LocalBindPort":5}]}}`,
		`{"Proxy":{"Upstreams":[{"DestinationName":"x","LocalBindSocketPath":"/x"},{"DestinationName":"y","LocalBindSocketPath":"/x"}]}}`,
		`{"Proxy":{"Upstreams":[{"DestinationName":"x","LocalBindPort":5},{"DestinationName":"x","LocalBindPort":5,"LocalBindAddress":"127.0.0.2","Datacenter":"dc2"}]}}`,
		`{"Proxy":{"Expose":{"Paths":[{"Path":"/","ListenerPort":1,"Protocol":"z"},{"Path":"/","ListenerPort":1},{"ListenerPort":70000}]}}}`,
	} {
		sidecar(parent, inner)
	}
	put("/v1/agent/service/deregister/w1", "")
	sidecar(`"Kind":"connect-proxy",`, `{"ID":"x","Connect":{"SidecarService":{}}}`)
	put("/v1/agent/service/register", `{"Kind":"connect-proxy","Name":"f","Port":1,"Proxy":{"DestinationServiceName":"x","Upstreams":[{"LocalBindPort":5},{"DestinationName":"x"},
		{"DestinationName":"*","LocalBindPort":5},{"DestinationName":"y","LocalBindPort":5},{"DestinationName":"y","LocalBindPort":6},{"DestinationType":"zz","DestinationName":"y","LocalBindPort":6},
		{"DestinationName":"y","LocalBindSocketPath":"/y","DestinationType":"prepared_query"},{"DestinationName":"z","LocalBindSocketPath":"/z","LocalBindPort":5}]}}`)

	// Ports: kept by who has one in the range, and given to nobody else.
	register := func(id, inner string) {
		put("/v1/agent/service/register", `{"Name":"`+id+`","Port":80,"Connect":{"SidecarService":`+inner+`}}`)
	}
	register("p0", `{}`)
	put("/v1/agent/service/register", `{"Name":"other","Port":21001}`)
	register("p1", `{}`)
	register("p2", `{"Port":21002}`) // whoever asks for a port gets it
	register("p0", `{}`)
	register("p3", `{"Port":9000}`)
	register("p3", `{}`)
	for _, id := range []string{"p0", "p1", "p2", "p3"} {
		get("/v1/agent/service/" + id + "-sidecar-proxy")
	}
	put("/v1/agent/service/register", `{"Name":"p0","Port":80}`)
	get("/v1/agent/service/p0-sidecar-proxy") // is still there
	put("/v1/agent/service/register", `{"Name":"mine","ID":"p1-sidecar-proxy","Port":5}`)
	put("/v1/agent/service/deregister/p1", "")
	get("/v1/agent/service/p1-sidecar-proxy") // is no sidecar any more
	put("/v1/agent/service/deregister/p1-sidecar-proxy", "")
	put("/v1/agent/service/deregister/p2-sidecar-proxy", "")
	get("/v1/agent/service/p2")
	for _, id := range []string{"p0", "p2", "p3", "other"} {
		put("/v1/agent/service/deregister/"+id, "")
	}
	get("/v1/agent/services")
	get("/v1/agent/checks")
	return append(out, stateExchanges()...)
}

// stateExchanges are about maintenance and health.
func stateExchanges() []exchange {
	var out []exchange
	get := func(target string) { out = append(out, exchange{method: "GET", target: target}) }
	put := func(target, body string) { out = append(out, exchange{method: "PUT", target: target, body: body}) }
	health := func(targets ...string) {
		for _, target := range targets {
			get("/v1/agent/health/service/" + target)
		}
	}
	put("/v1/agent/service/register", `{"Name":"web","ID":"w1","Port":80,"Tags":["t"]}`)
	for _, target := range []string{
		"service/maintenance/w1", "service/maintenance/?enable=true", "service/maintenance/w1?enable=x", "service/maintenance/w1?enable",
		"service/maintenance/none?enable=true", "service/maintenance/none?enable=false", "service/maintenance/none",
		"maintenance", "maintenance?enable=", "maintenance?enable=x", "service/maintenance/w1?enable=true", "service/maintenance/w1?enable=1&reason=again",
	} {
		put("/v1/agent/"+target, "")
	}
	get("/v1/agent/maintenance?enable=true")
	get("/v1/agent/service/maintenance/w1?enable=true")
	get("/v1/agent/checks")
	health("id/w1", "name/web", "id/none", "name/none", "id/", "name/", "", "id", "id/w1?format=text", "name/web?format=text", "id/none?format=text",
		"name/none?format=text", "id/w1?format=x", "id/w1?pretty")
	put("/v1/agent/service/register?replace-existing-checks=true", `{"Name":"web","ID":"w1","Port":80,"Tags":["t"]}`)
	get("/v1/agent/checks")
	health("id/w1")
	put("/v1/agent/service/maintenance/w1?enable=T&reason=%3Cwhy%3E", "")
	get("/v1/agent/checks")
	put("/v1/agent/service/maintenance/w1?enable=false", "")
	put("/v1/agent/service/maintenance/w1?enable=0", "")
	put("/v1/agent/maintenance?enable=true&reason=a%20b", "")
	get("/v1/agent/checks")
	health("id/w1", "name/web")
	put("/v1/agent/maintenance?enable=f", "")
	put("/v1/agent/maintenance?enable=false", "")
	put("/v1/agent/maintenance?enable=true", "")
	get("/v1/agent/checks")
	put("/v1/agent/maintenance?enable=false", "")
	put("/v1/agent/service/register", `{"Name":"one","Port":81,"Checks":[{"TTL":"90s","Status":"warning","Name":"c","Notes":"n"}]}`)
	health("id/one", "name/one", "id/one?format=text", "name/ONE", "id/ONE")
	put("/v1/agent/service/register", `{"Name":"web","ID":"w2","Checks":[{"TTL":"90s","Status":"critical"}]}`)
	put("/v1/agent/service/register", `{"Name":"web","ID":"w3","Checks":[{"TTL":"90s","Status":"warning"}]}`)
	health("id/w1", "id/w2", "id/w2?format=text", "name/web?format=text")
	put("/v1/agent/check/pass/service:w2", "")
	health("id/w2", "name/web?format=text")
	put("/v1/agent/check/register", `{"Name":"node","TTL":"90s","Status":"critical"}`)
	health("id/w1", "id/w1?format=text", "name/web?format=text", "name/none")
	put("/v1/agent/maintenance?enable=true", "")
	health("name/web?format=text")
	out = append(out, exchange{method: "GET", target: "/v1/agent/health/service/id/w1", header: "Accept: text/plain"},
		exchange{method: "HEAD", target: "/v1/agent/health/service/id/w1"}, exchange{method: "POST", target: "/v1/agent/health/service/id/w1"},
		exchange{method: "OPTIONS", target: "/v1/agent/health/service/name/x"})
	get("/v1/agent/version")
	put("/v1/agent/version", "")
	put("/v1/agent/host", "")
	return out
}

// TestAgentAnswersAsTheReference asks an agent of ours what the reference was
// asked. With -update the reference is asked anew.
func TestAgentAnswersAsTheReference(t *testing.T) {
	list := agentExchanges()
	if *update && os.Getenv("ISTHMUS_REFERENCE") != "" {
		addr := startReference(t, os.Getenv("ISTHMUS_REFERENCE"))
		if err := os.WriteFile(agentGolden, record(t, addr, list), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(agentGolden)
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(fakeCaller{})
	cfg.Local = newAgent(t)
	a := New(cfg)
	for i, wanted := range parseAnswers(t, b, len(list)) {
		x := list[i]
		if wanted.method != x.method || wanted.target != x.target {
			t.Fatalf("%s is out of date at %s %s: record it anew with ISTHMUS_REFERENCE and -update", agentGolden, x.method, x.target)
		}
		w := send(t, a, x)
		if got, want := bodyOf(x, w.Body.Bytes()), bodyOf(x, wanted.body); w.Code != wanted.status || got != want {
			t.Errorf("%s %s %s: got %d\n%s\nwant\n%s", x.method, x.target, x.body, w.Code, got, want)
		}
		for _, name := range []string{"Content-Type", "X-Consul-Reason", "Allow"} {
			if got, want := w.Header().Get(name), wanted.header.Get(name); got != want && w.Code != http.StatusMovedPermanently {
				t.Errorf("%s %s: got %s %q, want %q", x.method, x.target, name, got, want)
			}
		}
	}
}
