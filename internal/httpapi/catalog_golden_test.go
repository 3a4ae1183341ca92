package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"isthmus/internal/testkit"
)

const catalogGolden = "testdata/catalog.golden"

// virtual are the addresses that the reference makes up for services of the mesh.
var virtual = regexp.MustCompile(`"(Service)?TaggedAddresses":{"consul-virtual":{[^}]*}},`)

// catalogSetup fills a catalog: four nodes at known distances, of which the last is
// nowhere, with services, sidecars and checks.
func catalogSetup() []exchange {
	var out []exchange
	register := func(node, rack, rest string) {
		body := fmt.Sprintf(`{"Node":%q,"Address":"10.0.0.9","NodeMeta":{"rack":%q,"node":%q},%s}`, node, rack, node, rest)
		out = append(out, exchange{method: "PUT", target: "/v1/catalog/register", body: body})
	}
	web := func(tags, meta, status string) string {
		return fmt.Sprintf(`"Service":{"Service":"web","ID":"web1","Port":80,"Tags":[%s],"Meta":{%s},"Weights":{"Passing":10,"Warning":2}},
			"Checks":[{"CheckID":"c1","Name":"alive","Status":%q,"ServiceID":"web1"},{"CheckID":"n","Name":"node","Status":"passing"}]`, tags, meta, status)
	}
	register("x1", "a", web(`"v1","blue"`, `"version":"1"`, "passing"))
	register("x2", "a", web(`"v1"`, `"version":"2","path":"/a/b"`, "warning"))
	register("x3", "b", web(`"v2","blue"`, ``, "critical"))
	register("x4", "b", web(``, ``, "passing"))
	register("x2", "a", `"Service":{"Service":"web-sidecar-proxy","Kind":"connect-proxy","Port":21000,"Tags":["v1"],
		"Proxy":{"DestinationServiceName":"web","DestinationServiceID":"web1","Upstreams":[{"DestinationName":"db","LocalBindPort":5000}]}}`)
	register("x1", "a", `"Service":{"Service":"web-sidecar-proxy","ID":"p1","Kind":"connect-proxy","Port":21000,
		"Proxy":{"DestinationServiceName":"WEB"}},"Check":{"CheckID":"c2","Name":"proxy","Status":"critical","ServiceID":"p1"}`)
	register("x3", "b", `"Service":{"Service":"db","Port":5432,"Connect":{"Native":true}}`)
	for node, at := range map[string]string{"n1": "0", "x1": "0.3", "x2": "0.1", "x3": "0.2"} {
		out = append(out, exchange{
			method: "PUT", target: "/v1/coordinate/update",
			body: fmt.Sprintf(`{"Node":%q,"Coord":{"Vec":[%s,0,0,0,0,0,0,0],"Error":1.5,"Adjustment":0,"Height":0.00001}}`, node, at),
		})
	}
	return out
}

// catalogExchanges are sent to the reference and to us alike.
func catalogExchanges() []exchange {
	var out []exchange
	get := func(target, filter string) {
		if filter != "" {
			sign := "?"
			if strings.Contains(target, "?") {
				sign = "&"
			}
			target += sign + "filter=" + url.QueryEscape(filter)
		}
		out = append(out, exchange{method: "GET", target: target})
	}
	mine := `Node matches "^x"`
	for _, filter := range []string{
		mine, `Node == x1`, `Meta.rack == a`, `Meta.rack != a and ` + mine, `x in Node and not Meta.rack == a`, `rack in Meta`, `Meta.zz == ""`,
		`Meta is empty`, `Node == none`, `Foo == 1`, `node == x1`, `Locality.Region == 1`, `CreateIndex == 1`, `Meta.a.b == 1`, `Meta == 1`, `Node is empty`,
		`Node matches "["`, `(Node == x1`, `Node == "x1`, `Node == 1x`, `Meta[a] == 1`,
	} {
		get("/v1/catalog/nodes", filter)
	}
	for _, near := range []string{"_agent", "n1", "x1", "x2", "x3", "x4", "none", "", "N1"} {
		get("/v1/catalog/nodes?near="+near, mine)
	}
	get("/v1/catalog/nodes?node-meta=rack:a&near=x1", "")
	get("/v1/catalog/nodes?node-meta=rack:a&node-meta=node:x2", "")
	get("/v1/catalog/nodes?node-meta=rack:zz", "")
	get("/v1/catalog/nodes?node-meta=rack", "")

	for _, filter := range []string{
		`ServiceName == db`, `blue in ServiceTags`, `ServiceMeta.version == 1`, `NodeMeta.rack == b`, `ServiceKind == "connect-proxy"`,
		`ServiceTags is empty and ServiceName != consul`, `ServiceID == none`, `Name == x`,
	} {
		get("/v1/catalog/services", filter)
	}
	get("/v1/catalog/services?node-meta=rack:b", `ServiceName != db`)

	for _, target := range []string{"/v1/catalog/service/web", "/v1/catalog/connect/web", "/v1/health/service/web", "/v1/health/connect/web"} {
		prefix := "Service"
		if strings.Contains(target, "health") {
			prefix = "Service."
		}
		get(target, "")
		get(target+"?near=_agent", "")
		get(target+"?near=x1&tag=v1", "")
		get(target+"?tag=v1&tag=blue", "")
		get(target+"?node-meta=rack:a", "")
		if prefix == "Service." { // beside /v1/catalog the reference then forgets the nodes
			get(target+"?merge-central-config&near=x3", "")
		}
		for _, filter := range []string{"Port == 80", "Tags contains blue", "Meta.version == 2", `Meta.path == "/a/b"`, "Weights.Passing == 10", "Proxy.DestinationServiceName == web", "Proxy.Upstreams.LocalBindPort == 5000", "Port == x", "Nope == 1"} {
			get(target, prefix+filter)
		}
	}
	get("/v1/catalog/connect/db", "")
	get("/v1/health/connect/db", "")
	get("/v1/health/service/WEB", `Service.ID == web1 and Node.Node == x1`)
	get("/v1/catalog/connect/none", "")
	get("/v1/catalog/connect/", "")
	get("/v1/health/connect/", "")
	get("/v1/health/connect/web?passing", "")
	get("/v1/health/service/web?passing=x", "")
	for _, filter := range []string{"Checks.Status == warning", "Checks.Status != passing", "not Checks.Status == critical", "Checks is empty", "blue in Checks.ServiceTags", "Checks.Definition.TCP == x", "Service == x"} {
		get("/v1/health/service/web", filter)
	}
	get("/v1/health/ingress/web", "")
	get("/v1/health/ingress/", "")
	get("/v1/catalog/gateway-services/gw", "")
	get("/v1/catalog/gateway-services/", "")

	for _, node := range []string{"x1", "x2", "x3", "x4", "X1", "none", ""} {
		get("/v1/internal/ui/node/"+node, "")
	}
	for _, filter := range []string{mine, `Meta.rack == a and ` + mine, `Services.Port == 80`, `Checks.Status == warning`, `Foo == 1`} {
		get("/v1/internal/ui/nodes", filter)
	}
	for _, filter := range []string{`Node.Node matches "^x"`, `Node.Meta.rack == b and Node.Node != n1`, `Service.Service == web`, `Service.Kind == "connect-proxy"`, `Name == web`} {
		get("/v1/internal/ui/services", filter)
	}
	get("/v1/internal/ui/gateway-services-nodes/gw", "")
	get("/v1/internal/ui/gateway-services-nodes/", "")

	get("/v1/catalog/node/x1", `Kind == "connect-proxy"`)
	get("/v1/catalog/node/x1", `ID == none`)
	get("/v1/catalog/node/none", `ID == none`)
	get("/v1/catalog/node/x1", `Foo == none`)
	get("/v1/catalog/node-services/x1", `Port == 80`)
	get("/v1/catalog/node-services/x1", `ID == none`)
	get("/v1/catalog/node-services/x1?merge-central-config", `Port == 80`)
	get("/v1/catalog/node-services/none", `Port == 80`)

	get("/v1/health/node/x1", `Status == critical`)
	get("/v1/health/node/x1", `Nope == critical`)
	get("/v1/health/checks/web?near=_agent", "")
	get("/v1/health/checks/web?node-meta=rack:a", `Status != passing`)
	get("/v1/health/state/any?near=x1", `Node != n1`)
	get("/v1/health/state/warning", `Node == x2 and ServiceName == web`)
	get("/v1/health/state/any?node-meta=rack:b", `ServiceName == ""`)

	get("/v1/coordinate/nodes", "")
	get("/v1/coordinate/nodes?segment=x", "")
	get("/v1/coordinate/nodes?segment=", "")
	get("/v1/coordinate/node/x1", "")
	get("/v1/coordinate/node/x4", "")
	get("/v1/coordinate/node/x1?segment=x", "")
	get("/v1/coordinate/node/", "")
	get("/v1/coordinate/", "")
	get("/v1/coordinate/update", "")
	out = append(out,
		exchange{method: "PUT", target: "/v1/coordinate/update", body: `{"Node":"x1","Coord":{"Vec":[1]}}`},
		exchange{method: "PUT", target: "/v1/coordinate/update", body: `{`},
	)
	return out
}

// TestCatalogAnswersAsTheReference asks a real server of ours what the reference
// was asked, about the same catalog. With -update the reference is asked anew.
func TestCatalogAnswersAsTheReference(t *testing.T) {
	list := catalogExchanges()
	if *update && os.Getenv("ISTHMUS_REFERENCE") != "" {
		addr := startReference(t, os.Getenv("ISTHMUS_REFERENCE"))
		record(t, addr, catalogSetup())
		awaitPart(t, "http://"+addr+"/v1/coordinate/node/x1", "x1")
		awaitPart(t, "http://"+addr+"/v1/coordinate/node/x3", "x3")
		if err := os.WriteFile(catalogGolden, record(t, addr, list), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(catalogGolden)
	if err != nil {
		t.Fatal(err)
	}
	a := New(config(testkit.NewServer(t)))
	do(t, a, "PUT", "/v1/catalog/register", `{"Node":"n1","Address":"127.0.0.1","NodeMeta":{"a":"b"}}`)
	for _, x := range catalogSetup() {
		if w := send(t, a, x); w.Code != http.StatusOK {
			t.Fatalf("%s: got %d %s", x.body, w.Code, w.Body)
		}
	}
	testkit.Eventually(t, func() error {
		if w := do(t, a, "GET", "/v1/coordinate/node/x1", ""); w.Code != http.StatusOK {
			return fmt.Errorf("got %d", w.Code)
		}
		return nil
	})
	for i, want := range parseAnswers(t, b, len(list)) {
		x := list[i]
		if want.target != x.target {
			t.Fatalf("%s is out of date at %s: record it anew with ISTHMUS_REFERENCE and -update", catalogGolden, x.target)
		}
		w := send(t, a, x)
		got := answer{x.method, x.target, w.Code, w.Header(), w.Body.Bytes()}
		if strings.HasPrefix(x.target, "/v1/internal/ui/") { // we never keep null
			want.body = bytes.ReplaceAll(want.body, []byte(`"ServiceTags":null`), []byte(`"ServiceTags":[]`))
		}
		if got.status != want.status || timeless(unordered(got)) != virtual.ReplaceAllString(timeless(unordered(want)), "") {
			t.Errorf("%s: got %d\n%s\nwant %d\n%s", x.target, got.status, got.body, want.status, want.body)
		}
		for _, name := range []string{"X-Consul-Index", "X-Consul-Effective-Consistency", "Content-Type"} {
			missing := w.Header().Get(name) == "" && want.header.Get(name) != ""
			if missing || name == "X-Consul-Effective-Consistency" && !slices.Equal(w.Header()[name], want.header[name]) {
				t.Errorf("%s: got %s %q, want %q", x.target, name, w.Header()[name], want.header[name])
			}
		}
	}
	// The reference loses the order where it leaves instances out.
	w := do(t, a, "GET", "/v1/health/service/web?passing&near=_agent", "")
	var near []struct{ Node struct{ Node string } }
	if err := json.Unmarshal(w.Body.Bytes(), &near); err != nil || len(near) != 2 || near[0].Node.Node != "x1" || near[1].Node.Node != "x4" {
		t.Errorf("the nearest that pass: got %+v, %v", near, err)
	}
}
