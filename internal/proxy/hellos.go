package proxy

import (
	"io"
	"net/netip"
	"sync"
)

// hello is a connection whose ClientHello is unfinished, as an element of the
// list in hellos.
type hello struct {
	conn       io.Closer
	source     netip.Addr
	prev, next *hello // nil once off the list
	evicted    bool
}

// hellos bounds the number of unfinished hellos, in all and by source. One too
// many closes the oldest rather than the newest: a good client finishes within
// a round trip, so the oldest is the least likely to be one.
type hellos struct {
	max, maxPerSource int

	mu      sync.Mutex
	root    hello // of the ring: next is the oldest, prev the newest
	count   int
	sources map[netip.Addr]int
}

func newHellos(limit, limitPerSource int) *hellos {
	h := &hellos{max: limit, maxPerSource: limitPerSource, sources: make(map[netip.Addr]int)}
	h.root.next, h.root.prev = &h.root, &h.root
	return h
}

// add enters a new connection and closes the one it takes the place of.
func (h *hellos) add(conn io.Closer, source netip.Addr) *hello {
	e := &hello{conn: conn, source: source}
	if old := h.enter(e); old != nil {
		_ = old.conn.Close() // its reader learns of it and counts it
	}
	return e
}

func (h *hellos) enter(e *hello) *hello {
	h.mu.Lock()
	defer h.mu.Unlock()
	var old *hello
	switch {
	case h.sources[e.source] >= h.maxPerSource:
		for old = h.root.next; old.source != e.source; {
			old = old.next
		}
	case h.count >= h.max:
		old = h.root.next
	}
	if old != nil {
		old.evicted = true
		h.unlink(old)
	}
	e.prev, e.next = h.root.prev, &h.root
	e.prev.next, e.next.prev = e, e
	h.count++
	h.sources[e.source]++
	return old
}

// remove takes a connection off the list and tells whether it had been closed
// to make room.
func (h *hellos) remove(e *hello) (evicted bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.next != nil {
		h.unlink(e)
	}
	return e.evicted
}

// unlink is called with mu held.
func (h *hellos) unlink(e *hello) {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
	h.count--
	if h.sources[e.source]--; h.sources[e.source] == 0 {
		delete(h.sources, e.source)
	}
}
