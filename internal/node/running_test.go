package node

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

	"isthmus/internal/config"
	"isthmus/internal/telemetry"
	"isthmus/internal/testkit"
)

// buffer is a log that a test reads while it grows.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// running is a node of its own process's, with the file that its settings come
// from.
type running struct {
	*Node

	t    *testing.T
	addr string
	file string
	args []string
	log  *buffer
	stop func() error // ends the node and yields what Run returned
}

// load reads the settings.
func (r *running) load() (*config.Settings, error) {
	f, err := config.ParseFlags(r.args, io.Discard)
	if err != nil {
		return nil, err
	}
	loaded, err := config.Load(f)
	if err != nil {
		return nil, err
	}
	return loaded.Settings, nil
}

// write replaces the file of settings.
func (r *running) write(hcl string) {
	r.t.Helper()
	if err := os.WriteFile(r.file, []byte(hcl), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// loopback is an address that hardly anybody else uses.
func loopback() string {
	return fmt.Sprintf("127.%d.%d.%d", 10+rand.N(80), rand.N(256), 1+rand.N(254))
}

// startNode runs a node until the test ends.
func startNode(t *testing.T, hcl string, args ...string) *running {
	t.Helper()
	addr := loopback()
	r := &running{t: t, addr: addr, log: &buffer{}, file: filepath.Join(t.TempDir(), "settings.hcl")}
	r.write(hcl)
	r.args = append([]string{"-bind", addr, "-client", addr, "-node", "n1", "-config-file", r.file}, args...)
	cfg, err := r.load()
	if err != nil {
		t.Fatal(err)
	}
	level, _ := telemetry.Level(cfg.LogLevel)
	r.Node, err = New(Options{Settings: cfg, Reload: r.load, Logs: telemetry.NewLogs(r.log, level, false)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// dev runs a server by itself, until it has a leader.
func dev(t *testing.T, hcl string) *running {
	t.Helper()
	r := startNode(t, hcl, "-dev")
	testkit.Eventually(t, func() error {
		var leader string
		if err := r.get("/v1/status/leader", &leader); err != nil {
			return err
		}
		if leader == "" {
			return fmt.Errorf("no leader yet")
		}
		return nil
	})
	return r
}

// do sends a request and yields the status and the body.
func (r *running) do(method, path string) (int, string, error) {
	req, err := http.NewRequestWithContext(r.t.Context(), method, "http://"+r.addr+":8500"+path, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func (r *running) get(path string, into any) error {
	status, body, err := r.do(http.MethodGet, path)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: %d %s", path, status, body)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(body), into)
}

// eventually waits until the node's answer holds a text.
func (r *running) eventually(path, part string) {
	r.t.Helper()
	testkit.Eventually(r.t, func() error {
		_, body, err := r.do(http.MethodGet, path)
		if err == nil && !strings.Contains(body, part) {
			err = fmt.Errorf("%s answers %s, want %s in it", path, body, part)
		}
		return err
	})
}
