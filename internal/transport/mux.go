package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// handshakeTimeout bounds telling a connection apart when no time is set.
	handshakeTimeout = 5 * time.Second

	// acceptPause is the wait after the system could not accept a connection, for
	// want of file descriptors for example. It doubles up to the maximum.
	acceptPause, maxAcceptPause = 5 * time.Millisecond, time.Second
)

// Mux tells the connections of the server port apart and hands each to whoever
// registered for its protocol.
type Mux struct {
	// TLS answers those who ask for it. Nil means that nobody may.
	TLS *TLS

	// HandshakeTimeout bounds the time from accepting a connection until it is told
	// apart. Zero means 5 s.
	HandshakeTimeout time.Duration

	// MaxConnsPerClient is how many connections one address may hold; zero means
	// any number. All who come through one gateway share its address, so theirs
	// are counted apart, against a limit many times as high.
	MaxConnsPerClient int

	// Log takes what was refused. Nil means nowhere.
	Log *slog.Logger

	perClient atomic.Pointer[int] // in place of MaxConnsPerClient, once it has changed

	handlers []handler
	counts   connCounts
	refusals refusalLog
}

type handler struct {
	proto Proto
	serve func(ctx context.Context, conn net.Conn)
}

// SetMaxConnsPerClient changes how many connections one address may hold. Those
// that there are stay.
func (m *Mux) SetMaxConnsPerClient(most int) { m.perClient.Store(&most) }

// Handle registers serve for p, before Serve. The connection yields exactly what
// the peer sent after choosing p; over TLS it is a *tls.Conn, otherwise what the
// listener accepted, so that either can close its writing half. It is serve's
// own until serve returns, and is closed then. ctx is done when the Mux stops.
func (m *Mux) Handle(p Proto, serve func(ctx context.Context, conn net.Conn)) {
	if p.envelope() {
		panic("transport: protocol " + p.Name + " only wraps others")
	}
	if m.handler(func(q Proto) bool { return q == p }) != nil {
		panic("transport: protocol " + p.Name + " is handled twice")
	}
	m.handlers = append(m.handlers, handler{p, serve})
}

func (m *Mux) handler(is func(Proto) bool) *handler {
	for i := range m.handlers {
		if is(m.handlers[i].proto) {
			return &m.handlers[i]
		}
	}
	return nil
}

// Serve accepts from ln until ctx is done. Then it closes ln and every
// connection, waits for every handler and returns nil. It returns an error when
// ln fails before. Several listeners may be served at a time.
func (m *Mux) Serve(ctx context.Context, ln net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	var open connSet
	var wg sync.WaitGroup
	wg.Go(func() {
		<-ctx.Done()
		_ = ln.Close() // It is of no more use, whatever it says.
		open.close()
	})
	err := m.accept(ctx, ln, func(conn net.Conn) {
		if open.add(conn) {
			wg.Go(func() {
				defer open.remove(conn)
				m.serve(ctx, conn)
			})
		}
	})
	stop()
	wg.Wait()
	return err
}

func (m *Mux) accept(ctx context.Context, ln net.Listener, start func(net.Conn)) error {
	pause := acceptPause
	for {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			pause = acceptPause
			start(conn)
		case ctx.Err() != nil:
			return nil //nolint:nilerr // ctx is done
		case !passing(err):
			return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		default:
			m.log().Warn("accepting connections pauses", "pause", pause, "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, maxAcceptPause)
		}
	}
}

// passing says that accepting may work again later.
func passing(err error) bool {
	for _, e := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (m *Mux) log() *slog.Logger {
	if m.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return m.Log
}

// serve tells one connection apart, has it served, and closes it.
func (m *Mux) serve(ctx context.Context, raw net.Conn) {
	defer func() { _ = raw.Close() }() // Closed twice when its owner did, which is harmless.
	most := m.MaxConnsPerClient
	if changed := m.perClient.Load(); changed != nil {
		most = *changed
	}
	ticket, err := m.counts.enter(raw, most)
	defer ticket.leave()
	if err != nil {
		m.refuse(ctx, raw, err)
		return
	}
	got, err := m.identify(ctx, raw)
	if err == nil {
		err = ticket.settle(got.standing)
	}
	if err == nil {
		err = raw.SetDeadline(time.Time{})
	}
	if err != nil {
		m.refuse(ctx, raw, err)
		return
	}
	got.serve(ctx, got.conn)
	_ = got.conn.Close() // Over TLS this tells the peer that nothing was cut off.
}

// identified is a connection that was told apart.
type identified struct {
	*handler
	conn     net.Conn
	standing standing
}

// refuse records why a connection was not served. Those who leave without a
// word, as port checks do, are not worth one; nor is what stopping cuts off.
func (m *Mux) refuse(ctx context.Context, raw net.Conn, err error) {
	if errors.Is(err, errLeft) || ctx.Err() != nil {
		return
	}
	m.refusals.write(ctx, m.log(), raw.RemoteAddr(), err)
}

// identify finds out what the peer wants, within the handshake timeout.
func (m *Mux) identify(ctx context.Context, raw net.Conn) (identified, error) {
	timeout := m.HandshakeTimeout
	if timeout <= 0 {
		timeout = handshakeTimeout
	}
	if err := raw.SetDeadline(time.Now().Add(timeout)); err != nil {
		return identified{}, errLeft
	}
	first, err := readByte(raw)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return identified{}, refused(reasonFirstByte, err)
	}
	if err != nil {
		return identified{}, errLeft
	}
	mat := m.TLS.material()
	switch {
	case first > lastByte() && mat.mutualCapable():
		return m.byALPN(ctx, mat, raw, first)
	case first == TLSUpgrade.Byte:
		return m.upgrade(ctx, mat, raw)
	case mat.cfg.VerifyIncoming:
		return identified{}, refused(reasonPlaintext, fmt.Errorf("first byte %d", first))
	default:
		h, err := m.byType(first)
		return identified{h, raw, direct}, err
	}
}

func readByte(conn net.Conn) (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(conn, b[:])
	return b[0], err
}

// byALPN serves a peer that began with a TLS handshake, whose first byte has been
// read. Such a peer may have come through a gateway, where anyone may connect, so
// what is reserved to servers needs a server's certificate whatever the settings.
func (m *Mux) byALPN(ctx context.Context, mat *material, raw net.Conn, first byte) (identified, error) {
	conn := tls.Server(&unread{Conn: raw, first: first, full: true}, mat.gateway)
	if err := conn.HandshakeContext(ctx); err != nil {
		return identified{}, refused(reasonHandshake, err)
	}
	id := conn.ConnectionState().NegotiatedProtocol
	if id == "" {
		return identified{}, refused(reasonALPN, errors.New("the peer offered no ALPN id"))
	}
	h := m.handler(func(p Proto) bool { return p.ALPN == id })
	if h == nil {
		return identified{}, refused(reasonALPN, fmt.Errorf("ALPN id %q is not served", id))
	}
	if h.proto.ServersOnly {
		if err := mat.checkServerPeer(conn); err != nil {
			return identified{}, refused(reasonNoServer, fmt.Errorf("%s: %w", h.proto.Name, err))
		}
	}
	return identified{h, conn, gateway}, nil
}

// upgrade serves a peer that asked for TLS with a type byte: inside comes a
// second one.
func (m *Mux) upgrade(ctx context.Context, mat *material, raw net.Conn) (identified, error) {
	if mat.cert == nil {
		return identified{}, refused(reasonHandshake, errors.New("TLS asked for, but there is no certificate"))
	}
	conn := tls.Server(raw, mat.server)
	if err := conn.HandshakeContext(ctx); err != nil {
		return identified{}, refused(reasonHandshake, err)
	}
	second, err := readByte(conn)
	if errors.Is(err, io.EOF) {
		return identified{}, errLeft
	}
	if err != nil {
		// With TLS 1.3 the alert of a peer that refuses our certificate arrives here.
		return identified{}, refused(reasonFirstByte, fmt.Errorf("inside TLS: %w", err))
	}
	if second == TLSUpgrade.Byte || second == InsecureTLS.Byte || second == tlsRecordByte {
		return identified{}, refused(reasonNested, fmt.Errorf("first byte %d inside TLS", second))
	}
	h, err := m.byType(second)
	if err != nil {
		return identified{}, err
	}
	if h.proto.ServersOnly && mat.cfg.VerifyIncoming && mat.cfg.VerifyServerHostname {
		if err := mat.checkServerPeer(conn); err != nil {
			return identified{}, refused(reasonNoServer, fmt.Errorf("%s: %w", h.proto.Name, err))
		}
	}
	return identified{h, conn, direct}, nil
}

func (m *Mux) byType(b byte) (*handler, error) {
	h := m.handler(func(p Proto) bool { return p.HasByte && p.Byte == b })
	if h == nil {
		return nil, refused(reasonUnknown, fmt.Errorf("first byte %d", b))
	}
	return h, nil
}

// tlsRecordByte begins a TLS handshake.
const tlsRecordByte = 22

// unread is a connection whose first byte was read and is yielded again. One
// byte is all it holds, however many connections are idle.
type unread struct {
	net.Conn
	first byte
	full  bool
}

func (u *unread) Read(p []byte) (int, error) {
	if u.full && len(p) > 0 {
		u.full = false
		p[0] = u.first
		return 1, nil
	}
	return u.Conn.Read(p)
}

// connSet holds the open connections of one Serve.
type connSet struct {
	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

// add reports whether conn may go on. When the set is closed it closes conn.
func (s *connSet) add(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = conn.Close() // Nothing was read from it or written to it.
		return false
	}
	if s.conns == nil {
		s.conns = map[net.Conn]struct{}{}
	}
	s.conns[conn] = struct{}{}
	return true
}

func (s *connSet) remove(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

func (s *connSet) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for conn := range s.conns {
		_ = conn.Close() // Its handler sees the end of it.
	}
}
