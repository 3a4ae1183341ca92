package local

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"isthmus/api"
)

// following notes what a follower is told: ports, and "none".
func following(ctx context.Context, a *Agent, id string) <-chan string {
	out := make(chan string, 100) // more than any test makes
	go func() {
		defer close(out)
		for s := range a.Follow(ctx, id) {
			if s == nil {
				out <- "none"
				continue
			}
			out <- fmt.Sprint(s.Port, s.Tags)
		}
	}()
	synctest.Wait()
	return out
}

func expectTold(t *testing.T, told <-chan string, want ...string) {
	t.Helper()
	synctest.Wait()
	var got []string
	for len(told) > 0 {
		got = append(got, <-told)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

func TestFollowerIsToldOfEachChangeOfItsService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		a := newAgent(t, c)
		start(t, a)
		ctx, cancel := context.WithCancel(t.Context())
		told := following(ctx, a, "web1")
		expectTold(t, told, "none")

		def := web()
		def.EnableTagOverride = true
		must(t, a.AddService(def, false))
		expectTold(t, told, fmt.Sprint(def.Port, def.Tags))
		must(t, a.AddService(def, false)) // as it is
		must(t, a.UpdateTTL("service:web1", api.Warning, "hm"))
		must(t, a.AddService(api.ServiceDefinition{Name: "other", Port: 1}, false))
		def.Token = "another"
		must(t, a.AddService(def, false))
		expectTold(t, told)

		def.Port++
		must(t, a.AddService(def, false))
		expectTold(t, told, fmt.Sprint(def.Port, def.Tags))

		synctest.Wait()
		row := *c.services["web1"]
		row.Tags = []string{"of", "the", "catalog"}
		c.services["web1"] = &row
		a.Sync()
		expectTold(t, told, fmt.Sprint(def.Port, row.Tags))

		must(t, a.RemoveService("web1"))
		expectTold(t, told, "none")
		cancel()
		synctest.Wait()
		if _, more := <-told; more {
			t.Error("told of something after the end")
		}
		if len(a.followers) > 0 {
			t.Errorf("followers are left: %v", a.followers)
		}
	})
}

func TestConfiguredServiceIsFollowedThroughReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent(t, newCatalog())
		must(t, a.SetConfigured([]api.ServiceDefinition{{Name: "gw", Kind: api.MeshGateway, Port: 1}}, nil))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		told := following(ctx, a, "gw")
		must(t, a.SetConfigured([]api.ServiceDefinition{{Name: "gw", Kind: api.MeshGateway, Port: 1}}, nil))
		expectTold(t, told, "1 []")
		must(t, a.SetConfigured([]api.ServiceDefinition{{Name: "gw", Kind: api.MeshGateway, Port: 2}}, nil))
		expectTold(t, told, "2 []")
		must(t, a.SetConfigured(nil, nil))
		expectTold(t, told, "none")
	})
}

// TestManyFollowersSeeTheLastChange changes a service while many follow it. Each
// must see the last state, however many it misses before.
func TestManyFollowersSeeTheLastChange(t *testing.T) {
	a := newAgent(t, newCatalog())
	const followers, changes = 50, 200
	var wg sync.WaitGroup
	for range followers {
		wg.Go(func() {
			last := 0
			for s := range a.Follow(t.Context(), "web") {
				if s == nil {
					continue
				}
				if s.Port < last {
					t.Errorf("port %d came after %d", s.Port, last)
				}
				if last = s.Port; last == changes {
					return
				}
			}
		})
	}
	for port := range changes {
		must(t, a.AddService(api.ServiceDefinition{Name: "web", Port: port + 1}, false))
	}
	wg.Wait()
	if len(a.followers) > 0 {
		t.Errorf("followers are left: %v", a.followers)
	}
}
