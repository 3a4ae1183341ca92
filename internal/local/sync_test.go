package local

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

func TestServiceComesWithItsChecksInOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		a := newAgent(t, c)
		start(t, a)
		c.expect(t, "put node")
		def := web()
		def.Checks = []*api.CheckType{{CheckID: "second", TTL: api.Duration(time.Hour)}}
		def.Token = "t1"
		must(t, a.AddService(def, false))
		must(t, a.AddCheck(api.CheckType{Name: "disk", TTL: api.Duration(time.Hour), Status: api.Warning}, ""))
		synctest.Wait()
		c.expect(t, "put disk=warning", "put web1 second=critical service:web1:1=passing by t1")
		expectSame(t, a, c)

		// One check that changes does not bring its service along.
		must(t, a.UpdateTTL("second", api.Passing, "fine"))
		synctest.Wait()
		c.expect(t, "put second=passing by t1")
		must(t, a.RemoveCheck("disk"))
		must(t, a.RemoveService("web1"))
		synctest.Wait()
		c.expect(t, "delete disk", "delete web1 by t1")
		expectSame(t, a, c)
	})
}

func TestTokenOfTheAgentIsTheDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		a := newAgent(t, c, func(cfg *Config) { cfg.Token = "own" })
		start(t, a)
		must(t, a.AddService(web(), false))
		synctest.Wait()
		c.expect(t, "put node by own", "put web1 service:web1=passing by own")
	})
}

func TestDriftIsRepairedWithinTheSyncInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		a := newAgent(t, c)
		start(t, a)
		must(t, a.AddService(web(), false))
		must(t, a.AddService(api.ServiceDefinition{Name: "db"}, false))
		synctest.Wait()
		c.writes()
		for name, drift := range map[string]struct {
			do   func()
			want string
		}{
			"service lost":     {func() { delete(c.services, "db") }, "put db"},
			"service changed":  {func() { c.services["db"] = &api.NodeService{ID: "db", Service: "db", Port: 1} }, "put db"},
			"tags changed":     {func() { c.services["db"] = &api.NodeService{ID: "db", Service: "db", Tags: []string{"x"}} }, "put db"},
			"check lost":       {func() { delete(c.checks, "service:web1") }, "put service:web1=passing"},
			"check changed":    {func() { c.checks["service:web1"].Status = api.Critical }, "put service:web1=passing"},
			"output changed":   {func() { c.checks["service:web1"].Output = "x" }, "put service:web1=passing"},
			"foreign service":  {func() { c.services["x"] = &api.NodeService{ID: "x", Service: "x"} }, "delete x"},
			"foreign check":    {func() { c.checks["y"] = &api.HealthCheck{CheckID: "y"} }, "delete y"},
			"node changed":     {func() { c.node.Address = "10.9.9.9" }, "put node"},
			"node meta":        {func() { c.node.Meta = nil }, "put node"},
			"nothing, but nil": {func() { c.services["db"] = &api.NodeService{ID: "db", Service: "db"} }, ""},
		} {
			c.edit(drift.do)
			advance(time.Minute)
			if got := strings.Join(c.writes(), ", "); got != drift.want {
				t.Errorf("%s: got the writes %q, want %q", name, got, drift.want)
			}
			expectSame(t, a, c)
		}
	})
}

func TestWhatServersOwnStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		c.node = &api.Node{ID: "id1", Node: "n1", Address: "10.0.0.1"}
		c.services["consul"] = &api.NodeService{ID: "consul", Service: "consul", Port: 8300}
		c.services["old"] = &api.NodeService{ID: "old", Service: "old"}
		c.checks["serfHealth"] = &api.HealthCheck{CheckID: "serfHealth", Status: api.Passing}
		c.checks["of consul"] = &api.HealthCheck{CheckID: "of consul", ServiceID: "consul"}
		c.checks["of old"] = &api.HealthCheck{CheckID: "of old", ServiceID: "old"}
		a := newAgent(t, c)
		start(t, a)
		c.expect(t, "delete old", "put node") // its check went along
		if len(c.checks) != 2 || len(c.services) != 1 {
			t.Errorf("left are %v and %v", c.services, c.checks)
		}
		for _, err := range []error{
			a.AddService(api.ServiceDefinition{Name: "consul"}, false), a.AddCheck(api.CheckType{Name: "serfHealth", TTL: 1}, ""),
		} {
			if api.CodeOf(err) != api.Invalid {
				t.Errorf("got %v", err)
			}
		}
	})
}

func TestRegistersSoonAfterServersAppear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		c.down()
		a := newAgent(t, c)
		must(t, a.AddService(web(), false))
		start(t, a)
		advance(time.Second)
		c.up()
		advance(2 * time.Second)
		c.expect(t, "put node", "put web1 service:web1=passing")
	})
}

func TestSyncEndsTheWaitAfterAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		calls := 0
		c.fail = func(*rpc.Request) error { calls++; return &rpc.NotSentError{Err: errors.New("refused")} }
		a := newAgent(t, c)
		start(t, a)
		advance(time.Hour)
		if calls < 240 || calls > 500 {
			t.Errorf("%d attempts within an hour", calls) // one each 7.5 to 15 s
		}
		before := calls
		must(t, a.AddService(web(), false))
		synctest.Wait()
		if calls != before {
			t.Error("a change did not wait for the next attempt")
		}
		c.up()
		a.Sync()
		synctest.Wait()
		c.expect(t, "put node", "put web1 service:web1=passing")
	})
}

func TestSyncRepairsDriftAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		a := newAgent(t, c)
		start(t, a)
		must(t, a.AddService(web(), false))
		synctest.Wait()
		c.edit(func() { clear(c.services); c.log = nil })
		a.Sync()
		synctest.Wait()
		c.expect(t, "put web1")
	})
}

func TestWhatChangesDuringACallIsPushedAfterIt(t *testing.T) {
	for name, c := range map[string]struct {
		during func(t *testing.T, a *Agent)
		want   []string
	}{
		"service comes back": {func(t *testing.T, a *Agent) {
			t.Helper()
			must(t, a.RemoveService("web1"))
			must(t, a.AddService(web(), false))
		}, []string{"put web1 service:web1=passing"}},
		"service changes": {func(t *testing.T, a *Agent) {
			t.Helper()
			must(t, a.AddService(api.ServiceDefinition{ID: "web1", Name: "web", Port: 81}, false))
		}, []string{"put web1 service:web1=passing"}},
		"service goes": {func(t *testing.T, a *Agent) {
			t.Helper()
			must(t, a.RemoveService("web1"))
		}, []string{"delete web1"}},
		"check changes": {func(t *testing.T, a *Agent) {
			t.Helper()
			must(t, a.UpdateTTL("service:web1", api.Warning, ""))
		}, []string{"put service:web1=warning"}},
		"check comes back": {func(t *testing.T, a *Agent) {
			t.Helper()
			must(t, a.RemoveCheck("service:web1"))
			must(t, a.AddService(web(), false))
		}, []string{"put service:web1=passing"}},
		"node changes": {func(t *testing.T, a *Agent) {
			t.Helper()
			a.SetNode(nil, map[string]string{"new": "1"})
		}, []string{"put node"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			cat := newCatalog()
			a := newAgent(t, cat)
			start(t, a)
			cat.edit(func() {
				cat.lose = func(*rpc.Request) error {
					cat.log, cat.lose = nil, nil
					c.during(t, a)
					return nil
				}
			})
			if name == "node changes" { // while the node is being registered
				a.SetNode(nil, nil)
			} else {
				must(t, a.AddService(web(), false))
			}
			synctest.Wait()
			if got := cat.writes(); !slices.Equal(got, c.want) {
				t.Errorf("%s: got the writes %v, want %v", name, got, c.want)
			}
			expectSame(t, a, cat)
		})
	}
}

func TestRefusalDoesNotKeepOthersBack(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		retries bool // before the next comparison
	}{
		"invalid here":      {api.Errorf(api.Invalid, "no"), true},
		"invalid elsewhere": {&rpc.RemoteError{Text: "no"}, true},
		"not allowed":       {&rpc.RemoteError{Text: "rpc error: Permission denied: x"}, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			cat := newCatalog()
			a := newAgent(t, cat)
			start(t, a)
			cat.writes()
			refused := 0
			cat.edit(func() {
				cat.fail = func(r *rpc.Request) error {
					if in, ok := r.In.(*api.Registration); ok && in.Service != nil && in.Service.ID == "s3" {
						refused++
						return c.err
					}
					return nil
				}
			})
			for i := range 8 {
				must(t, a.AddService(api.ServiceDefinition{Name: fmt.Sprint("s", i)}, false))
			}
			synctest.Wait()
			if got := cat.writes(); len(got) != 7 {
				t.Errorf("%s: got the writes %v", name, got)
			}
			advance(20 * time.Second)
			if (refused > 1) != c.retries {
				t.Errorf("%s: refused %d times", name, refused)
			}
			cat.up()
			advance(time.Minute)
			cat.expect(t, "put s3")
		})
	}
}

func TestTagOverrideLeavesTheCatalogsTags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		a := newAgent(t, c)
		start(t, a)
		def := web()
		def.EnableTagOverride = true
		must(t, a.AddService(def, false))
		synctest.Wait()
		c.edit(func() {
			row := *c.services["web1"]
			row.Tags = []string{"theirs"}
			c.services["web1"] = &row
		})
		advance(time.Minute)
		if got := a.Service("web1").Tags; !slices.Equal(got, []string{"theirs"}) {
			t.Errorf("agent has the tags %v", got)
		}
		if got := a.Checks()["service:web1"].ServiceTags; !slices.Equal(got, []string{"theirs"}) {
			t.Errorf("its check has the tags %v", got)
		}
		c.writes()
		must(t, a.AddService(def, false)) // asks for nothing new
		synctest.Wait()
		c.expect(t)
		must(t, a.UpdateTTL("service:web1", api.Warning, ""))
		synctest.Wait()
		c.expect(t, "put service:web1=warning")
		def.Port = 81
		must(t, a.AddService(def, false))
		advance(2 * time.Minute)
		if got := c.services["web1"]; got.Port != 81 || !slices.Equal(got.Tags, []string{"v1"}) {
			t.Errorf("a new registration gave %+v", got)
		}
		expectSame(t, a, c)
	})
}

func TestOutputAloneWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		a := newAgent(t, c, func(cfg *Config) { cfg.CheckUpdateInterval = 5 * time.Minute })
		start(t, a)
		must(t, a.AddCheck(api.CheckType{Name: "disk", TTL: api.Duration(24 * time.Hour)}, ""))
		synctest.Wait()
		c.writes()
		must(t, a.UpdateTTL("disk", api.Critical, "first")) // says more than nothing: at once
		synctest.Wait()
		c.expect(t, "put disk=critical")
		for i := range 4 {
			must(t, a.UpdateTTL("disk", api.Critical, fmt.Sprint("full ", i)))
			advance(time.Minute) // comparisons do not push it either
		}
		c.expect(t)
		if got := a.Checks()["disk"].Output; got != "full 3" {
			t.Errorf("agent has the output %q", got)
		}
		advance(time.Minute)
		c.expect(t, "put disk=critical")
		expectSame(t, a, c)

		must(t, a.UpdateTTL("disk", api.Critical, "more"))
		must(t, a.UpdateTTL("disk", api.Passing, "fine")) // a state takes the output along
		synctest.Wait()
		c.expect(t, "put disk=passing")
		advance(time.Hour)
		c.expect(t)
		expectSame(t, a, c)
	})
}

func TestDiscardedOutputIsNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		a := newAgent(t, c, func(cfg *Config) { cfg.DiscardOutput = true })
		start(t, a)
		must(t, a.AddCheck(api.CheckType{Name: "disk", TTL: api.Duration(time.Minute)}, ""))
		must(t, a.UpdateTTL("disk", api.Passing, "secret"))
		advance(2 * time.Minute)
		if got := a.Checks()["disk"]; got.Output != "" || got.Status != api.Critical || c.checks["disk"].Output != "" {
			t.Errorf("got %+v", got)
		}
	})
}

func TestNodeInfoFollowsSetNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		a := newAgent(t, c)
		start(t, a)
		c.writes()
		a.SetNode(map[string]string{"lan": "10.0.0.1"}, map[string]string{"rack": "a"})
		synctest.Wait()
		c.expect(t)
		a.SetNode(map[string]string{"lan": "10.0.0.1", "wan": "1.2.3.4"}, map[string]string{"rack": "b"})
		synctest.Wait()
		c.expect(t, "put node")
		expectSame(t, a, c)
	})
}

func TestPauseGrowsWithTheCluster(t *testing.T) {
	a := newAgent(t, newCatalog())
	for nodes, scale := range map[int]int{1: 1, 128: 1, 129: 2, 256: 2, 257: 3, 1000: 4, 5000: 7} {
		a.cfg.NumNodes = func() int { return nodes }
		for range 100 {
			if got := a.pause().Seconds() / float64(scale); got > 60 || got < 45 {
				t.Errorf("%d nodes: %v times the scale", nodes, got)
			}
		}
	}
}

func TestServerAddedAddressesAreNoDrift(t *testing.T) {
	local := &api.NodeService{ID: "p", Kind: "connect-proxy", Proxy: api.ConnectProxyConfig{Config: map[string]any{"n": 1.0}}}
	remote := &api.NodeService{
		ID: "p", Kind: "connect-proxy", Tags: []string{}, Meta: map[string]string{}, Weights: &api.Weights{Passing: 1, Warning: 1},
		TaggedAddresses: map[string]api.ServiceAddress{"consul-virtual": {Address: "240.0.0.1"}},
		Proxy:           api.ConnectProxyConfig{Config: map[string]any{"n": int64(1)}},
		RaftIndex:       api.RaftIndex{CreateIndex: 1, ModifyIndex: 2},
	}
	if !sameService(local, remote) {
		t.Error("differ")
	}
	remote.Proxy.Config["n"] = int64(2)
	if sameService(local, remote) {
		t.Error("are the same")
	}
}

func TestThousandsAreRegisteredOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 2000
		c := newCatalog()
		a := newAgent(t, c)
		for i := range n / 2 {
			must(t, a.AddService(api.ServiceDefinition{Name: fmt.Sprint("s", i), Check: ttlCheck()}, false))
		}
		start(t, a)
		for i := range n / 2 {
			must(t, a.AddService(api.ServiceDefinition{Name: fmt.Sprint("t", i), Check: ttlCheck()}, false))
		}
		advance(time.Hour)
		seen := map[string]int{}
		for _, w := range c.writes() {
			seen[w]++
		}
		for w, times := range seen {
			if times != 1 {
				t.Errorf("%q %d times", w, times)
			}
		}
		if len(seen) != n+1 {
			t.Errorf("got %d writes, want %d", len(seen), n+1)
		}
		expectSame(t, a, c)
	})
}

func TestManyChecksOfOneServiceComeInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		a := newAgent(t, c)
		def := api.ServiceDefinition{Name: "s"}
		for range 300 {
			check := ttlCheck()
			def.Checks = append(def.Checks, &check)
		}
		must(t, a.AddService(def, false))
		start(t, a)
		if got := c.writes(); len(got) != 4 {
			t.Errorf("got %d writes", len(got))
		}
		expectSame(t, a, c)
	})
}

// TestCatalogConverges changes both sides at random, with calls that fail before
// and after they were carried out, and expects both sides to be the same after a
// quiet while.
func TestCatalogConverges(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) { converge(t, seed, t.TempDir()) })
	}
}

func converge(t *testing.T, seed uint64, dir string) {
	t.Helper()
	r, luck := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2)) // luck is the catalog's
	c := newCatalog()
	keep := func(cfg *Config) {
		cfg.Dir = dir
		cfg.CheckUpdateInterval = time.Duration(seed) * 10 * time.Second
	}
	a := newAgent(t, c, keep)
	fails := func(*rpc.Request) error {
		if luck.IntN(3) > 0 {
			return nil
		}
		return []error{
			api.Known(api.NoLeader, nil), &rpc.ConnError{Err: errors.New("reset")},
			&rpc.RemoteError{Text: "odd"}, &rpc.RemoteError{Text: "Permission denied"},
		}[luck.IntN(4)]
	}
	start(t, a)
	for range 30 {
		c.edit(func() { c.fail, c.lose = fails, fails })
		for range 20 {
			change(a, c, r)
			if r.IntN(4) == 0 {
				advance(time.Duration(r.IntN(3000)) * time.Millisecond)
			}
		}
		c.up()
		advance(time.Minute) // the next comparison at the latest
		expectSame(t, a, c)
		c.writes()
		advance(10 * time.Minute)
		c.expect(t)
		expectSame(t, newAgent(t, c, keep), c) // what the files tell is the same
		if t.Failed() {
			return
		}
	}
}

// change makes one random change. Errors are part of the game: what it names may
// not exist.
func change(a *Agent, c *catalog, r *rand.Rand) {
	name := "s" + strconv.Itoa(r.IntN(5))
	check := "service:" + name
	switch r.IntN(8) {
	case 0, 1:
		def := api.ServiceDefinition{Name: name, Port: r.IntN(2), Tags: []string{strconv.Itoa(r.IntN(2))}}
		if r.IntN(2) == 0 {
			def.Check = ttlCheck()
		}
		_ = a.AddService(def, r.IntN(2) == 0)
	case 2:
		_ = a.RemoveService(name)
	case 3:
		_ = a.AddCheck(api.CheckType{CheckID: fmt.Sprint("c", r.IntN(3)), Name: "c", TTL: api.Duration(1000 * time.Hour)}, name)
	case 4:
		_ = a.RemoveCheck(fmt.Sprint("c", r.IntN(3)))
	case 5:
		_ = a.UpdateTTL(check, []string{api.Passing, api.Critical}[r.IntN(2)], strconv.Itoa(r.IntN(3)))
	case 6:
		c.edit(func() { _, _ = c.Handlers.Call(nil, deregistration(name)) }) //nolint:staticcheck // nobody looks at it
	case 7:
		c.edit(func() { delete(c.checks, check) })
	}
}

func deregistration(service string) *rpc.Request {
	return &rpc.Request{
		Desc: wire.CatalogDeregister.Desc(), In: &api.Deregistration{Node: "n1", ServiceID: service}, Out: &wire.Empty{},
	}
}
