package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"hash/maphash"
	"net/http"
	"runtime/debug"
	"sync"
)

// Whoever watches asks the same again after each answer. The lot serves such a
// request itself: handing the connection to a server would cost a goroutine's
// stack, two buffers and the taking back each time. What is in any way unusual
// is handed over with its bytes put back, so that net/http alone decides about it.

// maxAgainLength is how long the head of a request may be that the lot serves.
const maxAgainLength = 4 << 10

var (
	headBuffers = sync.Pool{New: func() any { return new([maxAgainLength]byte) }}
	pathSeed    = maphash.MakeSeed()
	headEnd     = []byte("\r\n\r\n")
)

// serveAgain has the lot serve requests to the path that was parked last on the
// same connection, with base as net/http's BaseContext. It is called before run.
func (l *lot) serveAgain(base context.Context, h http.Handler) { l.base, l.handler = base, h }

// next deals with the bytes that have come on an idle connection.
func (s *slot) next() {
	buffer, _ := headBuffers.Get().(*[maxAgainLength]byte)
	defer headBuffers.Put(buffer)
	s.mu.Lock()
	if s.state != idle {
		s.mu.Unlock()
		return
	}
	s.early = false
	n, err := receiveNow(s.fd, buffer[:])
	var w *againWriter
	switch {
	case n < 0: // the bytes were those of the request before
	case n == 0, err != nil:
		s.end()
	default:
		r := s.again(buffer[:n])
		if r == nil {
			s.handOver(buffer[:n])
			break
		}
		w = newAgainWriter(s, r)
		if !s.lot.replace(s, w.slot) {
			w.cancel()
			w = nil
			s.end()
			break
		}
		s.state = over
	}
	s.mu.Unlock()
	if w != nil {
		w.serve()
	}
}

// again parses the head of a request to the path that was parked last. It returns
// nil for every other.
func (s *slot) again(head []byte) *http.Request {
	if s.lot.handler == nil || s.hungUp || len(head) == maxAgainLength ||
		bytes.Index(head, headEnd) != len(head)-len(headEnd) || !bytes.HasPrefix(head, []byte("GET /")) {
		return nil
	}
	for _, c := range head {
		if c >= 0x7f || c < ' ' && c != '\r' && c != '\n' {
			return nil
		}
	}
	r, err := http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(head), len(head)))
	switch {
	case err != nil, r.ProtoMajor != 1, r.Host == "", r.ContentLength != 0, len(r.TransferEncoding) > 0,
		r.Header["Expect"] != nil, r.Header["Upgrade"] != nil, r.Header["Trailer"] != nil,
		maphash.String(pathSeed, r.URL.Path) != s.path:
		return nil
	}
	return r
}

// againWriter is a request that the lot serves. It keeps what the handler answers
// until that returns, and is the request's context, by which take finds the slot.
type againWriter struct {
	context.Context //nolint:containedctx // it is one

	cancel  context.CancelFunc
	request *http.Request
	slot    *slot
	taken   bool
	header  http.Header
	status  int
	body    bytes.Buffer
}

// newAgainWriter makes a slot of its own for r, which came on the connection of
// old: who still has that can't answer the new request.
func newAgainWriter(old *slot, r *http.Request) *againWriter {
	w := &againWriter{slot: &slot{lot: old.lot, conn: old.conn, fd: old.fd}, header: http.Header{}}
	w.Context, w.cancel = context.WithCancel(old.lot.base)
	r.RemoteAddr = old.conn.RemoteAddr().String()
	w.request = r.WithContext(w)
	w.slot.describe(r, w.cancel)
	return w
}

// serve has the handler serve the request.
func (w *againWriter) serve() {
	defer w.cancel()
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if v != http.ErrAbortHandler { //nolint:errorlint // it is panicked with as it is
			w.slot.lot.log.Error("handler panicked", "path", w.request.URL.Path, "err", v, "stack", string(debug.Stack()))
		}
		if !w.taken {
			w.slot.abandon()
		}
	}()
	w.slot.lot.handler.ServeHTTP(w, w.request)
	if !w.taken {
		w.slot.answer(max(w.status, http.StatusOK), w.header, w.body.Bytes())
	}
}

type againKey struct{}

// Value implements context.Context.
func (w *againWriter) Value(key any) any {
	switch key {
	case againKey{}:
		return w
	case http.LocalAddrContextKey:
		return w.slot.conn.LocalAddr()
	}
	return w.Context.Value(key)
}

// Header implements http.ResponseWriter.
func (w *againWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *againWriter) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
}

// Write implements http.ResponseWriter.
func (w *againWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p) //nolint:wrapcheck // a buffer takes all
}

// take leaves the slot to a new owner.
func (w *againWriter) take(gone func()) *slot {
	s := w.slot
	w.taken = true
	s.mu.Lock()
	here := s.state == waiting
	if here {
		s.gone = gone
	}
	s.mu.Unlock()
	if !here { // The caller hung up while the handler ran.
		gone()
	}
	return s
}
