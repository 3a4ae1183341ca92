package checks

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"isthmus/api"
)

// fakeDocker is a Docker with containers whose names say how commands in them go.
// It keeps what it was asked.
type fakeDocker struct {
	mu    sync.Mutex
	asked []string
}

func (d *fakeDocker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	d.mu.Lock()
	d.asked = append(d.asked, strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Method, r.URL, body)))
	d.mu.Unlock()
	parts := strings.Split(r.URL.Path, "/")
	container := parts[2]
	switch what := parts[3]; {
	case what == "exec" && container == "missing":
		http.Error(w, `{"message":"No such container"}`, http.StatusNotFound)
	case what == "exec" && container == "paused", what == "start" && container == "stopped", what == "json" && container == "lost":
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"message":"no"}`)
	case what == "exec" && container == "garbage":
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "<html>")
	case what == "exec":
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"Id":"`+container+`"}`)
	case what == "start" && container == "floods":
		for {
			if _, err := w.Write(make([]byte, 8192)); err != nil {
				return
			}
		}
	case what == "start":
		_, _ = io.WriteString(w, "output\r\n")
		_ = http.NewResponseController(w).Flush()
		if container == "hangs" {
			<-r.Context().Done()
		}
	default:
		_, _ = io.WriteString(w, `{"Running":false,"ExitCode":`+map[string]string{"zero": "0", "one": "1"}[container]+
			map[bool]string{true: "137"}[container == "killed"]+"}")
	}
}

func TestDocker(t *testing.T) {
	d := &fakeDocker{}
	s := httptest.NewUnstartedServer(d)
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	defer s.Close()
	t.Setenv("DOCKER_HOST", "unix://"+socket)
	for _, c := range []struct{ container, status, output string }{
		{"zero", api.Passing, "output\r\n"},
		{"one", api.Warning, "output\r\n"},
		{"killed", api.Critical, "output\r\n"},
		{"missing", api.Critical, "create exec failed for unknown container missing"},
		{"paused", api.Critical, `create exec failed for container paused with status 409: {"message":"no"}`},
		{"stopped", api.Critical, `start exec failed for container stopped with status 409: {"message":"no"}`},
		{"lost", api.Critical, `inspect exec failed for container lost with status 409: {"message":"no"}`},
		{"garbage", api.Critical, `create exec for container garbage: decode answer: invalid character '<' looking for beginning of value`},
		{"hangs", api.Critical, "Timed out (500ms) running check\n\noutput\r\n"},
	} {
		t.Run(c.container, func(t *testing.T) {
			def := api.CheckType{DockerContainerID: c.container, ScriptArgs: []string{"echo", "hi"}, Timeout: seconds(0.5)}
			if c.container != "hangs" {
				def.Timeout = 0
			}
			expectFirst(t, def, quiet, c.status, c.output)
		})
	}
	want := []string{
		`POST /containers/zero/exec {"AttachStderr":true,"AttachStdin":false,"AttachStdout":true,"Cmd":["echo","hi"],"Tty":false}`,
		`POST /exec/zero/start {"Detach":false,"Tty":true}`,
		`GET /exec/zero/json`,
	}
	d.mu.Lock()
	got := strings.Join(d.asked[:3], "\n")
	d.mu.Unlock()
	if got != strings.Join(want, "\n") {
		t.Errorf("asked\n%s", got)
	}
	status, output := first(t, api.CheckType{DockerContainerID: "floods", ScriptArgs: []string{"yes"}, Timeout: seconds(0.3)}, quiet)
	if status != api.Critical || !strings.HasPrefix(output, "Timed out (300ms) running check\n\nCaptured 4096 of ") || len(output) > 4200 {
		t.Errorf("got %s %.60q of %d bytes", status, output, len(output))
	}
	t.Setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
	expectFails(t, api.CheckType{DockerContainerID: "zero", ScriptArgs: []string{"x"}}, quiet, "connect: connection refused")
}

func TestDockerHosts(t *testing.T) {
	for host, ok := range map[string]bool{
		"": true, "unix:///run/x.sock": true, "tcp://10.0.0.1:2375": true, "http://10.0.0.1:2375": true,
		"ssh://x": false, "unix://": false, "x": false,
	} {
		t.Setenv("DOCKER_HOST", host)
		_, err := New(api.CheckType{DockerContainerID: "a", ScriptArgs: []string{"x"}, Interval: 1}, nil, quiet)
		if (err == nil) != ok || err != nil && api.CodeOf(err) != api.Invalid {
			t.Errorf("%s: got %v", host, err)
		}
	}
}
