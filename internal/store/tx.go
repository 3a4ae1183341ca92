package store

import "context"

// Tx is a consistent view of a store. It remembers what was read from it, and
// so knows the index of an answer and when the answer may be another one. It is
// for one goroutine.
type Tx struct {
	store   *Store
	state   *state
	tracked bool
	found   bool
	index   uint64
	reads   []read  // since the last park
	places  []place // of the reads before
	waiter  *waiter // nil until the first park
	parked  bool
}

type read struct {
	mark  *mark
	reach uint32
}

func (t *Tx) table(of Schema) any { return t.state.tables[t.store.slot(of)] }

func (t *Tx) freeze() {}

func (t *Tx) saw(m *mark, reach uint32, found bool) {
	t.found = t.found || found
	if !t.tracked {
		return
	}
	t.index = max(t.index, m.index)
	r := read{m, reach}
	if n := len(t.reads); n == 0 || t.reads[n-1] != r {
		t.reads = append(t.reads, r)
	}
}

// Index yields the index at which what was read last changed, and at least 1.
// The same reads from a later view never yield a lower one; they yield a higher
// one exactly if Wait returns nil.
func (t *Tx) Index() uint64 {
	if !t.tracked {
		return max(t.state.index, 1)
	}
	return max(t.index, 1)
}

// Found reports whether any read so far has seen a row.
func (t *Tx) Found() bool { return t.found }

// Wait waits until something that was read has changed, and yields nil, or
// until ctx is done, and yields its cause. A row and the rows under a prefix
// change only by themselves. That something is missing may also change, rarely,
// when a neighbour comes or goes. Nothing is held when Wait has returned.
func (t *Tx) Wait(ctx context.Context) error {
	defer t.Release()
	select {
	case <-t.Changed():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Changed yields a channel that is closed when something that was read before
// the call has changed. Release must follow, or what was read is held.
func (t *Tx) Changed() <-chan struct{} {
	if t.waiter == nil {
		t.waiter = &waiter{ch: make(chan struct{})}
	}
	t.park()
	return t.waiter.ch
}

// Notify calls f once something that was read before has changed, at once if it
// has. It is called by the goroutine of the writer, whom it must not keep. After
// Release it is not called, unless it is just being called. A transaction is for
// either Notify or Changed.
func (t *Tx) Notify(f func()) {
	t.waiter = &waiter{call: f}
	t.park()
}

// Release ends the wait that Changed or Notify began. It does nothing if there is
// none.
func (t *Tx) Release() {
	if !t.parked {
		return
	}
	t.parked = false
	for i := range t.places {
		t.places[i].leave()
	}
}

// park takes a place for each thing that was read. The places replace the list
// of reads: they know the same.
func (t *Tx) park() {
	if t.waiter.fired.Load() || t.parked && len(t.reads) == 0 {
		return
	}
	t.Release()
	reads := t.reads
	for i := range t.places {
		if g := t.places[i].in; g != nil {
			reads = append(reads, read{g.watch.mark, g.reach})
		}
	}
	t.reads, t.places, t.parked = nil, make([]place, len(reads)), true
	for i, r := range reads {
		if !r.mark.park(r.reach, &t.places[i], t.waiter) {
			t.waiter.fire()
			return
		}
	}
}
