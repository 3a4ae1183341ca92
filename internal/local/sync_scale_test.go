package local

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
)

// slow answers for a catalog after a while, and counts.
type slow struct {
	*catalog

	takes time.Duration

	mu       sync.Mutex
	now      int // calls under way
	most     int
	all      int
	byNode   int            // registrations of the node
	doing    map[string]int // calls under way, by service
	together bool           // two calls for one service were under way
}

func (s *slow) Call(ctx context.Context, r *rpc.Request) (rpc.Meta, error) {
	service := ""
	s.mu.Lock()
	switch in := r.In.(type) {
	case *api.Registration:
		if !in.SkipNodeUpdate {
			s.byNode++
		}
		if in.Service != nil {
			service = in.Service.ID
		}
	case *api.Deregistration:
		service = in.ServiceID
	}
	s.all++
	s.now++
	s.most = max(s.most, s.now)
	s.doing[service]++
	s.together = s.together || service != "" && s.doing[service] > 1
	s.mu.Unlock()
	if s.takes > 0 {
		<-time.After(s.takes)
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now--
		s.doing[service]--
	}()
	return s.catalog.Call(ctx, r)
}

func newSlow(takes time.Duration) *slow {
	return &slow{catalog: newCatalog(), takes: takes, doing: map[string]int{}}
}

func calls(s *slow) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

func TestManyAreUnderWayTogetherButNotAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 2000
		c := newSlow(10 * time.Millisecond)
		a := newAgent(t, c.catalog, func(cfg *Config) { cfg.Caller = c })
		start(t, a)
		advance(time.Second)
		c.writes()
		before := time.Now()
		for i := range n {
			must(t, a.AddService(api.ServiceDefinition{Name: fmt.Sprint("s", i), Check: ttlCheck()}, false))
		}
		for len(a.unsynced()) > 0 {
			advance(10 * time.Millisecond)
		}
		if c.most != pushesAtOnce {
			t.Errorf("%d calls were under way at once, want %d", c.most, pushesAtOnce)
		}
		if took, floor := time.Since(before), n/pushesAtOnce*c.takes; took > 2*floor {
			t.Errorf("took %v, want about %v", took, floor)
		}
		writes := c.writes()
		if once := slices.Compact(slices.Clone(writes)); len(writes) != n || len(once) != n {
			t.Errorf("got %d writes, of them %d different, want %d", len(writes), len(once), n)
		}
		if c.byNode != 1 {
			t.Errorf("the node was registered %d times", c.byNode)
		}
		expectSame(t, a, c.catalog)
	})
}

// unsynced lists what is still to be pushed.
func (a *Agent) unsynced() (ids []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for s := range a.unsyncedServices {
		ids = append(ids, s.row.ID)
	}
	for c := range a.unsyncedChecks {
		ids = append(ids, c.def.CheckID)
	}
	return ids
}

func TestCallsForOneServiceComeOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSlow(50 * time.Millisecond)
		a := newAgent(t, c.catalog, func(cfg *Config) { cfg.Caller = c })
		start(t, a)
		for i := range 41 {
			def := web()
			def.Port = i
			must(t, a.AddService(def, false))
			advance(20 * time.Millisecond)
			if i%3 == 0 {
				must(t, a.RemoveService("web1"))
				advance(20 * time.Millisecond)
			}
		}
		advance(time.Second)
		if c.together {
			t.Error("two calls for a service were under way at once")
		}
		if got := c.services["web1"]; got == nil || got.Port != 40 {
			t.Errorf("the catalog has %+v", got)
		}
		expectSame(t, a, c.catalog)
	})
}

func TestWhatComesBackDuringItsRemovalIsRegisteredAfterIt(t *testing.T) {
	for name, c := range map[string]struct {
		during func(t *testing.T, a *Agent)
		want   []string
	}{
		"whole": {func(t *testing.T, a *Agent) {
			t.Helper()
			must(t, a.AddService(web(), false))
		}, []string{"put web1 service:web1=passing"}},
		"without its check": {func(t *testing.T, a *Agent) {
			t.Helper()
			def := web()
			def.Check = api.CheckType{}
			must(t, a.AddService(def, false))
		}, []string{"put web1"}},
		"and its check goes again": {func(t *testing.T, a *Agent) {
			t.Helper()
			must(t, a.AddService(web(), false))
			must(t, a.RemoveCheck("service:web1"))
		}, []string{"put web1"}},
		"and goes again": {func(t *testing.T, a *Agent) {
			t.Helper()
			must(t, a.AddService(web(), false))
			must(t, a.RemoveService("web1"))
		}, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			cat := newCatalog()
			a := newAgent(t, cat)
			start(t, a)
			must(t, a.AddService(web(), false))
			synctest.Wait()
			cat.edit(func() {
				cat.lose = func(*rpc.Request) error {
					cat.log, cat.lose = nil, nil
					c.during(t, a)
					return nil
				}
			})
			must(t, a.RemoveService("web1"))
			synctest.Wait()
			if got := cat.writes(); !slices.Equal(got, c.want) {
				t.Errorf("%s: got the writes %v, want %v", name, got, c.want)
			}
			expectSame(t, a, cat)
		})
	}
}

func TestServiceThatComesBackBeforeItsRemovalLeavesNoCheckBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		a := newAgent(t, c)
		start(t, a)
		must(t, a.AddService(web(), false))
		must(t, a.AddCheck(api.CheckType{Name: "more", TTL: hours(1)}, "web1"))
		synctest.Wait()
		c.writes()
		must(t, a.RemoveCheck("more"))
		must(t, a.RemoveService("web1"))
		def := web()
		def.Check = api.CheckType{}
		must(t, a.AddService(def, false))
		synctest.Wait()
		c.expect(t, "delete more", "delete service:web1", "put web1")
		expectSame(t, a, c)
	})
}

func TestCatalogThatLostEverythingIsFilledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		a := newAgent(t, c)
		start(t, a)
		for i := range 300 {
			must(t, a.AddService(api.ServiceDefinition{Name: fmt.Sprint("s", i), Check: ttlCheck()}, false))
		}
		must(t, a.AddCheck(api.CheckType{Name: "disk", TTL: hours(1)}, ""))
		synctest.Wait()
		c.edit(func() {
			c.node, c.log = nil, nil
			clear(c.services)
			clear(c.checks)
		})
		advance(time.Minute)
		expectSame(t, a, c)
		if got := c.writes(); len(got) != 302 {
			t.Errorf("got %d writes", len(got))
		}
	})
}

func TestHeartbeatThatChangesNothingCausesNoCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSlow(0)
		a := newAgent(t, c.catalog, func(cfg *Config) { cfg.Caller = c; cfg.Dir = t.TempDir() })
		start(t, a)
		for i := range 50 {
			def := api.ServiceDefinition{Name: fmt.Sprint("s", i), Check: api.CheckType{TTL: api.Duration(10 * time.Second)}}
			must(t, a.AddService(def, false))
		}
		beat := func() {
			for i := range 50 {
				must(t, a.UpdateTTL(fmt.Sprint("service:s", i), api.Passing, "fine"))
			}
			synctest.Wait()
		}
		beat()
		a.Sync() // so that the next comparison is far
		synctest.Wait()
		before := calls(c)
		for range 8 {
			advance(5 * time.Second)
			beat()
		}
		if got := calls(c); got != before {
			t.Errorf("%d calls", got-before)
		}
		expectSame(t, a, c.catalog)
	})
}

func TestOutputThatWaitsGoesWithItsCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		a := newAgent(t, c, func(cfg *Config) { cfg.CheckUpdateInterval = 5 * time.Minute })
		start(t, a)
		for _, name := range []string{"a", "b", "c"} {
			must(t, a.AddCheck(api.CheckType{Name: name, TTL: hours(1)}, ""))
			must(t, a.UpdateTTL(name, api.Passing, "first"))
		}
		synctest.Wait()
		for _, name := range []string{"a", "b", "c"} {
			must(t, a.UpdateTTL(name, api.Passing, "second"))
			advance(time.Second)
		}
		must(t, a.RemoveCheck("a"))
		synctest.Wait()
		c.writes()
		advance(5*time.Minute - 3*time.Second)
		c.expect(t)
		advance(time.Second)
		c.expect(t, "put b=passing")
		advance(time.Second)
		c.expect(t, "put c=passing")
		expectSame(t, a, c)
	})
}

func TestTTLChecksNeedNoGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent(t, newCatalog())
		start(t, a)
		before := runtime.NumGoroutine()
		for i := range 500 {
			check := ttlCheck()
			check.DeregisterCriticalServiceAfter = hours(1)
			must(t, a.AddService(api.ServiceDefinition{Name: fmt.Sprint("s", i), Check: check}, false))
		}
		synctest.Wait()
		if after := runtime.NumGoroutine(); after > before+20 {
			t.Errorf("%d goroutines more", after-before)
		}
	})
}

func TestOnlyWhatStaysCriticalIsReaped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		a := newAgent(t, c)
		start(t, a)
		for i, patience := range []time.Duration{5 * time.Minute, 2 * time.Minute, 3 * time.Minute} {
			must(t, a.AddService(api.ServiceDefinition{Name: fmt.Sprint("s", i), Check: api.CheckType{
				TTL: hours(1000), Status: api.Critical, DeregisterCriticalServiceAfter: api.Duration(patience),
			}}, false))
		}
		advance(time.Minute)
		must(t, a.UpdateTTL("service:s2", api.Passing, ""))
		left := func() (ids []string) {
			for id := range a.Services() {
				ids = append(ids, id)
			}
			slices.Sort(ids)
			return ids
		}
		for _, step := range []struct {
			after time.Duration
			want  []string
		}{{59 * time.Second, []string{"s0", "s1", "s2"}}, {time.Second, []string{"s0", "s2"}}, {3*time.Minute - time.Second, []string{"s0", "s2"}}, {time.Second, []string{"s2"}}} {
			advance(step.after)
			if got := left(); !slices.Equal(got, step.want) {
				t.Errorf("left are %v, want %v", got, step.want)
			}
		}
		must(t, a.UpdateTTL("service:s2", api.Critical, ""))
		advance(3 * time.Minute)
		if got := left(); len(got) > 0 {
			t.Errorf("left are %v", got)
		}
		expectSame(t, a, c)
	})
}
