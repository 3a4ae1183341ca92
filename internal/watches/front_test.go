package watches

import (
	"net/http"
	"strings"
	"testing"

	"isthmus/api"
	"isthmus/internal/httpapi"
	"isthmus/internal/rpc"
	"isthmus/internal/testkit"
	"isthmus/internal/wire"
)

// TestFrontOfTheSameProcessIsAsked runs a watch as an agent does, without a socket
// between it and the HTTP API.
func TestFrontOfTheSameProcessIsAsked(t *testing.T) {
	server := testkit.NewServer(t)
	front := httpapi.New(httpapi.Config{Datacenter: "dc1", Node: "n1", Caller: server})
	put := func(value string) {
		t.Helper()
		in := wire.KVRequest{Op: wire.KVSet, DirEnt: api.KVPair{Key: "k", Value: []byte(value)}}
		if _, _, err := wire.KVApply.Call(t.Context(), server, rpc.Header{}, in); err != nil {
			t.Fatal(err)
		}
	}
	url, got := hook(t, http.StatusOK)
	begin(t, front, map[string]any{"type": "keyprefix", "prefix": "k", "handler_type": "http", "http_handler_config": map[string]any{"path": url}})
	if _, body := next(t, got); body != "null\n" {
		t.Errorf("got %q", body)
	}
	for value, encoded := range map[string]string{"one": `"Value":"b25l"`, "two": `"Value":"dHdv"`} { // in any order
		put(value)
		if r, body := next(t, got); !strings.Contains(body, encoded) || r.Header.Get("X-Consul-Index") == "" {
			t.Errorf("got %v %q", r.Header, body)
		}
	}
}
