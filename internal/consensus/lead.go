package consensus

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A tenure runs Lead while this server leads: one at a time, whatever the
// pace at which leadership comes and goes.
type tenure struct {
	lead   func(context.Context) error
	notify <-chan bool                 // leadership won and lost, in turn
	giveUp func(context.Context) error // hands leadership to another server
	retry  time.Duration               // until Lead runs again when no other could take over
	log    *slog.Logger
}

// run goes on until ctx is done and Lead has returned, then closes over. It
// reads notify until quit is closed, because raft waits for it to be read.
func (t *tenure) run(ctx context.Context, over chan<- struct{}, quit <-chan struct{}) {
	var (
		wanted   bool   // this server leads
		running  *stint // nil while Lead does not run
		finished = make(chan error)
		again    <-chan time.Time
		stop     = ctx.Done()
		giving   sync.WaitGroup
	)
	defer giving.Wait()
	start := func() {
		if wanted && running == nil {
			running = t.start(ctx, finished)
		}
	}
	for {
		if stop == nil && running == nil && over != nil {
			close(over)
			over = nil
		}
		select {
		case wanted = <-t.notify:
			again = nil
			if !wanted {
				running.end()
			}
			start()
		case err := <-finished:
			lost := running.ended() != nil
			running.end()
			running = nil
			switch {
			case lost:
				t.log.Info("leadership ended")
				start() // it may have come back meanwhile
			case err != nil:
				t.log.Error("leading did not work; giving leadership up", "error", err)
				again = time.After(t.retry)
				// Not here: leadership may end meanwhile, and raft wait for notify.
				giving.Go(func() { t.handOver(ctx) })
			}
		case <-again:
			start()
		case <-stop:
			stop = nil
		case <-quit:
			return
		}
	}
}

// stint is one run of Lead.
type stint struct {
	cancel context.CancelFunc
	ended  func() error // not nil once it is to end
}

// start runs Lead, unless ctx is done.
func (t *tenure) start(ctx context.Context, finished chan<- error) *stint {
	if ctx.Err() != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() { finished <- t.lead(ctx) }()
	return &stint{cancel: cancel, ended: ctx.Err}
}

func (s *stint) end() {
	if s != nil {
		s.cancel()
	}
}

func (t *tenure) handOver(ctx context.Context) {
	if err := t.giveUp(ctx); err != nil {
		t.log.Warn("no other server took over", "error", err)
	}
}
