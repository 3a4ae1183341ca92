package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "rewrite golden files")

// result is what a command did.
type result struct {
	code           int
	stdout, stderr string
}

// run runs a command as main would.
func run(t *testing.T, args ...string) result {
	t.Helper()
	return runInput(t, "", args...)
}

func runInput(t *testing.T, input string, args ...string) result {
	t.Helper()
	return runContext(t.Context(), input, args...)
}

func runContext(ctx context.Context, input string, args ...string) result {
	var stdout, stderr bytes.Buffer
	code := Run(ctx, append([]string{"/usr/bin/consul"}, args...), strings.NewReader(input), &stdout, &stderr)
	return result{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

// request is what a fake node was asked.
type request struct {
	line   string // method and URI
	body   string
	header http.Header
}

// fakeNode answers the requests it knows and notes all of them. Commands talk to
// it by default.
type fakeNode struct {
	*httptest.Server
	answers map[string]any // method and path to a JSON value, text, or status code

	mu   sync.Mutex
	seen []request
}

func newFakeNode(t *testing.T, answers map[string]any) *fakeNode {
	t.Helper()
	f := &fakeNode{answers: answers}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	cleanEnv(t)
	t.Setenv("CONSUL_HTTP_ADDR", f.Listener.Addr().String())
	return f
}

// cleanEnv hides the environment of whoever runs the tests from the client.
func cleanEnv(t *testing.T) {
	t.Helper()
	for _, text := range os.Environ() {
		name, _, _ := strings.Cut(text, "=")
		if strings.HasPrefix(name, envPrefix) || strings.HasPrefix(name, aliasPrefix) || strings.HasPrefix(name, "COMP_") {
			t.Setenv(name, "") // puts it back at the end
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (f *fakeNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body bytes.Buffer
	_, _ = body.ReadFrom(r.Body)
	f.mu.Lock()
	f.seen = append(f.seen, request{r.Method + " " + r.RequestURI, body.String(), r.Header})
	f.mu.Unlock()
	w.Header().Set("X-Consul-Index", "1")
	switch answer := f.answers[r.Method+" "+r.URL.Path].(type) {
	case nil:
		w.WriteHeader(http.StatusNotFound)
	case int:
		w.WriteHeader(answer)
	case string:
		_, _ = w.Write([]byte(answer))
	default:
		out, err := json.Marshal(answer)
		if err != nil {
			panic(err) // the test's own value
		}
		_, _ = w.Write(out)
	}
}

// requests are the lines of what was asked since the last call.
func (f *fakeNode) requests() []request {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := f.seen
	f.seen = nil
	return seen
}

// request is the one request since the last call.
func (f *fakeNode) request(t *testing.T) request {
	t.Helper()
	seen := f.requests()
	if len(seen) != 1 {
		t.Fatalf("got %d requests %v, want 1", len(seen), seen)
	}
	return seen[0]
}

// expect checks the outcome of a command; an empty stderr means that there must be
// none, any other that it has to be a part.
func (got result) expect(t *testing.T, code int, stdout, stderr string) {
	t.Helper()
	if got.code != code {
		t.Errorf("exit code: got %d, want %d", got.code, code)
	}
	if got.stdout != stdout {
		t.Errorf("stdout: got %q, want %q", got.stdout, stdout)
	}
	if stderr == "" && got.stderr != "" || !strings.Contains(got.stderr, stderr) {
		t.Errorf("stderr: got %q, want %q", got.stderr, stderr)
	}
}

// golden compares with a file.
func golden(t *testing.T, path, got string) {
	t.Helper()
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		if i >= len(gotLines) || i >= len(wantLines) || gotLines[i] != wantLines[i] {
			rest := func(lines []string) string { return strings.Join(lines[min(i, len(lines)):min(i+3, len(lines))], "\n") }
			t.Fatalf("%s:%d: got:\n%s\nwant:\n%s", path, i+1, rest(gotLines), rest(wantLines))
		}
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
