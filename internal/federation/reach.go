package federation

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"isthmus/internal/gossip"
)

// Reach joins the WAN pool to every datacenter that ought to be in it and has no
// member alive there: the primary at first, and later any that was lost. It asks
// for any server of the datacenter and leaves the choice to the gateway.
type Reach struct {
	Own         string
	Datacenters func() []string // the primary, and those that published gateways
	WAN         func() []gossip.Member
	// Probe opens the way to any server of a datacenter, and lets it go again. Joins
	// wait for one another, so that one which leads nowhere would hold up the rest.
	Probe    func(ctx context.Context, datacenter string) error
	Join     func(ctx context.Context, addrs []string) (int, error)
	Changed  <-chan struct{} // gateways became known
	Interval time.Duration   // longest pause between attempts
	Most     int             // attempts before the first success; 0 is no limit
	Log      *slog.Logger
}

// Times of joining. What is missing at first, such as a gateway that starts at the
// same time, is mostly there a moment later.
const (
	firstReach = 200 * time.Millisecond
	lookEvery  = 5 * time.Second // while nothing is missing
	probeLimit = 3 * time.Second
)

// nowhere is an address that is never dialled (TEST-NET-1): gateways route by name.
const nowhere = "192.0.2.2"

// Run joins until ctx is done. It fails only when the attempts before the first
// success are used up.
func (r *Reach) Run(ctx context.Context) error {
	wait, attempts, joined := min(firstReach, r.Interval), 0, false
	for {
		missing := r.missing()
		var last error
		for way := range r.probe(ctx, missing) {
			n, err := 0, way.err
			if err == nil {
				n, err = r.Join(ctx, []string{"*." + way.datacenter + "/" + nowhere})
			}
			if n > 0 {
				r.Log.Info("joined", "datacenter", way.datacenter)
				joined = true
				continue
			}
			last = err
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // ctx is done
		}
		pause := lookEvery
		switch {
		case last != nil:
			if attempts++; !joined && r.Most > 0 && attempts >= r.Most {
				return fmt.Errorf("no other datacenter could be joined after %d attempts: %w", attempts, last)
			}
			r.Log.Info("not joined yet", "datacenters", missing, "err", last, "again_in", wait)
			pause, wait = wait, min(2*wait, r.Interval)
		default:
			wait = min(firstReach, r.Interval)
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		case <-r.Changed:
			t.Stop()
		}
	}
}

// way is what a probe of a datacenter found.
type way struct {
	datacenter string
	err        error
}

// probe probes all datacenters at once and yields them as they answer, or do not.
func (r *Reach) probe(ctx context.Context, datacenters []string) <-chan way {
	ways := make(chan way)
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	var probes sync.WaitGroup
	for _, dc := range datacenters {
		probes.Go(func() { ways <- way{dc, r.Probe(ctx, dc)} })
	}
	go func() {
		probes.Wait()
		cancel()
		close(ways)
	}()
	return ways
}

// missing are the datacenters that have no member alive in the WAN pool.
func (r *Reach) missing() []string {
	alive := map[string]bool{r.Own: true}
	for _, m := range r.WAN() {
		if _, dc, ok := SplitName(m.Name); ok && m.Status == gossip.StatusAlive {
			alive[dc] = true
		}
	}
	var out []string
	for _, dc := range r.Datacenters() {
		if !alive[dc] {
			alive[dc] = true // named once
			out = append(out, dc)
		}
	}
	return out
}
