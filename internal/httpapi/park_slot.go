package httpapi

import (
	"bytes"
	"hash/maphash"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// slotState is who may do what with a slot.
type slotState uint8

const (
	waiting slotState = iota // for the answer or the end of the connection, whichever comes first
	writing                  // a goroutine writes what of the answer did not fit at once
	idle                     // for the next request
	over                     // closed or handed over: the slot is no longer in the lot
)

// slot is a connection in a lot, from one request that waits to the next request.
type slot struct {
	lot *lot
	id  uint64 // of the connection, for as long as it stays in the lot

	// mu is held while the socket is written to, but only ever without blocking.
	mu    sync.Mutex
	conn  net.Conn
	gone  func()
	since time.Duration // when it became idle, from the start of the lot
	fd    int32         // belongs to conn, which is open while the state is not over; -1 is none
	state slotState

	// What the answer must know of the request, and what the next one is told by.
	http10, head, last bool
	path               uint64 // hashed

	early  bool // bytes have come that nobody has read
	hungUp bool // and there will be no more of them
}

// take parks the connection of a request whose handler is about to wait. After
// that the handler returns, and neither it nor anybody else uses w, the body or
// the context of r. The owner of the slot calls answer in the end.
//
// When the caller hangs up before the answer, or the lot ends, the connection is
// closed and gone is called instead, at most once, maybe even before take has
// returned. It must not block.
//
// What can't be parked yields nil, and w is as it was: the handler waits itself. A
// lot that is nil takes nothing.
func (l *lot) take(w http.ResponseWriter, r *http.Request, gone func()) *slot {
	if w, ok := r.Context().Value(againKey{}).(*againWriter); ok {
		return w.take(gone)
	}
	if l == nil || l.poll == nil || r.ProtoMajor != 1 || r.TLS != nil || r.ContentLength != 0 || !onSocket(r) {
		return nil
	}
	s := &slot{lot: l, fd: -1}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !l.add(s) {
		return nil
	}
	// It also ends the server's own reading in the background and clears deadlines.
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.state = over
		l.drop(s)
		return nil
	}
	var early []byte
	if n := buffered.Reader.Buffered(); n > 0 {
		early, _ = buffered.Peek(n) // they are there
	}
	s.conn = putBack(conn, early)
	s.describe(r, gone)
	s.fd = descriptor(conn)
	if s.fd < 0 || l.poll.watch(s.fd, s.id) != nil {
		// It can't be watched, so it can't be kept after its answer either.
		l.log.Warn("parked connection is not watched", "remote", conn.RemoteAddr())
		s.fd, s.last = -1, true
	}
	return s
}

// describe has the slot wait for the answer to r.
func (s *slot) describe(r *http.Request, gone func()) {
	s.gone, s.path = gone, maphash.String(pathSeed, r.URL.Path)
	s.http10, s.head, s.last = !r.ProtoAtLeast(1, 1), r.Method == http.MethodHead, r.Close
}

// onSocket tells whether a request came over a socket that has a descriptor.
func onSocket(r *http.Request) bool {
	switch r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.TCPAddr, *net.UnixAddr:
		return true
	}
	return false
}

// descriptor is the file descriptor of the innermost of connections, or -1. It
// stays valid until that is closed.
func descriptor(conn net.Conn) int32 {
	fd := int32(-1)
	for {
		switch c := conn.(type) {
		case syscall.Conn:
			if raw, err := c.SyscallConn(); err == nil {
				_ = raw.Control(func(f uintptr) { fd = int32(f) }) //nolint:gosec // descriptors are small; without one it stays -1
			}
			return fd
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return fd
		}
	}
}

// putBack returns conn with bytes that were read from it before those to come.
func putBack(conn net.Conn, early []byte) net.Conn {
	if c, ok := conn.(*unread); ok {
		early, conn = slices.Concat(early, c.early), c.Conn
	}
	if len(early) == 0 {
		return conn
	}
	return &unread{Conn: conn, early: slices.Clone(early)}
}

// unread is a connection of which some bytes were read too early.
type unread struct {
	net.Conn

	early []byte
}

// Read implements net.Conn.
func (u *unread) Read(p []byte) (int, error) {
	if len(u.early) == 0 {
		return u.Conn.Read(p) //nolint:wrapcheck // the connection's own error
	}
	n := copy(p, u.early)
	u.early = u.early[n:]
	return n, nil
}

// NetConn returns the connection below.
func (u *unread) NetConn() net.Conn { return u.Conn }

// happened deals with bytes that have come, or with the end of the connection. It
// returns false when the slot is over.
func (s *slot) happened(hungUp bool) bool {
	s.mu.Lock()
	s.early, s.hungUp = true, s.hungUp || hungUp
	switch s.state {
	case waiting:
		if hungUp {
			gone := s.gone
			s.end()
			s.mu.Unlock()
			gone()
			return true
		}
	case idle:
		s.lot.work.Go(s.next)
	case over:
		s.mu.Unlock()
		return false
	case writing: // first the answer
	}
	s.mu.Unlock()
	return true
}

// handOver passes the connection on with the bytes that were read of it. The
// caller holds mu.
func (s *slot) handOver(early []byte) {
	s.state = over
	s.lot.poll.forget(s.fd)
	conn := putBack(s.conn, early)
	s.lot.work.Go(func() { s.lot.hand(conn) }) // before the slot is dropped, so that the lot waits for it
	s.lot.drop(s)
}

// abandon lets go of the connection whatever it is doing.
func (s *slot) abandon() {
	s.mu.Lock()
	gone := func() {}
	switch s.state {
	case waiting:
		gone = s.gone
		s.end()
	case writing:
		_ = s.conn.Close() // the writer notices and ends the slot
	case idle:
		s.end()
	case over:
	}
	s.mu.Unlock()
	gone()
}

// end closes the connection. The caller holds mu.
func (s *slot) end() {
	s.state, s.gone = over, nil
	_ = s.conn.Close() // there is nobody left to tell
	s.lot.drop(s)
}

// answer answers the request, unless its caller is gone. It never waits for the
// caller; so body must not change any more. It is called once.
func (s *slot) answer(status int, header http.Header, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != waiting {
		return
	}
	s.gone = nil
	if s.lot.isShut() || strings.EqualFold(header.Get("Connection"), "close") {
		s.last = true
	}
	out := getBuffer()
	defer putBuffer(out)
	s.renderHead(out, status, header, body)
	if s.head || !hasBody(status) {
		body = nil
	}
	n, err := 0, error(nil)
	if s.fd >= 0 {
		n, err = sendNow(s.fd, out.Bytes(), body)
	}
	switch rest := out.Bytes()[min(n, out.Len()):]; {
	case err != nil:
		s.end()
	case n < out.Len()+len(body):
		body = body[max(n-out.Len(), 0):]
		rest = bytes.Clone(rest)
		s.state = writing
		s.lot.work.Go(func() { s.write(rest, body) })
	default:
		s.settle()
	}
}

// write writes the rest of an answer to a caller who reads slowly.
func (s *slot) write(parts ...[]byte) {
	var err error
	for _, part := range parts {
		for chunk := range slices.Chunk(part, writeChunk) {
			if err == nil {
				_ = s.conn.SetWriteDeadline(time.Now().Add(s.lot.write)) // else writing fails, too
				_, err = s.conn.Write(chunk)
			}
		}
	}
	_ = s.conn.SetWriteDeadline(time.Time{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = s.last || err != nil
	s.settle()
}

// settle keeps the connection for its next request once the answer is written.
// The caller holds mu.
func (s *slot) settle() {
	if s.last || s.lot.isShut() {
		s.end()
		return
	}
	if _, ok := s.conn.(*unread); ok { // The next request has come already.
		s.handOver(nil)
		return
	}
	s.state, s.since = idle, time.Since(s.lot.start)
	if s.early {
		s.lot.work.Go(s.next)
	}
}

// renderHead writes the head of an answer as net/http does.
func (s *slot) renderHead(out *bytes.Buffer, status int, header http.Header, body []byte) {
	version := "HTTP/1.1 "
	if s.http10 {
		version = "HTTP/1.0 "
	}
	out.WriteString(version)
	out.Write(strconv.AppendInt(out.AvailableBuffer(), int64(status), 10))
	out.WriteByte(' ')
	if text := http.StatusText(status); text != "" {
		out.WriteString(text)
	} else {
		out.WriteString("status code " + strconv.Itoa(status))
	}
	out.WriteString("\r\n")
	_ = header.WriteSubset(out, ownHeaders) // a buffer takes all
	if _, ok := header["Date"]; !ok {
		out.WriteString("Date: ")
		out.Write(time.Now().UTC().AppendFormat(out.AvailableBuffer(), http.TimeFormat))
		out.WriteString("\r\n")
	}
	if hasBody(status) {
		if _, ok := header["Content-Type"]; !ok && len(body) > 0 && header.Get("Content-Encoding") == "" {
			out.WriteString("Content-Type: " + http.DetectContentType(body) + "\r\n")
		}
		out.WriteString("Content-Length: ")
		out.Write(strconv.AppendInt(out.AvailableBuffer(), int64(len(body)), 10))
		out.WriteString("\r\n")
	}
	switch {
	case s.last && !s.http10:
		out.WriteString("Connection: close\r\n")
	case !s.last && s.http10:
		out.WriteString("Connection: keep-alive\r\n")
	}
	out.WriteString("\r\n")
}

// ownHeaders are the headers that follow from the answer and the connection.
var ownHeaders = map[string]bool{"Connection": true, "Content-Length": true, "Transfer-Encoding": true}

// hasBody tells whether answers of a status have a body, be it an empty one.
func hasBody(status int) bool {
	return status >= http.StatusOK && status != http.StatusNoContent && status != http.StatusNotModified
}
