package httpapi

import (
	"strings"
	"testing"

	"isthmus/api"
)

// TestEveryKindOfCheckIsAccepted registers each kind in the ways that there are,
// on an agent that does not run.
func TestEveryKindOfCheckIsAccepted(t *testing.T) {
	for kind, fields := range map[string]string{
		"ttl":        `"TTL":"10s"`,
		"http":       `"http":"https://127.0.0.1:1/","method":"POST","header":{"x":["y"]},"body":"b","disable_redirects":true,"tls_server_name":"n","TLSSkipVerify":true,"Interval":"10s","output_max_size":10`,
		"tcp":        `"TCP":"127.0.0.1:1","tcp_use_tls":true,"Interval":"10s"`,
		"udp":        `"UDP":"127.0.0.1:1","Interval":"10s"`,
		"grpc":       `"GRPC":"127.0.0.1:1/s","GRPCUseTLS":true,"Interval":"10s"`,
		"h2ping":     `"H2PING":"127.0.0.1:1","h2ping_use_tls":false,"Interval":"10s"`,
		"os_service": `"OSService":"ssh","Interval":"10s"`,
		"alias":      `"alias_service":"other","AliasNode":"n"`,
	} {
		agent := newAgent(t)
		cfg := config(fakeCaller{})
		cfg.Local = agent
		front := New(cfg)
		for path, body := range map[string]string{
			"/v1/agent/check/register":   `{"Name":"single",` + fields + `}`,
			"/v1/agent/service/register": `{"Name":"a","Check":{` + fields + `},"Checks":[{"CheckID":"two",` + fields + `}]}`,
		} {
			if w := do(t, front, "PUT", path, body); w.Code != 200 {
				t.Errorf("%s %s: %d %s", path, body, w.Code, w.Body)
			}
		}
		all := agent.Checks()
		for _, id := range []string{"single", "two", "service:a:1"} {
			if c := all[id]; c == nil || c.Type != kind {
				t.Errorf("%s: got %+v", kind, c)
			}
		}
	}
}

func TestScriptsAreRefusedOverTheAPI(t *testing.T) {
	cfg := config(fakeCaller{})
	cfg.Local = newAgent(t)
	front := New(cfg)
	const refused = "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"
	for path, body := range map[string]string{
		"/v1/agent/check/register":   `{"Name":"x","Args":["true"],"DockerContainerID":"c","Interval":"1s"}`,
		"/v1/agent/service/register": `{"Name":"x","Checks":[{"TTL":"3s"},{"Args":["true"],"Interval":"1s"}]}`,
	} {
		if w := do(t, front, "PUT", path, body); w.Code != 500 || strings.TrimSpace(w.Body.String()) != refused {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	// What cannot be right is told first.
	w := do(t, front, "PUT", "/v1/agent/check/register", `{"Name":"x","Args":["true"]}`)
	if w.Code != 400 || !strings.HasPrefix(w.Body.String(), "Invalid check: Interval must be > 0") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func TestPingUsesTLSUnlessItSaysOtherwise(t *testing.T) {
	for body, want := range map[string]bool{
		`{"H2PING":"a:1"}`:                        true,
		`{"h2ping":"a:1","H2PingUseTLS":true}`:    true,
		`{"h2ping":"a:1","h2ping_use_tls":false}`: false,
		`{"TCP":"a:1"}`:                           false,
		`{"H2PING":"","TCP":"a:1"}`:               false,
	} {
		var single checkBody
		var service api.ServiceDefinition
		if err := Unmarshal([]byte(body), &single); err != nil {
			t.Fatal(err)
		}
		if err := Unmarshal([]byte(`{"Check":`+body+`,"checks":[`+body+`]}`), &service); err != nil {
			t.Fatal(err)
		}
		if single.H2PingUseTLS != want || service.Check.H2PingUseTLS != want || service.Checks[0].H2PingUseTLS != want {
			t.Errorf("%s: got %v, %v, %v", body, single.H2PingUseTLS, service.Check.H2PingUseTLS, service.Checks[0].H2PingUseTLS)
		}
	}
}
