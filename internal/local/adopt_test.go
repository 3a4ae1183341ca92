package local

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
)

// TestWhatAnAgentOfTheReferenceKeptIsTakenOver starts on files that an agent of
// the reference left: a service with a token, two checks and its maintenance, a
// check of the node, and a state.
func TestWhatAnAgentOfTheReferenceKeptIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS("testdata/reference")); err != nil {
			t.Fatal(err)
		}
		damaged := filepath.Join(dir, adoptedServices, "damaged")
		must(t, os.WriteFile(damaged, []byte(`{"Service":{"ID`), 0o600))
		must(t, os.WriteFile(filepath.Join(dir, adoptedServices, "settings"), []byte(`{"Source":"local","Service":{"ID":"s","Service":"s"}}`), 0o600))
		must(t, os.WriteFile(filepath.Join(dir, adoptedServices, "x.tmp"), []byte(`{"Service":{"ID":"t","Service":"t"}}`), 0o600))
		keep := func(cfg *Config) { cfg.Dir = dir }
		c := newCatalog()
		look := func(a *Agent) {
			t.Helper()
			services, all := a.Services(), a.Checks()
			web := services["web/1"]
			if len(services) != 1 || web == nil || web.Port != 80 || !slices.Equal(web.Tags, []string{"a"}) || web.Meta["x"] != "1" || web.Weights.Passing != 3 {
				t.Errorf("got the services %v", services)
			}
			status := map[string]string{}
			for id, one := range all {
				status[id] = one.Type + " " + one.Status
			}
			for id, want := range map[string]string{
				"_service_maintenance:web/1": "maintenance critical", "mem": "ttl passing", "service:web/1:1": "ttl passing", "service:web/1:2": "http critical",
			} {
				if status[id] != want {
					t.Errorf("check %s is %q, want %q", id, status[id], want)
				}
			}
			if len(all) != 4 || all["_service_maintenance:web/1"].Notes != "why" || all["service:web/1:1"].Notes != "n" {
				t.Errorf("got the checks %v", all)
			}
		}
		a := newAgent(t, c, keep)
		look(a)
		stop := start(t, a)
		synctest.Wait()
		stop()

		// From now on the own files count.
		must(t, os.RemoveAll(filepath.Join(dir, adoptedChecks)))
		a = newAgent(t, c, keep)
		look(a)
		must(t, a.RemoveService("web/1"))
		must(t, a.RemoveCheck("mem"))
		a = newAgent(t, c, keep)
		if services, all := a.Services(), a.Checks(); len(services)+len(all) > 0 {
			t.Errorf("what was removed came back: %v, %v", services, all)
		}
		if _, err := os.Stat(damaged); err != nil {
			t.Error(err)
		}
	})
}

// TestStateOfAnAdoptedCheckHoldsWhileItWouldHave: a heartbeat that the other agent
// heard counts until it expires.
func TestStateOfAnAdoptedCheckHoldsWhileItWouldHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		for path, text := range map[string]string{
			"checks/c":       `{"Check":{"CheckID":"c","Name":"c","Status":"critical"},"ChkType":{"TTL":60000000000},"Source":"remote"}`,
			"checks/state/c": fmt.Sprintf(`{"CheckID":"c","Output":"fine","Status":"passing","Expires":%d}`, time.Now().Add(30*time.Second).Unix()),
		} {
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o700))
			must(t, os.WriteFile(filepath.Join(dir, path), []byte(text), 0o600))
		}
		a := newAgent(t, newCatalog(), func(cfg *Config) { cfg.Dir = dir })
		start(t, a)
		synctest.Wait()
		if c := a.Checks()["c"]; c == nil || c.Status != api.Passing || c.Output != "fine" {
			t.Errorf("got %+v", c)
		}
	})
}
