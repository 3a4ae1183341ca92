package cli

import (
	"os"
	"path/filepath"
	"testing"
)

func TestEnvironmentAndFlagsOfTheClient(t *testing.T) {
	f := newFakeNode(t, map[string]any{"GET /v1/kv/k": "[]"})
	addr := os.Getenv("CONSUL_HTTP_ADDR")

	ask := func(args ...string) request {
		t.Helper()
		run(t, append([]string{"kv", "get"}, append(args, "-recurse", "k")...)...)
		return f.request(t)
	}
	t.Setenv("ISTHMUS_HTTP_ADDR", "127.0.0.1:1")
	t.Setenv("ISTHMUS_HTTP_TOKEN", "from-alias")
	t.Setenv("ISTHMUS_HTTP_AUTH", "user:pass")
	got := ask()
	if token := got.header.Get("X-Consul-Token"); token != "from-alias" {
		t.Errorf("token: got %q, want the alias's", token)
	}
	if auth := got.header.Get("Authorization"); auth != "Basic dXNlcjpwYXNz" {
		t.Errorf("authorization: got %q", auth)
	}
	t.Setenv("CONSUL_HTTP_TOKEN", "from-consul")
	if token := ask().header.Get("X-Consul-Token"); token != "from-consul" {
		t.Errorf("token: got %q, want the usual variable's", token)
	}
	if token := ask("-token=from-flag").header.Get("X-Consul-Token"); token != "from-flag" {
		t.Errorf("token: got %q, want the flag's", token)
	}
	file := filepath.Join(t.TempDir(), "token")
	writeFile(t, file, "from-file\n")
	t.Setenv("CONSUL_HTTP_TOKEN_FILE", file)
	if token := ask().header.Get("X-Consul-Token"); token != "from-file" {
		t.Errorf("token: got %q, want the file's", token)
	}
	if token := ask("-token=from-flag").header.Get("X-Consul-Token"); token != "from-flag" {
		t.Errorf("token: got %q, want the flag's", token)
	}

	const line = "GET /v1/kv/k?dc=dc2&ns=n&partition=p&recurse=&stale="
	if got := ask("-datacenter=dc2", "-namespace=n", "-partition=p", "-stale").line; got != line {
		t.Errorf("got %q, want %q", got, line)
	}
	t.Setenv("CONSUL_HTTP_ADDR", "127.0.0.1:1")
	ask("-http-addr", "http://"+addr)
}

func TestClientThatCannotBeMadeIsAFailure(t *testing.T) {
	newFakeNode(t, nil)
	run(t, "kv", "get", "-ca-file=/nosuch", "k").expect(t, 1, "", "Error connecting to Consul agent: ")
}
