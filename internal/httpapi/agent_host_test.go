package httpapi

import (
	"encoding/json"
	"net/http"
	"os"
	"runtime"
	"testing"
	"time"
)

func TestHostTellsOfThisMachine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("skipped: elsewhere only its name is told")
	}
	w := do(t, New(config(fakeCaller{})), "GET", "/v1/agent/host", "")
	var got host
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
		t.Fatalf("got %d %s: %v", w.Code, w.Body, err)
	}
	if got.Errors != nil || time.Since(time.Unix(0, got.CollectionTime)) > time.Minute {
		t.Errorf("got the errors %q at %d", got.Errors, got.CollectionTime)
	}
	if m := got.Memory; m == nil || m.Total < 1<<24 || m.Used == 0 || m.Used > m.Total || m.UsedPercent <= 0 || m.UsedPercent > 100 {
		t.Errorf("got memory %+v", m)
	}
	if len(got.CPU) < runtime.NumCPU() {
		t.Errorf("got processors %+v", got.CPU)
	}
	name, _ := os.Hostname()
	if h := got.Host; h == nil || h.Hostname != name || h.OS != "linux" || h.KernelVersion == "" || h.Uptime == 0 || h.Procs == 0 ||
		time.Unix(int64(h.BootTime), 0).After(time.Now()) {
		t.Errorf("got the system %+v", h)
	}
	if d := got.Disk; d == nil || d.Path != "/" || d.Total == 0 || d.Used > d.Total || d.UsedPercent > 100 {
		t.Errorf("got the disk %+v", d)
	}
}

func TestHealthOfSeveralInstancesIsTheWorst(t *testing.T) {
	cfg := config(fakeCaller{})
	cfg.Local = newAgent(t)
	a := New(cfg)
	for _, body := range []string{
		`{"Name":"web","ID":"b","Check":{"TTL":"1h","Status":"warning"}}`, `{"Name":"web","ID":"a","Checks":[{"TTL":"1h","Status":"passing"},{"TTL":"1h","Status":"warning"}]}`,
		`{"Name":"other","Check":{"TTL":"1h"}}`,
	} {
		if w := do(t, a, "PUT", "/v1/agent/service/register", body); w.Code != http.StatusOK {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
	}
	w := do(t, a, "GET", "/v1/agent/health/service/name/web", "")
	var got []serviceState
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusTooManyRequests {
		t.Fatalf("got %d %s: %v", w.Code, w.Body, err)
	}
	if len(got) != 2 || got[0].Service.ID != "a" || got[1].Service.ID != "b" || len(got[0].Checks) != 2 || got[0].Checks[0].CheckID != "service:a:1" {
		t.Errorf("got %s", w.Body)
	}
	if w := do(t, a, "GET", "/v1/agent/health/service/id/a", ""); w.Code != http.StatusTooManyRequests {
		t.Errorf("got %d", w.Code)
	}
}
