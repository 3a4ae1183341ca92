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
		if left := kept(t, dir); len(left) > 0 {
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

// kept lists what is kept in dir, as the next start finds it.
func kept(t *testing.T, dir string) []string {
	t.Helper()
	d, err := openDisk(dir)
	must(t, err)
	d.dropExpired()
	return append(d.kept.keys(), d.states.keys()...)
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
		if left := kept(t, dir); len(left) > 0 {
			t.Errorf("left are %v", left)
		}
	})
}

func TestDamagedLinesAreNamedAndLeft(t *testing.T) {
	dir := t.TempDir()
	keep := func(cfg *Config) { cfg.Dir = dir }
	a := newAgent(t, newCatalog(), keep)
	for _, name := range []string{"a", "b", "c"} {
		must(t, a.AddService(api.ServiceDefinition{Name: name, Check: ttlCheck()}, false))
	}
	whole, err := os.ReadFile(a.disk.kept.path)
	must(t, err)
	bad := bytes.Replace(whole, []byte(`"Name":"a"`), []byte(`"Name":"x"`), 1)
	bad = bytes.Replace(bad, []byte(`check service:b`), []byte(`check service:x`), 1)
	must(t, os.WriteFile(a.disk.kept.path, bad, 0o600))

	var log bytes.Buffer
	a = newLoggingAgent(t, newCatalog(), &log, keep)
	must(t, a.SetConfigured(nil, nil))
	if got, want := slices.Sorted(maps.Keys(a.Services())), []string{"b", "c"}; !slices.Equal(got, want) {
		t.Errorf("got the services %v, want %v", got, want)
	}
	if got, want := slices.Sorted(maps.Keys(a.Checks())), []string{"service:c"}; !slices.Equal(got, want) {
		t.Errorf("got the checks %v, want %v", got, want)
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 2 || !strings.Contains(log.String(), a.disk.kept.path) {
		t.Errorf("got %d errors in the log:\n%s", n, log.String())
	}
	// They outlive that the file is written anew.
	must(t, a.AddService(api.ServiceDefinition{Name: "d"}, false))
	must(t, a.disk.kept.rewrite())
	now, err := os.ReadFile(a.disk.kept.path)
	must(t, err)
	for line := range bytes.SplitSeq(bad, []byte("\n")) {
		if !bytes.Contains(now, line) {
			t.Errorf("lost is %s", line)
		}
	}
	// Once repaired, it is back with the check that waited for it.
	must(t, os.WriteFile(a.disk.kept.path, whole, 0o600))
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
	if left := kept(t, dir); len(left) > 0 {
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
	if left := kept(t, dir); len(left) > 0 {
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
	left, err := os.ReadDir(".")
	must(t, err)
	if len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

func TestFilesAreTheirOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	a := newAgent(t, newCatalog(), func(cfg *Config) { cfg.Dir = dir })
	must(t, a.AddService(api.ServiceDefinition{Name: "../" + strings.Repeat("x", 300), Token: "secret", Check: ttlCheck()}, false))
	must(t, a.UpdateTTL("service:../"+strings.Repeat("x", 300), api.Passing, "secret"))
	must(t, a.disk.kept.rewrite())
	files, err := os.ReadDir(dir)
	must(t, err)
	if len(files) != 2 {
		t.Errorf("got %v", files)
	}
	for _, f := range files {
		info, err := f.Info()
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s: got mode %v", f.Name(), info.Mode())
		}
	}
}

// TestHeartbeatIsKeptAsItIs kills an agent at any time: what it comes back with is
// the last state that was told, for as long as the check would have waited.
func TestHeartbeatIsKeptAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		keep := func(cfg *Config) { cfg.Dir = dir }
		a := newAgent(t, newCatalog(), keep)
		def := web()
		def.Check = api.CheckType{TTL: api.Duration(10 * time.Second)}
		must(t, a.AddService(def, false))
		for i := range 3000 { // more than fit without writing the file anew
			must(t, a.UpdateTTL("service:web1", api.Passing, "fine"))
			if i%1000 == 999 {
				advance(9 * time.Second)
				if got := newAgent(t, newCatalog(), keep).Checks()["service:web1"]; got.Status != api.Passing || got.Output != "fine" {
					t.Errorf("after %d: got %+v", i, got)
				}
			}
		}
		must(t, a.UpdateTTL("service:web1", api.Warning, "slow"))
		if got := newAgent(t, newCatalog(), keep).Checks()["service:web1"]; got.Status != api.Warning || got.Output != "slow" {
			t.Errorf("got %+v", got)
		}
		info, err := os.Stat(a.disk.states.path)
		must(t, err)
		if info.Size() > 2*smallJournal {
			t.Errorf("the file has %d bytes", info.Size())
		}
	})
}

// FuzzKeptFiles feeds any bytes as kept files. An agent must come up, and what it
// took in must be the same after another restart.
func FuzzKeptFiles(f *testing.F) {
	for _, value := range []string{
		`{"Name":"web","Port":80,"Meta":{"a":"b"}}`, `{"ID":"`, `null`, `{"Name":"web","Connect":{"SidecarService":{}}}`,
		`{"ServiceID":"web","Definition":{"CheckID":"c","TTL":"10s"}}`, `{"Single":true,"Definition":{"Name":"x","TCP":"a:1","Interval":"1s"}}`,
		`{"Status":"passing"}`,
	} {
		f.Add([]byte(value), []byte("\n"), true)
	}
	f.Fuzz(func(t *testing.T, first, second []byte, sealed bool) {
		if sealed { // as values of lines that are whole
			first = []byte(lines(`{"Key":"service web","Value":`+string(first)+`}`, `{"Key":"check c","Value":`+string(first)+`}`))
		}
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, keptFile), append(first, second...), 0o600))
		must(t, os.WriteFile(filepath.Join(dir, stateFile), append(second, first...), 0o600))
		keep := func(cfg *Config) { cfg.Dir = dir }
		a := newAgent(t, newCatalog(), keep)
		must(t, a.AddService(api.ServiceDefinition{Name: "one more"}, false))
		must(t, a.disk.kept.rewrite())
		if again := newAgent(t, newCatalog(), keep); !jsonEqual(t, again.Services(), a.Services()) {
			t.Errorf("got %v, then %v", a.Services(), again.Services())
		}
	})
}

func lines(bodies ...string) string {
	var all strings.Builder
	for _, body := range bodies {
		all.WriteString(checksum([]byte(body)) + " " + body + "\n")
	}
	return all.String()
}
