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

	"isthmus/internal/testkit"
	"isthmus/internal/transport"
)

// client are the settings of a client agent of datacenter 1, node 9.
func (f *fleet) clientSettings() map[string]any {
	return map[string]any{
		"datacenter": "dc1", "node_name": "client", "data_dir": filepath.Join(f.dir, "client"),
		"bind_addr": f.addr(1, 9), "client_addr": f.addr(1, 9), "ports": map[string]any{"dns": -1}, "encrypt": f.key,
		"retry_join": []string{f.addr(1, 1)}, "retry_interval": "1s", "log_level": "debug",
		"gossip_lan": fastLAN(), "performance": map[string]any{"leave_drain_time": "100ms"},
		"tls": map[string]any{
			"defaults":     map[string]any{"ca_file": filepath.Join(f.dir, "ca.pem"), "verify_outgoing": true},
			"internal_rpc": map[string]any{"verify_server_hostname": true, "cert_file": filepath.Join(f.dir, "dc1s1.pem"), "key_file": filepath.Join(f.dir, "dc1s1-key.pem")},
		},
		"services": []any{map[string]any{"name": "web", "port": 80, "tags": []string{"blue"}, "checks": []any{
			map[string]any{"name": "alive", "tcp": f.addr(1, 9) + ":8500", "interval": "1s"},
		}}},
	}
}

// web returns how the servers see the service web: tags and state of each instance.
func (f *fleet) web() (string, error) {
	var rows []struct {
		Node    struct{ Node string }
		Service struct{ Tags []string }
		Checks  []struct{ Status string }
	}
	err := f.get(1, 1, "/v1/health/service/web", &rows)
	var out []string
	for _, row := range rows {
		status := ""
		for _, c := range row.Checks {
			status += " " + c.Status
		}
		out = append(out, fmt.Sprint(row.Node.Node, row.Service.Tags, status))
	}
	return strings.Join(out, ";"), err
}

func (f *fleet) eventuallyWeb(want string) {
	f.t.Helper()
	testkit.Eventually(f.t, func() error {
		got, err := f.web()
		if err == nil && got != want {
			err = fmt.Errorf("the servers see %q, want %q", got, want)
		}
		return err
	})
}

func TestClientAgentLives(t *testing.T) {
	f := newFleet(t)
	servers := f.servers(1, 3, "")
	settings := f.clientSettings()
	client := f.agent("client", "", settings)
	f.eventuallyWeb("client[blue] passing passing") //nolint:dupword // two checks pass

	// It serves the whole API through the servers, also while one of them is gone.
	servers[2].signal(syscall.SIGKILL)
	testkit.Eventually(t, func() error { return f.put(1, 9, 1, "k", "v") })
	if got, err := f.read(1, 9, 1, "k"); err != nil || got != "v" {
		t.Errorf("got %q, %v", got, err)
	}

	// A changed file is taken over on SIGHUP.
	services, _ := settings["services"].([]any)
	web, _ := services[0].(map[string]any)
	web["tags"] = []string{"green"}
	b, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	f.write("client.json", b)
	client.signal(syscall.SIGHUP)
	f.eventuallyWeb("client[green] passing passing") //nolint:dupword // two checks pass

	// What the API registers outlives a crash of the agent.
	body := []byte(`{"Name":"api","Port":81,"Check":{"TTL":"10m","Status":"passing"}}`)
	if _, err := f.do(http.MethodPut, 1, 9, "/v1/agent/service/register", body); err != nil {
		t.Fatal(err)
	}
	client.signal(syscall.SIGKILL)
	f.eventuallyWeb("client[green] critical passing")
	client.start()
	f.eventuallyWeb("client[green] passing passing") //nolint:dupword // two checks pass
	testkit.Eventually(t, func() error {
		var own map[string]any
		if err := f.get(1, 9, "/v1/agent/services", &own); err != nil {
			return err
		}
		if own["api"] == nil || own["web"] == nil {
			return fmt.Errorf("after the restart the agent has %v", own)
		}
		return nil
	})

	// One that leaves is forgotten.
	client.signal(syscall.SIGTERM)
	f.eventuallyWeb("")
}

func TestCertificatesAreReplacedWithoutARestart(t *testing.T) {
	f := newFleet(t)
	servers := f.servers(1, 3, "")
	testkit.Eventually(t, func() error { return f.put(1, 1, 1, "k", "1") })

	// Every server trusts both CAs, then gets a certificate of the new one, then
	// forgets the old one.
	ca, caKey, err := transport.NewCA(transport.CAOptions{Domain: "consul", Days: 1})
	if err != nil {
		t.Fatal(err)
	}
	reload := func() {
		for _, p := range servers {
			p.signal(syscall.SIGHUP)
		}
		for n := 1; n <= 3; n++ {
			testkit.Eventually(t, func() error { return f.put(1, n, 1, "k", fmt.Sprint(n)) })
		}
	}
	f.write("ca.pem", append(append([]byte{}, f.ca...), ca...))
	reload()
	f.ca, f.caKey = ca, caKey
	for n := 1; n <= 3; n++ {
		f.settings(1, n, 3) // writes a certificate of the new CA
	}
	reload()
	f.write("ca.pem", ca)
	reload()

	// A server that starts now has nothing of the old CA, and is let in.
	servers[2].signal(syscall.SIGKILL)
	if err := os.RemoveAll(filepath.Join(f.dir, "dc1s3")); err != nil {
		t.Fatal(err)
	}
	servers[2].start()
	testkit.Eventually(t, func() error {
		var peers []string
		if err := f.get(1, 3, "/v1/status/peers", &peers); err != nil {
			return err
		}
		if len(peers) != 3 {
			return fmt.Errorf("peers %v", peers)
		}
		got, err := f.read(1, 3, 1, "k")
		if err == nil && got != "3" {
			err = fmt.Errorf("the new server reads %q", got)
		}
		return err
	})
}

// cli runs a command of ours against a node of dc1 and returns what it prints.
func (f *fleet) cli(node int, args ...string) (string, error) {
	f.t.Helper()
	program, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	cmd := exec.CommandContext(f.t.Context(), program, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "CONSUL_HTTP_ADDR="+net.JoinHostPort(f.addr(1, node), "8500"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestServersLeaveAndReturn(t *testing.T) {
	f := newFleet(t)
	servers := f.servers(1, 3, "")
	peers := func(want int) {
		t.Helper()
		testkit.Eventually(t, func() error {
			var peers []string
			var nodes []any
			if err := f.get(1, 1, "/v1/status/peers", &peers); err != nil {
				return err
			}
			if err := f.get(1, 1, "/v1/catalog/nodes", &nodes); err != nil {
				return err
			}
			if len(peers) != want || len(nodes) != want {
				return fmt.Errorf("%d peers and %d nodes, want %d", len(peers), len(nodes), want)
			}
			return nil
		})
	}
	peers(3)
	servers[2].signal(syscall.SIGKILL)
	testkit.Eventually(t, func() error {
		out, err := f.cli(1, "members", "-status=failed")
		if err == nil && !strings.Contains(out, "s3") {
			err = fmt.Errorf("s3 is not shown as failed: %s", out)
		}
		return err
	})
	if out, err := f.cli(1, "force-leave", "s3"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	peers(2)
	servers[2].start()
	peers(3)
	if out, err := f.cli(2, "leave"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	<-servers[1].done
	peers(2)
	if err := f.put(1, 1, 1, "k", "v"); err != nil {
		t.Error(err)
	}
}

func TestRestartedServerFindsThePeersThatItsLogNames(t *testing.T) {
	f := newFleet(t)
	servers := f.servers(1, 3, "") // the first one is told of nobody
	testkit.Eventually(t, func() error { return f.put(1, 3, 1, "k", "v") })
	servers[0].signal(syscall.SIGKILL)
	if err := os.RemoveAll(filepath.Join(f.dir, "dc1s1", "serf")); err != nil {
		t.Fatal(err)
	}
	servers[0].start()
	testkit.Eventually(t, func() error {
		got, err := f.read(1, 1, 1, "k")
		if err == nil && got != "v" {
			err = fmt.Errorf("got %q", got)
		}
		return err
	})
}

func TestReloadTakesOverAllOrNothing(t *testing.T) {
	f := newFleet(t)
	settings := f.settings(1, 1, 1)
	web := map[string]any{"name": "web", "port": 80, "tags": []string{"old"}}
	settings["services"] = []any{web}
	p := f.agent("server", "", settings)
	f.eventuallyWeb("s1[old] passing")

	// The new certificate lacks a name that federation needs: its services, which
	// are right, must wait for it.
	wrong, key, err := transport.NewCert(f.ca, f.caKey, transport.CertOptions{
		Role: transport.ServerCert, Datacenter: "dc1", Domain: "consul", Node: "another", Days: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	web["tags"] = []string{"new"}
	b, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	f.write("server.json", b)
	f.write("dc1s1.pem", wrong)
	f.write("dc1s1-key.pem", key)
	p.signal(syscall.SIGHUP)
	testkit.Eventually(t, func() error {
		log, err := os.ReadFile(p.log)
		if err == nil && !strings.Contains(string(log), "settings are not reloaded") {
			err = errors.New("the refusal is not in the log")
		}
		return err
	})
	f.eventuallyWeb("s1[old] passing")
	f.settings(1, 1, 1) // writes a right certificate
	p.signal(syscall.SIGHUP)
	f.eventuallyWeb("s1[new] passing")
}
