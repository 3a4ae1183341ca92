package node

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"isthmus/internal/testkit"
)

// TestAnswersOfAnotherDatacenterHaveItsWANAddresses asks one datacenter, twice over,
// for what another one knows.
func TestAnswersOfAnotherDatacenterHaveItsWANAddresses(t *testing.T) {
	one := dev(t, `translate_wan_addrs = true`)
	two := startNode(t, "", "-dev", "-datacenter", "dc2", "-node", "n2", "-retry-join-wan", one.addr)
	const row = `{"Node": "a", "Address": "10.0.0.1", "TaggedAddresses": {"wan": "1.0.0.1"}, "Service": {"Service": "web",
		"Address": "10.0.0.2", "Port": 80, "TaggedAddresses": {"wan": {"Address": "1.0.0.2", "Port": 8080}}}}`
	testkit.Eventually(t, func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+two.addr+":8500/v1/catalog/register", bytes.NewBufferString(row))
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("register answers %s", resp.Status)
		}
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	})
	for _, c := range []struct{ path, node, service string }{
		{"catalog/nodes", `"Address": "1.0.0.1"`, ""},
		{"catalog/service/web", `"Address": "1.0.0.1"`, `"ServiceAddress": "1.0.0.2"`},
		{"catalog/node/a", `"Address": "1.0.0.1"`, `"Port": 8080`},
		{"catalog/node-services/a", `"Address": "1.0.0.1"`, `"Port": 8080`},
		{"health/service/web", `"Address": "1.0.0.1"`, `"Address": "1.0.0.2"`},
		{"health/service/web?passing&cached", `"Address": "1.0.0.1"`, `"Port": 8080`},
	} {
		path := "/v1/" + c.path + "?dc=dc2"
		if strings.Contains(c.path, "?") {
			path = "/v1/" + c.path + "&dc=dc2"
		}
		one.eventually(path, c.node)
		one.eventually(path, c.service)
		// Who is in the datacenter sees its own addresses, also afterwards.
		two.eventually("/v1/"+c.path, `"Address": "10.0.0.1"`)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+one.addr+":8500/v1/catalog/nodes", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := resp.Header.Get("X-Consul-Translate-Addresses"); got != "true" {
		t.Errorf("the header says %q", got)
	}
}

func TestTokensOfTheSettingsAreShownNowhere(t *testing.T) {
	r := dev(t, `acl { tokens { agent = "very-secret" default = "very-secret" } }
		encrypt = "dmVyeS1zZWNyZXQtd29yZA=="
		log_level = "trace"
		service { name = "web" token = "very-secret" }`)
	for _, path := range []string{"/v1/agent/self", "/v1/agent/services", "/v1/agent/service/web", "/v1/catalog/service/web", "/v1/agent/metrics"} {
		if _, body, err := r.do(http.MethodGet, path); err != nil || strings.Contains(body, "very-secret") || strings.Contains(body, "dmVyeS1") {
			t.Errorf("%s: %v, %s", path, err, body)
		}
	}
	if _, _, err := r.do(http.MethodPut, "/v1/agent/token/agent?token=very-secret"); err != nil {
		t.Error(err)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if log := r.log.String(); strings.Contains(log, "very-secret") || strings.Contains(log, "dmVyeS1") {
		t.Errorf("the log has a secret:\n%s", log)
	}
}
