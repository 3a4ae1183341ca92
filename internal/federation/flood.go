package federation

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"time"

	"isthmus/internal/gossip"
)

// floodEvery is how often the LAN's servers are compared with the WAN pool.
const floodEvery = 60 * time.Second

// Flood brings every server of the own datacenter into the WAN pool, so that one
// server which knows the others is enough.
type Flood struct {
	Datacenter string
	LAN        func() []gossip.Member
	WAN        func() []gossip.Member
	Join       func(ctx context.Context, addrs []string) (int, error)
	Wake       <-chan struct{} // the LAN changed
	Named      bool            // addresses carry the member's name (federation through gateways)
	Log        *slog.Logger
}

// Run floods until ctx is done.
func (f *Flood) Run(ctx context.Context) error {
	tick := time.NewTicker(floodEvery)
	defer tick.Stop()
	for {
		f.round(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-f.Wake:
		}
	}
}

// round joins every alive LAN server that is not alive in the WAN pool. One that
// is known there as failed or left is joined again too.
func (f *Flood) round(ctx context.Context) {
	alive := map[string]bool{}
	for _, m := range f.WAN() {
		alive[m.Name] = m.Status == gossip.StatusAlive
	}
	for _, m := range f.LAN() {
		name := m.Name + "." + f.Datacenter
		if m.Tags["role"] != "consul" || m.Status != gossip.StatusAlive || alive[name] {
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
