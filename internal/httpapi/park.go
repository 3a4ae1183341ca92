package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// writeWithin is how long a caller may take for each writeChunk bytes of an
	// answer that does not fit into the socket's buffer.
	writeWithin = 30 * time.Second
	writeChunk  = 64 << 10
)

// lot keeps the connections of requests that wait for a change: while one waits
// there is no goroutine and no buffer for it, only a slot. A slot also keeps the
// connection after the answer until the next request comes, which is then
// handed over to a server through listener.
//
// The lot has an epoll instance of its own, which tells once of bytes that have
// come and of the end of the connection. So bytes that come while a request waits
// stay in the kernel until it is answered.
type lot struct {
	log  *slog.Logger
	poll *poller // nil where there is none: nothing is ever taken

	// How long a connection is kept without a request, how long a part of an
	// answer may take, and how long owners may take to answer once the lot ends.
	idle, write, drain time.Duration

	base    context.Context //nolint:containedctx // of the requests it serves, as a server's
	handler http.Handler    // nil hands over every request

	start  time.Time
	ready  chan net.Conn // connections whose next request has come
	closed chan struct{} // closed once nothing more is taken
	empty  chan struct{} // closed once nothing more is taken and no slot is left
	work   sync.WaitGroup

	mu    sync.Mutex
	ended bool
	last  uint64
	slots map[uint64]*slot
}

// newLot makes a lot. Where the system has no epoll it never takes a request.
func newLot(log *slog.Logger) (*lot, error) {
	poll, err := newPoller()
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return nil, fmt.Errorf("wait for connections: %w", err)
	}
	return &lot{
		log: log, poll: poll,
		idle: idleWithin, write: writeWithin, drain: drainWithin,
		start: time.Now(), slots: map[uint64]*slot{},
		ready: make(chan net.Conn), closed: make(chan struct{}), empty: make(chan struct{}),
	}, nil
}

// run watches the connections until ctx is done. Then idle ones are closed, and
// requests that still wait get a moment in which their owners may answer them.
// When run returns, no connection is left in the lot.
func (l *lot) run(ctx context.Context) error {
	if l.poll == nil {
		<-ctx.Done()
		l.shut()
		return nil
	}
	var failed error
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		failed = l.watch()
	}()
	sweep := time.NewTicker(l.idle / 8)
	defer sweep.Stop()
	var err error
	for running := true; running; {
		select {
		case <-sweep.C:
			l.closeIdle(l.idle)
		case <-watched:
			err = failed
			running = false
		case <-ctx.Done():
			running = false
		}
	}
	l.shut()
	l.closeIdle(0)
	drained := time.NewTimer(l.drain)
	defer drained.Stop()
	select {
	case <-l.empty:
	case <-drained.C:
		l.abandon()
		<-l.empty
	}
	l.work.Wait()
	// Only now: nobody registers with it any more.
	l.poll.close()
	if err != nil {
		return fmt.Errorf("watch parked connections: %w", err)
	}
	<-watched
	return nil
}

// watch deals with what happens to connections until the poller fails or is
// closed.
func (l *lot) watch() error {
	for {
		events, err := l.poll.wait()
		if err != nil {
			return err
		}
		for _, e := range events {
			// A slot may be replaced just now; then the event is of the next.
			for s := l.find(e.id); s != nil && !s.happened(e.hungUp); {
				s = l.find(e.id)
			}
		}
	}
}

// happening is something that happened to the connection with an id.
type happening struct {
	id     uint64
	hungUp bool
}

func (l *lot) find(id uint64) *slot {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.slots[id]
}

// shut ends taking: what is answered from now on is closed, not kept.
func (l *lot) shut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.ended = true
	close(l.closed)
	if len(l.slots) == 0 {
		close(l.empty)
	}
}

func (l *lot) isShut() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// add gives s an id and a place, unless nothing is taken any more.
func (l *lot) add(s *slot) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.last++
	s.id = l.last
	l.slots[s.id] = s
	return true
}

// replace puts the slot of the next request in the place of old, unless nothing
// is taken any more.
func (l *lot) replace(old, next *slot) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	next.id = old.id
	l.slots[next.id] = next
	return true
}

func (l *lot) drop(s *slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.slots, s.id)
	if l.ended && len(l.slots) == 0 {
		close(l.empty)
	}
}

func (l *lot) all() []*slot {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]*slot, 0, len(l.slots))
	for _, s := range l.slots {
		out = append(out, s)
	}
	return out
}

// closeIdle closes the connections that have had no request for that long.
func (l *lot) closeIdle(since time.Duration) {
	latest := time.Since(l.start) - since
	for _, s := range l.all() {
		s.mu.Lock()
		if s.state == idle && s.since <= latest {
			s.end()
		}
		s.mu.Unlock()
	}
}

// abandon lets go of all that is left.
func (l *lot) abandon() {
	for _, s := range l.all() {
		s.abandon()
	}
}

// hand passes a connection on to whoever accepts from the listener.
func (l *lot) hand(conn net.Conn) {
	select {
	case l.ready <- conn:
	case <-l.closed:
		_ = conn.Close() // as a server that stops does with idle connections
	}
}

// listener yields the connections whose next request has come. It must be
// served for as long as run runs. Once it is closed nothing more is taken.
func (l *lot) listener() net.Listener { return returning{l} }

// returning is a lot as a listener.
type returning struct{ lot *lot }

// Accept implements net.Listener.
func (r returning) Accept() (net.Conn, error) {
	select {
	case conn := <-r.lot.ready:
		return conn, nil
	case <-r.lot.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (r returning) Close() error {
	r.lot.shut()
	return nil
}

// Addr implements net.Listener.
func (r returning) Addr() net.Addr { return &net.UnixAddr{Net: "parked"} }
