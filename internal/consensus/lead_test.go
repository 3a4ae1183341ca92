package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A Lead that takes a second to end, beside leadership that comes and goes.
func TestNoTwoLeadsOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, started atomic.Int32
		notify, over, quit, ended := make(chan bool), make(chan struct{}), make(chan struct{}), make(chan struct{})
		tn := &tenure{
			notify: notify, log: testLog(t), retry: time.Second,
			giveUp: func(context.Context) error { return nil },
			lead: func(ctx context.Context) error {
				started.Add(1)
				if running.Add(1) != 1 {
					t.Error("two at once")
				}
				<-ctx.Done()
				<-time.After(time.Second)
				running.Add(-1)
				return nil
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { tn.run(ctx, over, quit); close(ended) }()
		for range 3 { // raft is never held up, though the first Lead winds down
			notify <- true
			notify <- false
		}
		notify <- true
		synctest.Wait()
		if got := started.Load(); got != 1 {
			t.Errorf("%d leads began before the first ended", got)
		}
		time.AfterFunc(2*time.Second, cancel)
		<-over
		if got := started.Load(); got != 2 || running.Load() != 0 {
			t.Errorf("%d leads began, %d run", got, running.Load())
		}
		notify <- false // raft must be able to say so until it has stopped
		close(quit)
		<-ended
	})
}

func TestLeadThatFailsGivesUpAndIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gaveUp, started atomic.Int32
		notify, over, quit, ended := make(chan bool), make(chan struct{}), make(chan struct{}), make(chan struct{})
		tn := &tenure{
			notify: notify, log: testLog(t), retry: time.Second,
			giveUp: func(context.Context) error { gaveUp.Add(1); return errors.New("no other voter") },
			lead: func(ctx context.Context) error {
				if started.Add(1) < 3 {
					return errors.New("not today")
				}
				<-ctx.Done()
				return ctx.Err()
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { tn.run(ctx, over, quit); close(ended) }()
		notify <- true
		time.AfterFunc(time.Minute, cancel)
		<-over
		if started.Load() != 3 || gaveUp.Load() != 2 {
			t.Errorf("began %d times, gave up %d times", started.Load(), gaveUp.Load())
		}
		close(quit)
		<-ended
	})
}

func TestLeadRunsOnTheLeaderAlone(t *testing.T) {
	var leading [3]atomic.Bool
	var failing atomic.Int32
	failing.Store(-1)
	fail := make(chan struct{})
	nodes, _ := three(t, func(i int, cfg *Config) {
		cfg.Lead = func(ctx context.Context) error {
			leading[i].Store(true)
			defer leading[i].Store(false)
			select {
			case <-ctx.Done():
				return nil
			case <-fail:
				if !failing.CompareAndSwap(-1, int32(i)) {
					<-ctx.Done()
				}
				return errors.New("cannot lead")
			}
		}
	})
	lead, rest := leader(t, nodes...)
	only := func() error {
		n := 0
		for i := range leading {
			if leading[i].Load() != nodes[i].IsLeader() {
				return fmt.Errorf("server %d: Lead runs %v, leads %v", i, leading[i].Load(), nodes[i].IsLeader())
			}
			if leading[i].Load() {
				n++
			}
		}
		if n != 1 {
			return fmt.Errorf("%d lead", n)
		}
		return nil
	}
	eventually(t, 5*time.Second, only)
	close(fail) // leadership goes to another server
	next, _ := leader(t, rest...)
	if next == lead || failing.Load() < 0 {
		t.Error("who could not lead still leads")
	}
	eventually(t, 5*time.Second, only)
	if err := next.stop(); err != nil {
		t.Fatal(err)
	}
	for i, n := range nodes {
		if n == next && leading[i].Load() {
			t.Error("Lead runs after Run returned")
		}
	}
}
