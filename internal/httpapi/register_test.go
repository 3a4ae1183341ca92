package httpapi

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
)

// TestServiceOfThisNodeIsWaitedFor shows that ?hash waits for a change of the
// service, its end or the end of the wait, whichever is first.
func TestServiceOfThisNodeIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := newAgent(t)
		cfg := config(fakeCaller{})
		cfg.Local = agent
		front := New(cfg)
		put := func(name string, port int) {
			t.Helper()
			if err := agent.AddService(api.ServiceDefinition{Name: name, Port: port}, false); err != nil {
				t.Fatal(err)
			}
		}
		get := func(query string) *httptest.ResponseRecorder {
			return do(t, front, "GET", "/v1/agent/service/web"+query, "")
		}
		put("web", 1)
		first := get("")
		hash := first.Header().Get("X-Consul-Contenthash")

		begin := time.Now()
		same := get("?wait=90s&hash=" + hash)
		if waited := time.Since(begin); waited != 90*time.Second || same.Body.String() != first.Body.String() {
			t.Errorf("after %s got %s", waited, same.Body)
		}
		if begin = time.Now(); get("?hash=other").Code != 200 || time.Since(begin) != 0 {
			t.Error("waited although the hash is another")
		}
		if get("?hash="+hash).Code != 200 || time.Since(begin) != agentWait {
			t.Errorf("waited %s by default", time.Since(begin))
		}

		for _, c := range []struct {
			name   string
			change func()
			status int
			port   int
		}{
			{"changed", func() { put("other", 1); put("web", 1); put("web", 2) }, 200, 2},
			{"removed", func() { _ = agent.RemoveService("web") }, 404, 0},
		} {
			done := make(chan *httptest.ResponseRecorder, 1)
			begin = time.Now()
			go func() { done <- get("?hash=" + hash) }()
			synctest.Wait()
			c.change()
			w := <-done
			var out struct{ Port int }
			if w.Code == 200 && json.Unmarshal(w.Body.Bytes(), &out) != nil || w.Code != c.status || out.Port != c.port || time.Since(begin) != 0 {
				t.Errorf("%s: got %d %s after %s", c.name, w.Code, w.Body, time.Since(begin))
			}
			hash = w.Header().Get("X-Consul-Contenthash")
		}
	})
}

func TestSelfTellsThePortsForProxies(t *testing.T) {
	for _, c := range []struct {
		plain, tls int
		want       string
	}{
		{0, 0, ""},
		{8502, 0, `{"SupportedProxies":{"envoy":["1.40.0","1.36.2"]},"Port":8502,"Ports":{"Plaintext":8502,"TLS":0}}`},
		{8502, 8503, `{"SupportedProxies":{"envoy":["1.40.0","1.36.2"]},"Port":8503,"Ports":{"Plaintext":8502,"TLS":8503}}`},
	} {
		cfg := config(fakeCaller{})
		cfg.XDS.Plaintext, cfg.XDS.TLS = c.plain, c.tls
		var self map[string]json.RawMessage
		if err := json.Unmarshal(do(t, New(cfg), "GET", "/v1/agent/self", "").Body.Bytes(), &self); err != nil {
			t.Fatal(err)
		}
		if got := string(self["xDS"]); got != c.want {
			t.Errorf("ports %d and %d: got %s, want %s", c.plain, c.tls, got, c.want)
		}
	}
}
