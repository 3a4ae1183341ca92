package proxy

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

// session is one connection of a client and, once routed, the one to its
// backend.
type session struct {
	server  *server
	client  conn
	backend conn   // written with server.mu held, as closeAll reads it
	addr    string // of the backend
}

const (
	// helloBufLen holds most hellos, those with a post-quantum key share too.
	helloBufLen    = 4 << 10
	alertRecordLen = recordHeaderLen + 2
)

var helloBufs = sync.Pool{New: func() any { return new([helloBufLen]byte) }}

func (s *server) serve(client conn, source netip.Addr) {
	x := &session{server: s, client: client}
	if !x.enter() {
		return
	}
	defer x.leave()

	pooled, _ := helloBufs.Get().(*[helloBufLen]byte)
	hello, dst, err := x.route(pooled[:0], source)
	if err != nil {
		helloBufs.Put(pooled)
		x.refuse(err)
		return
	}
	dst.connections.Add(1)
	dst.active.Add(1)
	defer dst.active.Add(-1)
	ok := x.connect(dst, hello) && x.answer(dst, pooled)
	helloBufs.Put(pooled)
	if ok {
		s.relay.run(x.client, x.backend, dst.counters)
	}
}

// enter registers the session, unless all have been closed already.
func (x *session) enter() bool {
	x.server.mu.Lock()
	defer x.server.mu.Unlock()
	if x.server.closed {
		_ = x.client.Close()
		return false
	}
	x.server.sessions[x] = struct{}{}
	return true
}

func (x *session) leave() {
	x.server.mu.Lock()
	delete(x.server.sessions, x)
	x.server.mu.Unlock()
	x.close()
}

// close is called with the server's lock held, or when the session has left.
func (x *session) close() {
	_ = x.client.Close()
	if x.backend != nil {
		_ = x.backend.Close()
	}
}

// route reads the hello and looks its name up. The hello is returned with all
// that was read along with it; an error is always a refusal.
func (x *session) route(buf []byte, source netip.Addr) ([]byte, *target, error) {
	g := x.server.gateway
	entry := g.hellos.add(x.client, source)
	raw, scanner, err := x.readHello(buf)
	if g.hellos.remove(entry) {
		return nil, nil, errTooMany
	}
	if err != nil {
		return nil, nil, err
	}
	var space [maxNameLen]byte
	name, err := serverName(space[:0], scanner.message(raw))
	if err != nil {
		return nil, nil, err
	}
	table := g.table.Load()
	i, ok := table.routes.find(name)
	if !ok {
		return nil, nil, errUnknownName
	}
	return raw, table.targets[i], nil
}

func (x *session) readHello(buf []byte) ([]byte, helloScanner, error) {
	var scanner helloScanner
	if err := x.client.SetReadDeadline(time.Now().Add(x.server.gateway.cfg.HelloTimeout)); err != nil {
		return nil, scanner, errClosed
	}
	for {
		if len(buf) == cap(buf) {
			if len(buf) >= maxHelloLen {
				return nil, scanner, errMalformed
			}
			buf = slices.Grow(buf, len(buf))
		}
		n, err := x.client.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if done, scanErr := scanner.scan(buf); scanErr != nil {
			return nil, scanner, scanErr
		} else if done {
			break
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, scanner, errTimeout
		default:
			return nil, scanner, errClosed
		}
	}
	if err := x.client.SetReadDeadline(time.Time{}); err != nil {
		return nil, scanner, errClosed
	}
	return buf, scanner, nil
}

// refuse counts a refusal and tells a client that speaks TLS why.
func (x *session) refuse(err error) {
	var reason refusal
	if !errors.As(err, &reason) {
		reason = errClosed
	}
	g := x.server.gateway
	g.refused[reason].Add(1)
	g.log.Debug("connection refused", "reason", reason)
	description := byte(alertUnrecognized)
	switch reason {
	case errUnknownName, errNoName:
	case errMalformed:
		description = alertDecodeError
	default:
		return
	}
	// An empty send buffer takes seven bytes at once: this cannot block.
	alert := [alertRecordLen]byte{typeAlert, 3, 3, 0, 2, alertFatal, description}
	if _, err := x.client.Write(alert[:]); err == nil {
		_ = x.client.CloseWrite()
	}
}

// connect dials the target and sends it the hello.
func (x *session) connect(dst *target, hello []byte) bool {
	s := x.server
	backend, addr, err := s.gateway.connect(s.ctx, dst)
	if err != nil {
		dst.failed.Add(1)
		s.gateway.log.Debug("no address of the route can be reached", "err", err)
		return false
	}
	s.mu.Lock()
	x.backend, x.addr = backend, addr
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return false
	}
	n, err := backend.Write(hello)
	dst.bytesIn.Add(uint64(n)) //nolint:gosec // never negative
	return err == nil
}

// answer passes on the first bytes of the backend. The kernel accepts connections
// for a process that stands still, so where there is a choice an address that does
// not answer in time is tried last from then on. This stream goes on with it: it
// may only be slow, and what the client sends next follows an answer anyway.
func (x *session) answer(dst *target, buf *[helloBufLen]byte) bool {
	if len(dst.addrs) < 2 {
		return true
	}
	if err := x.backend.SetReadDeadline(time.Now().Add(silentAfter)); err != nil {
		return false
	}
	n, err := x.backend.Read(buf[:])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		x.server.gateway.silent(dst, x.addr)
	}
	if err := x.backend.SetReadDeadline(time.Time{}); err != nil {
		return false
	}
	if n > 0 {
		_, err = x.client.Write(buf[:n])
		dst.bytesOut.Add(uint64(n))
		return err == nil
	}
	return true // the relay meets the same end, and passes it on
}
