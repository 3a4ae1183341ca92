package local

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
)

func TestRegisteredSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, dir := newCatalog(), t.TempDir()
		keep := func(cfg *Config) { cfg.Dir = dir }
		a := newAgent(t, c, keep)
		stop := start(t, a)
		def := web()
		def.Token, def.Meta, def.EnableTagOverride = "t1", map[string]string{"a": "b"}, true
		def.Checks = []*api.CheckType{{TTL: api.Duration(time.Minute)}}
		def.Connect = &api.ServiceConnect{Native: true}
		def.Weights = &api.Weights{Passing: 2, Warning: 1}
		def.TaggedAddresses = map[string]api.ServiceAddress{"wan": {Address: "1.2.3.4", Port: 81}}
		must(t, a.AddService(def, false))
		must(t, a.AddService(api.ServiceDefinition{Name: "gone"}, false))
		must(t, a.AddCheck(api.CheckType{Name: "extra", TTL: hours(1)}, "web1"))
		must(t, a.AddCheck(api.CheckType{Name: "single", TTL: hours(1)}, ""))
		must(t, a.AddCheck(api.CheckType{Name: "gone too", TTL: hours(1)}, "web1"))
		must(t, a.SetConfigured([]api.ServiceDefinition{{Name: "configured"}}, nil))
		must(t, a.RemoveService("gone"))
		must(t, a.RemoveCheck("gone too"))
		must(t, a.UpdateTTL("service:web1:2", api.Passing, "fine"))
		synctest.Wait()
		stop()
		services, all := a.Services(), a.Checks()
		delete(services, "configured")
		c.writes()

		a = newAgent(t, c, keep)
		if !jsonEqual(t, a.Services(), services) {
			t.Errorf("got the services %v, want %v", a.Services(), services)
		}
		if !jsonEqual(t, a.Checks(), all) {
			t.Errorf("got the checks %v, want %v", a.Checks(), all)
		}
		start(t, a)
		c.expect(t, "delete configured")
		advance(2 * time.Minute)
		if got := a.Checks()["service:web1:2"].Output; got != "TTL expired (last output before timeout follows): fine" {
			t.Errorf("got %q", got)
		}
		must(t, a.RemoveService("web1"))
		must(t, a.RemoveCheck("single"))
		if left := files(t, dir); len(left) > 0 {
			t.Errorf("left are %v", left)
		}
	})
}

func jsonEqual(t *testing.T, x, y any) bool {
	t.Helper()
	a, err := json.Marshal(x)
	must(t, err)
	b, err := json.Marshal(y)
	must(t, err)
	return bytes.Equal(a, b)
}

// files lists the files below dir.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	for _, pattern := range []string{"*", "*/*", "*/*/*"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		must(t, err)
		for _, name := range found {
			if info, err := os.Stat(name); err == nil && !info.IsDir() {
				names = append(names, name)
			}
		}
	}
	return names
}

func TestStateOfTTLChecksExpiresWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		keep := func(cfg *Config) { cfg.Dir = dir }
		configured := []api.ServiceDefinition{{Name: "db", Check: api.CheckType{TTL: api.Duration(time.Minute)}}}
		boot := func() *Agent {
			a := newAgent(t, newCatalog(), keep)
			must(t, a.SetConfigured(configured, nil))
			return a
		}
		must(t, boot().UpdateTTL("service:db", api.Passing, "fine"))
		advance(59 * time.Second)
		if got := boot().Checks()["service:db"]; got.Status != api.Passing || got.Output != "fine" {
			t.Errorf("got %+v", got)
		}
		advance(2 * time.Second)
		if got := boot().Checks()["service:db"]; got.Status != api.Critical || got.Output != "" {
			t.Errorf("got %+v", got)
		}
		if left := files(t, dir); len(left) > 0 {
			t.Errorf("left are %v", left)
		}
	})
}

func TestBrokenFilesAreNamedAndLeft(t *testing.T) {
	dir := t.TempDir()
	keep := func(cfg *Config) { cfg.Dir = dir }
	a := newAgent(t, newCatalog(), keep)
	for _, name := range []string{"a", "b", "c"} {
		must(t, a.AddService(api.ServiceDefinition{Name: name, Check: ttlCheck()}, false))
	}
	torn := a.disk.file(servicesDir, "a")
	whole, err := os.ReadFile(torn)
	must(t, err)
	must(t, os.WriteFile(torn, whole[:len(whole)/2], 0o600))
	tornCheck := a.disk.file(checksDir, "service:b")
	must(t, os.WriteFile(tornCheck, nil, 0o600))
	half := filepath.Join(dir, servicesDir, tempStart+"1")
	must(t, os.WriteFile(half, []byte("{"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, servicesDir, "README"), nil, 0o600))

	var log bytes.Buffer
	a = newLoggingAgent(t, newCatalog(), &log, keep)
	must(t, a.SetConfigured(nil, nil))
	if got, want := slices.Sorted(maps.Keys(a.Services())), []string{"b", "c"}; !slices.Equal(got, want) {
		t.Errorf("got the services %v, want %v", got, want)
	}
	if got, want := slices.Sorted(maps.Keys(a.Checks())), []string{"service:c"}; !slices.Equal(got, want) {
		t.Errorf("got the checks %v, want %v", got, want)
	}
	for _, name := range []string{torn, tornCheck} {
		if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), name) {
			t.Errorf("%s is not in the log:\n%s", name, log.String())
		}
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(half); err == nil {
		t.Error("half a file is still there")
	}
	// Once repaired, it is back with the check that waited for it.
	must(t, os.WriteFile(torn, whole, 0o600))
	a = newAgent(t, newCatalog(), keep)
	must(t, a.SetConfigured(nil, nil))
	if a.Service("a") == nil || a.Checks()["service:a"] == nil {
		t.Error("the repaired service or its check is missing")
	}
}

func TestConfigurationTakesOverWhatWasKept(t *testing.T) {
	dir := t.TempDir()
	keep := func(cfg *Config) { cfg.Dir = dir }
	a := newAgent(t, newCatalog(), keep)
	must(t, a.SetConfigured([]api.ServiceDefinition{{Name: "conf"}}, nil))
	must(t, a.AddService(web(), false))
	must(t, a.AddCheck(api.CheckType{Name: "extra", TTL: hours(1)}, "conf"))

	a = newAgent(t, newCatalog(), keep)
	def := web()
	def.Port = 81
	must(t, a.SetConfigured([]api.ServiceDefinition{{Name: "conf"}, def}, nil))
	if got := a.Service("web1").Port; got != 81 {
		t.Errorf("got port %d", got)
	}
	if a.Checks()["extra"] == nil {
		t.Error("the check added to a configured service is lost")
	}
	must(t, a.RemoveCheck("extra"))
	must(t, a.SetConfigured([]api.ServiceDefinition{{Name: "conf"}, def}, nil))
	if a.Checks()["extra"] != nil {
		t.Error("a removed check came back")
	}
	must(t, a.AddCheck(api.CheckType{Name: "extra", TTL: hours(1)}, "conf"))

	a = newAgent(t, newCatalog(), keep)
	must(t, a.SetConfigured(nil, nil)) // neither is configured any more
	if len(a.Services()) > 0 || len(a.Checks()) > 0 {
		t.Errorf("got %v and %v", a.Services(), a.Checks())
	}
	if left := files(t, dir); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

func TestConfigurationTakesOverWhatIsAlike(t *testing.T) {
	dir := t.TempDir()
	a := newAgent(t, newCatalog(), func(cfg *Config) { cfg.Dir = dir })
	single := api.CheckType{CheckID: "disk", Name: "disk", TTL: hours(1)}
	must(t, a.AddService(web(), false))
	must(t, a.AddCheck(single, ""))
	must(t, a.SetConfigured([]api.ServiceDefinition{web()}, []CheckDefinition{{CheckType: single}}))
	if left := files(t, dir); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
	must(t, a.SetConfigured(nil, nil))
	if len(a.Services()) > 0 || len(a.Checks()) > 0 {
		t.Errorf("got %v and %v", a.Services(), a.Checks())
	}
}

func TestRegistrationTakesOverWhatIsConfiguredAlike(t *testing.T) {
	dir := t.TempDir()
	keep := func(cfg *Config) { cfg.Dir = dir }
	a := newAgent(t, newCatalog(), keep)
	must(t, a.SetConfigured([]api.ServiceDefinition{web()}, nil))
	must(t, a.AddService(web(), false))
	must(t, a.SetConfigured(nil, nil))
	for _, a := range []*Agent{a, newAgent(t, newCatalog(), keep)} {
		if len(a.Services()) != 1 || len(a.Checks()) != 1 {
			t.Errorf("got %v and %v", a.Services(), a.Checks())
		}
	}
}

func TestOldStateIsNoStateOfACheckConfiguredLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		keep := func(cfg *Config) { cfg.Dir = dir }
		def := []CheckDefinition{{CheckType: api.CheckType{Name: "disk", TTL: api.Duration(time.Minute)}}}
		a := newAgent(t, newCatalog(), keep)
		must(t, a.SetConfigured(nil, def))
		must(t, a.UpdateTTL("disk", api.Passing, "fine"))
		a = newAgent(t, newCatalog(), keep)
		advance(2 * time.Minute)
		must(t, a.SetConfigured(nil, def))
		if got := a.Checks()["disk"]; got.Status != api.Critical {
			t.Errorf("got %+v", got)
		}
	})
}

func TestAgentWithoutDirectoryKeepsNothing(t *testing.T) {
	t.Chdir(t.TempDir())
	a := newAgent(t, newCatalog())
	must(t, a.AddService(web(), false))
	must(t, a.UpdateTTL("service:web1", api.Passing, ""))
	must(t, a.RemoveService("web1"))
	if left := files(t, "."); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

func TestFilesAreTheirOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	a := newAgent(t, newCatalog(), func(cfg *Config) { cfg.Dir = dir })
	must(t, a.AddService(api.ServiceDefinition{Name: "../" + strings.Repeat("x", 300), Token: "secret"}, false))
	kept := files(t, dir)
	if len(kept) != 1 {
		t.Fatalf("got %v", kept)
	}
	info, err := os.Stat(kept[0])
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v", info.Mode())
	}
}

// FuzzKeptFiles feeds any bytes as kept files. An agent must come up, and what it
// took in must be the same after another restart.
func FuzzKeptFiles(f *testing.F) {
	f.Add([]byte(`{"Name":"web","Port":80,"Meta":{"a":"b"}}`), []byte(`{"ServiceID":"web","Definition":{"CheckID":"c","TTL":"10s"}}`), []byte(`{"Status":"passing"}`))
	f.Add([]byte(`{"ID":"`), []byte(`null`), []byte(``))
	f.Add([]byte(`{"Name":"web","Connect":{"SidecarService":{}}}`), []byte(`{"Single":true,"Definition":{"Name":"x","TCP":"a:1","Interval":"1s"}}`), []byte(`[]`))
	f.Fuzz(func(t *testing.T, service, check, state []byte) {
		d := disk{t.TempDir()}
		for name, b := range map[string][]byte{d.file(servicesDir, "web"): service, d.file(checksDir, "c"): check, d.file(statesDir, "c"): state} {
			must(t, replace(name, b, false))
		}
		keep := func(cfg *Config) { cfg.Dir = d.dir }
		a := newAgent(t, newCatalog(), keep)
		if again := newAgent(t, newCatalog(), keep); !jsonEqual(t, again.Services(), a.Services()) {
			t.Errorf("got %v, then %v", a.Services(), again.Services())
		}
	})
}
