package httpapi

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

func TestEveryRouteRefusesOtherMethods(t *testing.T) {
	a := New(config(fakeCaller{}))
	for pattern, p := range a.table {
		for _, method := range []string{"GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "TRACE"} {
			if p.methods[method] != nil {
				continue
			}
			w := do(t, a, method, pattern, "")
			if w.Code != http.StatusMethodNotAllowed || w.Body.String() != "method "+method+" not allowed" {
				t.Errorf("%s %s: got %d %q", method, pattern, w.Code, w.Body)
			}
			if got := w.Header().Get("Allow"); got != p.allow || !strings.HasPrefix(got, "OPTIONS") {
				t.Errorf("%s %s: got Allow %q", method, pattern, got)
			}
		}
	}
}

func TestEveryRouteIsDocumented(t *testing.T) {
	var b strings.Builder
	if err := Docs(&b); err != nil {
		t.Fatal(err)
	}
	for _, r := range append(routes(), debugRoutes()...) {
		if !strings.Contains(b.String(), "`"+r.pattern+"`") && !strings.Contains(r.pattern, "/acl/") {
			t.Errorf("%s is not in the docs", r.pattern)
		}
	}
}

func TestUnbuiltRoutesNameThemselves(t *testing.T) {
	a := New(config(fakeCaller{}))
	for _, target := range []string{"/v1/session/create", "/v1/txn", "/v1/connect/intentions", "/v1/query"} {
		w := do(t, a, "PUT", target, "{}")
		if w.Code != http.StatusNotImplemented || !strings.Contains(w.Body.String(), "is not built yet") || !strings.Contains(target, strings.Fields(w.Body.String())[0]) {
			t.Errorf("%s: got %d %q", target, w.Code, w.Body)
		}
	}
	if w := do(t, a, "PUT", "/v1/kv/a?acquire=x", "v"); w.Code != http.StatusNotImplemented || !strings.Contains(w.Body.String(), "sessions") {
		t.Errorf("acquire: got %d %q", w.Code, w.Body)
	}
}

func TestQueryOptionsReachTheServers(t *testing.T) {
	for _, c := range []struct {
		query   string
		headers []string
		want    rpc.Header
	}{
		{"", nil, rpc.Header{}},
		{"?index=7&wait=10s", nil, rpc.Header{MinIndex: 7, MaxWait: 10 * time.Second}},
		{"?index=7&wait=1.995s&stale", nil, rpc.Header{MinIndex: 7, MaxWait: 1995 * time.Millisecond, AllowStale: true}},
		{"?stale=", nil, rpc.Header{AllowStale: true}},
		{"?consistent&dc=dc2", nil, rpc.Header{Consistent: true, Datacenter: "dc2"}},
		{"?max_stale=5s", nil, rpc.Header{AllowStale: true, MaxStale: 5 * time.Second}},
		{"?max_stale=5s&consistent", nil, rpc.Header{Consistent: true, MaxStale: 5 * time.Second}},
		{"?token=a", []string{"X-Consul-Token", "b"}, rpc.Header{Token: "a"}},
		{"", []string{"X-Consul-Token", "b", "Authorization", "Bearer c"}, rpc.Header{Token: "b"}},
		{"", []string{"Authorization", "bearer c"}, rpc.Header{Token: "c"}},
		{"", []string{"Authorization", "Basic dTpw"}, rpc.Header{}},
		{"?filter=Node+%3D%3D+a", nil, rpc.Header{Filter: "Node == a"}},
		{"?cached", []string{"Cache-Control", "max-age=3, stale-if-error=4"}, rpc.Header{UseCache: true, MaxAge: 3 * time.Second, StaleIfError: 4 * time.Second}},
		{"?cached", []string{"Cache-Control", "must-revalidate, no-transform"}, rpc.Header{UseCache: true, MustRevalidate: true}},
	} {
		var got rpc.Header
		f := fakeCaller{}
		on(f, wire.CatalogNodes, func(h rpc.Header, _ *wire.DCQuery) ([]*api.Node, rpc.Meta, error) {
			got = h
			return nil, rpc.Meta{}, nil
		})
		w := do(t, New(config(f)), "GET", "/v1/catalog/nodes"+c.query, "", c.headers...)
		if got != c.want || w.Code != http.StatusOK || w.Body.String() != "[]" {
			t.Errorf("%s %v: got %+v, %d %q, want %+v", c.query, c.headers, got, w.Code, w.Body, c.want)
		}
	}
}

func TestServiceQueryReachesTheServers(t *testing.T) {
	var got wire.ServiceQuery
	f := fakeCaller{}
	on(f, wire.HealthServiceNodes, func(_ rpc.Header, in *wire.ServiceQuery) ([]*api.Instance, rpc.Meta, error) {
		got = *in
		return nil, rpc.Meta{}, nil
	})
	do(t, New(config(f)), "GET", "/v1/health/service/a%20b/c?tag=x&tag=y&node-meta=k:v:w&node-meta=z&near=_agent&merge-central-config", "")
	want := wire.ServiceQuery{
		ServiceName: "a b/c", ServiceTags: []string{"x", "y"}, TagFilter: true,
		NodeMetaFilters: map[string]string{"k": "v:w", "z": ""},
		Source:          wire.Source{Datacenter: "dc1", Node: "n1"}, MergeCentralConfig: true,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestPassingShowsHealthyInstancesOnly(t *testing.T) {
	instance := func(node, status string) *api.Instance {
		return &api.Instance{CheckServiceNode: api.CheckServiceNode{
			Node: &api.Node{Node: node}, Service: &api.NodeService{ID: "w"}, Checks: []*api.HealthCheck{{Status: status}},
		}}
	}
	f := fakeCaller{}
	on(f, wire.HealthServiceNodes, func(rpc.Header, *wire.ServiceQuery) ([]*api.Instance, rpc.Meta, error) {
		return []*api.Instance{instance("a", "passing"), instance("b", "warning"), instance("c", "critical")}, rpc.Meta{}, nil
	})
	a := New(config(f))
	for query, want := range map[string]int{"": 3, "?passing": 1, "?passing=1": 1, "?passing=false": 3, "?passing=true": 1} {
		var got []api.CheckServiceNode
		w := do(t, a, "GET", "/v1/health/service/w"+query, "")
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || len(got) != want {
			t.Errorf("%s: got %d instances (%v), want %d", query, len(got), err, want)
		}
	}
}

func TestTooOldAnswersAreAskedForAgain(t *testing.T) {
	var asked []bool
	f := fakeCaller{}
	on(f, wire.CatalogNodes, func(h rpc.Header, _ *wire.DCQuery) ([]*api.Node, rpc.Meta, error) {
		asked = append(asked, h.AllowStale)
		if h.AllowStale {
			return nil, rpc.Meta{LastContact: 2 * time.Second}, nil
		}
		return nil, rpc.Meta{KnownLeader: true, Index: 3}, nil
	})
	w := do(t, New(config(f)), "GET", "/v1/catalog/nodes?max_stale=1s", "")
	if !reflect.DeepEqual(asked, []bool{true, false}) || w.Header().Get("X-Consul-Lastcontact") != "0" {
		t.Errorf("asked %v, got %v", asked, w.Header())
	}
}

func TestErrorsBecomeStatuses(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{api.Errorf(api.Invalid, "Must provide node"), 500},
		{api.Errorf(api.NotFound, "gone"), 404},
		{api.Known(api.NotAllowed, nil), 403},
		{&rpc.RemoteError{Text: "Permission denied: token lacks"}, 403},
		{errors.New("rpc error making call: ACL not found"), 403},
		{api.Known(api.NoPath, nil), 500},
		{api.Known(api.NoLeader, nil), 500},
		{errors.New("rpc error making call: rate limit exceeded, try again later or against a different server"), 429},
		{errors.New("rate limit exceeded for operation that can only be performed by the leader, try again later"), 503},
		{api.Errorf(api.NotBuilt, "filter expressions are not built yet"), 501},
		{api.Known(api.ACLDisabled, nil), 401},
		{api.Errorf(api.TooLarge, "too large"), 413},
		{errors.New("boom"), 500},
	} {
		f := fakeCaller{}
		on(f, wire.KVGet, func(rpc.Header, *wire.KeyQuery) ([]*api.KVPair, rpc.Meta, error) { return nil, rpc.Meta{}, c.err })
		w := do(t, New(config(f)), "GET", "/v1/kv/a", "")
		if w.Code != c.want || w.Body.String() != c.err.Error() || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%v: got %d %q %v, want %d", c.err, w.Code, w.Body, w.Header(), c.want)
		}
	}
}

func TestKVKeysAndOperationsReachTheServers(t *testing.T) {
	var got wire.KVRequest
	f := fakeCaller{}
	on(f, wire.KVApply, func(_ rpc.Header, in *wire.KVRequest) (bool, rpc.Meta, error) {
		got = *in
		return true, rpc.Meta{}, nil
	})
	cfg := config(f)
	cfg.AllowUnprintable = true
	a := New(cfg)
	var every []byte
	var escaped strings.Builder
	for c := range 256 {
		every = append(every, byte(c))
		fmt.Fprintf(&escaped, "%%%02x", c)
	}
	for _, c := range []struct {
		method, target, body string
		want                 wire.KVRequest
	}{
		{"PUT", "/v1/kv/a/b/", "v", wire.KVRequest{Op: "set", DirEnt: api.KVPair{Key: "a/b/", Value: []byte("v")}}},
		{"PUT", "/v1/kv/a?flags=18446744073709551615", "", wire.KVRequest{Op: "set", DirEnt: api.KVPair{Key: "a", Flags: 1<<64 - 1}}},
		{"PUT", "/v1/kv/a?cas=7", "v", wire.KVRequest{Op: "cas", DirEnt: api.KVPair{Key: "a", Value: []byte("v"), RaftIndex: api.RaftIndex{ModifyIndex: 7}}}},
		{"PUT", "/v1/kv/" + escaped.String(), "v", wire.KVRequest{Op: "set", DirEnt: api.KVPair{Key: string(every), Value: []byte("v")}}},
		{"DELETE", "/v1/kv/a", "", wire.KVRequest{Op: "delete", DirEnt: api.KVPair{Key: "a"}}},
		{"DELETE", "/v1/kv/a?cas=9", "", wire.KVRequest{Op: "delete-cas", DirEnt: api.KVPair{Key: "a", RaftIndex: api.RaftIndex{ModifyIndex: 9}}}},
		{"DELETE", "/v1/kv/a?recurse", "", wire.KVRequest{Op: "delete-tree", DirEnt: api.KVPair{Key: "a"}}},
		{"DELETE", "/v1/kv/?recurse", "", wire.KVRequest{Op: "delete-tree"}},
	} {
		got = wire.KVRequest{}
		w := do(t, a, c.method, c.target, c.body)
		if w.Code != http.StatusOK || w.Body.String() != "true" || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s %s: got %d %q %+v, want %+v", c.method, c.target, w.Code, w.Body, got, c.want)
		}
	}
}

// endless is a body that counts how much of it was read.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	return len(p), nil
}

func TestTooLargeBodiesAreNotRead(t *testing.T) {
	a := New(config(fakeCaller{}))
	for _, c := range []struct {
		target string
		length int64
		most   int
	}{
		{"/v1/kv/a", 600000, 0},
		{"/v1/kv/a", -1, DefaultMaxValueSize + 64<<10},
		{"/v1/agent/service/register", 1 << 40, maxBody + 64<<10},
		{"/v1/catalog/register", -1, maxBody + 64<<10},
	} {
		body := &endless{}
		r := httptest.NewRequest(http.MethodPut, c.target, body)
		r.ContentLength = c.length
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		if w.Code != http.StatusRequestEntityTooLarge || body.read > c.most {
			t.Errorf("%s of %d: got %d %q after %d bytes", c.target, c.length, w.Code, w.Body, body.read)
		}
	}
}

func TestLargeAnswersAreCompressedForWhoeverCanReadIt(t *testing.T) {
	value := bytes.Repeat([]byte("abc"), 1000)
	f := fakeCaller{}
	on(f, wire.KVGet, func(_ rpc.Header, in *wire.KeyQuery) ([]*api.KVPair, rpc.Meta, error) {
		if in.Key == "small" {
			return []*api.KVPair{{Key: in.Key}}, rpc.Meta{}, nil
		}
		return []*api.KVPair{{Key: in.Key, Value: value}}, rpc.Meta{}, nil
	})
	a := New(config(f))
	for _, c := range []struct {
		target, accept string
		zipped         bool
	}{
		{"/v1/kv/a?raw", "gzip", true},
		{"/v1/kv/a?raw", "br, gzip;q=0.5", true},
		{"/v1/kv/a?raw", "*", true},
		{"/v1/kv/a?raw", "gzip;q=0", false},
		{"/v1/kv/a?raw", "", false},
		{"/v1/kv/small", "gzip", false},
	} {
		w := do(t, a, "GET", c.target, "", "Accept-Encoding", c.accept)
		if got := w.Header().Get("Content-Encoding") == "gzip"; got != c.zipped {
			t.Errorf("%s with %q: got gzip %v", c.target, c.accept, got)
		}
		if w.Header().Get("Content-Length") != strconv.Itoa(w.Body.Len()) {
			t.Errorf("got Content-Length %s of %d bytes", w.Header().Get("Content-Length"), w.Body.Len())
		}
		if c.zipped {
			z, err := gzip.NewReader(w.Body)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(z); err != nil || !bytes.Equal(b, value) {
				t.Errorf("got %d bytes (%v)", len(b), err)
			}
		}
	}
}

func TestControlCharactersInPathsAreRefused(t *testing.T) {
	a := New(config(fakeCaller{}))
	if w := do(t, a, "GET", "/v1/kv/a%00b", ""); w.Code != http.StatusBadRequest {
		t.Errorf("got %d", w.Code)
	}
}

func TestRedirectsStayOnThisHost(t *testing.T) {
	a := New(config(fakeCaller{}))
	for _, target := range []string{"//evil.example/v1/kv/..", "/%2F/evil.example/%2e%2e/x", "/v1/../../evil"} {
		w := do(t, a, "GET", target, "")
		if to := w.Header().Get("Location"); w.Code == http.StatusMovedPermanently && (strings.HasPrefix(to, "//") || !strings.HasPrefix(to, "/")) {
			t.Errorf("%s: sent to %q", target, to)
		}
	}
}

func TestConfiguredHeadersAreOnEveryAnswer(t *testing.T) {
	cfg := config(fakeCaller{})
	cfg.ResponseHeaders = map[string]string{"Access-Control-Allow-Origin": "*"}
	a := New(cfg)
	for _, target := range []string{"/nope", "/v1/acl/x", "/v1/agent/services", "/v1//kv/a"} {
		if w := do(t, a, "GET", target, ""); w.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: got %v", target, w.Header())
		}
	}
}

func TestRegistrationsAreReadInAnySpelling(t *testing.T) {
	want := api.ServiceDefinition{
		ID: "w1", Name: "web", Tags: []string{"a"}, EnableTagOverride: true,
		TaggedAddresses: map[string]api.ServiceAddress{"lan_x": {Address: "1.2.3.4", Port: 5}},
		Meta:            map[string]string{"some_Key": "v"},
		Check: api.CheckType{
			HTTP: "http://x", Interval: api.Duration(10 * time.Second), DeregisterCriticalServiceAfter: api.Duration(time.Minute),
			TLSSkipVerify: true, Header: map[string][]string{"x_y": {"1"}},
		},
		Checks: []*api.CheckType{{ScriptArgs: []string{"a", "b"}, Timeout: 5}},
		Proxy:  &api.ConnectProxyConfig{DestinationServiceName: "d", Config: map[string]any{"a_b": "c"}},
		Token:  "secret",
	}
	for name, body := range map[string]string{
		"camel": `{"ID":"w1","Name":"web","Tags":["a"],"EnableTagOverride":true,"TaggedAddresses":{"lan_x":{"Address":"1.2.3.4","Port":5}},
			"Meta":{"some_Key":"v"},"Check":{"HTTP":"http://x","Interval":"10s","DeregisterCriticalServiceAfter":"1m","TLSSkipVerify":true,"Header":{"x_y":["1"]}},
			"Checks":[{"ScriptArgs":["a","b"],"Timeout":5}],"Proxy":{"DestinationServiceName":"d","Config":{"a_b":"c"}}}`,
		"snake": `{"id":"w1","name":"web","tags":["a"],"enable_tag_override":true,"tagged_addresses":{"lan_x":{"address":"1.2.3.4","port":5}},
			"meta":{"some_Key":"v"},"check":{"http":"http://x","interval":10000000000,"deregister_critical_service_after":"60s","tls_skip_verify":true,"header":{"x_y":["1"]}},
			"checks":[{"args":["a","b"],"timeout":"5ns"}],"proxy":{"destination_service_name":"d","config":{"a_b":"c"}}}`,
	} {
		cfg := config(fakeCaller{})
		local := &fakeLocal{}
		cfg.Local = local
		w := do(t, New(cfg), "PUT", "/v1/agent/service/register?replace-existing-checks", body, "X-Consul-Token", "secret")
		if w.Code != http.StatusOK || w.Body.Len() != 0 || !reflect.DeepEqual(local.added, []any{want, true}) {
			t.Errorf("%s: got %d %q %+v, want %+v", name, w.Code, w.Body, local.added, want)
		}
	}
}

func TestCheckRegistrationSaysWhatItIsOf(t *testing.T) {
	cfg := config(fakeCaller{})
	local := &fakeLocal{}
	cfg.Local = local
	w := do(t, New(cfg), "PUT", "/v1/agent/check/register", `{"ID":"c","name":"n","service_id":"w1","ttl":"5s","Token":"x"}`)
	want := []any{api.CheckType{CheckID: "c", Name: "n", TTL: api.Duration(5 * time.Second)}, "w1"}
	if w.Code != http.StatusOK || !reflect.DeepEqual(local.added, want) {
		t.Errorf("got %d %q %+v, want %+v", w.Code, w.Body, local.added, want)
	}
	local.err = api.Errorf(api.Invalid, "Invalid check: TTL must be > 0 for TTL checks")
	if w := do(t, New(cfg), "PUT", "/v1/agent/check/register", `{"Name":"n"}`); w.Code != http.StatusBadRequest {
		t.Errorf("got %d %q", w.Code, w.Body)
	}
}

func TestCatalogRegistrationGoesToItsDatacenter(t *testing.T) {
	for query, want := range map[string]string{`{"Node":"a","Datacenter":"dc2"}`: "dc2", `{"Node":"a"}`: "dc1"} {
		f := fakeCaller{}
		var got string
		on(f, wire.CatalogRegister, func(h rpc.Header, in *api.Registration) (wire.Empty, rpc.Meta, error) {
			got = h.Datacenter + " " + in.Datacenter
			return wire.Empty{}, rpc.Meta{}, nil
		})
		w := do(t, New(config(f)), "PUT", "/v1/catalog/register", query)
		if w.Body.String() != "true" || got != want+" "+want {
			t.Errorf("%s: got %q %q, want %s", query, w.Body, got, want)
		}
	}
}

func TestAgentRoutesUseTheRightPool(t *testing.T) {
	cfg := config(fakeCaller{})
	lan, wan := newPool("n1", "n2"), newPool("n1.dc1", "n2.dc1", "m.dc2")
	cfg.LAN, cfg.WAN = lan, wan
	a := New(cfg)
	for _, target := range []string{"/v1/agent/join/1.1.1.1:5", "/v1/agent/join/2.2.2.2?wan=1", "/v1/agent/force-leave/n2?prune", "/v1/agent/force-leave/m.dc2?wan"} {
		if w := do(t, a, "PUT", target, ""); w.Code != http.StatusOK {
			t.Errorf("%s: got %d %q", target, w.Code, w.Body)
		}
	}
	if got := fmt.Sprint(lan.joined, lan.left, wan.joined, wan.left); got != "[1.1.1.1:5] [n2 prune=true] [2.2.2.2] [n2.dc1 prune=true m.dc2 prune=false]" {
		t.Errorf("got %s", got)
	}
	for target, want := range map[string]int{"/v1/agent/members": 2, "/v1/agent/members?wan=0": 3, "/v1/agent/members?segment=_all": 2} {
		var got []member
		if err := json.Unmarshal(do(t, a, "GET", target, "").Body.Bytes(), &got); err != nil || len(got) != want {
			t.Errorf("%s: got %v (%v)", target, got, err)
		}
	}
	cfg.Federated = true
	w := do(t, New(cfg), "PUT", "/v1/agent/join/2.2.2.2?wan=1", "")
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "mesh gateways") || len(wan.joined) != 1 {
		t.Errorf("federated: got %d %q, joined %v", w.Code, w.Body, wan.joined)
	}
	cfg.WAN, cfg.Federated = nil, false
	if w := do(t, New(cfg), "PUT", "/v1/agent/join/2.2.2.2?wan=1", ""); w.Code != http.StatusInternalServerError {
		t.Errorf("client: got %d %q", w.Code, w.Body)
	}
}

func TestAgentSelfTellsWhatThisNodeIs(t *testing.T) {
	cfg := config(fakeCaller{})
	cfg.Stats = func() map[string]map[string]string { return map[string]map[string]string{"raft": {"state": "Leader"}} }
	cfg.Settings = map[string]any{"Encrypt": "***"}
	var got struct {
		Config      struct{ Datacenter, NodeName, NodeID, Version string }
		DebugConfig map[string]any
		Member      struct{ Name, Addr string }
		Stats       map[string]map[string]string
	}
	w := do(t, New(cfg), "GET", "/v1/agent/self", "")
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Config.Datacenter != "dc1" || got.Config.Version != "1.16.4" || got.Member.Addr != "127.0.0.1" ||
		got.Stats["raft"]["state"] != "Leader" || got.DebugConfig["Encrypt"] != "***" {
		t.Errorf("got %+v", got)
	}
}

func TestFederationStatusShowsEachServerAndWhoIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peer := func(node string) Peer {
			f := fakeCaller{}
			on(f, wire.FederationStatus, func(rpc.Header, *wire.Empty) (wire.ServerView, rpc.Meta, error) {
				return wire.ServerView{Node: node, Datacenter: "dc1", Leader: node == "a", Datacenters: []wire.DatacenterView{{Name: "dc1"}}}, rpc.Meta{}, nil
			})
			return Peer{f, node}
		}
		silent := fakeCaller{wire.FederationStatus.Name: func(ctx context.Context, _ *rpc.Request) (rpc.Meta, error) {
			<-ctx.Done()
			return rpc.Meta{}, ctx.Err()
		}}
		cfg := config(fakeCaller{})
		cfg.Servers = func() []Peer { return []Peer{peer("c"), {silent, "b"}, peer("a")} }
		start := time.Now()
		w := do(t, New(cfg), "GET", "/v1/federation/status", "")
		if took := time.Since(start); took != viewWithin {
			t.Errorf("took %v, want %v", took, viewWithin)
		}
		var got struct {
			Datacenter, Primary string
			Servers             []struct {
				Node, Error string
				Leader      bool
			}
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(w.Body.String(), "null") || len(got.Servers) != 3 || !got.Servers[0].Leader || got.Servers[1].Node != "b" || got.Servers[1].Error == "" || got.Servers[2].Error != "" {
			t.Errorf("got %s", w.Body)
		}
	})
}

func TestMonitorStreamsLines(t *testing.T) {
	cfg := config(fakeCaller{})
	cfg.Monitor = func(_ context.Context, level slog.Level, json bool, write func([]byte) error) error {
		return write(fmt.Appendf(nil, "%v %v\n", level, json))
	}
	w := do(t, New(cfg), "GET", "/v1/agent/monitor?loglevel=warn&logjson=true", "")
	if w.Body.String() != "WARN true\n" || !w.Flushed {
		t.Errorf("got %q", w.Body)
	}
}

type fakeMetrics struct{ on bool }

func (fakeMetrics) Summary() (any, error) { return map[string]int{"Gauges": 1}, nil }

func (m fakeMetrics) WritePrometheus(w io.Writer) (bool, error) {
	if m.on {
		_, _ = io.WriteString(w, "consul_x 1\n")
	}
	return m.on, nil
}

func TestMetricsInBothFormats(t *testing.T) {
	cfg := config(fakeCaller{})
	cfg.Metrics = fakeMetrics{on: true}
	if w := do(t, New(cfg), "GET", "/v1/agent/metrics", ""); w.Body.String() != `{"Gauges":1}` {
		t.Errorf("got %q", w.Body)
	}
	if w := do(t, New(cfg), "GET", "/v1/agent/metrics?format=prometheus", ""); w.Body.String() != "consul_x 1\n" {
		t.Errorf("got %q", w.Body)
	}
	cfg.Metrics = fakeMetrics{}
	if w := do(t, New(cfg), "GET", "/v1/agent/metrics?format=prometheus", ""); w.Body.Len() != 0 || w.Header().Get("X-Consul-Reason") == "" {
		t.Errorf("got %q %v", w.Body, w.Header())
	}
}
