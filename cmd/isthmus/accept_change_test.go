package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"isthmus/internal/testkit"
)

// command runs a command of the reference, or of ours, against the first server of
// a datacenter.
func (f *fleet) command(dc int, ref string, args ...string) (string, error) {
	f.t.Helper()
	program := ref
	if program == "" {
		program = testkit.Must(os.Executable())
	}
	cmd := exec.CommandContext(f.t.Context(), program, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "CONSUL_HTTP_ADDR="+net.JoinHostPort(f.addr(dc, 1), "8500"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// changes stops the reference's secondary dc3, whose clients go on, and starts ours in its place.
func (m *mixed) changes(t *testing.T) { //nolint:thelper // a step is a test: its lines are told
	m.agent("dc3-client", m.ref, map[string]any{
		"datacenter": "dc3", "primary_datacenter": "dc1", "node_name": "client", "data_dir": filepath.Join(m.dir, "client"),
		"bind_addr": m.addr(3, clientNode), "client_addr": m.addr(3, clientNode), "encrypt": m.key, "retry_join": []string{m.addr(3, 1)}, "retry_interval": "1s",
		"ports": map[string]any{"dns": -1, "grpc": 8502, "grpc_tls": -1}, "gossip_lan": fastLAN(), "log_level": "debug", "disable_update_check": true,
		"use_streaming_backend": false, // our servers do not stream health yet
		"tls": map[string]any{
			"defaults": map[string]any{"ca_file": filepath.Join(m.dir, "ca.pem"), "verify_outgoing": true},
			"internal_rpc": map[string]any{
				"verify_server_hostname": true, "cert_file": filepath.Join(m.dir, "dc3s1.pem"), "key_file": filepath.Join(m.dir, "dc3s1-key.pem"),
			},
		},
		"services": []any{map[string]any{"name": "web", "port": 80, "check": map[string]any{"name": "alive", "tcp": m.addr(3, clientNode) + ":8500", "interval": "1s"}}},
	})
	web := func() error {
		var rows []struct {
			Node   struct{ Node string }
			Checks []struct{ Status string }
		}
		if err := m.get(1, 1, "/v1/health/service/web?passing&dc=dc3", &rows); err != nil {
			return err
		}
		if len(rows) != 1 || rows[0].Node.Node != "client" {
			return fmt.Errorf("dc3's instances of web: %v", rows)
		}
		return nil
	}
	within(t, time.Minute, web)
	// A second gateway stands beside the client, where it outlives the servers.
	g := gateway{dc: 3, n: 4, envoy: m.old, ref: m.ref, agent: clientNode}
	beside := m.mesh(g)
	within(t, time.Minute, func() error { return m.leads(3, g.n) })
	// The other datacenters must hold it for healthy before the servers go: the reference
	// keeps what it saw last of a datacenter until the new one's indices pass the old one's.
	healthy := "server.dc3.consul::" + m.gatewayAddr(3, g.n) + "::health_flags::healthy"
	within(t, 2*time.Minute, func() error {
		clusters, err := m.clusters(m.gatewayOf(1, m.primaryAt))
		if err == nil && !strings.Contains(clusters, healthy) {
			err = errors.New("dc1's Envoy does not hold the gateway beside the client for healthy")
		}
		return err
	})
	for n := range 20 {
		if err := m.put(3, 1, 3, fmt.Sprintf("app/%02d", n), fmt.Sprint(n)); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 400 { // what comes after counts from the beginning: its indices are far lower
		if err := m.put(3, 1, 3, "app/00", fmt.Sprint(n)); err != nil {
			t.Fatal(err)
		}
	}
	exported, err := m.command(3, m.ref, "kv", "export")
	if err != nil {
		t.Fatalf("export: %v: %s", err, exported)
	}

	others := []*reader{m.reading(1, 2, "from-dc2"), m.reading(2, 1, "k")}
	changed := m.reading(1, 3, "app/07")
	start := time.Now()
	m.servers[3].signal(syscall.SIGTERM)
	m.gateways[3].signal(syscall.SIGTERM)
	// Whoever starts another server before the clients miss the one before waits
	// until they next look whether all of theirs is registered, a minute or two.
	within(t, time.Minute, func() error {
		b, err := m.do(http.MethodGet, 3, clientNode, "/v1/agent/members", nil)
		if err == nil && !strings.Contains(string(b), `"Status":4`) {
			err = fmt.Errorf("the client does not miss its server yet: %s", b)
		}
		return err
	})
	t.Logf("the client misses its server after %s", time.Since(start))
	settings := m.loneSettings(3, primaryGateways(3))
	settings["retry_join"] = []string{m.addr(3, clientNode)}
	m.servers[3] = m.agent("dc3-s1-ours", "", settings)
	m.guard.replace(3, m.servers[3])
	within(t, time.Minute, func() error {
		out, err := m.command(3, "", "kv", "import", "@"+m.write("export.json", []byte(exported)))
		if err != nil {
			err = fmt.Errorf("import: %w: %s", err, out)
		}
		return err
	})
	t.Logf("ours stands in for the reference, with its keys, after %s", time.Since(start))
	within(t, time.Minute, web)
	t.Logf("services have registered again after %s", time.Since(start))
	within(t, latched, func() error { return m.across(1, 2, 3) })
	t.Logf("all federated after %s", time.Since(start))
	changed.end(t)
	for _, r := range others {
		r.endWithout(t)
	}
	var keys []string
	if err := m.get(1, 1, "/v1/kv/app/?keys&dc=dc3", &keys); err != nil || len(keys) != 20 {
		t.Errorf("the new secondary has %d of 20 keys: %v", len(keys), err)
	}
	if got, err := m.read(1, 1, 3, "app/07"); err != nil || got != "7" {
		t.Errorf("got %q, %v", got, err)
	}
	// The reference's client asks our servers.
	var rows []json.RawMessage
	if err := m.get(3, clientNode, "/v1/health/service/web?passing", &rows); err != nil || len(rows) != 1 {
		t.Errorf("the reference's client sees %s, %v", rows, err)
	}
	if b, err := m.do(http.MethodGet, 3, clientNode, "/v1/health/service/web?passing&cached", nil); err != nil || !strings.Contains(string(b), "client") {
		t.Errorf("the reference's client sees, cached, %s, %v", b, err)
	}

	// An Envoy that starts now is told everything by the reference's client, which asks our servers.
	beside.signal(syscall.SIGTERM)
	beside.start()
	took := within(t, time.Minute, func() error { return m.leads(3, g.n) })
	t.Logf("a restarted Envoy beside the reference's client works after %s", took)
	within(t, time.Minute, func() error {
		_, err := m.read(2, 1, 3, "app/07")
		return err
	})
}
