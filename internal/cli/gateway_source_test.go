package cli

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	consul "github.com/hashicorp/consul/api"

	"isthmus/api"
	"isthmus/internal/proxy"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

var quietly = slog.New(slog.DiscardHandler)

const rootsPath = "/v1/agent/connect/ca/roots"

// httpAgent answers routes of an agent as they are set, without sockets, so that
// it works in a bubble. A read at the index of the answer waits.
type httpAgent struct {
	mu      sync.Mutex
	answers map[string]httpAnswer
	changed chan struct{}
	asked   []*http.Request
}

type httpAnswer struct {
	status int
	body   string
	index  string
}

func (a *httpAgent) set(path string, status int, body, index string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers[path] = httpAnswer{status, body, index}
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *httpAgent) RoundTrip(r *http.Request) (*http.Response, error) {
	for {
		a.mu.Lock()
		a.asked = append(a.asked, r)
		answer, ok := a.answers[r.URL.Path]
		changed := a.changed
		a.mu.Unlock()
		if !ok {
			answer = httpAnswer{http.StatusNotFound, "no such route", ""}
		}
		if answer.index == "" || r.URL.Query().Get("index") != answer.index {
			w := httptest.NewRecorder()
			w.Header().Set("X-Consul-Index", answer.index)
			w.Header().Set("X-Consul-Knownleader", "true")
			w.WriteHeader(answer.status)
			_, _ = io.WriteString(w, answer.body)
			return w.Result(), nil
		}
		select {
		case <-r.Context().Done():
			return nil, r.Context().Err()
		case <-changed:
		}
	}
}

func newHTTPAgent(t *testing.T) (*httpAgent, *consul.Client) {
	t.Helper()
	a := &httpAgent{answers: map[string]httpAnswer{}, changed: make(chan struct{})}
	client, err := consul.NewClient(&consul.Config{Address: "agent.test:8500", Token: "secret", HttpClient: &http.Client{Transport: a}})
	if err != nil {
		t.Fatal(err)
	}
	return a, client
}

const (
	oneServer = `[{"Node":{"Node":"s1","Address":"10.0.0.1","CreateIndex":3,"ModifyIndex":3},
		"Service":{"ID":"consul","Service":"consul","Tags":[],"Port":8300,"Weights":{"Passing":1,"Warning":1},"Connect":{}},
		"Checks":[{"CheckID":"serfHealth","Status":"passing","Definition":{"Interval":"10s"}}]}]`
	twoStates = `{"dc1":[],"dc2":[{"Node":{"Node":"a","Address":"192.0.2.1"},"Checks":[],
		"Service":{"Kind":"mesh-gateway","ID":"gw","Service":"mesh-gateway","Port":8443,"Meta":{"consul-wan-federation":"1"},
		"TaggedAddresses":{"wan":{"Address":"203.0.113.2","Port":443}},"CreateIndex":20,"ModifyIndex":21}}]}`
)

func TestAgentSourceAnswersMethodsOverHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, client := newHTTPAgent(t)
		source := agentSource{client}
		h := rpc.Header{AllowStale: true, MinIndex: 7}
		a.set("/v1/health/service/consul", 200, oneServer, "9")
		servers, meta, err := wire.HealthServiceNodes.Call(t.Context(), source, h, wire.ServiceQuery{ServiceName: "consul"})
		if err != nil || len(servers) != 1 || servers[0].Service.Port != 8300 || servers[0].Node.Address != "10.0.0.1" || meta.Index != 9 {
			t.Errorf("servers: got %+v, %+v, %v", servers, meta, err)
		}
		asked := a.asked[0]
		q := asked.URL.Query()
		if q.Get("index") != "7" || q.Get("wait") != "300000ms" || !q.Has("stale") || asked.Header.Get("X-Consul-Token") != "secret" {
			t.Errorf("asked for %s with %v", asked.URL, asked.Header)
		}

		a.set("/v1/internal/federation-states/mesh-gateways", 200, twoStates, "4")
		states, _, err := wire.FederationGateways.Call(t.Context(), source, h, wire.DCQuery{})
		if err != nil || len(states["dc2"]) != 1 || states["dc2"][0].Service.ModifyIndex != 21 {
			t.Errorf("states: got %+v, %v", states, err)
		}
		a.set(rootsPath, 200, `{"ActiveRootID":"1","TrustDomain":"1.consul","Roots":[{"ID":"1","SerialNumber":7,"NotAfter":"2036-11-18T15:13:41Z"}]}`, "4")
		if roots, _, err := wire.CARoots.Call(t.Context(), source, h, wire.DCQuery{}); err != nil || roots.TrustDomain != "1.consul" {
			t.Errorf("roots: got %+v, %v", roots, err)
		}
		a.set("/v1/catalog/datacenters", 200, `["dc1","dc2"]`, "")
		if list, _, err := wire.CatalogDatacenters.Call(t.Context(), source, rpc.Header{}, wire.Empty{}); err != nil || len(list) != 2 {
			t.Errorf("datacenters: got %v, %v", list, err)
		}
	})
}

func TestAgentSourceSaysWhatHTTPCannotTell(t *testing.T) {
	a, client := newHTTPAgent(t)
	source := agentSource{client}
	if _, _, err := wire.ServiceDump.Call(t.Context(), source, rpc.Header{}, wire.DumpQuery{}); api.CodeOf(err) != api.NotBuilt || len(a.asked) > 0 {
		t.Errorf("dump: got %v, asked %d times", err, len(a.asked))
	}
	for status, want := range map[int]api.Code{404: api.NotBuilt, 501: api.NotBuilt, 500: api.Internal, 403: api.Internal} {
		a.set(rootsPath, status, "Connect must be enabled in order to use this endpoint", "")
		_, _, err := wire.CARoots.Call(t.Context(), source, rpc.Header{}, wire.DCQuery{})
		if api.CodeOf(err) != want || !strings.Contains(err.Error(), "Connect must be enabled") {
			t.Errorf("%d: got %v", status, err)
		}
	}
}

// hasRoute tells whether a gateway has a route of that name.
func hasRoute(gw *proxy.Gateway, name string) bool {
	_, ok := gw.Stats().Routes[name]
	return ok
}

func TestGatewayFollowsWhatAnAgentTellsOverHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, client := newHTTPAgent(t)
		gw := proxy.New(proxy.Config{})
		reg := meshGatewayService{ID: "gw", Name: "mesh-gateway", ExposeServers: true}.registration()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { followAgent(ctx, client, always(reg), gw, quietly) })
		defer wg.Wait()
		defer cancel()
		pass := func(d time.Duration) { <-time.After(d) }

		pass(time.Minute) // the agent is not up yet
		a.set("/v1/agent/self", 200, `{"Config":{"Datacenter":"dc1"},"DebugConfig":{"DNSDomain":"example."}}`, "")
		a.set("/v1/health/service/consul", 200, oneServer, "9")
		pass(time.Minute)
		if hasRoute(gw, "server/dc1/s1") {
			t.Error("there are routes although the gateways of other datacenters are not known")
		}
		a.set("/v1/internal/federation-states/mesh-gateways", 200, twoStates, "4")
		pass(time.Minute)
		for _, name := range []string{"server/dc1", "server/dc1/s1", "remote/dc2"} {
			if !hasRoute(gw, name) {
				t.Errorf("no route %s", name)
			}
		}

		// An agent that fails leaves the routes in place.
		a.set("/v1/health/service/consul", 500, "No cluster leader", "")
		a.set("/v1/internal/federation-states/mesh-gateways", 403, "Permission denied", "")
		pass(10 * time.Minute)
		if !hasRoute(gw, "server/dc1/s1") || !hasRoute(gw, "remote/dc2") {
			t.Error("an agent that fails has cost routes")
		}
		a.set("/v1/internal/federation-states/mesh-gateways", 200, strings.ReplaceAll(twoStates, "dc2", "dc3"), "3") // the index goes back
		a.set(rootsPath, 200, `{"TrustDomain":"1.consul"}`, "4")
		pass(time.Minute)
		if !hasRoute(gw, "remote/dc3") || !hasRoute(gw, "mesh/dc3") || hasRoute(gw, "remote/dc2") {
			t.Errorf("got routes %v", gw.Stats().Routes)
		}
	})
}

func TestGatewayThatSomebodyElseRegistersIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, client := newHTTPAgent(t)
		seen := make(chan *api.NodeService)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for p := range (agentSource{client}).registered("gw", quietly)(ctx) {
				seen <- p
			}
		})
		defer wg.Wait()
		defer cancel()
		for i, body := range []string{
			`{"Kind":"mesh-gateway","ID":"gw","Service":"mesh-gateway","Port":1}`,
			`{"Kind":"mesh-gateway","ID":"gw","Service":"mesh-gateway","Port":2,"Meta":{"consul-wan-federation":"1"}}`,
		} {
			a.set("/v1/agent/service/gw", 200, body, "")
			if p := <-seen; p.Port != i+1 || p.Kind != api.MeshGateway {
				t.Errorf("got %+v after %s", p, body)
			}
			a.set("/v1/agent/service/gw", 500, "not now", "")
			select {
			case p := <-seen:
				t.Errorf("got %+v from an agent that fails", p)
			case <-time.After(time.Minute):
			}
		}
		a.set("/v1/agent/service/gw", 404, "unknown service ID: gw", "")
		if p := <-seen; p != nil {
			t.Errorf("got %+v after it was deregistered", p)
		}
	})
}
