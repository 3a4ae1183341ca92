package federation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// primary answers FederationState.List: a fake of the primary datacenter.
type primary struct {
	mu      sync.Mutex
	states  map[string]*api.FederationState
	index   uint64
	err     error
	changed chan struct{}
}

func newPrimary() *primary {
	return &primary{states: map[string]*api.FederationState{}, index: 10, changed: make(chan struct{})}
}

func (p *primary) edit(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.index++
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *primary) Call(ctx context.Context, r *rpc.Request) (rpc.Meta, error) {
	for {
		p.mu.Lock()
		index, err, changed := p.index, p.err, p.changed
		list := slices.SortedFunc(maps.Values(p.states), func(a, b *api.FederationState) int {
			return strings.Compare(a.Datacenter, b.Datacenter)
		})
		p.mu.Unlock()
		if err != nil {
			return rpc.Meta{}, err
		}
		if r.Header.MinIndex == 0 || index != r.Header.MinIndex {
			out, _ := r.Out.(*[]*api.FederationState)
			*out = list
			return rpc.Meta{Index: index}, nil
		}
		select {
		case <-ctx.Done():
			return rpc.Meta{}, ctx.Err()
		case <-changed:
		}
	}
}

func TestSecondaryCopiesTheStatesOfThePrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrimary()
		var mu sync.Mutex
		local := map[string]*api.FederationState{"gone": {Datacenter: "gone", PrimaryModifyIndex: 3}}
		applied := 0
		r := &Replicator{
			Log: quiet, Remote: p,
			Stored: func() []*api.FederationState {
				mu.Lock()
				defer mu.Unlock()
				return slices.Collect(maps.Values(local))
			},
			Apply: func(_ context.Context, op string, f *api.FederationState) error {
				mu.Lock()
				defer mu.Unlock()
				applied++
				if delete(local, f.Datacenter); op == wire.FederationUpsert {
					local[f.Datacenter] = f
				}
				return nil
			},
		}
		shown := func() string {
			mu.Lock()
			defer mu.Unlock()
			var out []string
			for _, dc := range slices.Sorted(maps.Keys(local)) {
				out = append(out, fmt.Sprintf("%s@%d", dc, local[dc].PrimaryModifyIndex))
			}
			return strings.Join(out, " ")
		}
		state := func(dc string, index uint64) *api.FederationState {
			return &api.FederationState{Datacenter: dc, RaftIndex: api.RaftIndex{ModifyIndex: index}}
		}
		p.edit(func() { p.states["dc1"], p.states["dc2"] = state("dc1", 7), state("dc2", 8) })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		if got := shown(); got != "dc1@7 dc2@8" {
			t.Errorf("after the first round: %s", got)
		}
		p.edit(func() { p.states["dc2"] = state("dc2", 12) })
		synctest.Wait()
		if got := shown(); got != "dc1@7 dc2@12" || applied != 4 {
			t.Errorf("after a change: %s, and %d writes in all, want 4", got, applied)
		}
		// A primary that was rebuilt begins at low indexes again.
		p.edit(func() {
			p.states = map[string]*api.FederationState{"dc1": state("dc1", 2)}
			p.index = 1
		})
		time.Sleep(time.Minute)
		if got := shown(); got != "dc1@2" {
			t.Errorf("after the primary was rebuilt: %s", got)
		}
		p.edit(func() { p.err = errors.New("the WAN is cut") })
		time.Sleep(time.Minute)
		if v := r.View(); !v.Running || !strings.Contains(v.LastError, "the WAN is cut") {
			t.Errorf("while the primary cannot be reached: %+v", v)
		}
		p.edit(func() { p.err = nil })
		time.Sleep(time.Minute)
		if v := r.View(); v.LastError != "" || v.Index == 0 {
			t.Errorf("after it is back: %+v", v)
		}
		cancel()
		if err := <-done; err != nil || r.View().Running {
			t.Errorf("ended with %v, %+v", err, r.View())
		}
	})
}

func TestOwnGatewaysArePublishedWhenTheyChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var stored *api.FederationState
		gateways := []api.CheckServiceNode{}
		changed, writes, fails := make(chan struct{}), 0, 2
		touch := func() { close(changed); changed = make(chan struct{}) }
		p := &Publisher{
			Log: quiet, Datacenter: "dc1",
			Read: func() (*api.FederationState, []api.CheckServiceNode, func(context.Context) error) {
				mu.Lock()
				defer mu.Unlock()
				c := changed
				return stored, slices.Clone(gateways), func(ctx context.Context) error {
					select {
					case <-ctx.Done():
						return ctx.Err()
					case <-c:
						return nil
					}
				}
			},
			Put: func(_ context.Context, in wire.FederationRequest) error {
				mu.Lock()
				defer mu.Unlock()
				if fails > 0 {
					fails--
					return api.Known(api.NoPath, nil)
				}
				writes++
				stored = in.State
				touch()
				return nil
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		check := func(what string, wantWrites, wantGateways int) {
			t.Helper()
			time.Sleep(time.Minute)
			mu.Lock()
			defer mu.Unlock()
			if writes != wantWrites || stored == nil || len(stored.MeshGateways) != wantGateways || stored.UpdatedAt.IsZero() {
				t.Errorf("%s: %d writes, stored %+v; want %d writes and %d gateways", what, writes, stored, wantWrites, wantGateways)
			}
		}
		check("a datacenter without gateways, after errors", 1, 0)
		mu.Lock()
		gateways = append(gateways, gateway("10.0.0.1"))
		touch()
		mu.Unlock()
		check("the first gateway", 2, 1)
		mu.Lock()
		again := gateway("10.0.0.1")
		again.Service.ModifyIndex, again.Checks[0].ModifyIndex, again.Service.Tags = 99, 98, []string{}
		gateways = []api.CheckServiceNode{again}
		touch()
		mu.Unlock()
		check("only log indexes differ", 2, 1)
		mu.Lock()
		stored = nil // somebody deleted it
		touch()
		mu.Unlock()
		check("a state that was deleted", 3, 1)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
