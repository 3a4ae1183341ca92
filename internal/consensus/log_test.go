package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestLoneVoterLeadsAtOnce(t *testing.T) {
	cfg := quick(t, newCables(), "s0", t.TempDir())
	cfg.Heartbeat, cfg.Election, cfg.LeaderLease = time.Minute, time.Minute, time.Minute
	start := time.Now()
	n := lone(t, cfg)
	t.Logf("new directory: open to barrier %v", time.Since(start))
	mustAppend(t, n.Log, "a")
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}

	cfg.FSM = &list{}
	start = time.Now()
	n = lone(t, cfg)
	t.Logf("restart: open to barrier %v", time.Since(start))
	if got := n.fsm.all(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %q after restart", got)
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
}

func TestLoneVoterLeadsAtOnceWhenBootstrappedWhileRunning(t *testing.T) {
	cfg := quick(t, newCables(), "s0", "")
	cfg.Heartbeat, cfg.Election, cfg.LeaderLease = time.Minute, time.Minute, time.Minute
	n := run(t, cfg)
	eventually(t, 5*time.Second, func() error { return n.Bootstrap(me(n.Log)) })
	leads(t, n)
	<-n.LeaderKnown()
	if at, id := n.Leader(); at != cfg.Address || id != "s0" {
		t.Errorf("got leader %s %s", id, at)
	}
	if err := n.Bootstrap(me(n.Log)); err == nil {
		t.Error("a second bootstrap went through")
	}
}

func TestAppendYieldsResultAndIndex(t *testing.T) {
	n := lone(t, quick(t, newCables(), "s0", t.TempDir()))
	first := mustAppend(t, n.Log, "a")
	result, index, err := n.Append(t.Context(), []byte("b"))
	if err != nil || result != 2 || index != first+1 {
		t.Errorf("got %v, %d, %v", result, index, err)
	}
	result, _, err = n.Append(t.Context(), []byte("bad"))
	if failed, ok := result.(error); err != nil || !ok || failed.Error() != "refused" {
		t.Errorf("an error of the state machine came as %v, %v", result, err)
	}
	if got := n.AppliedIndex(); got != first+2 || n.LastIndex() != got {
		t.Errorf("got applied %d, last %d, want %d", got, n.LastIndex(), first+2)
	}
	if n.LastContact() != 0 || n.Stats()["state"] != "Leader" {
		t.Errorf("last contact %v, state %s", n.LastContact(), n.Stats()["state"])
	}
}

func TestBeforeRunNothingLeads(t *testing.T) {
	l, err := Open(quick(t, newCables(), "s0", t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Append(t.Context(), []byte("a")); !errors.Is(err, ErrNotLeader) {
		t.Errorf("got %v", err)
	}
	if l.HasState() || l.IsLeader() || l.LastContact() < time.Hour || l.LastIndex() != 0 || l.AppliedIndex() != 0 {
		t.Error("a new log has state")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Error(err)
	}
	if _, _, err := l.Append(t.Context(), []byte("a")); !errors.Is(err, ErrNotLeader) {
		t.Errorf("after the end: got %v", err)
	}
}

func TestOneFlushForEachAppendOfOneClient(t *testing.T) {
	n := lone(t, quick(t, newCables(), "s0", t.TempDir()))
	flushes := &n.stores.logs.(*logStore).flushes
	before := flushes.Load()
	for i := range 100 {
		mustAppend(t, n.Log, fmt.Sprint(i))
	}
	if got := flushes.Load() - before; got != 100 {
		t.Errorf("got %d flushes for 100 appends", got)
	}
}

func TestManyClientsShareFlushes(t *testing.T) {
	n := lone(t, quick(t, newCables(), "s0", t.TempDir()))
	flushes := &n.stores.logs.(*logStore).flushes
	before := flushes.Load()
	var wg sync.WaitGroup
	for c := range 64 {
		wg.Go(func() {
			for i := range 32 {
				if _, _, err := n.Append(t.Context(), fmt.Appendf(nil, "%d-%d", c, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := flushes.Load() - before
	t.Logf("%d flushes for 2048 appends", got)
	if got > 2048/4 {
		t.Errorf("got %d flushes for 2048 appends by 64 clients", got)
	}
}

func TestThreeServersApplyTheSame(t *testing.T) {
	nodes, _ := three(t, nil)
	lead, rest := leader(t, nodes...)
	var want []string
	for i := range 200 {
		want = append(want, fmt.Sprint(i))
		mustAppend(t, lead.Log, want[i])
	}
	for _, n := range nodes {
		eventually(t, 5*time.Second, func() error {
			if got := n.fsm.all(); !slices.Equal(got, want) {
				return fmt.Errorf("%s has %d entries", n.cfg.ID, len(got))
			}
			if got := n.AppliedIndex(); got != lead.LastIndex() {
				return fmt.Errorf("%s applied %d of %d", n.cfg.ID, got, lead.LastIndex())
			}
			return nil
		})
		<-n.LeaderKnown()
	}
	if _, _, err := rest[0].Append(t.Context(), nil); !errors.Is(err, ErrNotLeader) {
		t.Errorf("append to a follower: got %v", err)
	}
	if at, id := rest[0].Leader(); at != lead.cfg.Address || id != lead.cfg.ID {
		t.Errorf("a follower says that %s at %s leads", id, at)
	}
	if got := rest[0].LastContact(); got > time.Minute {
		t.Errorf("a follower heard of its leader %v ago", got)
	}
	if err := lead.TransferLeadership(t.Context()); err != nil {
		t.Fatal(err)
	}
	lead, _ = leader(t, rest...)
	mustAppend(t, lead.Log, "after")
}

func TestServersJoinAndLeave(t *testing.T) {
	c := newCables()
	a := lone(t, quick(t, c, "a", t.TempDir()))
	b := run(t, quick(t, c, "b", t.TempDir()))
	mustAppend(t, a.Log, "1")
	if err := a.AddVoter(t.Context(), "b", b.cfg.Address); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, a.Log, "2")
	eventually(t, 5*time.Second, func() error {
		if got := b.fsm.all(); !slices.Equal(got, []string{"1", "2"}) {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
	servers, err := b.Servers()
	if err != nil || !slices.Equal(servers, append(me(a.Log), me(b.Log)...)) {
		t.Errorf("got %v, %v", servers, err)
	}
	if err := a.RemoveServer(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if servers, err = a.Servers(); err != nil || !slices.Equal(servers, me(a.Log)) {
		t.Errorf("got %v, %v", servers, err)
	}
	mustAppend(t, a.Log, "3")
}
