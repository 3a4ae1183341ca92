package httpapi

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

func TestCachedAnswersTellTheirAge(t *testing.T) {
	const target = "/v1/internal/federation-states/mesh-gateways"
	for name, c := range map[string]struct {
		meta         rpc.Meta
		cached, want string // headers X-Cache and Age
	}{
		"not cached": {rpc.Meta{}, "", ""},
		"miss":       {rpc.Meta{Cached: true}, "MISS", ""},
		"hit":        {rpc.Meta{Cached: true, Hit: true}, "HIT", "0"},
		"old":        {rpc.Meta{Cached: true, Hit: true, Age: 61*time.Second + 900*time.Millisecond}, "HIT", "61"},
	} {
		t.Run(name, func(t *testing.T) {
			f := fakeCaller{}
			on(f, wire.FederationGateways, func(h rpc.Header, _ *wire.DCQuery) (map[string][]api.CheckServiceNode, rpc.Meta, error) {
				if !h.UseCache {
					t.Error("the cache was not asked")
				}
				return nil, c.meta, nil
			})
			w := do(t, New(config(f)), "GET", target+"?cached", "")
			if h := w.Header(); h.Get("X-Cache") != c.cached || h.Get("Age") != c.want {
				t.Errorf("X-Cache %q and Age %q, want %q and %q", h.Get("X-Cache"), h.Get("Age"), c.cached, c.want)
			}
		})
	}
}

// TestCachedGatewaysOutliveTheServers reads through a real cache, whose servers
// then go away.
func TestCachedGatewaysOutliveTheServers(t *testing.T) {
	down := make(chan struct{})
	f := fakeCaller{}
	f[wire.FederationGateways.Name] = func(ctx context.Context, r *rpc.Request) (rpc.Meta, error) {
		if r.Header.MinIndex > 0 {
			select {
			case <-down:
			case <-ctx.Done():
			}
		}
		select {
		case <-down:
			return rpc.Meta{}, api.Known(api.NoLeader, nil)
		default:
		}
		if out, ok := r.Out.(*map[string][]api.CheckServiceNode); ok {
			*out = map[string][]api.CheckServiceNode{"dc2": {{Node: &api.Node{Node: "g1"}}}}
		}
		return rpc.Meta{Index: 7, KnownLeader: true}, nil
	}
	cache := rpc.NewCache(f, slog.New(slog.DiscardHandler), rpc.CacheOf(wire.FederationGateways, "gateways"))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cache.Run(ctx)
	}()
	defer func() {
		cancel()
		<-ended
	}()
	a := New(config(cache))
	read := func(query string) *httptest.ResponseRecorder {
		return do(t, a, "GET", "/v1/internal/federation-states/mesh-gateways"+query, "")
	}
	first := read("?cached")
	if first.Code != 200 || first.Header().Get("X-Cache") != "MISS" {
		t.Fatalf("got %d, %v", first.Code, first.Header())
	}
	close(down)
	if w := read(""); w.Code != 500 || w.Header().Get("X-Cache") != "" {
		t.Errorf("without the cache: got %d, %v", w.Code, w.Header())
	}
	again := read("?cached")
	if again.Code != 200 || again.Header().Get("X-Cache") != "HIT" || again.Body.String() != first.Body.String() || again.Header().Get("X-Consul-Index") != "7" {
		t.Errorf("got %d, %v, %s", again.Code, again.Header(), again.Body)
	}
}
