package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestKVPutRefusesWhatIsNotBase64(t *testing.T) {
	node := newFakeNode(t, oddAnswers)
	run(t, "kv", "put", "-base64", "k", "!!").expect(t, 1, "", "Error! Cannot base 64 decode data: ")
	if seen := node.requests(); len(seen) != 0 {
		t.Errorf("wrote all the same: %v", seen)
	}
}

func TestKVDataComesFromStdinAndFiles(t *testing.T) {
	node := newFakeNode(t, oddAnswers)
	t.Chdir(t.TempDir())
	writeFile(t, "value", "from a file\n")
	for _, one := range []struct{ arg, want string }{
		{"-", "from stdin\n"}, {"@value", "from a file\n"}, {"plain", "plain"}, {"", ""},
	} {
		runInput(t, "from stdin\n", "kv", "put", "k", one.arg).expect(t, 0, "Success! Data written to: k\n", "")
		if got := node.request(t).body; got != one.want {
			t.Errorf("%q: wrote %q, want %q", one.arg, got, one.want)
		}
	}
	run(t, "kv", "put", "k", "@nosuch").expect(t, 1, "", "Error! Failed to read file: open nosuch: ")
}

func TestKVImportKeepsFolders(t *testing.T) {
	node := newFakeNode(t, map[string]any{"PUT /v1/kv/p/dir/": "true", "PUT /v1/kv/dir/": "true"})
	const data = `[{"key":"dir/","flags":7,"value":"aGVsbG8="}]`
	run(t, "kv", "import", "-prefix=p", data).expect(t, 0, "Imported: p/dir/\n", "")
	if got := node.request(t); got.line != "PUT /v1/kv/p/dir/?flags=7" || got.body != "hello" {
		t.Errorf("got %+v", got)
	}
	runInput(t, data, "kv", "import", "-").expect(t, 0, "Imported: dir/\n", "")
}

func TestServiceOfAFileIsRegisteredWhole(t *testing.T) {
	node := newFakeNode(t, oddAnswers)
	t.Chdir(t.TempDir())
	writeFile(t, "proxy.hcl", `service {
  name = "p"
  kind = "connect-proxy"
  port = 1
  token = "secret"
  tagged_addresses { wan { address = "1.2.3.4" port = 9 } }
  proxy { destination_service_name = "web" config { a_b = 1 } }
  weights { passing = 2 }
  checks = [{ http = "http://x" interval = "60s" header { a = ["b"] } disable_redirects = true }, { ttl = "5s" deregister_critical_service_after = "1h" }]
}`)
	run(t, "services", "register", "proxy.hcl").expect(t, 0, "Registered service: p\n", "")
	got := node.request(t)
	if token := got.header.Get("X-Consul-Token"); token != "secret" {
		t.Errorf("token: got %q, want the file's", token)
	}
	const want = `{"Checks":[{"DisableRedirects":true,"HTTP":"http://x","Header":{"a":["b"]},"Interval":"1m0s"},` +
		`{"DeregisterCriticalServiceAfter":"1h0m0s","TTL":"5s"}],"Kind":"connect-proxy","Name":"p","Port":1,` +
		`"Proxy":{"Config":{"a_b":1},"DestinationServiceName":"web","Expose":{},"MeshGateway":{},"Mode":""},` +
		`"TaggedAddresses":{"wan":{"Address":"1.2.3.4","Port":9}},"Weights":{"Passing":2,"Warning":1}}`
	if body := withoutNull(t, got.body); body != want {
		t.Errorf("got %s\nwant %s", body, want)
	}
}

// withoutNull is JSON with sorted keys and without those that are null at the top.
func withoutNull(t *testing.T, body string) string {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(body), &fields); err != nil {
		t.Fatal(err)
	}
	for key, value := range fields {
		if value == nil {
			delete(fields, key)
		}
	}
	out, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// logNode streams a log until the client goes or, once end is closed, by itself.
func logNode(t *testing.T, end <-chan struct{}) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.URL.RawQuery+"\n\nlast\n")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-end:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(srv.Close)
	cleanEnv(t)
	t.Setenv("CONSUL_HTTP_ADDR", srv.Listener.Addr().String())
}

func TestMonitorSaysWhenTheNodeIsGone(t *testing.T) {
	end := make(chan struct{})
	close(end)
	logNode(t, end)
	run(t, "monitor", "-log-level=debug", "-log-json").expect(t, 1, "logjson=true&loglevel=debug\n \nlast\n", "Remote side ended the monitor!")
}

// until cancels a context once a text was written.
type until struct {
	bytes.Buffer
	text   string
	cancel func()
}

func (u *until) Write(p []byte) (int, error) {
	n, err := u.Buffer.Write(p)
	if strings.Contains(u.String(), u.text) {
		u.cancel()
	}
	return n, err
}

func TestMonitorEndsWellWhenToldTo(t *testing.T) {
	logNode(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	out := &until{text: "last\n", cancel: cancel}
	var stderr bytes.Buffer
	if code := Run(ctx, []string{"isthmus", "monitor"}, nil, out, &stderr); code != 0 || stderr.Len() > 0 {
		t.Errorf("got exit code %d, stderr %q", code, stderr.String())
	}
}

func TestJoinOfSomeIsASuccess(t *testing.T) {
	newFakeNode(t, oddAnswers)
	run(t, "join", "a", "nosuch").expect(t, 0, "Successfully joined cluster by contacting 1 nodes.\n", "Error joining address 'nosuch': ")
}
