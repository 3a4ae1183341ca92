package order

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"isthmus/internal/cli"
	"isthmus/internal/testkit"
)

// agent is a server by itself in development mode, as a process runs it.
type agent struct{ at string }

func startAgent(t *testing.T, settings string) *agent {
	t.Helper()
	addr := fmt.Sprintf("127.%d.%d.%d", 90+rand.N(20), rand.N(256), 1+rand.N(254))
	file := filepath.Join(t.TempDir(), "settings.json")
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var (
		out  lockedBuffer
		done sync.WaitGroup
	)
	done.Go(func() {
		args := []string{"isthmus", "agent", "-dev", "-bind", addr, "-client", addr, "-node", "n1", "-log-level", "warn", "-config-file", file}
		if code := cli.Run(ctx, args, strings.NewReader(""), &out, &out); code != 0 {
			t.Errorf("the agent ended with %d:\n%s", code, out.String())
		}
	})
	t.Cleanup(func() {
		stop()
		done.Wait()
	})
	a := &agent{at: "http://" + addr + ":8500"}
	testkit.Eventually(t, func() error {
		status, body, err := a.do(t, http.MethodGet, "/v1/health/service/consul?passing", "")
		if err == nil && (status != http.StatusOK || !strings.Contains(body, `"n1"`)) {
			err = fmt.Errorf("got %d %s", status, body)
		}
		return err
	})
	return a
}

// do sends a request and yields the status and the body.
func (a *agent) do(t *testing.T, method, path, body string) (int, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, a.at+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(out), err
}

// put sends what must succeed.
func (a *agent) put(t *testing.T, path, body string) {
	t.Helper()
	if status, out, err := a.do(t, http.MethodPut, path, body); err != nil || status != http.StatusOK {
		t.Fatalf("PUT %s: %d %s %v", path, status, out, err)
	}
}

// get reads JSON.
func (a *agent) get(t *testing.T, path string, into any) {
	t.Helper()
	status, out, err := a.do(t, http.MethodGet, path, "")
	if err == nil {
		err = json.Unmarshal([]byte(out), into)
	}
	if err != nil || status != http.StatusOK {
		t.Fatalf("GET %s: %d %s %v", path, status, out, err)
	}
}

// fill gives the agent something to show.
func (a *agent) fill(t *testing.T) {
	t.Helper()
	a.put(t, "/v1/agent/service/register", `{"Name":"web","ID":"web1","Port":80,"Tags":["a"],"Meta":{"version":"2"},
		"TaggedAddresses":{"lan":{"Address":"192.0.2.1","Port":8080}},"Weights":{"Passing":3,"Warning":1},
		"Checks":[{"TTL":"10m","Status":"passing"},{"HTTP":"http://192.0.2.1/","Interval":"1h","Timeout":"1s","Status":"passing"}],
		"Connect":{"SidecarService":{"Proxy":{"Config":{"protocol":"http"},"Upstreams":[{"DestinationName":"db","LocalBindPort":9000}]}}}}`)
	a.put(t, "/v1/agent/service/register", `{"Name":"native","Port":81,"Connect":{"Native":true}}`)
	a.put(t, "/v1/agent/check/register", `{"Name":"own","ID":"own","TTL":"10m","Notes":"of the node"}`)
	a.put(t, "/v1/agent/check/pass/own?note=fine", "")
	a.put(t, "/v1/catalog/register", `{"Node":"n2","Address":"192.0.2.2","NodeMeta":{"a":"b"},
		"Service":{"Kind":"mesh-gateway","Service":"gateway","Port":443,"Meta":{"consul-wan-federation":"1"}},
		"Checks":[{"Name":"up","ServiceID":"gateway","Status":"critical","Definition":{"TCP":"192.0.2.2:443","Interval":"10s"}}]}`)
	a.put(t, "/v1/coordinate/update", `{"Node":"n1","Coord":{"Vec":[0,0,0,0,0,0,0,0],"Error":1.5,"Adjustment":0,"Height":0.00001}}`)
	a.put(t, "/v1/kv/a", "1")
	a.put(t, "/v1/kv/empty", "")
	testkit.Eventually(t, func() error {
		_, body, err := a.do(t, http.MethodGet, "/v1/catalog/services", "")
		if err == nil && !strings.Contains(body, "web-sidecar-proxy") {
			err = fmt.Errorf("the catalog has %s", body)
		}
		return err
	})
}

// lockedBuffer is a log that is read while it grows.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
