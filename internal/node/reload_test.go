package node

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"isthmus/internal/testkit"
)

func TestReloadOverHTTPChangesARunningNode(t *testing.T) {
	r := dev(t, `
		service { name = "web" port = 80 }
		node_meta { a = "1" }
		log_level = "info"`)
	r.eventually("/v1/catalog/service/web", `"ServicePort": 80`)
	r.eventually("/v1/catalog/nodes", `"a": "1"`)
	r.write(`
		service { name = "api" port = 81 check { id = "c" ttl = "1h" } }
		node_meta { b = "2" }
		log_level = "debug"
		domain = "other."
		limits { rpc_client_timeout = "3s" rpc_max_conns_per_client = 7 http_max_conns_per_client = 1 rpc_rate = 5 rpc_max_burst = 6 }
		raft_snapshot_threshold = 9000
		dns_config { node_ttl = "7s" }
		discard_check_output = true`)
	if status, body, err := r.do(http.MethodPut, "/v1/agent/reload"); err != nil || status != http.StatusOK {
		t.Fatalf("got %d %s, %v", status, body, err)
	}
	r.eventually("/v1/catalog/services", `"api"`)
	r.eventually("/v1/catalog/service/web", "[]")
	r.eventually("/v1/catalog/nodes", `"b": "2"`)
	r.eventually("/v1/agent/checks", `"CheckID": "c"`)
	if log := r.log.String(); !strings.Contains(log, "take effect with a restart") || !strings.Contains(log, "settings=domain\n") {
		t.Errorf("the log does not name what needs a restart:\n%s", log)
	}
	r.Node.log.Debug("this is fine")
	if !strings.Contains(r.log.String(), "this is fine") {
		t.Error("the log level has not changed")
	}
	if got := r.rate.second; got != 5 {
		t.Errorf("the rate is %v", got)
	}

	// One more connection than allowed is refused now.
	first := dial(t, r.addr+":8500")
	if _, err := first.Write([]byte("GET /v1/status/leader HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	testkit.Eventually(t, func() error {
		answer := make([]byte, 200)
		n, err := dial(t, r.addr+":8500").Read(answer)
		if err == nil && !strings.Contains(string(answer[:n]), " 429 ") {
			t.Errorf("got %s", answer[:n])
		}
		return err
	})
}

// dial opens a connection that ends with the test.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestReloadThatIsWrongChangesNothing(t *testing.T) {
	r := dev(t, `service { name = "web" port = 80 }
node_meta { a = "1" }`)
	r.eventually("/v1/catalog/service/web", `"ServicePort": 80`)
	for _, c := range []struct{ hcl, part string }{
		{`service { name = "api" port = 81 } unknown = 1`, "unknown"},
		{"service { name = \"api\" port = 81 }\nnode_meta { a = \"2\" }\ntls { internal_rpc { ca_file = \"/nowhere\" } }", "/nowhere"},
		{"service { name = \"api\" port = 81 connect { sidecar_service { what = 1 } } }\nnode_meta { a = \"2\" }", "what"},
		{"services = [{ name = \"api\" port = 81 }, { name = \"api\" port = 82 }]\nnode_meta { a = \"2\" }", "api"},
	} {
		r.write(c.hcl)
		status, body, err := r.do(http.MethodPut, "/v1/agent/reload")
		if err != nil || status != http.StatusInternalServerError || !strings.Contains(body, c.part) {
			t.Errorf("%s: got %d %s, %v", c.hcl, status, body, err)
		}
	}
	if _, body, err := r.do(http.MethodGet, "/v1/agent/services"); err != nil || strings.Contains(body, `"api"`) || !strings.Contains(body, `"web"`) {
		t.Errorf("the services are %s, %v", body, err)
	}
	if _, body, err := r.do(http.MethodGet, "/v1/catalog/nodes"); err != nil || !strings.Contains(body, `"a": "1"`) {
		t.Errorf("the node is %s, %v", body, err)
	}
}

func TestRateOfAClient(t *testing.T) {
	var r rate
	now := time.Unix(1000, 0)
	r.set(-1, 1)
	for range 100 {
		if !r.allow(now) {
			t.Fatal("refused without a limit")
		}
	}
	r.set(2, 3)
	for i, c := range []struct {
		later time.Duration
		want  bool
	}{{0, true}, {0, true}, {0, true}, {0, false}, {400 * time.Millisecond, false}, {100 * time.Millisecond, true}, {0, false}, {time.Hour, true}, {0, true}, {0, true}, {0, false}} {
		now = now.Add(c.later)
		if got := r.allow(now); got != c.want {
			t.Errorf("call %d: got %v", i, got)
		}
	}
}

// TestClientAsksNoMoreOftenThanItMay has the answer of the reference's client.
func TestClientAsksNoMoreOftenThanItMay(t *testing.T) {
	server := dev(t, "")
	client := startNode(t, fastLAN+`limits { rpc_rate = 0.001 rpc_max_burst = 1000 }`, "-data-dir", t.TempDir(), "-node", "c")
	if err := client.put("/v1/agent/join/" + server.addr); err != nil {
		t.Fatal(err)
	}
	client.eventually("/v1/catalog/nodes", `"c"`)
	client.write(fastLAN + `limits { rpc_rate = 0.001 rpc_max_burst = 1 }`)
	if err := client.put("/v1/agent/reload"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, func() error {
		status, body, err := client.do(http.MethodGet, "/v1/catalog/nodes")
		if err == nil && (status != http.StatusTooManyRequests || body != "RPC rate limit exceeded") {
			err = fmt.Errorf("got %d %s", status, body)
		}
		return err
	})
}
