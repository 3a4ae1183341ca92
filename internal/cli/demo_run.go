package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	consul "github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"
)

// demoRun is a demo that runs.
type demoRun struct {
	screen    *screen
	dir       string
	keep      bool
	nodes     []*demoNode
	network   demoNetwork
	processes *demoProcesses
	settings  map[string]any               // of servers, beside the usual ones
	clients   map[*demoNode]*consul.Client // of servers
	plain     map[*demoNode]*http.Client   // of gateways
	probes    []*probe

	// recovered tells how long it took until the federation was whole again after
	// the end of a process. It holds one for a check that waits.
	recovered chan time.Duration

	ended atomic.Int64 // processes that ended after the start
}

// run starts the nodes and, once they are federated, checks them or shows them.
func (r *demoRun) run(ctx context.Context, exit bool) error {
	if err := r.start(ctx); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for _, p := range r.probes {
		running.Go(func() { p.run(ctx) })
	}
	running.Go(func() { r.supervise(ctx) })
	if exit {
		return r.checkAll(ctx)
	}
	r.screen.print(r.commands())
	r.live(ctx)
	return nil
}

// servers are those of a datacenter, or all.
func (r *demoRun) servers(dc string) []*demoNode { return r.which(dc, true) }

// gateways are those of a datacenter, or all.
func (r *demoRun) gateways(dc string) []*demoNode { return r.which(dc, false) }

func (r *demoRun) which(dc string, server bool) []*demoNode {
	return slices.DeleteFunc(slices.Clone(r.nodes), func(n *demoNode) bool {
		return n.server != server || dc != "" && n.dc != dc
	})
}

func (r *demoRun) datacenters() []string {
	var out []string
	for _, n := range r.nodes {
		if !slices.Contains(out, n.dc) {
			out = append(out, n.dc)
		}
	}
	return out
}

// start starts all servers at once, in each datacenter the gateways once it has a
// leader, and returns when the datacenters are federated.
func (r *demoRun) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	done := make(chan struct{})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		select {
		case e := <-r.processes.exits:
			return concerning(errors.New(e.String()), e.node)
		case <-ctx.Done():
			return nil
		case <-done:
			return nil
		}
	})
	for _, n := range r.servers("") {
		if _, err := r.processes.start(n, r.nodes); err != nil {
			return err
		}
	}
	r.screen.sayf("%d servers are started", len(r.servers("")))
	g.Go(func() error {
		defer close(done)
		var each errgroup.Group
		for _, dc := range r.datacenters() {
			each.Go(func() error { return r.startGateways(ctx, dc) })
		}
		if err := each.Wait(); err != nil {
			return err //nolint:wrapcheck // says what was waited for
		}
		return r.federated(ctx)
	})
	if err := g.Wait(); err != nil {
		return err //nolint:wrapcheck // says what was waited for
	}
	r.screen.sayf("federated")
	return nil
}

func (r *demoRun) startGateways(ctx context.Context, dc string) error {
	servers := r.servers(dc)
	leader := ""
	err := eventually(ctx, func() bool {
		for _, n := range servers {
			q := (&consul.QueryOptions{AllowStale: true}).WithContext(ctx)
			leader, _ = r.clients[n].Status().LeaderWithQueryOptions(q) // asked again
			if leader == "" {
				return false
			}
		}
		return true
	})
	if err != nil {
		return concerning(fmt.Errorf("wait for a leader in %s: %w", dc, err), servers...)
	}
	r.screen.sayf("%s has a leader: %s", dc, r.nameOf(leader))
	gateways := r.gateways(dc)
	for _, n := range gateways {
		if _, err := r.processes.start(n, r.nodes); err != nil {
			return err
		}
	}
	err = eventually(ctx, func() bool {
		return !slices.ContainsFunc(gateways, func(n *demoNode) bool { return !r.view(ctx, n).answers })
	})
	if err != nil {
		return concerning(fmt.Errorf("wait for the gateways of %s: %w", dc, err), gateways...)
	}
	r.screen.sayf("%s has its gateways: %d", dc, len(gateways))
	return nil
}

// nameOf is the name of the server with an address.
func (r *demoRun) nameOf(addr string) string {
	for _, n := range r.servers("") {
		if n.at(demoServerPort) == addr {
			return n.name
		}
	}
	return addr
}

// federated waits until all servers see all, and read from everywhere. It tells
// each step as it is reached.
func (r *demoRun) federated(ctx context.Context) error {
	var missing []demoMissing
	told := map[string]bool{}
	err := eventually(ctx, func() bool {
		missing = r.missing(ctx, r.views(ctx))
		for _, step := range demoSteps {
			if told[step] || slices.ContainsFunc(missing, func(m demoMissing) bool { return m.step == step }) {
				continue
			}
			told[step] = true
			r.screen.sayf("%s", step)
		}
		return len(missing) == 0
	})
	if err != nil {
		var nodes []*demoNode
		var text strings.Builder
		for _, m := range missing {
			nodes = append(nodes, m.node)
			text.WriteString("\n  not yet for " + m.node.name + ": " + m.step)
		}
		return concerning(fmt.Errorf("wait until the datacenters are federated: %w%s", err, &text), nodes...)
	}
	return nil
}

// Steps to a federation, as they are told when reached.
const (
	stepMembers = "every server sees all servers of all datacenters alive"
	stepStates  = "every server knows gateways of every datacenter"
	stepReads   = "reads from every other datacenter work"
)

var demoSteps = []string{stepMembers, stepStates, stepReads}

// demoMissing says that a server has not reached a step, or is behind it again.
type demoMissing struct {
	step string
	node *demoNode
}

// missing is what the federation lacks.
func (r *demoRun) missing(ctx context.Context, views map[*demoNode]demoView) []demoMissing {
	servers := r.servers("")
	var out []demoMissing
	for _, n := range servers {
		v := views[n]
		if v.leader == "" || v.alive != len(servers) {
			out = append(out, demoMissing{stepMembers, n})
		}
		if slices.ContainsFunc(r.datacenters(), func(dc string) bool { return v.gateways[dc] == 0 }) {
			out = append(out, demoMissing{stepStates, n})
		}
	}
	if err := both(r, func(from, to *demoNode) error { return readKey(ctx, r.clients[from], to.dc) }); err != nil {
		for _, n := range concerned(err) {
			out = append(out, demoMissing{stepReads, n})
		}
	}
	return out
}

// eventually asks again and again, and fails when ctx is done first.
func eventually(ctx context.Context, holds func() bool) error {
	tick := time.NewTicker(startLook)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			return ctx.Err() //nolint:wrapcheck // the caller says what it waited for
		case <-tick.C:
		}
	}
	return ctx.Err() //nolint:wrapcheck // the same
}

// supervise starts again what ends, until ctx is done.
func (r *demoRun) supervise(ctx context.Context) {
	var restarts sync.WaitGroup
	defer restarts.Wait()
	early := map[*demoNode]int{} // ends in a row that came soon after the start
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-r.processes.exits:
			r.ended.Add(1)
			if e.after > healthyAfter {
				early[e.node] = 0
			}
			pause := min(restartAfter<<early[e.node], restartMost)
			early[e.node]++
			restarts.Go(func() { r.restart(ctx, e, pause) })
		}
	}
}

// restart starts a node again and tells how the others fared without it.
func (r *demoRun) restart(ctx context.Context, e demoExit, pause time.Duration) {
	r.screen.sayAtf(e.at, "%s; it starts again in %s", e, pause)
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return
	case <-t.C:
	}
	pid, err := r.processes.start(e.node, r.nodes)
	if err != nil {
		r.screen.sayf("%v", err)
		return
	}
	r.screen.sayf("%s runs again (pid %d)", e.node.name, pid)
	err = eventually(ctx, func() bool {
		views := r.views(ctx)
		return views[e.node].answers && len(r.missing(ctx, views)) == 0 || r.processes.pid(e.node) != pid
	})
	if err != nil || r.processes.pid(e.node) != pid {
		return // the demo ends, or the node ended once more, which is told by itself
	}
	took := time.Since(e.at)
	var reads strings.Builder
	for _, p := range r.probes {
		reads.WriteString("\n  " + p.since(e.at))
	}
	r.screen.sayf("whole again %.2f s after the end of %s; since then reads%s", took.Seconds(), e.node.name, &reads)
	select {
	case r.recovered <- took:
	default: // no check waits
	}
}

// live shows the federation until ctx is done.
func (r *demoRun) live(ctx context.Context) {
	tick := time.NewTicker(liveLook)
	defer tick.Stop()
	last := map[string]string{} // leader by datacenter, route by server
	for ctx.Err() == nil {
		views := r.views(ctx)
		if ctx.Err() == nil {
			r.changes(views, last)
			r.screen.show(liveTable(r, views, r.missing(ctx, views)))
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// changes tells what failed over since the last look.
func (r *demoRun) changes(views map[*demoNode]demoView, last map[string]string) {
	for _, n := range r.servers("") {
		v := views[n]
		if v.leads && last[n.dc] != n.name {
			if last[n.dc] != "" {
				r.screen.sayf("%s leads %s now, after %s", n.name, n.dc, last[n.dc])
			}
			last[n.dc] = n.name
		}
		if old := last[n.name]; v.route != "" && v.route != old {
			if old != "" {
				r.screen.sayf("route from %s to other datacenters: %s, after %s", n.name, v.route, old)
			}
			last[n.name] = v.route
		}
	}
}

// commands are what the user may try.
func (r *demoRun) commands() string {
	a, b := r.servers("dc1")[0], r.servers("dc2")[0]
	binary := r.processes.binary
	var text strings.Builder
	text.WriteString("\nTry, in another terminal:\n")
	for _, args := range []string{
		"members -wan -http-addr=" + a.shown,
		"federation status -http-addr=" + b.shown,
		"kv put -http-addr=" + a.shown + " -datacenter=dc2 greeting hello",
		"kv get -http-addr=" + b.shown + " greeting",
		"catalog services -http-addr=" + b.shown + " -datacenter=dc1",
	} {
		text.WriteString("  " + binary + " " + args + "\n")
	}
	text.WriteString("  curl 'http://" + a.shown + "/v1/kv/greeting?dc=dc2&raw'\n\n")
	return text.String()
}

// tails are the ends of the logs of nodes, or of all.
func (r *demoRun) tails(nodes []*demoNode) string {
	if len(nodes) == 0 {
		nodes = r.nodes
	}
	var text strings.Builder
	for _, n := range nodes {
		text.WriteString("--- the end of the log of " + n.name + "\n" + r.processes.tail(n, tailLines) + "\n")
	}
	return text.String()
}

// close lets go of everything. Nothing of the demo is left then.
func (r *demoRun) close() {
	r.screen.show(nil)
	if r.processes != nil {
		r.processes.stop()
	}
	if r.network != nil {
		r.network.close()
	}
	switch {
	case r.dir == "":
	case r.keep:
		r.screen.sayf("settings, logs and data are kept in %s", r.dir)
	default:
		if err := os.RemoveAll(r.dir); err != nil {
			r.screen.sayf("not all of %s is removed: %v", r.dir, err)
		}
	}
}
