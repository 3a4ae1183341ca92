package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// counter is a node with a key that changes with each blocking read of it, until
// it has changed often enough.
func counter(t *testing.T, most int) {
	t.Helper()
	var mu sync.Mutex
	index := 1
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/status/leader" {
			_, _ = w.Write([]byte(`"127.0.0.1:8300"`))
			return
		}
		mu.Lock()
		if r.URL.Query().Has("index") {
			index++
		}
		now := index
		mu.Unlock()
		if now > most {
			<-r.Context().Done()
			return
		}
		w.Header().Set("X-Consul-Index", fmt.Sprint(now))
		w.Header().Set("X-Consul-Contenthash", fmt.Sprint("h", now))
		_ = json.NewEncoder(w).Encode([]any{map[string]any{"Key": "k", "ModifyIndex": now}})
	}))
	t.Cleanup(srv.Close)
	cleanEnv(t)
	t.Setenv("CONSUL_HTTP_ADDR", srv.Listener.Addr().String())
	t.Setenv("SHELL", "/bin/sh")
}

func TestWatchRunsItsChildOnEachChange(t *testing.T) {
	counter(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	out := &until{text: "at 3\n", cancel: cancel}
	var stderr bytes.Buffer
	args := []string{"isthmus", "watch", "-type=key", "-key=k", "cat; echo", "at $CONSUL_INDEX"}
	if code := Run(ctx, args, nil, struct{ io.Writer }{out}, &stderr); code != 0 || stderr.Len() > 0 {
		t.Errorf("got exit code %d, stderr %q", code, stderr.String())
	}
	for i := range 3 {
		want := fmt.Sprintf(`"ModifyIndex":%d,"LockIndex":0,"Flags":0,"Value":null,"Session":""}`+"\nat %d\n", i+1, i+1)
		if !strings.Contains(out.String(), want) {
			t.Errorf("got %s, want %s in it", out, want)
		}
	}
}

func TestWatchEndsWithAChildThatFails(t *testing.T) {
	counter(t, 3)
	run(t, "watch", "-type=key", "-key=k", `test "$CONSUL_INDEX" != 2; exit $?`).expect(t, 1, "", "Error executing handler: exit status 1\n")
}

func TestWatchInterruptedEndsItsChild(t *testing.T) {
	counter(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	out := &until{text: "begun\n", cancel: cancel}
	if code := Run(ctx, []string{"isthmus", "watch", "-type=key", "-key=k", "echo begun; exec sleep 1000"}, nil, struct{ io.Writer }{out}, new(bytes.Buffer)); code != 0 {
		t.Errorf("got exit code %d", code)
	}
}

func TestWatchOfAServiceOfTheAgent(t *testing.T) {
	node := newFakeNode(t, map[string]any{
		"GET /v1/status/leader": `""`, "GET /v1/agent/service/web1": map[string]any{"ID": "web1", "ContentHash": "h"},
	})
	got := run(t, "watch", "-type=agent_service", "-service=web1")
	if got.code != 0 || !strings.Contains(got.stdout, `"ContentHash": "h"`) {
		t.Errorf("got %+v", got)
	}
	if asked := node.requests(); asked[len(asked)-1].line != "GET /v1/agent/service/web1" {
		t.Errorf("asked %v", asked)
	}
	run(t, "watch", "-type=event", "-name=x").expect(t, 1, "", "watches of type event are not built yet\n")
}
