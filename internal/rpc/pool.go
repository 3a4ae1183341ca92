package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"isthmus/internal/transport"
)

// How long things stay, and how many.
const (
	idleSession = 5 * time.Minute // without a call
	patience    = 2 * time.Second // with a connection that was kept
	reapEvery   = 15 * time.Second
	maxIdle     = 32 // streams kept open for later calls, by session
)

// RemoteError is what a server answered instead of a result.
type RemoteError struct{ Text string }

// Error has the prefix that the protocol puts before an error at each hop.
func (e *RemoteError) Error() string { return "rpc error making call: " + e.Text }

// NotSentError says that a request reached nobody, so that any request, also a
// write, may be tried elsewhere.
type NotSentError struct{ Err error }

// Error has the protocol's prefix of a connection that could not be had.
func (e *NotSentError) Error() string {
	return "rpc error getting client: failed to get conn: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *NotSentError) Unwrap() error { return e.Err }

// Superseded is a connection that tells when a better way to the same server
// exists. The pool then takes it out of use without breaking a call.
type Superseded interface {
	Superseded() <-chan struct{}
}

// Silent is a connection that is told when no answer comes over it any more, so
// that others which lead the same way can give way too.
type Silent interface {
	Silent()
}

// Pool keeps one connection with many streams to each server it calls.
type Pool struct {
	dialer  transport.Dialer
	log     *slog.Logger
	timeout atomic.Int64 // of a call that does not wait for a change, a time.Duration

	mu    sync.Mutex
	links map[transport.Target]*link
	done  bool
}

// NewPool returns a pool over a dialer. timeout limits a call that does not wait
// for a change.
func NewPool(dialer transport.Dialer, timeout time.Duration, log *slog.Logger) *Pool {
	p := &Pool{dialer: dialer, log: log, links: map[transport.Target]*link{}}
	p.SetTimeout(timeout)
	return p
}

// SetTimeout changes the limit of the calls to come that do not wait for a change.
func (p *Pool) SetTimeout(timeout time.Duration) { p.timeout.Store(int64(timeout)) }

func (p *Pool) callTimeout() time.Duration { return time.Duration(p.timeout.Load()) }

// To returns the caller that asks one server.
func (p *Pool) To(t transport.Target) Caller { return target{p, t} }

type target struct {
	pool *Pool
	to   transport.Target
}

// Call implements Caller. A connection that was kept may have died meanwhile, or
// lead through a gateway that is silent now: what is safe to repeat is then tried
// once more, over a new one.
func (t target) Call(ctx context.Context, r *Request) (Meta, error) {
	meta, kept, err := t.pool.call(ctx, t.to, r, patience)
	if kept && err != nil && ctx.Err() == nil && repeatable(r, err) {
		meta, _, err = t.pool.call(ctx, t.to, r, t.pool.callTimeout())
	}
	return meta, err
}

// repeatable tells whether a call that failed may be made again: it reached
// nobody, or it changes nothing.
func repeatable(r *Request, err error) bool {
	if _, unsent := errors.AsType[*NotSentError](err); unsent {
		return true
	}
	_, broken := errors.AsType[*ConnError](err)
	return broken && !r.Write
}

// call makes one attempt. kept says that it went over a connection that was there
// before, or that was given up under it. Over one that was kept, a read which waits
// for nothing is answered within the patience, or fails.
func (p *Pool) call(ctx context.Context, to transport.Target, r *Request, patience time.Duration) (meta Meta, kept bool, err error) {
	l, s, kept, err := p.session(ctx, to)
	if err != nil {
		return meta, false, &NotSentError{err}
	}
	parked := r.Header.MinIndex > 0
	s.begin(parked)
	defer s.release(parked)
	st, err := s.take()
	if err != nil {
		l.drop(s)
		return meta, kept, &NotSentError{err}
	}
	limit, plain := p.limit(r), !parked && !r.Write
	if kept && plain {
		limit = min(limit, patience)
	}
	begun := s.follow(st, plain)
	meta, reusable, err := st.roundTrip(ctx, r, limit)
	s.unfollow(st, reusable)
	if reusable {
		s.put(st)
		return meta, kept, err
	}
	_ = st.conn.Close()
	kept = kept || s.givenUp()
	if ctx.Err() == nil {
		l.drop(s) // silent or broken: the next call dials anew
		s.silentSince(begun)
	}
	return meta, kept, err
}

// limit is how long a call may take: its own wait, the server's jitter on it,
// and the time of a call that waits for nothing.
func (p *Pool) limit(r *Request) time.Duration {
	if r.Header.MinIndex == 0 {
		return p.callTimeout()
	}
	wait := r.Header.MaxWait
	if wait <= 0 {
		wait = DefaultWait
	}
	wait = min(wait, MaxWait)
	return wait + wait/JitterFraction + p.callTimeout()
}

// Waits of blocking reads (rpc-facts §7).
const (
	DefaultWait    = 300 * time.Second
	MaxWait        = 600 * time.Second
	JitterFraction = 16
)

// Run closes what is idle until ctx is done, and then everything.
func (p *Pool) Run(ctx context.Context) error {
	tick := time.NewTicker(reapEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.close()
			return nil
		case <-tick.C:
			p.reap()
		}
	}
}

func (p *Pool) close() {
	p.mu.Lock()
	p.done = true
	links := p.links
	p.links = nil
	p.mu.Unlock()
	for _, l := range links {
		l.drop(nil)
	}
}

func (p *Pool) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for t, l := range p.links {
		if l.idle() {
			delete(p.links, t)
		}
	}
}

// link is the place of the one session to a target.
type link struct {
	turn chan struct{} // holds a token while nobody dials

	mu  sync.Mutex
	cur *session
}

// use returns the current session with one more call on it, if it is usable.
func (l *link) use() *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cur != nil && l.cur.acquire() {
		return l.cur
	}
	return nil
}

// drop retires the session if it is s, or whichever is there when s is nil.
func (l *link) drop(s *session) {
	l.mu.Lock()
	old := l.cur
	if old == nil || s != nil && s != old {
		l.mu.Unlock()
		return
	}
	l.cur = nil
	l.mu.Unlock()
	old.retire()
	if s == nil {
		_ = old.mux.Close()
	}
}

// idle retires a session that had no call for long, and says whether the link is
// empty.
func (l *link) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cur != nil && l.cur.idleFor() > idleSession {
		l.cur.retire()
		l.cur = nil
	}
	return l.cur == nil && len(l.turn) == 1
}

// session returns a session to t that carries one more call, and whether it was
// there before. Only one caller dials at a time; the others wait for what comes of
// it.
func (p *Pool) session(ctx context.Context, t transport.Target) (l *link, s *session, kept bool, err error) {
	p.mu.Lock()
	if p.done {
		p.mu.Unlock()
		return nil, nil, false, net.ErrClosed
	}
	if l = p.links[t]; l == nil {
		l = &link{turn: make(chan struct{}, 1)}
		l.turn <- struct{}{}
		p.links[t] = l
	}
	p.mu.Unlock()
	if s := l.use(); s != nil {
		return l, s, true, nil
	}
	select {
	case <-l.turn:
	case <-ctx.Done():
		return nil, nil, false, context.Cause(ctx)
	}
	defer func() { l.turn <- struct{}{} }()
	if s := l.use(); s != nil {
		return l, s, true, nil
	}
	s, err = p.open(ctx, t, l)
	return l, s, false, err
}

// open dials t and puts the session in its place.
func (p *Pool) open(ctx context.Context, t transport.Target, l *link) (*session, error) {
	conn, err := p.dialer.Dial(ctx, t, transport.RPCMulti)
	if err != nil {
		return nil, err //nolint:wrapcheck // the dialer says what and why
	}
	mux, err := yamux.Client(conn, yamuxConfig())
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("open session: %w", err)
	}
	s := &session{mux: mux, conn: conn, active: 1, last: time.Now(), plain: map[*stream]struct{}{}}
	if c, ok := conn.(Superseded); ok {
		go func() {
			select {
			case <-c.Superseded():
				p.log.Debug("connection superseded", "datacenter", t.Datacenter, "server", t.Node)
				l.drop(s)
			case <-mux.CloseChan():
			}
		}()
	}
	l.mu.Lock()
	l.cur = s
	l.mu.Unlock()
	p.mu.Lock()
	closed := p.done
	p.mu.Unlock()
	if closed {
		l.drop(nil)
		return nil, net.ErrClosed
	}
	return s, nil
}

// session is one connection and its idle streams.
type session struct {
	mux  *yamux.Session
	conn net.Conn // that of mux

	mu      sync.Mutex
	free    []*stream
	active  int                  // calls under way
	parked  int                  // those of them that wait for a change
	plain   map[*stream]struct{} // those of them that may be repeated and wait for nothing
	retired bool
	last    time.Time // end of the last call
	heard   time.Time // when an answer came last
}

// acquire counts one more call, unless the session is of no use any more.
func (s *session) acquire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired || s.mux.IsClosed() {
		return false
	}
	s.active++
	return true
}

// begin tells which kind of call was acquired.
func (s *session) begin(parked bool) {
	if !parked {
		return
	}
	s.mu.Lock()
	s.parked++
	s.mu.Unlock()
}

func (s *session) release(parked bool) {
	s.mu.Lock()
	s.active--
	if parked {
		s.parked--
	}
	s.last = time.Now()
	s.mu.Unlock()
	s.closeIfOver()
}

// follow remembers a call that begins, if it is a plain one.
func (s *session) follow(st *stream, plain bool) (begun time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if plain {
		s.plain[st] = struct{}{}
	}
	return time.Now()
}

// unfollow forgets a call that ended. No later call on the stream suffers from how
// this one was treated.
func (s *session) unfollow(st *stream, answered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.plain, st)
	if answered {
		s.heard = time.Now()
	}
}

// silentSince ends the plain calls under way, which are repeated elsewhere, when
// nothing was answered since a call that failed had begun: none of them need find
// out by its own patience that the way is silent.
func (s *session) silentSince(begun time.Time) {
	s.mu.Lock()
	silent := !s.heard.After(begun)
	if silent {
		for st := range s.plain {
			_ = st.conn.SetDeadline(time.Unix(1, 0))
		}
	}
	s.mu.Unlock()
	if c, ok := s.conn.(Silent); ok && silent && !s.mux.IsClosed() {
		c.Silent()
	}
}

// retire takes the session out of use. Calls under way end first, but for those
// that wait for a change: they would hold it for long, and are repeated elsewhere.
func (s *session) retire() {
	s.mu.Lock()
	s.retired = true
	s.mu.Unlock()
	s.closeIfOver()
}

func (s *session) closeIfOver() {
	s.mu.Lock()
	over := s.retired && s.active == s.parked
	s.mu.Unlock()
	if over {
		_ = s.mux.Close()
	}
}

// givenUp tells whether the session was retired.
func (s *session) givenUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retired
}

func (s *session) idleFor() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active > 0 {
		return 0
	}
	return time.Since(s.last)
}

func (s *session) take() (*stream, error) {
	s.mu.Lock()
	if n := len(s.free); n > 0 {
		st := s.free[n-1]
		s.free = s.free[:n-1]
		s.mu.Unlock()
		return st, nil
	}
	s.mu.Unlock()
	conn, err := s.mux.OpenStream()
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	return &stream{conn: conn, r: bufio.NewReader(conn)}, nil
}

func (s *session) put(st *stream) {
	s.mu.Lock()
	keep := len(s.free) < maxIdle && !s.retired
	if keep {
		s.free = append(s.free, st)
	}
	s.mu.Unlock()
	if !keep {
		_ = st.conn.Close()
	}
}

// stream carries one call at a time.
type stream struct {
	conn *yamux.Stream
	r    *bufio.Reader
	seq  uint64
	buf  []byte
}

var errCallTimeout = errors.New("i/o deadline reached")

// roundTrip makes one call. reusable says whether the stream can carry another.
func (st *stream) roundTrip(ctx context.Context, r *Request, limit time.Duration) (meta Meta, reusable bool, err error) {
	st.seq++
	buf := appendRequestHeader(st.buf[:0], st.seq, r.Name)
	if buf, err = encodeRequest(buf, r); err != nil {
		return meta, true, err // nothing was sent
	}
	if err := st.conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return meta, false, &NotSentError{err}
	}
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { _ = st.conn.SetDeadline(time.Unix(1, 0)) })
		defer func() {
			// When it already ran, the deadline may strike the next call.
			reusable = stop() && reusable
		}()
	}
	if _, err := st.conn.Write(buf); err != nil {
		return meta, false, failure(ctx, err)
	}
	if buf, err = ReadValue(st.r, buf[:0], maxHeader+maxBody); err != nil {
		return meta, false, failure(ctx, err)
	}
	seq, _, text, err := decodeRPCHeader(buf, "ServiceMethod")
	if err != nil || seq != st.seq {
		return meta, false, failure(ctx, errors.Join(err, fmt.Errorf("answer %d to request %d", seq, st.seq)))
	}
	if buf, err = ReadValue(st.r, buf[:0], maxReply); err != nil {
		return meta, false, failure(ctx, err)
	}
	if cap(buf) <= keepBuffer {
		st.buf = buf
	}
	if text != "" {
		return meta, true, &RemoteError{text}
	}
	meta, err = decodeReply(buf, r)
	return meta, true, err
}

// ConnError says that a connection failed while a call was under way: the server
// may or may not have done what was asked.
type ConnError struct{ Err error }

// Error has the prefix that the protocol puts before an error at each hop.
func (e *ConnError) Error() string { return "rpc error making call: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *ConnError) Unwrap() error { return e.Err }

// failure explains an error of the connection.
func failure(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("rpc error making call: %w", context.Cause(ctx))
	case isTimeout(err):
		err = errCallTimeout
	}
	return &ConnError{err}
}
