package federation

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/internal/gossip"
)

func member(name, role, dc, addr string, status gossip.Status) gossip.Member {
	return gossip.Member{
		Name: name, Addr: netip.MustParseAddr(addr), Status: status,
		Tags: map[string]string{"role": role, "dc": dc, "wan_join_port": "8302"},
	}
}

func TestServersOfTheLANAreBroughtIntoTheWAN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lan := []gossip.Member{
			member("self", "consul", "dc1", "192.0.2.1", gossip.StatusAlive),
			member("known", "consul", "dc1", "192.0.2.2", gossip.StatusAlive),
			member("lost", "consul", "dc1", "192.0.2.3", gossip.StatusAlive),
			member("new", "consul", "dc1", "2001:db8::4", gossip.StatusAlive),
			member("dead", "consul", "dc1", "192.0.2.5", gossip.StatusFailed),
			member("client", "node", "dc1", "192.0.2.6", gossip.StatusAlive),
		}
		wan := []gossip.Member{
			member("self.dc1", "consul", "dc1", "192.0.2.1", gossip.StatusAlive),
			member("known.dc1", "consul", "dc1", "192.0.2.2", gossip.StatusAlive),
			member("lost.dc1", "consul", "dc1", "192.0.2.3", gossip.StatusFailed),
		}
		var joined []string
		news := make(chan struct{}, 1)
		f := Flood{
			Datacenter: "dc1", Self: "self", Named: true, Log: slog.New(slog.DiscardHandler), News: news,
			LAN: func() []gossip.Member { return lan }, WAN: func() []gossip.Member { return wan },
			Join: func(_ context.Context, addrs []string) (int, error) {
				joined = append(joined, addrs...)
				return len(addrs), nil
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		synctest.Wait()
		want := []string{"lost.dc1/192.0.2.3:8302", "new.dc1/[2001:db8::4]:8302"}
		if !slices.Equal(joined, want) {
			t.Errorf("joined %v, want those that are not alive in the WAN: %v", joined, want)
		}
		joined = nil
		news <- struct{}{}
		time.Sleep(2 * spreadAfter)
		synctest.Wait()
		want = slices.Insert(want, 0, "known.dc1/192.0.2.2:8302")
		if !slices.Equal(joined, want) {
			t.Errorf("after news of the WAN, exchanged with %v, want every server beside this one: %v", joined, want)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
