package local

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// expectCheck tells what a check must be now: its state and output.
func expectCheck(t *testing.T, a *Agent, id, want string) {
	t.Helper()
	synctest.Wait()
	c := a.Checks()[id]
	if c == nil {
		t.Fatalf("there is no check %s", id)
	}
	if got := strings.TrimSpace(c.Status + " " + c.Output); got != want {
		t.Errorf("%s: got %q, want %q", id, got, want)
	}
}

func TestAliasFollowsServicesAndChecksAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, begun := newCatalog(), time.Now()
		a := newAgent(t, c)
		start(t, a)
		sidecar := api.ServiceDefinition{Name: "web-sidecar-proxy", Check: api.CheckType{AliasService: "web1"}}
		must(t, a.AddService(sidecar, false))
		const alias = "service:web-sidecar-proxy"
		const missing = "critical Service web1 could not be found on node"
		expectCheck(t, a, alias, missing)
		bare := web()
		bare.Check = api.CheckType{}
		must(t, a.AddService(bare, false))
		expectCheck(t, a, alias, "passing No checks found.")
		must(t, a.AddService(web(), false))
		expectCheck(t, a, alias, "passing All checks passing.")
		must(t, a.UpdateTTL("service:web1", api.Warning, "hm"))
		expectCheck(t, a, alias, `warning Aliased check "Service 'web' check" failing: hm`)
		must(t, a.UpdateTTL("service:web1", api.Warning, "hm, slow"))
		expectCheck(t, a, alias, `warning Aliased check "Service 'web' check" failing: hm, slow`)
		must(t, a.AddCheck(api.CheckType{Name: "more", TTL: hours(1)}, "web1"))
		expectCheck(t, a, alias, `critical Aliased check "more" failing:`)
		must(t, a.RemoveCheck("more"))
		must(t, a.UpdateTTL("service:web1", api.Passing, ""))
		expectCheck(t, a, alias, "passing All checks passing.")
		must(t, a.AddCheck(api.CheckType{Name: "disk", TTL: hours(1)}, "")) // of the node
		expectCheck(t, a, alias, `critical Aliased check "disk" failing:`)
		must(t, a.UpdateTTL("disk", api.Passing, ""))
		expectCheck(t, a, alias, "passing All checks passing.")
		must(t, a.AddService(api.ServiceDefinition{Name: "other", Check: api.CheckType{TTL: hours(1)}}, false))
		expectCheck(t, a, alias, "passing All checks passing.")
		must(t, a.RemoveService("web1"))
		expectCheck(t, a, alias, missing)
		if took := time.Since(begun); took != 0 {
			t.Errorf("it took %v", took)
		}
		expectSame(t, a, c)
		must(t, a.RemoveService("web-sidecar-proxy"))
		synctest.Wait()
		if len(a.aliases) > 0 {
			t.Errorf("followers are left: %v", a.aliases)
		}
	})
}

func TestAliasesOfTheNodeDoNotHoldEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent(t, newCatalog())
		start(t, a)
		must(t, a.AddService(web(), false))
		for _, def := range []api.CheckType{
			{Name: "a", AliasService: "web1"}, {Name: "b", AliasService: "web1", AliasNode: "N1"}, {Name: "c", AliasNode: "n1"},
		} {
			must(t, a.AddCheck(def, ""))
		}
		expectCheck(t, a, "a", "passing All checks passing.")
		expectCheck(t, a, "b", "passing All checks passing.")
		expectCheck(t, a, "c", "passing No checks found.")
	})
}

// still is a catalog that never changes: whoever waits for a change waits on.
type still struct{ *catalog }

func (s still) Call(ctx context.Context, r *rpc.Request) (rpc.Meta, error) {
	if r.Header.MinIndex > 0 {
		<-ctx.Done()
		return rpc.Meta{}, ctx.Err()
	}
	return s.catalog.Call(ctx, r)
}

func TestAliasOfAnotherNodeFollowsTheCatalog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		rpc.Bind(c.Handlers, wire.CatalogNodeServices, func(context.Context, rpc.Header, *wire.NodeQuery) (*api.NodeServices, rpc.Meta, error) {
			return nil, rpc.Meta{}, nil
		})
		a := newAgent(t, c, func(cfg *Config) { cfg.Caller = still{c} })
		start(t, a)
		must(t, a.AddService(api.ServiceDefinition{Name: "w", Check: api.CheckType{AliasNode: "n1.elsewhere"}}, false))
		expectCheck(t, a, "service:w", "critical Node n1.elsewhere could not be found")
	})
}

func script() api.CheckType {
	return api.CheckType{Name: "script", ScriptArgs: []string{"true"}, Interval: hours(1)}
}

func TestScriptsRunWhereTheyAreAllowed(t *testing.T) {
	const (
		remote = "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"
		local  = "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true"
	)
	docker := script()
	docker.DockerContainerID = "c"
	for _, c := range []struct {
		scripts      Scripts
		api, service string // what is wrong
	}{{ScriptsNever, remote, local}, {ScriptsLocal, remote, ""}, {ScriptsAlways, "", ""}} {
		a := newAgent(t, newCatalog(), func(cfg *Config) { cfg.Scripts = c.scripts })
		expect := func(err error, want string) {
			t.Helper()
			if want == "" && err != nil || want != "" && (err == nil || !strings.HasSuffix(err.Error(), want)) {
				t.Errorf("%d: got %v, want %q", c.scripts, err, want)
			}
		}
		for _, def := range []api.CheckType{script(), docker} {
			expect(a.AddCheck(def, ""), c.api)
			expect(a.AddService(api.ServiceDefinition{Name: "x", Check: def}, false), c.api)
			expect(a.SetConfigured([]api.ServiceDefinition{{Name: "f", Check: def}}, nil), c.service)
			expect(a.SetConfigured(nil, []CheckDefinition{{CheckType: def}}), c.service)
		}
	}
}

func TestKeptScriptDoesNotRunOnceItIsForbidden(t *testing.T) {
	dir := t.TempDir()
	allowed := func(s Scripts) func(*Config) {
		return func(cfg *Config) { cfg.Dir, cfg.Scripts = dir, s }
	}
	must(t, newAgent(t, newCatalog(), allowed(ScriptsAlways)).AddCheck(script(), ""))
	var log strings.Builder
	a := newLoggingAgent(t, newCatalog(), &log, allowed(ScriptsLocal))
	if len(a.Checks()) > 0 || !strings.Contains(log.String(), "Scripts are disabled") {
		t.Errorf("got %v, logged %s", a.Checks(), log.String())
	}
	if a = newAgent(t, newCatalog(), allowed(ScriptsAlways)); a.Checks()["script"] == nil {
		t.Error("the file is gone")
	}
}
