package main

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"isthmus/internal/testkit"
)

// Clients rely on more than documentation promises: texts, statuses, headers, order.
// Each such contract is asked of our agent and, where it is there, of the reference,
// so that what is written here is what clients have met for years.

// contract is a request and what comes of it. A text that ends in … is how the body
// begins; an empty one says nothing of it.
type contract struct {
	request string // method and target
	body    string
	status  int
	text    string
	header  string // "Name: value", or "!Name" for one that is not there
	// ours says why the reference, which is not asked, does otherwise.
	ours string
}

const (
	register = "PUT /v1/agent/service/register"
	check    = "PUT /v1/agent/check/register"
	catalog  = "PUT /v1/catalog/register"
	remove   = "PUT /v1/catalog/deregister"
	decoding = "Request decode failed: "
)

var contracts = []contract{
	// What is missing has an index to wait with.
	{request: "GET /v1/kv/none", status: 404, header: "!Content-Type"},
	{request: "GET /v1/kv/none", status: 404, header: "X-Consul-Knownleader: true"},
	{request: "GET /v1/catalog/node/none", status: 200, text: "null"},
	{request: "GET /v1/catalog/service/none", status: 200, text: "[]"},
	{request: "GET /v1/health/service/none", status: 200, text: "[]"},
	{request: "GET /v1/health/state/none", status: 200, text: "[]"},
	{request: "GET /v1/coordinate/node/none", status: 404},
	{request: "GET /v1/agent/service/none", status: 404, text: "unknown service ID: none"},
	{request: "PUT /v1/agent/service/deregister/none", status: 404, text: `Unknown service ID "none". Ensure that the service ID is passed, not the service name.`},
	{request: "PUT /v1/agent/check/deregister/none", status: 404, text: `Unknown check ID "none". Ensure that the check ID is passed, not the check name.`},
	{request: "PUT /v1/agent/check/pass/none", status: 404, text: `Unknown check ID "none". Ensure that the check ID is passed, not the check name.`},
	{request: "PUT /v1/agent/service/maintenance/none?enable=true", status: 404, text: `Unknown service ID "none". Ensure that the service ID is passed, not the service name.`},

	// Paths are decoded and cleaned; patterns that end in a slash are asked for with it.
	{request: "GET //v1/kv/a?x=1", status: 301, header: "Location: /v1/kv/a?x=1"},
	{request: "GET /v1/kv/./a", status: 301, header: "Location: /v1/kv/a"},
	{request: "GET /v1/kv/a/%2e%2e/b", status: 301, header: "Location: /v1/kv/b"},
	{request: "GET /v1/kv/a%2F%2Fb", status: 301, header: "Location: /v1/kv/a/b"},
	{request: "PUT /v1//kv/a", body: "x", status: 301, header: "Location: /v1/kv/a"},
	{request: "GET /v1/kv/...", status: 404, header: "X-Consul-Knownleader: true"},
	{request: "GET /v1/kv", status: 301, header: "Location: /v1/kv/"},
	{request: "PUT /v1/agent/service/maintenance?enable=true", status: 301, header: "Location: /v1/agent/service/maintenance/?enable=true"},
	{request: "PUT /v1/agent/service/deregister", status: 301, header: "Location: /v1/agent/service/deregister/"},
	{request: "PUT /v1/agent/service/maintenance/", status: 400, text: "Missing service ID"},
	{request: "PUT /v1/agent/service/maintenance/none", status: 400, text: "Missing value for enable"},
	{request: "PUT /v1/agent/maintenance?enable=x", status: 400, text: `Invalid value for enable: "x"`},
	{request: "GET /V1/kv/a", status: 404, text: "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'"},
	{request: "GET /v1/nope", status: 404, text: "Invalid URL path: not a recognized HTTP API endpoint"},

	// Methods.
	{request: "DELETE /v1/catalog/nodes", status: 405, text: "method DELETE not allowed", header: "Allow: OPTIONS,GET"},
	{request: "POST /v1/kv/a", status: 405, text: "method POST not allowed", header: "Allow: OPTIONS,GET,PUT,DELETE"},
	{request: "GET /v1/agent/check/register", status: 405, text: "method GET not allowed", header: "Allow: OPTIONS,PUT"},
	{request: "OPTIONS /v1/kv/a", status: 200, header: "Allow: OPTIONS,GET,PUT,DELETE"},
	{request: "HEAD /v1/kv/a", status: 405, header: "Allow: OPTIONS,GET,PUT,DELETE"},

	// Datacenters, filters, options.
	{request: "GET /v1/catalog/nodes?dc=nope", status: 500, text: "No path to datacenter"},
	{request: "GET /v1/kv/a?dc=DC1", status: 500, text: "No path to datacenter"},
	{request: "GET /v1/health/service/consul?dc=nope", status: 500, text: "No path to datacenter"},
	{request: "PUT /v1/kv/a?dc=nope", body: "x", status: 500, text: "No path to datacenter"},
	{request: "GET /v1/catalog/nodes?filter=Foo==x", status: 500, text: `Failed to create boolean expression evaluator: Selector "Foo" is not valid`},
	{request: "GET /v1/catalog/nodes?filter=Node", status: 500, text: "Failed to create boolean expression evaluator: 1:5 (4): no match found, expected: …"},
	{request: "GET /v1/agent/services?filter=Node", status: 500, text: "Failed to create boolean expression evaluator: 1:5 (4): no match found, expected: …"},
	{request: "GET /v1/kv/a?wait=10", status: 400, text: "Invalid wait time"},
	{request: "GET /v1/kv/a?wait=10000000h", status: 400, text: "Invalid wait time"},
	{request: "GET /v1/kv/a?index=-1", status: 400, text: "Invalid index"},
	{request: "GET /v1/kv/a?index=18446744073709551616", status: 400, text: "Invalid index"},
	{request: "GET /v1/kv/a?index=&wait=", status: 200},
	{request: "GET /v1/catalog/nodes?stale=", status: 200, header: "X-Consul-Effective-Consistency: stale"},
	{request: "GET /v1/catalog/nodes?stale=false", status: 200, header: "X-Consul-Effective-Consistency: stale"},
	{request: "GET /v1/catalog/nodes?max_stale=1s", status: 200, header: "X-Consul-Effective-Consistency: stale"},
	{request: "GET /v1/catalog/nodes?max_stale=-1s", status: 200, header: "X-Consul-Effective-Consistency: leader"},
	{request: "GET /v1/catalog/nodes?max_stale=10", status: 400, text: `Invalid max_stale value "10"`},
	{request: "GET /v1/catalog/nodes?stale&consistent", status: 400, text: "Cannot specify ?stale with ?consistent, conflicting semantics."},
	{request: "GET /v1/health/service/consul?passing=x", status: 400, text: "Invalid value for ?passing"},
	{request: "GET /v1/catalog/services?ns=x", status: 400, text: `Invalid query parameter: "ns" - Namespaces are a Consul Enterprise feature`},
	{request: "GET /v1/kv/a?raw", status: 200, text: "value", header: "Content-Security-Policy: sandbox"},
	{request: "GET /v1/kv/a?raw", status: 200, header: "Content-Type: text/plain"},
	{request: "GET /v1/acl/tokens", status: 401, text: "ACL support disabled"},
	{request: "POST /v1/internal/acl/authorize", body: "[]", status: 401, text: "ACL support disabled"},

	// Values.
	{request: "PUT /v1/kv/big", body: strings.Repeat("x", 600000), status: 413, text: "Request body(600000 bytes) too large, max size: 524288 bytes. See …"},
	{request: "PUT /v1/kv/", body: "x", status: 400, text: "Missing key name"},
	{request: "PUT /v1/kv/a?cas=0&acquire=x", body: "x", status: 400, text: "Conflicting flags: acquire=x&cas=0"},
	{request: "PUT /v1/kv/a?flags=-1", body: "x", status: 500, text: `strconv.ParseUint: parsing "-1": invalid syntax`},
	{request: "PUT /v1/kv/a?cas=0", body: "x", status: 200, text: "false"},
	{request: "DELETE /v1/kv/none", status: 200, text: "true"},

	// Bodies that are wrong are refused whole, with the name of what is wrong.
	{request: register, status: 400, text: decoding + "EOF"},
	{request: register, body: "{", status: 400, text: decoding + "unexpected EOF"},
	{request: register, body: `{}`, status: 400, text: "Missing service name"},
	{request: register, body: `{"Name":"w","Foo":1}`, status: 400, text: decoding + `json: unknown field "Foo"`},
	{request: register, body: `{"Name":"w","Check":{"Interval":"1s"}}`, status: 400, text: "Invalid check: …"},
	{request: register, body: `{"Name":"w","Weights":{"Passing":-1}}`, status: 400, text: "Invalid Weights: …"},
	{request: register, body: `{"Name":"w","Meta":{"":"x"}}`, status: 400, text: "Invalid Service Meta: …"},
	{request: register, body: `{"Name":"w","Address":"0.0.0.0"}`, status: 400, text: "Invalid service address"},
	{request: register, body: `{"Name":"w","Namespace":"x"}`, status: 400, text: decoding + `json: unknown field "Namespace"…`},
	{request: register, body: `{"Name":"w","Partition":"x"}`, status: 400, text: decoding + `json: unknown field "Partition"…`},
	{request: register, body: `{"Name":"w","Port":99999}`, status: 400, text: "Invalid service port 99999: …", ours: "it takes any number"},
	{request: check, body: `{}`, status: 400, text: "Missing check name"},
	{request: check, body: `{"Name":"c"}`, status: 400, text: "Invalid check: …"},
	{request: check, body: `{"Name":"c","TTL":"1s","Status":"bad"}`, status: 400, text: "Bad check status"},
	{request: check, body: `{"Name":"c","TTL":"1s","ServiceID":"none"}`, status: 404, text: `ServiceID "none" does not exist`},
	{request: "PUT /v1/agent/check/update/none", body: `{"Status":"bad"}`, status: 400, text: "Invalid check status: 'bad'"},
	{request: "PUT /v1/agent/check/update/none", body: `{"Status":"passing","Foo":1}`, status: 400, text: decoding + `json: unknown field "Foo"`},
	{request: catalog, body: `{}`, status: 500, text: "Must provide node…"},
	{request: catalog, body: `{"Node":"n"}`, status: 500, text: "Must provide address if SkipNodeUpdate is not set"},
	{request: catalog, body: `{"Node":"n","Address":"192.0.2.1","ID":"x"}`, status: 500, text: "Bad node ID: uuid string is wrong length"},
	{request: catalog, body: `{"Node":"n","Address":"192.0.2.1","PeerName":"p"}`, status: 500, text: "cannot register requests with PeerName in them"},
	{request: catalog, body: `{"Node":"n","Address":"192.0.2.1","Check":{"Node":"m","CheckID":"c"}}`, status: 500, text: "Node 'm' for check 'c' doesn't match register request node 'n'"},
	{request: catalog, body: `{"Node":"n","Address":"192.0.2.1","Check":{"CheckID":"c","ServiceID":"none"}}`, status: 500, text: "Unknown service ID 'none' for check ID 'c'"},
	{request: catalog, body: `{"Node":"n","Address":"192.0.2.1","Service":{"Service":"w","Address":"::"}}`, status: 500, text: "Invalid service address"},
	{request: catalog, body: `{"Node":"n","Address":"192.0.2.1","Service":{"Service":"w","Kind":"connect-proxy"}}`, status: 500, text: "2 errors occurred:\n\t* Port or SocketPath must be set for a connect-proxy\n…"},
	{request: catalog, body: `{"Node":"n","Address":"192.0.2.1","Service":{"Service":"w","Kind":"mesh-gateway"}}`, status: 500, text: "1 error occurred:\n\t* Port must be non-zero for a mesh-gateway…"},
	{request: catalog, body: `{"Node":"n","Address":"192.0.2.1","Checks":[null]}`, status: 500, text: "Must provide a check id or name", ours: "it ends the connection"},
	{request: remove, body: `{}`, status: 500, text: "Must provide node"},
	{request: remove, body: `{"Node":"n","Datacenter":"nope"}`, status: 500, text: "No path to datacenter"},
	{request: "PUT /v1/coordinate/update", body: `{"Node":"n","Coord":{"Vec":[1]}}`, status: 500, text: "incompatible coordinate"},
	{request: "PUT /v1/coordinate/update", body: `{}`, status: 500, text: "Must provide node", ours: "it drops the connection"},
}

// lenient are bodies with more in them than is used, which clients send all the same.
var lenient = []contract{
	{request: register, body: `{"Name":"old","Connect":{"Proxy":{"Config":{}}}}`, status: 200},
	{request: "PUT /v1/agent/service/deregister/old", status: 200},
	{request: register, body: `{"Name":"null","Check":null,"Checks":null,"Meta":null,"Weights":null,"Tags":null,"Connect":null,"Proxy":null}`, status: 200},
	{request: "PUT /v1/agent/service/deregister/null", status: 200},
	{
		request: catalog, status: 200, text: "true",
		body: `{"Node":"ext","Address":"10.0.0.1","Check":{"Name":"c","Definition":{"HTTP":"http://x","IntervalDuration":"5s","DeregisterCriticalServiceAfterDuration":"1m"}}}`,
	},
	{request: remove, body: `{"Node":"ext","Address":"10.0.0.1"}`, status: 200, text: "true"},
	{request: remove, body: `{"Node":"ext"}`, status: 200, text: "true"}, // once more harms nothing
}

// devAgent starts a server in development mode and returns the address of its API.
func (f *fleet) devAgent(name, binary string) string {
	f.t.Helper()
	ip := f.addr(1, 1)
	f.run(name, binary, "agent", "-dev", "-bind", ip, "-client", ip, "-node", "n1", "-log-level", "warn", "-hcl", `use_streaming_backend = false check_update_interval = "10ms"`)
	testkit.Eventually(f.t, func() error { return f.put(1, 1, 1, "a", "value") })
	return net.JoinHostPort(ip, "8500")
}

// target is an agent that a test asks.
type target struct {
	t     *testing.T
	fleet *fleet // which it is the only one of
	addr  string
	ours  bool
}

// eachAgent runs a test with our agent and with the reference's, where it is there.
func eachAgent(t *testing.T, test func(on target)) {
	t.Helper()
	t.Run("isthmus", func(t *testing.T) {
		f := newFleet(t)
		test(target{t, f, f.devAgent("isthmus", ""), true})
	})
	t.Run("reference", func(t *testing.T) {
		ref := reference(t)
		f := newFleet(t)
		test(target{t, f, f.devAgent("reference", ref), false})
	})
}

// reply is an answer without its connection.
type reply struct {
	status int
	header http.Header
	body   string
	took   time.Duration
}

// ask sends bytes on a connection of its own and reads an answer.
func ask(t *testing.T, addr, method string, parts ...string) (reply, error) {
	t.Helper()
	start := time.Now()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(start.Add(20 * time.Second)); err != nil {
		return reply{}, err
	}
	for _, part := range parts {
		_, _ = io.WriteString(conn, part) // who refuses a body does not read it
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, res.Header, string(b), time.Since(start)}, err
}

// send makes a request, whose target is sent as it stands.
func send(t *testing.T, addr, request, body string, headers ...string) reply {
	t.Helper()
	method, target, _ := strings.Cut(request, " ")
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n", method, target, len(body))
	for _, line := range headers {
		head += line + "\r\n"
	}
	r, err := ask(t, addr, method, head+"\r\n", body)
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	return r
}

func (c *contract) check(t *testing.T, addr string) {
	t.Helper()
	r := send(t, addr, c.request, c.body)
	got := strings.TrimSpace(r.body)
	start, begins := strings.CutSuffix(c.text, "…")
	if r.status != c.status || c.text != "" && got != c.text && (!begins || !strings.HasPrefix(got, start)) {
		t.Errorf("%s %.80s: got %d %q, want %d %q", c.request, c.body, r.status, got, c.status, c.text)
	}
	name, value, _ := strings.Cut(c.header, ": ")
	if absent, no := strings.CutPrefix(name, "!"); no && r.header.Get(absent) != "" || !no && r.header.Get(name) != value {
		t.Errorf("%s: got headers %v, want %s", c.request, r.header, c.header)
	}
}

func TestContracts(t *testing.T) {
	eachAgent(t, func(on target) {
		t, addr, ours := on.t, on.addr, on.ours
		everything := func() string {
			var all []string
			for _, path := range []string{"/v1/agent/services", "/v1/agent/checks", "/v1/catalog/services", "/v1/health/state/any", "/v1/kv/?recurse"} {
				all = append(all, send(t, addr, "GET "+path, "").body)
			}
			return strings.Join(all, "\n")
		}
		before := everything()
		for i := range contracts {
			if c := &contracts[i]; ours || c.ours == "" {
				c.check(t, addr)
			}
		}
		if after := everything(); after != before {
			t.Errorf("refused requests changed something:\n%s\nwas\n%s", after, before)
		}
		for i := range lenient {
			lenient[i].check(t, addr)
		}
	})
}

// Traefik pairs rows of two lists by their places.
func TestListsAreInTheOrderOfNodesAndThenServices(t *testing.T) {
	eachAgent(t, func(on target) {
		t, addr := on.t, on.addr
		for _, at := range []string{"n9 b", "n10 a", "n9 a", "N a", "n1x c", "n9 a-", "n10 _"} {
			node, id, _ := strings.Cut(at, " ")
			body := fmt.Sprintf(`{"Node":%q,"Address":"10.0.0.1","Service":{"Service":"web","ID":%q,"Port":1},"Check":{"CheckID":"c-%[2]s","Name":"c","Status":"passing","ServiceID":%[2]q}}`, node, id)
			if r := send(t, addr, catalog, body); r.status != http.StatusOK {
				t.Fatal(r.body)
			}
		}
		want := []string{"N a", "n10 _", "n10 a", "n1x c", "n9 a", "n9 a-", "n9 b"}
		type row struct {
			Node      any
			ServiceID string
			Service   struct{ ID string }
		}
		for _, path := range []string{"/v1/catalog/service/web", "/v1/health/service/web", "/v1/health/service/web?passing", "/v1/health/checks/web"} {
			var rows []row
			if err := json.Unmarshal([]byte(send(t, addr, "GET "+path, "").body), &rows); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range rows {
				name := r.Node
				if m, ok := name.(map[string]any); ok {
					name = m["Node"]
				}
				got = append(got, fmt.Sprint(name, " ", cmp.Or(r.ServiceID, r.Service.ID)))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: got %q, want %q", path, got, want)
			}
		}
		var nodes []struct{ Node string }
		if err := json.Unmarshal([]byte(send(t, addr, "GET /v1/catalog/nodes", "").body), &nodes); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(nodes); got != "[{N} {n1} {n10} {n1x} {n9}]" {
			t.Errorf("nodes: got %s", got)
		}
	})
}

// waitable are reads of what is not there.
var waitable = []string{
	"/v1/kv/none?", "/v1/kv/none?recurse&", "/v1/kv/none?keys&", "/v1/catalog/service/none?", "/v1/catalog/node/none?", "/v1/health/service/none?",
	"/v1/health/checks/none?", "/v1/health/node/none?", "/v1/catalog/nodes?node-meta=no:no&", "/v1/catalog/node-services/none?",
	"/v1/catalog/gateway-services/none?", "/v1/health/service/none?stale=&",
}

// index is the index of an answer.
func index(t *testing.T, r reply) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(r.header.Get("X-Consul-Index"), 10, 64)
	if err != nil || n < 1 {
		t.Fatalf("the index is %q: clients wait with one from 1 on", r.header.Get("X-Consul-Index"))
	}
	return n
}

// Patroni and others give up when an answer takes a fifteenth longer than it may.
func TestWaitsEndInTime(t *testing.T) {
	const wait, slack = 1995 * time.Millisecond, 400 * time.Millisecond
	eachAgent(t, func(on target) {
		t, addr := on.t, on.addr
		var all sync.WaitGroup
		for _, path := range waitable {
			all.Go(func() {
				// Something beside it may change at first, as nodes do when they settle.
				for range 5 {
					at := index(t, send(t, addr, "GET "+path, ""))
					r := send(t, addr, fmt.Sprintf("GET %sindex=%d&wait=1.995s", path, at), "")
					if index(t, r) != at {
						continue
					}
					if r.took < wait-5*time.Millisecond || r.took > wait+wait/16+slack {
						t.Errorf("%s: a wait of %v took %v", path, wait, r.took)
					}
					return
				}
				t.Errorf("%s: what is not there changes all the time", path)
			})
		}
		all.Wait()
	})
}

// A wait that is zero or below is one without a limit of its own: a change ends it.
func TestWaitsWithoutALimitEndWithAChange(t *testing.T) {
	eachAgent(t, func(on target) {
		t, f, addr := on.t, on.fleet, on.addr
		waits := []string{"", "0", "0s", "-1s", "-10h", "2562047h", "10m"}
		answers := make(chan string)
		for i, wait := range waits {
			path := fmt.Sprintf("/v1/kv/wait%d?", i)
			at := index(t, send(t, addr, "GET "+path, ""))
			go func() {
				r, err := ask(t, addr, "GET", fmt.Sprintf("GET %sindex=%d&wait=%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path, at, wait))
				answers <- fmt.Sprint(wait, " ", r.status, " ", err)
			}()
		}
		select {
		case got := <-answers:
			t.Errorf("a wait ended without a change: %s", got)
		case <-time.After(300 * time.Millisecond):
		}
		for i := range waits {
			if err := f.put(1, 1, 1, fmt.Sprintf("wait%d", i), "x"); err != nil {
				t.Fatal(err)
			}
		}
		for range waits {
			if got := <-answers; !strings.HasSuffix(got, " 200 <nil>") {
				t.Errorf("got %s", got)
			}
		}
	})
}

func TestBodiesInPieces(t *testing.T) {
	eachAgent(t, func(on target) {
		t, addr, ours := on.t, on.addr, on.ours
		head := "PUT /v1/kv/pieces HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
		r, err := ask(t, addr, "PUT", head+"Transfer-Encoding: chunked\r\n\r\n", "5\r\nhello\r\n", "6\r\n world\r\n0\r\n\r\n")
		if got := send(t, addr, "GET /v1/kv/pieces?raw", ""); err != nil || r.status != http.StatusOK || got.body != "hello world" {
			t.Errorf("got %d %q (%v), and then %q", r.status, r.body, err, got.body)
		}
		r, err = ask(t, addr, "PUT", head+"Transfer-Encoding: chunked\r\n\r\n", "zz\r\nhello\r\n0\r\n\r\n")
		if err != nil || r.status != http.StatusInternalServerError && r.status != http.StatusBadRequest {
			t.Errorf("pieces of no length: got %d %q (%v)", r.status, r.body, err)
		}
		if ours { // the reference stores it, whatever its limit
			r, err = ask(t, addr, "PUT", head+"Transfer-Encoding: chunked\r\n\r\n", "80001\r\n"+strings.Repeat("x", 0x80001)+"\r\n0\r\n\r\n")
			if err != nil || r.status != http.StatusRequestEntityTooLarge {
				t.Errorf("too many pieces: got %d %q (%v)", r.status, r.body, err)
			}
		}
		value := strings.Repeat("x", 512*1024)
		if r := send(t, addr, "PUT /v1/kv/most", value); r.status != http.StatusOK {
			t.Errorf("a value of %d bytes: got %d %q", len(value), r.status, r.body)
		}
		r = send(t, addr, "GET /v1/kv/most?raw", "", "Accept-Encoding: gzip")
		z, err := gzip.NewReader(strings.NewReader(r.body))
		if err != nil {
			t.Fatalf("what should be compressed is not: %v", err)
		}
		if got, err := io.ReadAll(z); err != nil || string(got) != value {
			t.Errorf("got %d bytes of %d (%v)", len(got), len(value), err)
		}
	})
}

// The same id again stands for the same thing, changed.
func TestAnIDStandsForOneThing(t *testing.T) {
	eachAgent(t, func(on target) {
		t, f, addr := on.t, on.fleet, on.addr
		for _, body := range []string{
			`{"Name":"one","ID":"x","Port":1,"Check":{"CheckID":"c","TTL":"60s"},"Checks":[{"CheckID":"c","TTL":"90s","Notes":"second"}]}`,
			`{"Name":"two","ID":"x","Port":2,"Tags":["t","t"]}`,
		} {
			if r := send(t, addr, register, body); r.status != http.StatusOK {
				t.Fatal(r.body)
			}
		}
		var services map[string]struct {
			Service string
			Port    int
			Tags    []string
		}
		var checks map[string]struct{ Notes, ServiceID string }
		if err := f.get(1, 1, "/v1/agent/services", &services); err != nil {
			t.Fatal(err)
		}
		if err := f.get(1, 1, "/v1/agent/checks", &checks); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(services, checks); got != "map[x:{two 2 [t t]}] map[c:{second x}]" {
			t.Errorf("got %s", got)
		}
		testkit.Eventually(t, func() error {
			var all map[string][]string
			if err := f.get(1, 1, "/v1/catalog/services", &all); err != nil {
				return err
			}
			if len(all["one"]) != 0 || all["two"] == nil {
				return fmt.Errorf("the catalog has %v", all)
			}
			return nil
		})
	})
}

// A name that DNS cannot carry is taken, and the log tells.
func TestNamesThatDNSCannotCarryAreTold(t *testing.T) {
	eachAgent(t, func(on target) {
		t, f, addr := on.t, on.fleet, on.addr
		if r := send(t, addr, register, `{"Name":"not_for.dns"}`); r.status != http.StatusOK {
			t.Fatal(r.body)
		}
		testkit.Eventually(t, func() error {
			log, err := os.ReadFile(f.all[0].log)
			if err == nil && !(strings.Contains(string(log), "not_for.dns") && strings.Contains(string(log), "DNS")) {
				err = fmt.Errorf("the log says nothing:\n%s", log)
			}
			return err
		})
	})
}
