package main

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// reader reads a key again and again until it is stopped.
type reader struct {
	name string
	stop chan struct{}
	done sync.WaitGroup

	reads, failed int
	gap, last     time.Duration // longest time without a success, and when the last one was
	err           error         // of the last that failed
}

// reading begins to read a key of datacenter to through the first server of
// datacenter from.
func (f *fleet) reading(from, to int, key string) *reader {
	r := &reader{name: fmt.Sprintf("reads dc%d → dc%d", from, to), stop: make(chan struct{})}
	r.done.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		start := time.Now()
		for {
			r.reads++
			if _, err := f.read(from, 1, to, key); err != nil {
				r.failed, r.err = r.failed+1, err
			} else {
				at := time.Since(start)
				r.gap, r.last = max(r.gap, at-r.last), at
			}
			select {
			case <-tick.C:
			case <-r.stop:
				return
			}
		}
	})
	return r
}

// end stops reading and logs what came of it.
func (r *reader) end(t testing.TB) {
	t.Helper()
	close(r.stop)
	r.done.Wait()
	t.Logf("%s: %d of %d failed, longest gap %s, last error: %v", r.name, r.failed, r.reads, r.gap.Round(time.Millisecond), r.err)
}

// endWithout does the same, and fails the test when a read failed.
func (r *reader) endWithout(t testing.TB) {
	t.Helper()
	r.end(t)
	if r.failed > 0 {
		t.Errorf("%s: %d failed", r.name, r.failed)
	}
}
