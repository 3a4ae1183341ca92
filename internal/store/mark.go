package store

import (
	"math"
	"sync"
	"sync/atomic"
)

// A mark is the part of a tree that a read can depend on: a row, a subtree, or
// the shape of a branch. It knows when it last changed, and who waits for it to
// change again. A change replaces the mark; the old one is then cut.
type mark struct {
	index uint64
	watch atomic.Pointer[watch] // nil while nobody waits
	cut   atomic.Uint32         // reads that reach this far or farther have changed; 0: none has
	gen   uint32                // of the write transaction that made it, see WriteTx.gen
}

// The reach of a read says which changes it depends on. Reads of a row or shape
// reach least: only a change of the thing itself matters. A scan of a prefix
// that ends n bytes above a subtree reaches reachScan+n: if the edge above the
// subtree is split at most n bytes above it, keys can appear that do not belong
// to the subtree and yet have the prefix.
const (
	reachSelf uint32 = 1
	reachScan uint32 = 2
)

// reachAbove is the reach of a scan that ends n bytes above its subtree.
func reachAbove(n int) uint32 {
	return reachScan + uint32(min(n, math.MaxInt32)) //nolint:gosec // The bound is in the expression.
}

func (m *mark) changed(reach uint32) bool {
	c := m.cut.Load()
	return c != 0 && reach >= c
}

// A watch holds the readers that wait for a mark. It exists while there are any.
type watch struct {
	mu     sync.Mutex
	mark   *mark
	gone   bool // the mark has let go of this watch
	groups *group
	one    group // room for the first group, which mostly is the only one
}

// A group holds the readers of one watch with one reach. There are rarely more
// than two groups, and they save each place the room for its reach.
type group struct {
	watch *watch
	next  *group
	first *place
	reach uint32
	taken atomic.Bool // by a cut: nobody is here any more, nor will be
}

// A place is a reader's place in a group.
type place struct {
	next, prev *place
	by         *waiter
	in         *group
}

// A waiter is a reader that waits for the first change of any of its marks.
type waiter struct {
	fired atomic.Bool
	ch    chan struct{} // closed then, or nil
	call  func()        // called then, or nil
}

func (w *waiter) fire() {
	switch {
	case !w.fired.CompareAndSwap(false, true):
	case w.call != nil:
		w.call()
	default:
		close(w.ch)
	}
}

// park takes place p for a read of m, and reports false if what was read has
// changed already.
func (m *mark) park(reach uint32, p *place, by *waiter) bool {
	for !m.changed(reach) {
		w := m.watch.Load()
		if w == nil {
			w = &watch{mark: m}
			if !m.watch.CompareAndSwap(nil, w) {
				continue
			}
		}
		w.mu.Lock()
		if w.gone {
			w.mu.Unlock()
			continue
		}
		g := w.group(reach)
		if g.first == nil || g.first.by != by { // otherwise the same thing was read twice
			g.link(p, by)
		}
		// A cut comes before the look for places: either this sees the cut, or
		// the cut sees the place.
		ok := !m.changed(reach)
		if !ok {
			g.unlink(p)
		}
		w.mu.Unlock()
		return ok
	}
	return false
}

// leave gives up a place, if it is still taken.
func (p *place) leave() {
	// Readers that are woken together do not meet again at the lock.
	if p.in == nil || p.in.taken.Load() {
		return
	}
	w := p.in.watch
	w.mu.Lock()
	p.in.unlink(p)
	w.mu.Unlock()
}

// cutAt marks reads of m that reach this far or farther as changed, and adds
// those who wait for that to woken.
func (m *mark) cutAt(reach uint32, woken []*waiter) []*waiter {
	for {
		old := m.cut.Load()
		if old != 0 && old <= reach {
			return woken
		}
		if m.cut.CompareAndSwap(old, reach) {
			break
		}
	}
	for {
		w := m.watch.Load()
		if w == nil {
			return woken
		}
		w.mu.Lock()
		if w.gone {
			w.mu.Unlock()
			continue
		}
		woken = w.take(reach, woken)
		w.mu.Unlock()
		return woken
	}
}

// group yields the group for a reach. The caller holds the lock.
func (w *watch) group(reach uint32) *group {
	for g := w.groups; g != nil; g = g.next {
		if g.reach == reach {
			return g
		}
	}
	g := &w.one
	if w.groups != nil || g.watch != nil {
		g = new(group)
	}
	g.watch, g.next, g.reach = w, w.groups, reach
	w.groups = g
	return g
}

// take removes the groups that reach this far. The caller holds the lock.
func (w *watch) take(reach uint32, woken []*waiter) []*waiter {
	at := &w.groups
	for g := *at; g != nil; g = *at {
		if g.reach < reach {
			at = &g.next
			continue
		}
		*at = g.next
		for p := g.first; p != nil; {
			next := p.next
			p.next, p.prev = nil, nil
			woken = append(woken, p.by)
			p = next
		}
		g.first = nil
		g.taken.Store(true)
	}
	w.dropIfEmpty()
	return woken
}

func (w *watch) dropIfEmpty() {
	if w.groups == nil && !w.gone {
		w.gone = true
		w.mark.watch.Store(nil)
	}
}

// link takes a place. The caller holds the watch's lock.
func (g *group) link(p *place, by *waiter) {
	*p = place{next: g.first, by: by, in: g}
	if g.first != nil {
		g.first.prev = p
	}
	g.first = p
}

// unlink gives up a place if it is taken, and lets go of a group and a watch
// that nobody needs any more. The caller holds the watch's lock.
func (g *group) unlink(p *place) {
	if p.prev == nil && g.first != p {
		return
	}
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		g.first = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	}
	p.next, p.prev = nil, nil
	if g.first != nil {
		return
	}
	for at := &g.watch.groups; *at != nil; at = &(*at).next {
		if *at == g {
			*at = g.next
			break
		}
	}
	g.watch.dropIfEmpty()
}
