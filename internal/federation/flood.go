package federation

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"time"

	"isthmus/internal/gossip"
)

// floodEvery is how often the LAN's servers are compared with the WAN pool, and
// spreadAfter how long news of the WAN may gather before they are spread.
const (
	floodEvery  = 60 * time.Second
	spreadAfter = 250 * time.Millisecond
)

// Flood brings every server of the own datacenter into the WAN pool, so that one
// server which knows the others is enough. And it hands on what this server learns
// of other datacenters to the servers beside it: gossip repeats a piece of news
// only a few times, to members chosen at random, and in a pool where most members
// are far away it may pass by a neighbour.
type Flood struct {
	Datacenter string
	LAN        func() []gossip.Member
	WAN        func() []gossip.Member
	Join       func(ctx context.Context, addrs []string) (int, error)
	Wake       <-chan struct{} // the LAN changed
	News       <-chan struct{} // the WAN changed
	Self       string          // name of this server
	Named      bool            // addresses carry the member's name (federation through gateways)
	Log        *slog.Logger
}

// Run floods until ctx is done.
func (f *Flood) Run(ctx context.Context) error {
	tick := time.NewTicker(floodEvery)
	defer tick.Stop()
	for {
		f.round(ctx, false)
		for spread := true; spread; {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				spread = false
			case <-f.Wake:
				spread = false
			case <-f.News:
				sleep(ctx, spreadAfter)
				f.round(ctx, true)
			}
		}
	}
}

// round joins every alive LAN server that is not alive in the WAN pool. One that
// is known there as failed or left is joined again too. With all, every alive one
// is joined, which exchanges everything that the two know.
func (f *Flood) round(ctx context.Context, all bool) {
	alive := map[string]bool{}
	for _, m := range f.WAN() {
		alive[m.Name] = m.Status == gossip.StatusAlive
	}
	for _, m := range f.LAN() {
		name := m.Name + "." + f.Datacenter
		if m.Tags["role"] != "consul" || m.Status != gossip.StatusAlive || m.Name == f.Self || alive[name] && !all {
			continue
		}
		port, err := strconv.Atoi(m.Tags["wan_join_port"])
		if err != nil {
			continue // it has no WAN pool
		}
		addr := net.JoinHostPort(m.Addr.String(), strconv.Itoa(port))
		if f.Named {
			addr = name + "/" + addr
		}
		if _, err := f.Join(ctx, []string{addr}); err != nil && ctx.Err() == nil {
			f.Log.Warn("server is not in the WAN pool yet", "server", name, "err", err)
		}
	}
}
