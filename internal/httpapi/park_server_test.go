//go:build linux

package httpapi

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// parkServer is a server whose requests of /wait are parked, or refused with 418.
// What is n in the query tells who is gone; some values do something else.
type parkServer struct {
	t     *testing.T
	lot   *lot
	addr  net.Addr
	slots chan *slot
	gone  chan string
	again atomic.Int32 // requests that the lot served itself
	stop  func() error // ends the lot and the server; twice is once
}

func newParkServer(t *testing.T, ln net.Listener, adjust func(*lot)) *parkServer {
	t.Helper()
	l, err := newLot(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p := &parkServer{t: t, lot: l, addr: ln.Addr(), slots: make(chan *slot, 1<<12), gone: make(chan string, 1<<12)}
	mux := http.NewServeMux()
	mux.HandleFunc("/plain", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "plain") })
	mux.HandleFunc("/wait", func(w http.ResponseWriter, r *http.Request) {
		n := r.URL.Query().Get("n")
		if r.Context().Value(http.ServerContextKey) == nil {
			p.again.Add(1)
		}
		switch n {
		case "now":
			_, _ = io.WriteString(w, "now")
			return
		case "itself":
			p.slots <- nil
			<-r.Context().Done()
			p.gone <- n
			return
		case "panic":
			panic("on purpose")
		}
		s := l.take(w, r, func() { p.gone <- n })
		if s == nil {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		p.slots <- s
	})
	ctx, cancel := context.WithCancel(context.Background())
	l.serveAgain(context.Background(), mux)
	if adjust != nil {
		adjust(l)
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: headWithin, IdleTimeout: idleWithin}
	var parts sync.WaitGroup
	var failed error
	parts.Go(func() { failed = l.run(ctx) })
	parts.Go(func() { _ = srv.Serve(ln) })
	parts.Go(func() { _ = srv.Serve(l.listener()) })
	p.stop = sync.OnceValue(func() error {
		cancel()
		end, done := context.WithTimeout(context.Background(), 10*time.Second)
		defer done()
		err := srv.Shutdown(end)
		parts.Wait()
		return errors.Join(err, failed)
	})
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func listenOn(t *testing.T, network, addr string) net.Listener {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), network, addr)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func parkOnTCP(t *testing.T, adjust func(*lot)) *parkServer {
	t.Helper()
	return newParkServer(t, listenOn(t, "tcp", "127.0.0.1:0"), adjust)
}

// rawClient is one connection of a client that writes its requests itself.
type rawClient struct {
	net.Conn

	t  *testing.T
	in *bufio.Reader
}

func (p *parkServer) dial() *rawClient {
	p.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(p.t.Context(), p.addr.Network(), p.addr.String())
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	return &rawClient{Conn: conn, t: p.t, in: bufio.NewReader(conn)}
}

func (c *rawClient) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// get sends a request of HTTP/1.1.
func (c *rawClient) get(target string) {
	c.t.Helper()
	c.send("GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n")
}

// rawAnswer is an answer that was read whole.
type rawAnswer struct {
	proto, status string
	code          int
	header        http.Header
	length        int64
	closes        bool
	body          string
}

// answer reads an answer to a request of the method.
func (c *rawClient) answer(method string) rawAnswer {
	c.t.Helper()
	res, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	_ = res.Body.Close()
	return rawAnswer{res.Proto, res.Status, res.StatusCode, res.Header, res.ContentLength, res.Close, string(body)}
}

func (c *rawClient) want(body string) rawAnswer {
	c.t.Helper()
	got := c.answer(http.MethodGet)
	if got.code != http.StatusOK || got.body != body {
		c.t.Fatalf("got %d %q, want 200 %q", got.code, got.body, body)
	}
	return got
}

// wantEnd shows that the server closes the connection.
func (c *rawClient) wantEnd() {
	c.t.Helper()
	if n, err := c.in.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("connection is open: read %d bytes, %v", n, err)
	}
}

func answerOK(s *slot, body string) {
	s.answer(http.StatusOK, http.Header{"Content-Type": headerJSON, "X-Consul-Index": {"7"}}, []byte(body))
}
