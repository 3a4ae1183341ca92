package rpc_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/yamux"

	"isthmus/internal/gossip"
	"isthmus/internal/rpc"
	"isthmus/internal/testkit"
)

var update = flag.Bool("update", false, "record what the reference sends, into testdata")

// recording holds one request of each method that a client agent of the reference
// sent: its name and the bytes of head and body.
const recording = "testdata/reference-client.txt"

func TestRequestsOfARealClientAreAnswered(t *testing.T) {
	b, err := os.ReadFile(recording)
	if err != nil {
		t.Fatal(err)
	}
	handlers := testkit.NewServer(t).Handlers()
	for line := range strings.Lines(string(b)) {
		method, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		request, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(method, func(t *testing.T) {
			answer := replay(t, handlers, request)
			// An answer without an error begins with that name and an empty text.
			if !bytes.HasPrefix(answer, []byte("\x83\xa5Error\xa0")) {
				t.Errorf("answered %q", answer)
			}
		})
	}
}

// replay sends a request over a stream and returns the head and body of the answer.
func replay(t *testing.T, handlers *rpc.Handlers, request []byte) []byte {
	t.Helper()
	here, there := net.Pipe()
	s := &rpc.Server{Handlers: handlers, Log: slog.New(slog.DiscardHandler)}
	var served sync.WaitGroup
	served.Go(func() { s.ServeSingle(t.Context(), there) })
	defer served.Wait()
	defer func() { _ = here.Close() }()
	if _, err := here.Write(request); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(here)
	answer, err := rpc.ReadValue(r, nil, 1<<20)
	if err == nil {
		answer, err = rpc.ReadValue(r, answer, 1<<20)
	}
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// TestRecordARealClient is a server to a client agent of the reference: a member of
// its pool, and an RPC port whose streams are kept. It writes the recording with
// -update.
func TestRecordARealClient(t *testing.T) {
	reference := os.Getenv("ISTHMUS_REFERENCE")
	if reference == "" {
		t.Skip("skipped: ISTHMUS_REFERENCE does not name the reference's binary")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	kept := &recorder{requests: map[string][]byte{}}
	s := &rpc.Server{Handlers: testkit.NewServer(t).Handlers(), Log: slog.New(slog.DiscardHandler)}
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(func() { _ = ln.Close() })
	running.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() { kept.serve(t, s, conn) })
		}
	})
	pool := startPool(t, &running, ln.Addr().(*net.TCPAddr).Port)
	api := startClient(t, reference, pool)

	for _, c := range []struct{ method, path, body string }{
		{"PUT", "/v1/agent/service/register", `{"Name":"web","Port":80,"Tags":["a"],"Check":{"TTL":"10m","Status":"passing"}}`},
		{"PUT", "/v1/kv/a", "1"},
		{"GET", "/v1/kv/a?index=1&wait=10ms", ""},
		{"GET", "/v1/kv/?recurse", ""},
		{"GET", "/v1/kv/?keys&separator=/", ""},
		{"GET", "/v1/catalog/nodes?stale", ""},
		{"GET", "/v1/catalog/services", ""},
		{"GET", "/v1/catalog/service/web?tag=a", ""},
		{"GET", "/v1/catalog/node/client", ""},
		{"GET", "/v1/catalog/datacenters", ""},
		{"GET", "/v1/health/service/web?passing", ""},
		{"GET", "/v1/health/node/client", ""},
		{"GET", "/v1/health/checks/web", ""},
		{"GET", "/v1/health/state/any?consistent", ""},
		{"GET", "/v1/internal/federation-states", ""},
		{"GET", "/v1/internal/federation-state/dc1", ""},
		{"GET", "/v1/internal/federation-states/mesh-gateways", ""},
		{"PUT", "/v1/agent/service/deregister/web", ""},
	} {
		testkit.Eventually(t, func() error { return ask(t, c.method, api+c.path, c.body) })
	}
	testkit.Eventually(t, func() error {
		return kept.has("Catalog.Register", "Catalog.Deregister", "Catalog.NodeServiceList", "Health.NodeChecks")
	})
	if *update {
		kept.write(t)
	}
}

// ask makes a request that the agent must answer; what it answers is of no concern
// as long as it comes from the servers.
func ask(t *testing.T, method, url, body string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if resp.StatusCode >= http.StatusInternalServerError && !bytes.Contains(b, []byte("Federation states are currently disabled")) {
		return fmt.Errorf("%s %s: %s %s", method, url, resp.Status, b)
	}
	return err
}

// startPool is the LAN pool with one server, and returns its address.
func startPool(t *testing.T, running *sync.WaitGroup, port int) string {
	t.Helper()
	listener, err := gossip.Listen("127.0.0.1", 0, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	pool, err := gossip.New(gossip.Config{
		Name: "server", Net: listener,
		Tags: map[string]string{
			"role": "consul", "dc": "dc1", "segment": "", "id": "a7ee4a4b-6a2b-4a3c-9d31-000000000001", "vsn": "2", "vsn_min": "2", "vsn_max": "3",
			"raft_vsn": "3", "build": "1.16.4:", "acls": "0", "ft_fs": "1", "ft_si": "1", "port": strconv.Itoa(port),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	running.Go(func() { _ = pool.Run(t.Context()) })
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(listener.Port()))
}

// startClient starts the reference as a client agent and returns the URL of its API.
func startClient(t *testing.T, reference, join string) string {
	t.Helper()
	dir := t.TempDir()
	api, gossipPort := freePort(t), freePort(t)
	settings, err := json.Marshal(map[string]any{
		"datacenter": "dc1", "node_name": "client", "data_dir": dir, "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1",
		"ports":      map[string]any{"dns": -1, "grpc": -1, "grpc_tls": -1, "http": api, "serf_lan": gossipPort},
		"retry_join": []string{join}, "retry_interval": "1s", "disable_update_check": true, "use_streaming_backend": false,
		"node_id": "a7ee4a4b-6a2b-4a3c-9d31-000000000002",
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "client.json")
	if err := os.WriteFile(file, settings, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), reference, "agent", "-config-file", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	return "http://127.0.0.1:" + strconv.Itoa(api)
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().(*net.TCPAddr).Port
}

// recorder keeps the first request of each method.
type recorder struct {
	mu       sync.Mutex
	requests map[string][]byte
}

// serve answers a connection of the client, which names its protocol with a byte.
func (k *recorder) serve(t *testing.T, s *rpc.Server, conn net.Conn) {
	t.Helper()
	var protocol [1]byte
	if _, err := io.ReadFull(conn, protocol[:]); err != nil || protocol[0] != 4 {
		_ = conn.Close()
		return
	}
	session, err := yamux.Server(conn, nil)
	if err != nil {
		t.Error(err)
		return
	}
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			return
		}
		go s.ServeSingle(t.Context(), &copied{Conn: stream, keeper: k})
	}
}

// copied is a stream whose incoming requests are kept.
type copied struct {
	net.Conn

	keeper *recorder
	rest   []byte // of a request that is not whole yet
}

// Read implements net.Conn.
func (c *copied) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.rest = c.keeper.keep(append(c.rest, b[:n]...))
	return n, err //nolint:wrapcheck // a plain wrapper
}

// keep takes whole requests off the front of b and returns what is left.
func (k *recorder) keep(b []byte) []byte {
	for {
		r := bufio.NewReader(bytes.NewReader(b))
		request, err := rpc.ReadValue(r, nil, len(b))
		if err != nil {
			return b
		}
		var head struct{ ServiceMethod string }
		if err := rpc.Unmarshal(request, &head); err != nil {
			return b
		}
		if request, err = rpc.ReadValue(r, request, len(b)); err != nil {
			return b
		}
		b = b[len(request):]
		k.mu.Lock()
		if k.requests[head.ServiceMethod] == nil {
			k.requests[head.ServiceMethod] = request
		}
		k.mu.Unlock()
	}
}

// has tells which of the methods were not recorded yet.
func (k *recorder) has(methods ...string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range methods {
		if k.requests[m] == nil {
			return fmt.Errorf("the client did not call %s yet; it called %v", m, slices.Sorted(maps.Keys(k.requests)))
		}
	}
	return nil
}

// write writes the recording.
func (k *recorder) write(t *testing.T) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	var b bytes.Buffer
	for _, m := range slices.Sorted(maps.Keys(k.requests)) {
		fmt.Fprintf(&b, "%s %x\n", m, k.requests[m])
	}
	if err := os.WriteFile(recording, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}
