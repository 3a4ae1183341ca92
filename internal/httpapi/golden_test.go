package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"isthmus/api"
	"isthmus/internal/local"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// exchange is a request that was sent to the reference. Its answer stands in
// testdata; err is what a server says where the reference's own did.
type exchange struct {
	method, target, body string
	err                  error
	header               string // "Name: value"
}

var errNoPath = api.Known(api.NoPath, nil)

// exchanges are sent in this order, so that later ones see what earlier ones
// wrote.
var exchanges = []exchange{
	{method: "GET", target: "/v1/status/leader"},
	{method: "GET", target: "/v1/status/peers"},
	{method: "GET", target: "/v1/status/leader?dc=nope", err: errNoPath},
	{method: "HEAD", target: "/v1/status/leader"},
	{method: "OPTIONS", target: "/v1/status/leader"},
	{method: "DELETE", target: "/v1/status/leader"},
	{method: "OPTIONS", target: "/v1/kv/a"},
	{method: "HEAD", target: "/v1/kv/a"},
	{method: "PATCH", target: "/v1/kv/a"},
	{method: "GET", target: "/v1/kv/missing"},
	{method: "GET", target: "/v1/kv/"},
	{method: "GET", target: "/v1/kv"},
	{method: "PUT", target: "/v1/kv/", body: "x"},
	{method: "DELETE", target: "/v1/kv/"},
	{method: "PUT", target: "/v1/kv/a?flags=42", body: "hello"},
	{method: "PUT", target: "/v1/kv/dir/empty"},
	{method: "PUT", target: "/v1/kv/dir/%3Ctag%3E%20&%22%5C%C3%BC%E2%80%A8%25", body: "\x00\xff\n"},
	{method: "PUT", target: "/v1/kv/a%2Fb/", body: "slash"},
	{method: "PUT", target: "/v1/kv/%FFbad", body: "not UTF-8"},
	{method: "PUT", target: "/v1/kv/tab%09", body: "x"},
	{method: "GET", target: "/v1/kv/a"},
	{method: "GET", target: "/v1/kv/a?pretty"},
	{method: "GET", target: "/v1/kv/a?raw"},
	{method: "GET", target: "/v1/kv/dir/empty"},
	{method: "GET", target: "/v1/kv/dir/empty?raw"},
	{method: "GET", target: "/v1/kv/none?raw"},
	{method: "GET", target: "/v1/kv/%FFbad"},
	{method: "GET", target: "/v1/kv/?recurse"},
	{method: "GET", target: "/v1/kv/?recurse&pretty"},
	{method: "GET", target: "/v1/kv/?keys"},
	{method: "GET", target: "/v1/kv/?keys&separator=/"},
	{method: "GET", target: "/v1/kv/zz?keys"},
	{method: "GET", target: "/v1/kv/zz?recurse"},
	{method: "GET", target: "/v1/kv/a?dc=nope", err: errNoPath},
	{method: "GET", target: "/v1/kv/a?index=x"},
	{method: "GET", target: "/v1/kv/a?index=-1"},
	{method: "GET", target: "/v1/kv/a?wait=x"},
	{method: "GET", target: "/v1/kv/a?wait=10"},
	{method: "GET", target: "/v1/kv/a?index=&wait="},
	{method: "GET", target: "/v1/kv/a?index=1&wait=1.5ms"},
	{method: "GET", target: "/v1/kv/a?stale&consistent"},
	{method: "GET", target: "/v1/kv/a?ns=x"},
	{method: "GET", target: "/v1/kv/a?partition=x"},
	{method: "PUT", target: "/v1/kv/a?flags=x", body: "x"},
	{method: "PUT", target: "/v1/kv/a?cas=x", body: "x"},
	{method: "PUT", target: "/v1/kv/a?cas=0&acquire=y", body: "x"},
	{method: "PUT", target: "/v1/kv/a?cas=0", body: "x"},
	{method: "DELETE", target: "/v1/kv/a?cas=1"},
	{method: "DELETE", target: "/v1/kv/a?cas=1&recurse"},
	{method: "DELETE", target: "/v1/kv/dir?recurse"},
	{method: "PUT", target: "/v1/kv/a?dc=nope", body: "x", err: errNoPath},
	{method: "PUT", target: "/v1/kv/big", body: strings.Repeat("x", 600000)},
	{method: "GET", target: "//v1/kv/a"},
	{method: "GET", target: "/v1/kv//a?x=1"},
	{method: "GET", target: "/v1/kv/a/../b"},
	{method: "GET", target: "/v1/kv/a/./b/"},
	{method: "GET", target: "/v1/kv/%2e%2e/b"},
	{method: "PUT", target: "/v1//kv/a", body: "x"},
	{method: "GET", target: "/v1/nope"},
	{method: "GET", target: "/nope"},
	{method: "GET", target: "/v1/catalog/nodes/"},
	{method: "GET", target: "/v1/catalog/service"},

	{method: "PUT", target: "/v1/catalog/register", body: `{"Node":"ext","Address":"10.0.0.9","NodeMeta":{"a":"b"},"TaggedAddresses":{"wan":"1.2.3.4"},
		"Service":{"Service":"db","ID":"db1","Port":5432,"Tags":["m","<&>"],"Meta":{"v":"1"},"TaggedAddresses":{"wan":{"Address":"1.2.3.4","Port":5}},"Weights":{"Passing":3,"Warning":1}},
		"Checks":[{"CheckID":"c1","Name":"alive","Status":"warning","ServiceID":"db1","Definition":{"TCP":"x:1","Interval":"10s","Timeout":"1s","DeregisterCriticalServiceAfter":"90m"}}]}`},
	{method: "PUT", target: "/v1/catalog/register", body: `{"Node":"gw","Address":"10.0.0.8","Check":{"Name":"bare"},"Service":{"Service":"mesh-gateway","Kind":"mesh-gateway","Port":443,"Meta":{"consul-wan-federation":"1"},"Proxy":{"Config":{"a":1}}}}`},
	{method: "PUT", target: "/v1/catalog/register", body: ``},
	{method: "PUT", target: "/v1/catalog/register", body: `{`},
	{method: "PUT", target: "/v1/catalog/register", body: `{"Node":"n1","Address":"1.1.1.1","foo":1}`},
	{method: "PUT", target: "/v1/catalog/register", body: `{}`, err: api.Errorf(api.Invalid, "Must provide node")},
	{method: "PUT", target: "/v1/catalog/register", body: `{"Node":"n1","Address":"1.1.1.1","Datacenter":"nope"}`, err: errNoPath},
	{method: "PUT", target: "/v1/catalog/deregister", body: `{}`, err: api.Errorf(api.Invalid, "Must provide node")},
	{method: "PUT", target: "/v1/catalog/deregister", body: `{"Node":"unknown"}`},
	{method: "GET", target: "/v1/catalog/register"},
	{method: "GET", target: "/v1/catalog/datacenters"},
	{method: "GET", target: "/v1/catalog/nodes"},
	{method: "GET", target: "/v1/catalog/nodes?pretty"},
	{method: "GET", target: "/v1/catalog/nodes?stale"},
	{method: "GET", target: "/v1/catalog/nodes?stale=false"},
	{method: "GET", target: "/v1/catalog/nodes?consistent"},
	{method: "GET", target: "/v1/catalog/nodes?cached&consistent"},
	{method: "GET", target: "/v1/catalog/nodes?max_stale=1s"},
	{method: "GET", target: "/v1/catalog/nodes?max_stale=x"},
	{method: "GET", target: "/v1/catalog/nodes", header: "Cache-Control: max-age=x"},
	{method: "GET", target: "/v1/catalog/nodes?dc=nope", err: errNoPath},
	{method: "GET", target: "/v1/catalog/nodes?node-meta=x:y"},
	{method: "GET", target: "/v1/catalog/services"},
	{method: "GET", target: "/v1/catalog/service/db"},
	{method: "GET", target: "/v1/catalog/service/mesh-gateway"},
	{method: "GET", target: "/v1/catalog/service/consul"},
	{method: "GET", target: "/v1/catalog/service/none"},
	{method: "GET", target: "/v1/catalog/service/"},
	{method: "GET", target: "/v1/catalog/node/ext"},
	{method: "GET", target: "/v1/catalog/node/none"},
	{method: "GET", target: "/v1/catalog/node/"},
	{method: "GET", target: "/v1/catalog/node-services/ext"},
	{method: "GET", target: "/v1/catalog/node-services/none"},
	{method: "GET", target: "/v1/catalog/node/gw"},
	{method: "GET", target: "/v1/catalog/node-services/gw"},
	{method: "GET", target: "/v1/health/service/mesh-gateway"},
	{method: "GET", target: "/v1/health/service/db"},
	{method: "GET", target: "/v1/health/service/db?pretty"},
	{method: "GET", target: "/v1/health/service/db?passing"},
	{method: "GET", target: "/v1/health/service/db?passing=false&tag=m"},
	{method: "GET", target: "/v1/health/service/db?passing=x"},
	{method: "GET", target: "/v1/health/service/none"},
	{method: "GET", target: "/v1/health/service/"},
	{method: "GET", target: "/v1/health/checks/db"},
	{method: "GET", target: "/v1/health/checks/none"},
	{method: "GET", target: "/v1/health/checks/"},
	{method: "GET", target: "/v1/health/node/ext"},
	{method: "GET", target: "/v1/health/node/"},
	{method: "GET", target: "/v1/health/state/any"},
	{method: "GET", target: "/v1/health/state/critical"},
	{method: "GET", target: "/v1/health/state/"},

	{method: "GET", target: "/v1/internal/federation-states"},
	{method: "GET", target: "/v1/internal/federation-states/mesh-gateways"},
	{method: "GET", target: "/v1/internal/federation-states?dc=nope", err: errNoPath},
	{method: "GET", target: "/v1/internal/federation-state/dc1"},
	{method: "GET", target: "/v1/internal/federation-state/none"},
	{method: "GET", target: "/v1/internal/federation-state/"},

	{method: "PUT", target: "/v1/agent/service/register", body: `{"name":"web","id":"w1","tags":["a"],"enable_tag_override":true,"tagged_addresses":{"lan":{"address":"1.2.3.4","port":5}},"check":{"ttl":"90s","deregister_critical_service_after":"1m","notes":"n"}}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Name":"p","Port":1,"Kind":"connect-proxy","Proxy":{"destination_service_name":"w","upstreams":[{"destination_type":"service","destination_name":"x","local_bind_port":5,"mesh_gateway":{"mode":"local"}}],"Config":{"a_b":1},"mesh_gateway":{"mode":"local"}}}`},
	{method: "PUT", target: "/v1/agent/service/register", body: ``},
	{method: "PUT", target: "/v1/agent/service/register", body: `{`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"name":"web","unknown":1}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"name":"web","check":{"Script":"x"}}`},
	{method: "PUT", target: "/v1/agent/check/register", body: `{}`},
	{method: "PUT", target: "/v1/agent/check/register", body: `{"Name":"c1","TTL":"90s","foo":1}`},
	{method: "PUT", target: "/v1/agent/check/register", body: `{"Name":"c1","TTL":"90s"}`},
	{method: "GET", target: "/v1/agent/services"},
	{method: "GET", target: "/v1/agent/checks"},
	{method: "GET", target: "/v1/agent/service/w1"},
	{method: "GET", target: "/v1/agent/service/none"},
	{method: "PUT", target: "/v1/agent/check/pass/service:w1?note=fine"},
	{method: "PUT", target: "/v1/agent/check/warn/none"},
	{method: "PUT", target: "/v1/agent/check/fail/none"},
	{method: "PUT", target: "/v1/agent/check/update/service:w1", body: `{"Status":"warning","Output":"o"}`},
	{method: "PUT", target: "/v1/agent/check/update/service:w1", body: `{"Status":"bad"}`},
	{method: "PUT", target: "/v1/agent/check/update/service:w1", body: `{`},
	{method: "PUT", target: "/v1/agent/check/update/none", body: `{"Status":"passing"}`},
	{method: "PUT", target: "/v1/agent/check/deregister/none"},
	{method: "PUT", target: "/v1/agent/check/deregister/service:w1"},
	{method: "PUT", target: "/v1/agent/service/deregister/none"},
	{method: "PUT", target: "/v1/agent/service/deregister/w1"},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"mesh-gateway","Name":"g"}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"mesh-gateway","Name":"g","SocketPath":"/x"}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"mesh-gateway","Name":"g","Port":1,"Address":"0.0.0.0"}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"mesh-gateway","Name":"g","Port":1,"Proxy":{"DestinationServiceName":"x"}}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"mesh-gateway","Name":"g","Proxy":{"DestinationServiceName":"a","DestinationServiceID":"x","LocalServiceAddress":"x","LocalServicePort":5,"LocalServiceSocketPath":"/x","Upstreams":[{"DestinationName":"x","LocalBindPort":5}]}}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"mesh-gateway","Name":"g","Port":1,"Connect":{"SidecarService":{}}}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"mesh-gateway","Name":"g","Connect":{"Native":true,"SidecarService":{}},"Proxy":{"LocalServicePort":5}}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"mesh-gateway","Name":"g","Port":1,"Meta":{"consul-other":"1"}}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"ingress-gateway","Name":"g","Port":1,"Meta":{"consul-wan-federation":"1"}}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Name":"g","Port":1,"Meta":{"consul-wan-federation":"1"}}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"terminating-gateway","Name":"g"}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"terminating-gateway","Name":"g","Port":1,"Connect":{"SidecarService":{}}}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"ingress-gateway","Name":"g","Proxy":{"DestinationServiceName":"x","Upstreams":[{"DestinationName":"x","LocalBindPort":5}]}}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"api-gateway","Name":"g","Proxy":{"LocalServiceAddress":"x"}}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"connect-proxy","Name":"g"}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"connect-proxy","Name":"g","Port":1,"Proxy":{"DestinationServiceName":"*"}}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"connect-proxy","Name":"g","Port":1,"Connect":{"Native":true},"Proxy":{"DestinationServiceName":"x"}}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"mesh-gateway","Name":"g","Port":1,"Check":{"TCP":"a:1"}}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"some-kind","Name":"g"}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"ingress-gateway","Name":"g"}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"api-gateway","Name":"g","Connect":{"Native":true}}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"terminating-gateway","Name":"g","Port":1}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Name":"g","Connect":{"Native":true}}`},
	{method: "PUT", target: "/v1/agent/service/register", body: `{"Kind":"mesh-gateway","Name":"g","Port":1,"Address":"gw.example","TaggedAddresses":{"wan":{"Address":"1.2.3.4","Port":5}},"Meta":{"consul-wan-federation":"1"},"Connect":{"Native":true},"Proxy":{"MeshGateway":{"Mode":"x"},"Config":{"envoy_gateway_no_default_bind":true,"envoy_gateway_bind_addresses":{"a":{"Address":"127.0.0.1","Port":5}}}}}`},
	{method: "GET", target: "/v1/agent/service/g"},
	{method: "GET", target: "/v1/agent/service/g?hash=other&wait=1ms"},
	{method: "GET", target: "/v1/agent/service/g?wait=x"},
	{method: "GET", target: "/v1/agent/service/g?hash=&wait=10"},
	{method: "GET", target: "/v1/agent/service/none?hash=other&wait=1ms"},
	{method: "PUT", target: "/v1/agent/service/deregister/g"},
	{method: "PUT", target: "/v1/agent/force-leave/none"},
	{method: "PUT", target: "/v1/agent/reload"},
	{method: "GET", target: "/v1/agent/monitor?loglevel=bad"},
	{method: "GET", target: "/v1/agent/members?segment=x"},
	{method: "GET", target: "/v1/acl/tokens"},
	{method: "PUT", target: "/v1/acl/bootstrap"},
}

const goldenFile = "testdata/reference.golden"

var update = flag.Bool("update", false, "record the golden file anew with the reference's binary")

// TestReferenceStillAnswersAsRecorded asks the reference itself, and with -update
// writes the golden file.
func TestReferenceStillAnswersAsRecorded(t *testing.T) {
	if os.Getenv("ISTHMUS_REFERENCE") == "" {
		t.Skip("skipped: ISTHMUS_REFERENCE does not name the reference's binary")
	}
	live := record(t, startReference(t, os.Getenv("ISTHMUS_REFERENCE")), exchanges)
	if *update {
		if err := os.WriteFile(goldenFile, live, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	recorded := recordedAnswers(t)
	for i, got := range parseAnswers(t, live, len(exchanges)) {
		want := recorded[i]
		if got.status != want.status || timeless(unordered(got)) != timeless(unordered(want)) {
			t.Errorf("%s %s: got %d\n%s\nrecorded was %d\n%s", got.method, got.target, got.status, got.body, want.status, want.body)
		}
		if got, want := steady(got.header), steady(want.header); !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%s %s: got headers\n%v\nrecorded were\n%v", exchanges[i].method, exchanges[i].target, got, want)
		}
	}
}

// unordered is a body in which the tags of each service, which the reference lists in
// another order at each request, are sorted.
func unordered(a answer) []byte {
	var services map[string][]string
	if !strings.HasPrefix(a.target, "/v1/catalog/services") || json.Unmarshal(a.body, &services) != nil {
		return a.body
	}
	for _, tags := range services {
		slices.Sort(tags)
	}
	return fmt.Append(nil, services)
}

var changing = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|127\.0\.0\.1:\d+|"\w*Index": ?\d+|` +
	`"ContentHash": ?"[0-9a-f]+"|"\w*[pP]ort": ?"?\d+"?|\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)`)

// timeless is a body without what differs from one run of the reference to the next.
func timeless(b []byte) string { return changing.ReplaceAllString(string(b), "…") }

// steady drops headers that differ from one run of the reference to the next.
func steady(h http.Header) http.Header {
	h = h.Clone()
	for _, name := range []string{"Content-Length", "X-Consul-Index", "X-Consul-Lastcontact", "X-Consul-Contenthash"} {
		h.Del(name)
	}
	return h
}

// TestAnswersAsTheReference lets the fake servers answer what the reference's
// servers did, and compares status, headers and body with those of the reference.
func TestAnswersAsTheReference(t *testing.T) {
	recorded := recordedAnswers(t)
	agent := newAgent(t)
	for i, x := range exchanges {
		want := recorded[i]
		if want.method != x.method || want.target != x.target {
			t.Fatalf("%s is out of date at %s %s: record it anew with ISTHMUS_REFERENCE and -update", goldenFile, x.method, x.target)
		}
		t.Run(fmt.Sprintf("%03d_%s_%s", i, x.method, x.target), func(t *testing.T) {
			cfg := config(replay{x, want})
			cfg.Local = agent
			cfg.Monitor = func(context.Context, slog.Level, bool, func([]byte) error) error { return nil }
			w := send(t, New(cfg), x)
			if w.Code != want.status {
				t.Errorf("got status %d, want %d", w.Code, want.status)
			}
			if got, want := bodyOf(x, w.Body.Bytes()), bodyOf(x, want.body); got != want {
				t.Errorf("got body\n%s\nwant\n%s", got, want)
			}
			got, wanted := decisive(w.Header(), w.Code), decisive(want.header, want.status)
			if !maps.EqualFunc(got, wanted, slices.Equal) {
				t.Errorf("got headers\n%v\nwant\n%v", got, wanted)
			}
		})
	}
}

func send(t *testing.T, h http.Handler, x exchange) *httptest.ResponseRecorder {
	t.Helper()
	if x.header == "" {
		return do(t, h, x.method, x.target, x.body)
	}
	name, value, _ := strings.Cut(x.header, ": ")
	return do(t, h, x.method, x.target, x.body, name, value)
}

var contentHash = regexp.MustCompile(`"ContentHash":"[0-9a-f]+"`)

// bodyOf is the body without what may differ.
func bodyOf(x exchange, b []byte) string {
	if x.method == http.MethodHead {
		return ""
	}
	return string(contentHash.ReplaceAll(b, []byte(`"ContentHash":"x"`)))
}

// decisive drops headers in which the two may differ.
func decisive(h http.Header, status int) http.Header {
	h = h.Clone()
	h.Del("Date")
	h.Del("Content-Length") // the reference leaves it out at times
	h.Del("Connection")
	h.Del("X-Consul-Contenthash") // opaque
	if status >= http.StatusBadRequest {
		h.Del("X-Content-Type-Options") // ours guards errors, too
	}
	if status == http.StatusNotFound && h.Get("Vary") == "" {
		h.Del("Content-Type")
	}
	return h
}

// replay is servers that answer what the reference's did.
type replay struct {
	x    exchange
	want answer
}

func (p replay) Call(_ context.Context, r *rpc.Request) (rpc.Meta, error) {
	if p.x.err != nil {
		return rpc.Meta{}, p.x.err
	}
	var meta rpc.Meta
	h, b := p.want.header, p.want.body
	meta.Index, _ = strconv.ParseUint(h.Get("X-Consul-Index"), 10, 64)
	meta.KnownLeader = h.Get("X-Consul-Knownleader") == "true"
	switch {
	case r.Name == wire.CatalogRegister.Name || r.Name == wire.CatalogDeregister.Name, p.want.status != http.StatusOK:
		return meta, nil
	case h.Get("Content-Type") == "text/plain":
		out, ok := r.Out.(*[]*api.KVPair)
		if !ok {
			return meta, fmt.Errorf("%s has no entries", r.Name)
		}
		*out = []*api.KVPair{{Value: b}}
		return meta, nil
	case r.Name == wire.FederationGet.Name:
		var flat struct{ State json.RawMessage }
		if err := json.Unmarshal(b, &flat); err != nil {
			return meta, err
		}
		b = flat.State
	}
	err := json.Unmarshal(b, r.Out)
	switch out := r.Out.(type) { // Keys that are not UTF-8 were recorded as JSON shows them.
	case *[]*api.KVPair:
		for _, e := range *out {
			e.Key = strings.ReplaceAll(e.Key, "\uFFFD", "\xff")
		}
	case *[]string:
		for i := range *out {
			(*out)[i] = strings.ReplaceAll((*out)[i], "\uFFFD", "\xff")
		}
	}
	return meta, err
}

// newAgent returns the services and checks of the node that recorded the answers.
// They are those that the exchanges themselves register.
func newAgent(t *testing.T) *local.Agent {
	t.Helper()
	sidecars := local.Sidecars{MinPort: 21000, MaxPort: 21255}
	agent, err := local.New(local.Config{Node: "n1", Caller: fakeCaller{}, Sidecars: sidecars, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return agent
}

// answer is what the reference answered.
type answer struct {
	method, target string
	status         int
	header         http.Header
	body           []byte
}

// recordedAnswers reads the golden file.
func recordedAnswers(t *testing.T) []answer {
	t.Helper()
	b, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	return parseAnswers(t, b, len(exchanges))
}

// parseAnswers reads n answers.
func parseAnswers(t *testing.T, b []byte, n int) []answer {
	t.Helper()
	in := bufio.NewReader(bytes.NewReader(b))
	var out []answer
	for {
		line, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		method, target, _ := strings.Cut(strings.TrimSpace(line), " ")
		res, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("answer to %s %s: %v", method, target, err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatalf("answer to %s %s: %v", method, target, err)
		}
		_ = res.Body.Close()
		_, _ = in.ReadString('\n')
		out = append(out, answer{method, target, res.StatusCode, res.Header, b})
	}
	if len(out) != n {
		t.Fatalf("there are %d answers to %d requests: record them anew with ISTHMUS_REFERENCE and -update", len(out), n)
	}
	return out
}

// record sends exchanges to the reference.
func record(t *testing.T, addr string, list []exchange) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, x := range list {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		header := ""
		if x.header != "" {
			header = x.header + "\r\n"
		}
		go func() { // The reference may answer before it has read it all.
			_, _ = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: reference\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n%s",
				x.method, x.target, len(x.body), header, x.body)
		}()
		res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: x.method})
		if err != nil {
			t.Fatalf("%s %s: %v", x.method, x.target, err)
		}
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		_ = conn.Close()
		res.Body, res.ContentLength, res.TransferEncoding = io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
		if x.method == http.MethodHead {
			res.ContentLength = 0
		}
		res.Header.Del("Date")
		fmt.Fprintf(&out, "%s %s\n", x.method, x.target)
		if err := res.Write(&out); err != nil {
			t.Fatal(err)
		}
		out.WriteByte('\n')
	}
	return out.Bytes()
}

func startReference(t *testing.T, binary string, flags ...string) (addr string) {
	t.Helper()
	ports := make([]string, 4)
	for i := range ports {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, ports[i], _ = net.SplitHostPort(ln.Addr().String())
		_ = ln.Close()
	}
	dir := t.TempDir()
	flags = append([]string{
		"agent", "-server", "-bootstrap-expect=1", "-node=n1", "-bind=127.0.0.1",
		"-data-dir=" + filepath.Join(dir, "data"), "-http-port=" + ports[0], "-server-port=" + ports[1], "-serf-lan-port=" + ports[2],
		"-serf-wan-port=" + ports[3], "-dns-port=-1", "-grpc-port=-1", "-grpc-tls-port=-1", "-log-level=error",
	}, flags...)
	cmd := exec.CommandContext(t.Context(), binary, flags...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	addr = "127.0.0.1:" + ports[0]
	// It has settled when its leader published its state and the agent registered itself.
	for target, part := range map[string]string{"/v1/internal/federation-states": "dc1", "/v1/catalog/nodes": "lan_ipv4"} {
		awaitPart(t, "http://"+addr+target, part)
	}
	return addr
}

// awaitPart waits until an answer contains part.
func awaitPart(t *testing.T, url, part string) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-tick.C {
		res, err := http.Get(url)
		if err != nil {
			continue
		}
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode == http.StatusOK && bytes.Contains(b, []byte(part)) {
			return
		}
	}
	t.Fatalf("%s does not answer with %s", url, part)
}
