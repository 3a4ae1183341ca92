package cli

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	consul "github.com/hashicorp/consul/api"

	"isthmus/internal/testkit"
)

// Kinds of faults.
const (
	gatewayKilled  = "gateway killed"
	gatewayMoved   = "gateway moved"
	gatewayStalled = "gateway stalled"
	serverStopped  = "server restarted"
	serverKilled   = "server killed"
	wanCut         = "WAN cut both ways"
	wanCutOneWay   = "WAN cut one way"
	wanImpaired    = "WAN slow and lossy"
)

var (
	processFaults = []string{gatewayKilled, gatewayMoved, gatewayStalled, serverStopped, serverKilled}
	wanFaults     = []string{wanCut, wanImpaired, wanCutOneWay, wanImpaired}
)

// soakFault is a fault as it happened.
type soakFault struct {
	kind, what string
	ways       []way     // between which it could be felt
	at         time.Time // it began
	ended      time.Time // what it took came back
	until      time.Time // the federation had the time to settle
}

// impaired is the key of a way in the timeline for the times in which packets were
// delayed and lost on it.
type impaired way

// Limits of the schedule.
const (
	restartLimit = 30 * time.Second // until a process that was started answers
	endLimit     = 15 * time.Second // until one that was told to stop has ended
	pairedFaults = 0.25             // share of process faults that come with one in another datacenter
)

// begin runs both lanes of faults until ctx is done: one after the other to
// processes, and beside them to the WAN.
func (s *soak) faultsUntil(ctx context.Context, seed uint64) {
	var lanes sync.WaitGroup
	lanes.Go(func() { s.processLane(ctx, newSoakRand(seed, 1)) })
	lanes.Go(func() { s.wanLane(ctx, newSoakRand(seed, 2)) })
	lanes.Wait()
}

func newSoakRand(seed, lane uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, lane)) }

// deck yields kinds in random order, each as often as the others.
func deck(rnd *rand.Rand, kinds []string) func() string {
	var left []string
	return func() string {
		if len(left) == 0 {
			left = slices.Clone(kinds)
			rnd.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
		}
		kind := left[0]
		left = left[1:]
		return kind
	}
}

func between(rnd *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(rnd.Int64N(int64(most-least)+1))
}

// hold waits, but not beyond ctx: a soak that ends heals what it broke at once.
func hold(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// processLane breaks processes: in one datacenter at a time one of them, so that a
// path remains, sometimes at the same time in another datacenter.
func (s *soak) processLane(ctx context.Context, rnd *rand.Rand) {
	next := deck(rnd, processFaults)
	where := deck(rnd, s.run.datacenters())
	for ctx.Err() == nil {
		dcs := []string{where()}
		if rnd.Float64() < pairedFaults {
			if other := where(); other != dcs[0] {
				dcs = append(dcs, other)
			}
		}
		var both sync.WaitGroup
		for _, dc := range dcs {
			fault := s.processFault(next(), dc, rnd) // drawn here, so that the order does not depend on time
			both.Go(func() { fault(ctx) })
		}
		both.Wait()
		hold(ctx, between(rnd, 500*time.Millisecond, 2*time.Second))
	}
}

func (s *soak) processFault(kind, dc string, rnd *rand.Rand) func(ctx context.Context) {
	candidates := s.run.gateways(dc)
	if kind == serverStopped || kind == serverKilled {
		candidates = s.run.servers(dc)
	}
	n := candidates[rnd.IntN(len(candidates))]
	f := soakFault{kind: kind, what: n.name, ways: s.waysOf(dc)}
	pause := between(rnd, 500*time.Millisecond, 3*time.Second)
	switch kind {
	case gatewayMoved:
		addrs := soakAddresses(new(s.first[n]))
		addr, port := addrs[rnd.IntN(len(addrs))], demoGatewayPort+rnd.IntN(100)
		sig := []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}[rnd.IntN(2)]
		f.what += fmt.Sprintf(" to %s:%d after %s", addr, port, sig)
		return func(ctx context.Context) {
			s.restart(ctx, f, n, sig, pause, func() { n.wan, n.wanPort = addr, port })
		}
	case gatewayStalled:
		length := between(rnd, 3*time.Second, 12*time.Second)
		f.what += " for " + length.Round(time.Millisecond).String()
		return func(ctx context.Context) { s.stall(ctx, f, n, length) }
	case serverStopped:
		return func(ctx context.Context) { s.restart(ctx, f, n, syscall.SIGTERM, pause, nil) }
	default:
		return func(ctx context.Context) { s.restart(ctx, f, n, syscall.SIGKILL, pause, nil) }
	}
}

// waysOf are the ways from and to a datacenter.
func (s *soak) waysOf(dc string) []way {
	return slices.DeleteFunc(s.ways(), func(w way) bool { return w.from != dc && w.to != dc })
}

// ways are all pairs of datacenters.
func (s *soak) ways() []way {
	var out []way
	for _, from := range s.run.datacenters() {
		for _, to := range s.run.datacenters() {
			if from != to {
				out = append(out, way{from, to})
			}
		}
	}
	return out
}

// restart ends a process and starts it again after a pause.
func (s *soak) restart(ctx context.Context, f soakFault, n *demoNode, sig syscall.Signal, pause time.Duration, change func()) {
	f.at = time.Now()
	back := s.oracle.lose(n.name)
	if err := s.end(n, sig); err != nil {
		s.broken(err)
		return
	}
	hold(ctx, pause)
	if change != nil {
		change()
	}
	if _, err := s.run.processes.start(n, s.run.nodes); err != nil {
		s.broken(err)
		return
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), restartLimit)
	defer cancel()
	err := eventually(limit, func() bool {
		v := s.run.view(limit, n)
		return v.answers && (n.server && v.leader != "" || !n.server && s.known(limit, n))
	})
	if err != nil {
		s.broken(fmt.Errorf("%s does not answer %s after its start: %w", n.name, restartLimit, err))
		return
	}
	back(healBar)
	f.ended = time.Now()
	hold(ctx, healBar)
	s.happened(f)
}

// known tells whether the catalog of its datacenter has a gateway where it is, and
// it passes its check.
func (s *soak) known(ctx context.Context, gateway *demoNode) bool {
	q := new(consul.QueryOptions).WithContext(ctx)
	entries, _, err := s.run.clients[beside(gateway, s.run.nodes)].Health().Service("mesh-gateway", "", true, q)
	at := consul.ServiceAddress{Address: gateway.wan.String(), Port: gateway.wanPort}
	return err == nil && slices.ContainsFunc(entries, func(e *consul.ServiceEntry) bool {
		return e.Service.ID == gateway.name && e.Service.TaggedAddresses["wan"] == at
	})
}

// end ends a process and waits until it is gone.
func (s *soak) end(n *demoNode, sig syscall.Signal) error {
	gone := s.expect(n)
	if err := s.run.processes.signal(n, sig); err != nil {
		return err
	}
	force := time.NewTimer(endLimit)
	defer force.Stop()
	select {
	case <-gone:
		return nil
	case <-force.C:
	}
	if err := s.run.processes.signal(n, syscall.SIGKILL); err != nil {
		return err
	}
	<-gone
	return fmt.Errorf("%s did not stop within %s of %s", n.name, endLimit, sig)
}

// stall lets a gateway stand still. The kernel goes on to accept connections for
// it, which makes it the hardest loss to notice.
func (s *soak) stall(ctx context.Context, f soakFault, n *demoNode, length time.Duration) {
	f.at = time.Now()
	back := s.oracle.lose(n.name)
	err := s.run.processes.signal(n, syscall.SIGSTOP)
	hold(ctx, length)
	err = errors.Join(err, s.run.processes.signal(n, syscall.SIGCONT))
	if err != nil {
		s.broken(err)
		return
	}
	back(healBar)
	f.ended = time.Now()
	hold(ctx, healBar)
	s.happened(f)
}

// wanLane cuts the WAN between two datacenters, or makes it slow and lossy.
func (s *soak) wanLane(ctx context.Context, rnd *rand.Rand) {
	next := deck(rnd, wanFaults)
	ways := s.ways()
	for ctx.Err() == nil {
		w := ways[rnd.IntN(len(ways))]
		opposite := way{w.to, w.from}
		f := soakFault{kind: next(), what: w.String(), ways: []way{w, opposite}}
		hurt := testkit.Impairment{Cut: true}
		length := between(rnd, 3*time.Second, 10*time.Second)
		directions, keys := []way{w, opposite}, []any{w, opposite}
		switch f.kind {
		case wanCutOneWay:
			directions, keys = directions[:1], keys[:1]
		case wanImpaired:
			delay := between(rnd, 5*time.Millisecond, 50*time.Millisecond)
			hurt = testkit.Impairment{Delay: delay, Jitter: between(rnd, 0, delay/2), Loss: 0.005 + 0.015*rnd.Float64()}
			length = between(rnd, 8*time.Second, 20*time.Second)
			keys = []any{impaired(w), impaired(opposite)}
			f.what += fmt.Sprintf(" and back: %s to %s each way, %.1f %% lost",
				hurt.Delay.Round(time.Millisecond), (hurt.Delay + hurt.Jitter).Round(time.Millisecond), 100*hurt.Loss)
		}
		f.what += " for " + length.Round(time.Millisecond).String()
		s.impair(ctx, f, directions, keys, hurt, length)
		hold(ctx, between(rnd, time.Second, 3*time.Second))
	}
}

func (s *soak) impair(ctx context.Context, f soakFault, directions []way, keys []any, hurt testkit.Impairment, length time.Duration) {
	f.at = time.Now()
	var back []func(time.Duration)
	for _, k := range keys {
		back = append(back, s.oracle.lose(k))
	}
	for _, d := range directions {
		s.relay.Set(d.from, d.to, hurt)
	}
	hold(ctx, length)
	for _, d := range directions {
		s.relay.Set(d.from, d.to, testkit.Impairment{})
	}
	for _, b := range back {
		b(healBar)
	}
	f.ended = time.Now()
	hold(ctx, healBar)
	s.happened(f)
}

// happened notes a fault whose time is over.
func (s *soak) happened(f soakFault) {
	f.until = time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, f)
	s.run.screen.sayAtf(f.at, "%s: %s", f.kind, f.what)
}

// broken notes what must never happen, and ends the soak.
func (s *soak) broken(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errors = append(s.errors, err.Error())
	s.cancel()
}

// expect yields a channel that is closed when the process of a node ends.
func (s *soak) expect(n *demoNode) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := make(chan struct{})
	s.expected[n] = gone
	return gone
}

// watchExits tells apart the processes that were meant to end from those that
// were not, until ctx is done.
func (s *soak) watchExits(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-s.run.processes.exits:
			s.mu.Lock()
			gone := s.expected[e.node]
			delete(s.expected, e.node)
			s.mu.Unlock()
			if gone == nil {
				s.broken(errors.New(e.String() + "\n" + strings.TrimSpace(s.run.processes.tail(e.node, tailLines))))
				continue
			}
			close(gone)
		}
	}
}
