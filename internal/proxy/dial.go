package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// raceAfter is how long a dial may take before the next address is tried
	// beside it (RFC 8305 suggests 250 ms).
	raceAfter = 250 * time.Millisecond
	// failingFor is how long an address that failed is tried after all others: as
	// long as servers do so with gateways. A stall takes a while, and each attempt
	// costs the connection that makes it.
	failingFor = 10 * time.Second
	// silentAfter is how long an address that was connected to may take to answer
	// a hello before others are tried first.
	silentAfter = 500 * time.Millisecond
)

var errNoAddress = errors.New("route has no address")

// failing holds the addresses that failed lately.
type failing struct {
	count atomic.Int64 // of until, read without the lock

	mu    sync.Mutex
	until map[string]time.Time
}

// add yields whether the address was not failing before.
func (f *failing) add(addr string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, known := f.until[addr]
	f.until[addr] = time.Now().Add(failingFor)
	f.count.Store(int64(len(f.until)))
	return !known
}

// last puts the addresses that are failing behind the others, the one that failed
// last at the very end.
func (f *failing) last(addrs []string) {
	if f.count.Load() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for addr, until := range f.until {
		if now.After(until) {
			delete(f.until, addr)
		}
	}
	f.count.Store(int64(len(f.until)))
	slices.SortStableFunc(addrs, func(a, b string) int { return f.until[a].Compare(f.until[b]) })
}

// candidates yields the addresses of a target in the order to try them.
func (g *Gateway) candidates(dst *target) []string {
	n := len(dst.addrs)
	if n < 2 {
		return dst.addrs
	}
	first := int(dst.turn.Add(1) % uint32(n)) //nolint:gosec // a small number
	order := slices.Concat(dst.addrs[first:], dst.addrs[:first])
	g.failing.last(order)
	return order
}

// connect yields a connection to the first address of a target that answers, and
// which one that is.
func (g *Gateway) connect(ctx context.Context, dst *target) (conn, string, error) {
	addrs := g.candidates(dst)
	switch len(addrs) {
	case 0:
		return nil, "", errNoAddress
	case 1:
		c, err := g.attempt(ctx, dst, addrs[0])
		return c, addrs[0], err
	default:
		return g.race(ctx, dst, addrs)
	}
}

type dialled struct {
	conn conn
	addr string
	err  error
}

// race dials the addresses one after another: the next as soon as one has
// failed, and beside one that has not answered for raceAfter.
func (g *Gateway) race(ctx context.Context, dst *target, addrs []string) (conn, string, error) {
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan dialled) // every dial is waited for
	slow := make(map[string]bool)
	timer := time.NewTimer(raceAfter)
	defer timer.Stop()
	next, running := 0, 0
	start := func() {
		if next == len(addrs) {
			return
		}
		addr := addrs[next]
		next++
		running++
		timer.Reset(raceAfter)
		go func() {
			c, err := g.attempt(ctx, dst, addr)
			results <- dialled{c, addr, err}
		}()
	}

	var won dialled
	var errs []error
	start()
	for running > 0 {
		select {
		case <-timer.C:
			slow[addrs[next-1]] = true
			start()
		case r := <-results:
			running--
			delete(slow, r.addr)
			switch {
			case r.err == nil && won.conn == nil:
				won = r
				cancel()
				next = len(addrs)
				for addr := range slow {
					g.failing.add(addr)
				}
			case r.err == nil:
				_ = r.conn.Close()
			case won.conn == nil:
				errs = append(errs, r.err)
				start()
			}
		}
	}
	cancel()
	if won.conn == nil {
		return nil, "", errors.Join(errs...)
	}
	return won.conn, won.addr, nil
}

// attempt dials one address. That a dial was cancelled says nothing of its
// address.
func (g *Gateway) attempt(ctx context.Context, dst *target, addr string) (conn, error) {
	c, err := g.dial(ctx, addr, g.cfg.DialTimeout)
	if err == nil {
		return c, nil
	}
	if ctx.Err() == nil {
		dst.dialFailures.Add(1)
		if g.failing.add(addr) {
			g.log.Warn("dial failed", "addr", addr, "err", err)
		}
	}
	return nil, fmt.Errorf("dial %s: %w", addr, err)
}

// silent remembers that an address took a connection and did not answer.
func (g *Gateway) silent(dst *target, addr string) {
	if g.failing.add(addr) {
		g.log.Warn("no answer to a hello", "addr", addr, "after", silentAfter)
	}
	dst.dialFailures.Add(1)
}
