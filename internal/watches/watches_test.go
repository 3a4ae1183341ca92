package watches

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// store is a node with keys, and one service of the agent, that answers blocking
// reads as the API says.
type store struct {
	mu      sync.Mutex
	changed chan struct{}
	index   uint64
	value   string
	asked   []string
}

func newStore() *store { return &store{changed: make(chan struct{}), index: 1} }

func (s *store) set(value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index++
	s.value = value
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *store) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	for s.waits(q.Get("index"), q.Get("hash")) {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, fmt.Sprintf("%s token=%s", r.URL.RequestURI(), r.Header.Get("X-Consul-Token")))
	w.Header().Set("X-Consul-Index", strconv.FormatUint(s.index, 10))
	w.Header().Set("X-Consul-Contenthash", s.hash())
	switch {
	case strings.HasPrefix(r.URL.Path, "/v1/agent/service/"):
		_, _ = fmt.Fprintf(w, `{"ID": %q, "ContentHash": %q}`, s.value, s.hash())
	case s.value == "broken":
		http.Error(w, "broken", http.StatusInternalServerError)
	case s.value == "":
		w.WriteHeader(http.StatusNotFound)
	default:
		_, _ = fmt.Fprintf(w, `[{"Key": "k", "Value": %q, "ModifyIndex": %d}]`, base64.StdEncoding.EncodeToString([]byte(s.value)), s.index)
	}
}

func (s *store) waits(index, hash string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return index == strconv.FormatUint(s.index, 10) || hash == s.hash()
}

func (s *store) hash() string { return fmt.Sprintf("h%d", s.index) }

// logs collects what is logged.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// begin runs watches until the test ends, or until stop is called.
func begin(t *testing.T, front http.Handler, definitions ...map[string]any) (r *Runner, out *logs, stop func()) {
	t.Helper()
	out = &logs{}
	r, err := New(front, definitions, slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run did not end")
		}
	})
	t.Cleanup(stop)
	return r, out, stop
}

// hook is an HTTP handler that hands over what it is sent.
func hook(t *testing.T, status int) (url string, got chan *http.Request) {
	t.Helper()
	got = make(chan *http.Request)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		select {
		case got <- r:
		case <-r.Context().Done():
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, got
}

func next(t *testing.T, got chan *http.Request) (*http.Request, string) {
	t.Helper()
	select {
	case r := <-got:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r, string(body)
	case <-time.After(10 * time.Second):
		t.Fatal("the handler was not called")
		return nil, ""
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(10 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatal("timed out: " + what)
		}
	}
}

func TestHTTPHandlerIsSentEachView(t *testing.T) {
	s := newStore()
	url, got := hook(t, http.StatusOK)
	begin(t, s, map[string]any{
		"type": "key", "key": "k", "token": "secret", "datacenter": "dc2", "stale": true, "handler_type": "http",
		// As blocks of HCL are read.
		"http_handler_config": []any{map[string]any{
			"path": url + "/p", "method": "PUT", "timeout": "5s", "header": []any{map[string]any{"X-A": []any{"1", "2"}}},
		}},
	})
	r, body := next(t, got)
	if r.Method != http.MethodPut || r.URL.Path != "/p" || body != "null\n" ||
		r.Header.Get("X-Consul-Index") != "1" || r.Header.Get("Content-Type") != "application/json" ||
		!slices.Equal(r.Header.Values("X-A"), []string{"1", "2"}) {
		t.Errorf("got %s %s %v %q", r.Method, r.URL, r.Header, body)
	}
	s.set("v")
	r, body = next(t, got)
	const want = `{"Key":"k","CreateIndex":0,"ModifyIndex":2,"LockIndex":0,"Flags":0,"Value":"dg==","Session":""}` + "\n"
	if r.Header.Get("X-Consul-Index") != "2" || body != want {
		t.Errorf("got %v %q", r.Header, body)
	}
	for i, line := range s.requests() {
		if i == 0 && line != "/v1/kv/k?dc=dc2&stale= token=secret" {
			t.Errorf("asked %s", line)
		}
	}
}

func TestServiceOfTheAgentIsFollowedByHash(t *testing.T) {
	s := newStore()
	url, got := hook(t, http.StatusOK)
	begin(t, s, map[string]any{"type": "agent_service", "service_id": "web", "handler_type": "http", "http_handler_config": map[string]any{"path": url}})
	for i := range 2 {
		r, body := next(t, got)
		if want := fmt.Sprintf("h%d", i+1); r.Header.Get("X-Consul-Hash") != want || r.Header.Get("X-Consul-Index") != "" ||
			r.Method != http.MethodPost || !strings.Contains(body, want) {
			t.Errorf("got %v %q", r.Header, body)
		}
		s.set("web")
	}
}

func TestScriptReadsTheViewAndItsIndex(t *testing.T) {
	for name, handler := range map[string]map[string]any{
		"args":    {"args": []any{"sh", "-c", `cat >> "$FILE"; echo "$CONSUL_INDEX" >> "$FILE"; echo said`}},
		"handler": {"handler": `cat >> "$FILE"; echo "$CONSUL_INDEX" >> "$FILE"; echo said`, "handler_type": "script"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "out")
			t.Setenv("FILE", file)
			s := newStore()
			definition := map[string]any{"type": "key", "key": "k"}
			maps.Copy(definition, handler)
			_, out, _ := begin(t, s, definition)
			eventually(t, "first call", func() bool { return content(file) == "null\n1\n" })
			s.set("x")
			eventually(t, "second call", func() bool { return strings.HasSuffix(content(file), "\n2\n") })
			eventually(t, "output in the log", func() bool { return strings.Contains(out.String(), `output="said\n"`) })
			if old := strings.Contains(out.String(), "older key"); old != (name == "handler") {
				t.Errorf("logged %s", out)
			}
		})
	}
}

func content(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return string(b)
}

func TestFailuresAreLoggedAndFollowedOn(t *testing.T) {
	s := newStore()
	url, got := hook(t, http.StatusTeapot)
	_, out, _ := begin(t, s,
		map[string]any{"type": "key", "key": "k", "args": []any{"sh", "-c", "exit 3"}},
		map[string]any{"type": "key", "key": "k", "args": []string{"/nonexistent"}},
		map[string]any{"type": "key", "key": "k", "handler_type": "http", "http_handler_config": map[string]any{"path": url}})
	next(t, got)
	for _, text := range []string{"exit status 3", "no such file", "418"} {
		eventually(t, text, func() bool { return strings.Contains(out.String(), text) })
	}
	s.set("x")
	next(t, got)
	s.set("broken")
	eventually(t, "broken", func() bool { return strings.Contains(out.String(), "Unexpected response code: 500 (broken)") })
}

func TestHangingScriptEndsWithTheRunner(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	t.Setenv("FILE", file)
	_, _, stop := begin(t, newStore(), map[string]any{
		"type": "key", "key": "k", "args": []any{"sh", "-c", `trap "" TERM; sleep 1000 & echo $! > "$FILE.new"; mv "$FILE.new" "$FILE"; wait`},
	})
	eventually(t, "the script runs", func() bool { return content(file) != "" })
	pid := strings.TrimSpace(content(file))
	stop()
	eventually(t, "process "+pid+" ends", func() bool {
		stat := content("/proc/" + pid + "/stat")
		return stat == "" || strings.Contains(stat, ") Z ")
	})
}

func TestSetReplacesTheWatches(t *testing.T) {
	s := newStore()
	first, gotFirst := hook(t, http.StatusOK)
	second, gotSecond := hook(t, http.StatusOK)
	definition := func(url string) map[string]any {
		return map[string]any{"type": "key", "key": "k", "handler_type": "http", "http_handler_config": map[string]any{"path": url}}
	}
	r, _, _ := begin(t, s, definition(first))
	next(t, gotFirst)
	if err := r.Set([]map[string]any{{"type": "nosuch"}}); err == nil {
		t.Fatal("a watch of no type is taken")
	}
	s.set("a")
	next(t, gotFirst) // all is as before
	if err := r.Set([]map[string]any{definition(second)}); err != nil {
		t.Fatal(err)
	}
	next(t, gotSecond)
	s.set("b")
	next(t, gotSecond)
	select {
	case <-gotFirst:
		t.Error("the first handler is still called")
	default:
	}
	if err := r.Set(nil); err != nil {
		t.Fatal(err)
	}
}

func TestWrongDefinitionsAreRefused(t *testing.T) {
	for _, c := range []struct {
		definition map[string]any
		want       string
	}{
		{map[string]any{}, "watches[0]: Watch type must be specified"},
		{map[string]any{"type": "nosuch"}, "Unsupported watch type: nosuch"},
		{map[string]any{"type": "event", "name": "e"}, "watches of type event are not built yet"},
		{map[string]any{"type": "connect_roots"}, "watches of type connect_roots are not built yet"},
		{map[string]any{"type": "connect_leaf"}, "watches of type connect_leaf are not built yet"},
		{map[string]any{"type": "key"}, "Must specify a single key to watch"},
		{map[string]any{"type": "nodes", "z": 1, "b": 2, "args": []any{"x"}}, "Invalid parameters: [b z]"},
		{map[string]any{"type": "nodes"}, "has neither args nor handler nor http_handler_config"},
		{map[string]any{"type": "nodes", "handler_type": "x", "args": []any{"x"}}, `handler_type "x" is neither script nor http`},
		{map[string]any{"type": "nodes", "handler_type": "script"}, "handler_type script requires args"},
		{map[string]any{"type": "nodes", "handler_type": "http"}, "requires 'http_handler_config' to be set"},
		{map[string]any{"type": "nodes", "handler_type": "http", "http_handler_config": map[string]any{}}, "Requires 'path' to be set"},
		{map[string]any{"type": "nodes", "handler_type": "http", "http_handler_config": map[string]any{"path": "p", "timeout": "x"}}, "Failed to parse timeout"},
		{map[string]any{"type": "nodes", "handler_type": "http", "http_handler_config": map[string]any{"path": "p"}, "args": []any{"x"}}, "has http_handler_config and a command"},
		{map[string]any{"type": "nodes", "args": []any{"x"}, "handler": "y"}, "has both args and handler"},
		{map[string]any{"type": "nodes", "args": []any{}}, "args must be a list of texts that begins with a command"},
		{map[string]any{"type": "nodes", "args": []any{1}}, "args must be a list of texts"},
		{map[string]any{"type": "nodes", "args": "x"}, "args must be a list of texts"},
		{map[string]any{"type": "nodes", "handler": 1}, "handler must be a text"},
	} {
		_, err := New(newStore(), []map[string]any{c.definition}, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: got %v, want %s", c.definition, err, c.want)
		}
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	out := &tail{}
	for range 3 {
		if _, err := out.Write(bytes.Repeat([]byte("x"), maxOutput-1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := out.Write([]byte("end")); err != nil {
		t.Fatal(err)
	}
	if len(out.last) != maxOutput || !bytes.HasSuffix(out.last, []byte("xend")) || out.total != 3*(maxOutput-1)+3 {
		t.Errorf("kept %d of %d", len(out.last), out.total)
	}
}
