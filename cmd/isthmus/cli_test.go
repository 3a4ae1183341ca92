package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"isthmus/internal/testkit"
	"isthmus/internal/wire"
)

func TestCommandsTalkToARealNode(t *testing.T) {
	f := newFleet(t)
	f.servers(1, 1, "")
	f.gateway(1, 1)
	testkit.Eventually(t, func() error { return f.put(1, 1, 1, "first", "1") })
	testkit.Eventually(t, func() error { return f.published(1, 1, 1) })

	file := f.write("web.hcl", []byte(`service { name = "web" port = 80 tags = ["blue"] }`))
	dump := ""
	for _, c := range []struct {
		args string
		want string // part of what it prints
	}{
		{"kv put a/b hello", "Success! Data written to: a/b"},
		{"kv get a/b", "hello"},
		{"kv get -recurse a/", "a/b:hello"},
		{"kv put -cas -modify-index=1 a/b other", "Error! Did not write to a/b: CAS failed"},
		{"kv export a/", `"key": "a/b"`},
		{"kv delete a/b", "Success! Deleted key: a/b"},
		{"kv get a/b", "Error! No key exists at: a/b"},
		{"services register " + file, "Registered service: web"},
		{"catalog services -tags", "blue"},
		{"catalog nodes -service=web", "s1"},
		{"catalog datacenters", "dc1"},
		{"services deregister -id=web", "Deregistered service: web"},
		{"members", "server"},
		{"members -wan", "s1.dc1"},
		{"info", "leader = true"},
		{"reload", "Configuration reload triggered"},
		{"validate " + filepath.Join(f.dir, "dc1-s1.json"), "Configuration is valid!"},
		{"federation status", "no federation"},
		{"join 127.0.0.1:1", "Error joining"},
		{"join -wan 127.0.0.1:1", "Error joining"},
		{"acl token list", "acl is not built yet"},
	} {
		testkit.Eventually(t, func() error {
			out, err := f.cli(1, strings.Fields(c.args)...)
			if strings.Contains(out, c.want) {
				if strings.HasPrefix(c.args, "kv export") {
					dump = out
				}
				return nil
			}
			return &unexpected{c.args, out, err}
		})
	}

	if out, err := f.cli(1, "kv", "import", "@"+f.write("dump.json", []byte(dump))); err != nil {
		t.Errorf("import: %v: %s", err, out)
	}
	if got, err := f.read(1, 1, 1, "a/b"); err != nil || got != "hello" {
		t.Errorf("after the import: %q, %v", got, err)
	}
	out, err := f.cli(1, "federation", "status", "-json")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var status struct{ Servers []wire.ServerView }
	if err := json.Unmarshal([]byte(out), &status); err != nil || len(status.Servers) != 1 || !status.Servers[0].Leader {
		t.Errorf("%v: %s", err, out)
	}
}

// TestNodeTellsWatchersAndDebug lets commands look at one node for a while, which
// runs the watches of its own settings meanwhile.
func TestNodeTellsWatchersAndDebug(t *testing.T) {
	f := newFleet(t)
	views := filepath.Join(f.dir, "views")
	settings := f.settings(1, 1, 1)
	settings["enable_debug"] = true
	settings["watches"] = []any{map[string]any{
		"type": "keyprefix", "prefix": "a/", "args": []string{"sh", "-c", `cat >> "$0"; echo "index $CONSUL_INDEX" >> "$0"`, views},
	}}
	f.agent("server", "", settings)
	testkit.Eventually(t, func() error { return f.put(1, 1, 1, "a/b", "1") })

	bundle := filepath.Join(f.dir, "bundle")
	captured := make(chan error, 1)
	go func() {
		out, err := f.cli(1, "debug", "-duration=10s", "-interval=5s", "-archive=false", "-output="+bundle)
		if err != nil || !strings.Contains(out, "Saved debug archive: "+bundle) {
			err = &unexpected{"debug", out, err}
		}
		captured <- err
	}()

	file := f.write("mesh.hcl", []byte(`service {
  name = "web"
  port = 80
  check { ttl = "10m" }
  connect { sidecar_service { proxy { upstreams { destination_name = "db" local_bind_port = 9000 } } } }
}`))
	for _, c := range []struct{ args, want string }{
		{"services register " + file, "Registered service: web"},
		{"watch -type=key -key=a/b", `"Value": "MQ=="`},
		{"watch -type=keyprefix -prefix=a/", `"Key": "a/b"`},
		{"watch -type=services", `"web-sidecar-proxy"`},
		{"watch -type=nodes", `"Node": "s1"`},
		{"watch -type=service -service=web", `"Service": "web"`},
		{"watch -type=checks -state=critical", `"CheckID": "service:web"`},
		{"watch -type=agent_service -service=web-sidecar-proxy", `"DestinationName": "db"`},
		{"watch -type=event", "watches of type event are not built yet"},
		{"watch -type=key -key=a/b -shell=false false", "Error executing handler: exit status 1"},
		{"maint -enable -service=web -reason=because", `Service maintenance is now enabled for "web"`},
		{"maint", "because"},
		{"maint -disable -service=web", "is now disabled"},
		{"rtt s1 nosuch", "Could not find a coordinate"},
		{"services deregister " + file, "Deregistered service: web"},
		{"catalog services", "consul"},
	} {
		testkit.Eventually(t, func() error {
			out, err := f.cli(1, strings.Fields(c.args)...)
			if !strings.Contains(out, c.want) {
				return &unexpected{c.args, out, err}
			}
			return nil
		})
	}
	testkit.Eventually(t, func() error {
		seen, err := os.ReadFile(views)
		if !strings.Contains(string(seen), `"Value":"MQ=="`) || !strings.Contains(string(seen), "\nindex ") {
			return &unexpected{"the watch", string(seen), err}
		}
		return nil
	})

	if err := <-captured; err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{
		"agent.json", "host.json", "index.json", "members.json", "metrics.json", "consul.log", "profile.prof", "trace.out", "*Z/heap.prof", "*Z/goroutine.prof",
	} {
		found, err := filepath.Glob(filepath.Join(bundle, pattern))
		if err != nil || len(found) == 0 {
			t.Errorf("%s is missing: %v", pattern, err)
		}
		for _, name := range found {
			if info, err := os.Stat(name); err != nil || info.Size() == 0 {
				t.Errorf("%s is empty: %v", name, err)
			}
		}
	}
}

type unexpected struct {
	args, out string
	err       error
}

func (u *unexpected) Error() string { return u.args + " printed: " + u.out }
func (u *unexpected) Unwrap() error { return u.err }

func TestHTTPSIsServed(t *testing.T) {
	f := newFleet(t)
	settings := f.settings(1, 1, 1)
	ports, _ := settings["ports"].(map[string]any)
	ports["https"] = 8501
	both, _ := settings["tls"].(map[string]any)
	both["https"] = map[string]any{"verify_incoming": false}
	f.agent("server", "", settings)
	testkit.Eventually(t, func() error { return f.put(1, 1, 1, "k", "v") })

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(f.ca)
	for name, c := range map[string]struct {
		roots *x509.CertPool
		works bool
	}{"with the CA": {roots, true}, "without": {x509.NewCertPool(), false}} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.roots, ServerName: "localhost"}}}
		resp, err := client.Get("https://" + f.addr(1, 1) + ":8501/v1/kv/k?raw")
		if (err == nil) != c.works {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil || string(b) != "v" {
			t.Errorf("%s: got %q, %v", name, b, err)
		}
		resp.Body.Close()
	}
}
