package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	consul "github.com/hashicorp/consul/api"
)

const (
	parked    = 100 * time.Millisecond // for which a blocking read must stay open
	wakeLimit = 5 * time.Second
	killLimit = 15 * time.Second // until a killed gateway is replaced
)

// demoCheck is one of the checks of -exit. It says what it found.
type demoCheck struct {
	name string
	run  func(ctx context.Context, r *demoRun) (string, error)
}

func demoChecks() []demoCheck {
	return []demoCheck{
		{"members", checkMembers},
		{"federation states", checkStates},
		{"keys both ways", checkKeys},
		{"blocking reads both ways", checkBlocking},
		{"gateways relay", checkRelayed},
		{"gateways killed and replaced", checkReplaced},
		{"nothing past the gateways", checkStraight},
	}
}

// checkAll runs the checks in order and stops at the first that fails.
func (r *demoRun) checkAll(ctx context.Context) error {
	for _, c := range demoChecks() {
		begun := time.Now()
		found, err := c.run(ctx, r)
		if err != nil {
			r.screen.sayf("FAIL  %s: %v", c.name, err)
			return fmt.Errorf("check %s: %w", c.name, err)
		}
		r.screen.sayf("ok    %s: %s (%.2f s)", c.name, found, time.Since(begun).Seconds())
	}
	return nil
}

func checkMembers(ctx context.Context, r *demoRun) (string, error) {
	servers := r.servers("")
	views := r.views(ctx)
	for _, n := range servers {
		if got := views[n].alive; got != len(servers) {
			return "", concerning(fmt.Errorf("%s sees %d of %d servers alive", n.name, got, len(servers)), n)
		}
	}
	return fmt.Sprintf("each of %d servers sees all alive", len(servers)), nil
}

func checkStates(ctx context.Context, r *demoRun) (string, error) {
	views := r.views(ctx)
	for _, n := range r.servers("") {
		for _, dc := range r.datacenters() {
			if views[n].gateways[dc] == 0 {
				return "", concerning(fmt.Errorf("%s knows no gateway of %s", n.name, dc), n)
			}
		}
	}
	return "each server has the record of each datacenter", nil
}

// both runs a check for each datacenter towards each other one.
func both(r *demoRun, check func(from, to *demoNode) error) error {
	for _, a := range r.datacenters() {
		for _, b := range r.datacenters() {
			if a == b {
				continue
			}
			from, to := r.servers(a)[0], r.servers(b)[0]
			if err := check(from, to); err != nil {
				return concerning(fmt.Errorf("from %s to %s: %w", a, b, err), from, to)
			}
		}
	}
	return nil
}

// checkKeys writes from each datacenter into each other one, and reads it back
// there and from afar.
func checkKeys(ctx context.Context, r *demoRun) (string, error) {
	count := 0
	err := both(r, func(from, to *demoNode) error {
		key, value := "demo/from-"+from.dc, "written in "+to.dc+" from "+from.dc
		there := (&consul.WriteOptions{Datacenter: to.dc}).WithContext(ctx)
		if _, err := r.clients[from].KV().Put(&consul.KVPair{Key: key, Value: []byte(value)}, there); err != nil {
			return fmt.Errorf("write %s: %w", key, err)
		}
		for _, n := range []*demoNode{to, from} {
			pair, _, err := r.clients[n].KV().Get(key, (&consul.QueryOptions{Datacenter: to.dc}).WithContext(ctx))
			switch {
			case err != nil:
				return fmt.Errorf("read %s by %s: %w", key, n.name, err)
			case pair == nil || string(pair.Value) != value:
				return fmt.Errorf("read %s by %s: got %v, want %q", key, n.name, pair, value)
			}
		}
		count++
		return nil
	})
	return fmt.Sprintf("%d keys written into another datacenter and read back", count), err
}

// checkBlocking parks a read on a key of another datacenter and writes that key
// there.
func checkBlocking(ctx context.Context, r *demoRun) (string, error) {
	var slowest time.Duration
	err := both(r, func(from, to *demoNode) error {
		took, err := wake(ctx, r.clients[from], r.clients[to], to.dc, "demo/blocking-"+from.dc)
		slowest = max(slowest, took)
		return err
	})
	return fmt.Sprintf("woken within %.1f ms", float64(slowest.Microseconds())/1000), err
}

// wake tells how long it takes from a write until a read from afar is woken.
func wake(ctx context.Context, reader, writer *consul.Client, dc, key string) (time.Duration, error) {
	write := func(value string) error {
		_, err := writer.KV().Put(&consul.KVPair{Key: key, Value: []byte(value)}, new(consul.WriteOptions).WithContext(ctx))
		if err != nil {
			return fmt.Errorf("write %s: %w", key, err)
		}
		return nil
	}
	if err := write("before"); err != nil {
		return 0, err
	}
	_, meta, err := reader.KV().Get(key, (&consul.QueryOptions{Datacenter: dc}).WithContext(ctx))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", key, err)
	}
	type answer struct {
		pair *consul.KVPair
		err  error
		at   time.Time
	}
	woken := make(chan answer, 1) // its sender must not be stuck when this returns early
	go func() {
		q := (&consul.QueryOptions{Datacenter: dc, WaitIndex: meta.LastIndex, WaitTime: wakeLimit}).WithContext(ctx)
		pair, _, err := reader.KV().Get(key, q)
		woken <- answer{pair, err, time.Now()}
	}()
	park := time.NewTimer(parked)
	defer park.Stop()
	select {
	case a := <-woken:
		return 0, fmt.Errorf("the blocking read of %s ended before anything was written: %w", key, a.err)
	case <-park.C:
	}
	begun := time.Now()
	if err := write("after"); err != nil {
		return 0, err
	}
	a := <-woken
	switch {
	case a.err != nil:
		return 0, fmt.Errorf("blocking read of %s: %w", key, a.err)
	case a.pair == nil || string(a.pair.Value) != "after":
		return 0, fmt.Errorf("the blocking read of %s got %v", key, a.pair)
	}
	return max(a.at.Sub(begun), 0), nil
}

// checkRelayed sends a read each way and looks whether the counters of the
// gateways grow, those of the gateways themselves and those of the kernel.
func checkRelayed(ctx context.Context, r *demoRun) (string, error) {
	type count struct{ relayed, crossed uint64 }
	kernel := false
	all := func() (map[string]count, error) {
		out := map[string]count{}
		for _, n := range r.gateways("") {
			sum, err := r.relayed(ctx, n)
			if err != nil {
				return nil, concerning(err, n)
			}
			c := out[n.dc]
			c.relayed += sum
			crossed, ok := r.network.crossed(n)
			c.crossed, kernel = c.crossed+crossed, ok
			out[n.dc] = c
		}
		return out, nil
	}
	before, err := all()
	if err != nil {
		return "", err
	}
	err = both(r, func(from, to *demoNode) error { return readKey(ctx, r.clients[from], to.dc) })
	if err != nil {
		return "", err
	}
	after, err := all()
	if err != nil {
		return "", err
	}
	for dc, a := range after {
		b := before[dc]
		if a.relayed <= b.relayed || kernel && a.crossed <= b.crossed {
			return "", concerning(fmt.Errorf("the counters of %s went from %v to %v", dc, b, a), r.gateways(dc)...)
		}
	}
	if kernel {
		return "their byte counters grow in each datacenter, and the kernel's for the links to the WAN", nil
	}
	return "their byte counters grow in each datacenter", nil
}

// checkReplaced kills one gateway of each of the first two datacenters and waits
// until reads work again and everything is known again.
func checkReplaced(ctx context.Context, r *demoRun) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, killLimit)
	defer cancel()
	var slowest time.Duration
	two := r.datacenters()[:2]
	for _, dc := range two {
		n := r.gateways(dc)[0]
		if err := r.processes.signal(n, syscall.SIGKILL); err != nil {
			return "", err
		}
		select {
		case <-ctx.Done():
			return "", concerning(fmt.Errorf("%s is not replaced: %w", n.name, ctx.Err()), n)
		case took := <-r.recovered:
			slowest = max(slowest, took)
		}
	}
	if ended := r.ended.Load(); ended != int64(len(two)) {
		return "", fmt.Errorf("%d processes ended, %d were killed", ended, len(two))
	}
	return fmt.Sprintf("whole again within %.2f s", slowest.Seconds()), nil
}

// checkStraight makes sure that nothing was sent past the gateways, and that it
// would have been seen.
func checkStraight(ctx context.Context, r *demoRun) (string, error) {
	count, what, err := r.network.straight()
	if err != nil {
		return "", err
	}
	if count != 0 {
		return "", fmt.Errorf("%d %s", count, what)
	}
	ctx, cancel := context.WithTimeout(ctx, parked)
	defer cancel()
	last := r.datacenters()[len(r.datacenters())-1]
	trial, err := r.network.trial(ctx, r.servers("dc1")[0], r.servers(last)[0])
	return fmt.Sprintf("0 %s; %s", what, trial), err
}

// concern is an error and the nodes whose logs tell more.
type concern struct {
	error

	nodes []*demoNode
}

func concerning(err error, nodes ...*demoNode) error { return &concern{err, nodes} }

func (c *concern) Unwrap() error { return c.error }

// concerned are the nodes that an error is about.
func concerned(err error) []*demoNode {
	if c, ok := errors.AsType[*concern](err); ok {
		return slices.Clone(c.nodes)
	}
	return nil
}
