package local

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
)

// withSidecars lets sidecars have one of three ports.
func withSidecars(cfg *Config) { cfg.Sidecars = Sidecars{MinPort: 21000, MaxPort: 21002} }

// fronted is a service with a sidecar.
func fronted(id string, inner api.ServiceDefinition) api.ServiceDefinition {
	return api.ServiceDefinition{
		ID: id, Name: "web", Tags: []string{"a"}, Meta: map[string]string{"k": "v"}, Port: 80,
		Connect: &api.ServiceConnect{SidecarService: &inner},
	}
}

func portOf(t *testing.T, a *Agent, id string) int {
	t.Helper()
	s := a.Service(sidecarID(id))
	if s == nil {
		t.Fatalf("%s has no sidecar", id)
	}
	return s.Port
}

func TestSidecarComesAndGoesWithItsService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		a := newAgent(t, c, withSidecars)
		start(t, a)
		c.writes()
		def := fronted("w1", api.ServiceDefinition{Check: ttlCheck()})
		def.Token = "t1"
		must(t, a.AddService(def, false))
		synctest.Wait()
		c.expect(t, "put w1 by t1", "put w1-sidecar-proxy service:w1-sidecar-proxy=passing by t1")
		expectSame(t, a, c)
		if def.Connect.SidecarService.ID != "" || a.Service("w1").Connect.SidecarService != nil {
			t.Error("the definition changed, or the service still holds its sidecar")
		}
		advance(time.Hour) // comparisons find no difference
		c.expect(t)

		must(t, a.RemoveService("w1"))
		synctest.Wait()
		c.expect(t, "delete w1 by t1", "delete w1-sidecar-proxy by t1")
		if len(a.Services())+len(a.Checks()) > 0 {
			t.Errorf("left are %v and %v", a.Services(), a.Checks())
		}
	})
}

func TestDefaultChecksOfASidecar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent(t, newCatalog(), withSidecars)
		def := fronted("w1", api.ServiceDefinition{Proxy: &api.ConnectProxyConfig{LocalServiceAddress: "127.0.0.9"}})
		def.Check = api.CheckType{TTL: hours(1), Status: api.Warning}
		must(t, a.AddService(def, false))
		for _, c := range []struct{ own, service, proxy, want string }{
			{"", "", "", "127.0.0.1:7"},
			{"", "", "10.0.0.3", "10.0.0.3:7"},
			{"", "10.0.0.2", "10.0.0.3", "10.0.0.2:7"},
			{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1:7"},
			{"[fd00::1]", "", "", "[fd00::1]:7"},
		} {
			parent := fronted("x", api.ServiceDefinition{Address: c.own, Port: 7, Proxy: &api.ConnectProxyConfig{LocalServiceAddress: c.proxy}})
			parent.Address = c.service
			sidecar := a.sidecarOf(&parent)
			if got := sidecarChecks(&sidecar, "x")[0].TCP; got != c.want {
				t.Errorf("%+v: got %s", c, got)
			}
		}
		listening := a.checks["service:w1-sidecar-proxy:1"].def
		if listening.TCP != "127.0.0.9:21000" || time.Duration(listening.Interval) != 10*time.Second {
			t.Errorf("got %+v", listening)
		}
		start(t, a)
		if alias := a.Checks()["service:w1-sidecar-proxy:2"]; alias.Name != "Connect Sidecar Aliasing w1" || alias.Status != api.Warning {
			t.Errorf("got %+v", alias)
		}
	})
}

func TestSidecarInheritsUnlessItShallNot(t *testing.T) {
	for _, bare := range []bool{false, true} {
		a := newAgent(t, newCatalog(), withSidecars, func(cfg *Config) { cfg.Sidecars.Bare = bare })
		must(t, a.AddService(fronted("w1", api.ServiceDefinition{}), false))
		must(t, a.AddService(fronted("w2", api.ServiceDefinition{Tags: []string{"own"}, Meta: map[string]string{"o": "1"}}), false))
		s := a.Service("w1-sidecar-proxy")
		if inherits := slices.Equal(s.Tags, []string{"a"}) && s.Meta["k"] == "v"; inherits == bare || bare && len(s.Tags)+len(s.Meta) > 0 {
			t.Errorf("bare %v: got %v %v", bare, s.Tags, s.Meta)
		}
		if s := a.Service("w2-sidecar-proxy"); !slices.Equal(s.Tags, []string{"own"}) || !maps.Equal(s.Meta, map[string]string{"o": "1"}) {
			t.Errorf("bare %v: got %v %v", bare, s.Tags, s.Meta)
		}
	}
}

func TestPortsOfSidecars(t *testing.T) {
	a := newAgent(t, newCatalog(), withSidecars)
	must(t, a.AddService(api.ServiceDefinition{Name: "other", Port: 21001}, false))
	def := fronted("w1", api.ServiceDefinition{})
	def.Port = 21000 // its own port is not its sidecar's
	must(t, a.AddService(def, false))
	if got := portOf(t, a, "w1"); got != 21002 {
		t.Errorf("got port %d", got)
	}
	err := a.AddService(fronted("w2", api.ServiceDefinition{}), false)
	if api.CodeOf(err) != api.Internal || err.Error() != "no port provided for sidecar_service and none left in the configured range [21000, 21002]" || a.Service("w2") != nil {
		t.Errorf("got %v and %v", err, a.Service("w2"))
	}
	must(t, a.RemoveService("other"))
	must(t, a.AddService(fronted("w2", api.ServiceDefinition{}), false))
	must(t, a.AddService(def, false)) // 21000 and 21001 are taken, and it has one
	if w1, w2 := portOf(t, a, "w1"), portOf(t, a, "w2"); w1 != 21002 || w2 != 21001 {
		t.Errorf("got ports %d and %d", w1, w2)
	}
}

func TestSidecarOfAConfiguredService(t *testing.T) {
	a := newAgent(t, newCatalog(), withSidecars, func(cfg *Config) { cfg.Dir = t.TempDir() })
	must(t, a.AddService(fronted("w1", api.ServiceDefinition{}), false)) // the configuration takes it over
	configured := []api.ServiceDefinition{
		fronted("new", api.ServiceDefinition{}), fronted("w1", api.ServiceDefinition{}), fronted("asks", api.ServiceDefinition{Port: 21001}),
	}
	for range 2 {
		must(t, a.SetConfigured(configured, nil))
		if w1, added, asks := portOf(t, a, "w1"), portOf(t, a, "new"), portOf(t, a, "asks"); w1 != 21000 || added != 21002 || asks != 21001 {
			t.Errorf("got ports %d, %d and %d", w1, added, asks)
		}
	}
	if left := kept(t, a.cfg.Dir); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
	configured[2].Connect = nil
	must(t, a.SetConfigured(configured[1:], nil))
	if got := slices.Sorted(maps.Keys(a.Services())); !slices.Equal(got, []string{"asks", "w1", "w1-sidecar-proxy"}) || len(a.Checks()) != 2 {
		t.Errorf("got %v and %v", got, a.Checks())
	}
	for _, wrong := range [][]api.ServiceDefinition{
		{fronted("w1", api.ServiceDefinition{}), {Name: "w1-sidecar-proxy"}},
		{fronted("x", api.ServiceDefinition{ID: "x"})},
	} {
		if err := a.SetConfigured(wrong, nil); err == nil || a.Service("asks") == nil {
			t.Errorf("got %v for %+v, and the services %v", err, wrong, a.Services())
		}
	}
}

func TestSidecarSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	boot := func() *Agent { return newAgent(t, newCatalog(), withSidecars, func(cfg *Config) { cfg.Dir = dir }) }
	a := boot()
	must(t, a.AddService(fronted("w0", api.ServiceDefinition{}), false))
	must(t, a.AddService(fronted("w1", api.ServiceDefinition{Tags: []string{"own"}}), false))
	must(t, a.RemoveService("w0"))
	services, all := a.Services(), a.Checks()
	a = boot()
	must(t, a.SetConfigured(nil, nil))
	if !jsonEqual(t, a.Services(), services) || !jsonEqual(t, a.Checks(), all) || portOf(t, a, "w1") != 21001 {
		t.Errorf("got %v and %v", a.Services(), a.Checks())
	}
	must(t, a.AddService(fronted("w1", api.ServiceDefinition{Tags: []string{"own"}}), false))
	if got := portOf(t, a, "w1"); got != 21001 {
		t.Errorf("got port %d", got)
	}
	must(t, a.RemoveService("w1"))
	if left := kept(t, dir); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

func TestSidecarWithoutItsServiceGoesAtTheStart(t *testing.T) {
	dir := t.TempDir()
	boot := func() *Agent { return newAgent(t, newCatalog(), withSidecars, func(cfg *Config) { cfg.Dir = dir }) }
	a := boot()
	must(t, a.AddService(fronted("w1", api.ServiceDefinition{}), false))
	must(t, a.disk.drop([]string{"w1"}, nil)) // as if a crash had cut the registration short
	a = boot()
	must(t, a.SetConfigured([]api.ServiceDefinition{{Name: "w1"}}, nil))
	if a.Service("w1-sidecar-proxy") == nil {
		t.Error("the sidecar of a service that is configured now is gone")
	}
	a = boot()
	must(t, a.SetConfigured(nil, nil))
	if left := kept(t, dir); len(a.Services()) > 0 || len(left) > 0 {
		t.Errorf("left are %v and %v", a.Services(), left)
	}
}

func TestSidecarThatCannotBeKeptLeavesNothing(t *testing.T) {
	a := newAgent(t, newCatalog(), withSidecars, func(cfg *Config) { cfg.Dir = t.TempDir() })
	must(t, os.Mkdir(a.disk.kept.path, 0o700)) // nothing can be written
	if err := a.AddService(fronted("w1", api.ServiceDefinition{}), false); err == nil || len(a.Services())+len(a.Checks()) > 0 {
		t.Errorf("got %v and the services %v", err, a.Services())
	}
}

func TestSidecarsThatCannotBe(t *testing.T) {
	a := newAgent(t, newCatalog(), withSidecars)
	for text, want := range map[string]string{
		`{"Port":70000}`:                              "Invalid port 70000 in sidecar_service",
		`{"Weights":{"Passing":-1}}`:                  "Invalid Weights: Passing",
		`{"Check":{"TCP":"x:1"}}`:                     "Invalid check in sidecar_service: Interval must be > 0",
		`{"Checks":[{"TTL":1,"Status":"x"}]}`:         "Status for checks must",
		`{"Meta":{"consul-x":"1"}}`:                   "Invalid SidecarService: Couldn't load metadata pair",
		`{"Proxy":{"Upstreams":[{}]}}`:                "upstream destination name cannot be empty",
		`{"Kind":"mesh-gateway"}`:                     "Failed Validation: 5 errors occurred:\n\t* Port must be non-zero",
		`{"Connect":{"SidecarService":{}}}`:           "A SidecarService cannot have a nested SidecarService",
		`{"Check":{"ScriptArgs":["x"],"Interval":1}}`: "Scripts are disabled",
	} {
		var inner api.ServiceDefinition
		must(t, json.Unmarshal([]byte(text), &inner))
		err := a.AddService(fronted("w1", inner), false)
		if err == nil || !strings.Contains(err.Error(), want) || len(a.Services()) > 0 {
			t.Errorf("%s: got %v and %v, want %s", text, err, a.Services(), want)
		}
	}
}
