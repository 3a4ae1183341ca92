//go:build linux

package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"isthmus/internal/testkit"
)

func TestAParkedRequestIsAnsweredAgainAndAgain(t *testing.T) {
	for name, c := range map[string]struct {
		adjust func(*lot)
		again  int32
	}{
		"served by the lot":  {nil, 6},
		"always handed over": {func(l *lot) { l.handler = nil }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := parkOnTCP(t, c.adjust)
			conn := p.dial()
			for round := range 9 {
				conn.get("/wait")
				s := <-p.slots
				body := fmt.Sprint("body ", round)
				answerOK(s, body)
				res := conn.want(body)
				if res.header.Get("X-Consul-Index") != "7" || res.closes {
					t.Errorf("got headers %v, closing %t", res.header, res.closes)
				}
				if at, err := http.ParseTime(res.header.Get("Date")); err != nil || time.Since(at).Abs() > time.Minute {
					t.Errorf("got date %q, %v", res.header.Get("Date"), err)
				}
				answerOK(s, "twice") // does nothing
				if round%3 == 2 {    // goes to the server, and so does the next one
					conn.get("/plain")
					conn.want("plain")
				}
			}
			if got := p.again.Load(); got != c.again {
				t.Errorf("the lot served %d requests, want %d", got, c.again)
			}
		})
	}
}

func TestTheStandardClientKeepsItsConnectionWhenParked(t *testing.T) {
	p := parkOnTCP(t, nil)
	var dials atomic.Int32
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	long := strings.Repeat("x", 300<<10)
	for range 3 {
		go func() { answerOK(<-p.slots, long) }()
		for _, target := range []string{"/wait", "/plain"} {
			res, err := client.Get("http://" + p.addr.String() + target)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if want := map[string]int{"/wait": len(long), "/plain": 5}[target]; err != nil || len(body) != want {
				t.Fatalf("%s: got %d bytes, %v", target, len(body), err)
			}
		}
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("got %d connections, want one", n)
	}
}

// TestAParkedAnswerHasTheHeadOfAPlainOne compares with what net/http answers.
func TestAParkedAnswerHasTheHeadOfAPlainOne(t *testing.T) {
	p := parkOnTCP(t, nil)
	for name, c := range map[string]struct {
		request string // its first word is the method
		header  http.Header
		status  int
		body    string
	}{
		"plain":          {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", http.Header{"Content-Type": headerJSON}, 200, "[]"},
		"empty":          {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", http.Header{"B": {"1", "2"}, "A": {"line\r\nfeed"}}, 404, ""},
		"no type":        {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", http.Header{}, 500, "broken"},
		"head":           {"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", http.Header{}, 200, "[]"},
		"no content":     {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", http.Header{}, 204, ""},
		"unknown status": {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", http.Header{}, 599, "x"},
		"caller closes":  {"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", http.Header{}, 200, "x"},
		"we close":       {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", http.Header{"Connection": {"close"}}, 200, "x"},
		"1.0":            {"GET / HTTP/1.0\r\n\r\n", http.Header{}, 200, "x"},
		"1.0 kept":       {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", http.Header{}, 200, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				maps.Copy(w.Header(), c.header)
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body) // fails where there is no body
			}))
			defer plain.Close()
			method, rest, _ := strings.Cut(c.request, " ")
			ask := func(p *parkServer, request string, answered func()) string {
				conn := p.dial()
				conn.send(request)
				answered()
				res := conn.answer(method)
				if p.lot != nil && !res.closes && res.proto == "HTTP/1.1" {
					conn.send(request) // Now the lot serves it, unless it is HEAD.
					answered()
					res = conn.answer(method)
				}
				if res.closes || res.proto == "HTTP/1.0" && res.header.Get("Connection") == "" {
					conn.wantEnd()
				}
				if res.header.Get("Date") == "" {
					t.Error("there is no date")
				}
				res.header.Del("Date")
				return fmt.Sprintf("%+v", res)
			}
			want := ask(&parkServer{t: t, addr: plain.Listener.Addr()}, c.request, func() {})
			got := ask(p, method+strings.Replace(" "+rest, " / ", " /wait ", 1), func() {
				(<-p.slots).answer(c.status, c.header, []byte(c.body))
			})
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestAHangUpWhileParkedIsTold(t *testing.T) {
	for name, hangUp := range map[string]func(*rawClient){
		"close": func(c *rawClient) { _ = c.Close() },
		"reset": func(c *rawClient) {
			_ = c.Conn.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		},
		"half-close": func(c *rawClient) { _ = c.Conn.(*net.TCPConn).CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			p := parkOnTCP(t, nil)
			c := p.dial()
			c.get("/wait?n=1")
			s := <-p.slots
			hangUp(c)
			if got := <-p.gone; got != "1" {
				t.Errorf("%q is gone", got)
			}
			answerOK(s, "late") // does nothing
			if name == "half-close" {
				c.wantEnd()
			}
			if err := p.stop(); err != nil {
				t.Error(err)
			}
			if len(p.gone) > 0 {
				t.Error("gone twice")
			}
		})
	}
}

// TestEarlyRequestsAreServedAfterTheAnswer sends the next requests in the same
// packet, so that the server has read them already, and while one is parked.
func TestEarlyRequestsAreServedAfterTheAnswer(t *testing.T) {
	const wait = "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"
	p := parkOnTCP(t, nil)
	c := p.dial()
	c.send(wait + wait + "GET /plain HTTP/1.1\r\nHost: x\r\n\r\n" + wait)
	answerOK(<-p.slots, "first")
	c.want("first")
	s := <-p.slots
	c.get("/plain")
	answerOK(s, "second")
	c.want("second")
	c.want("plain")
	answerOK(<-p.slots, "third")
	c.want("third")
	c.want("plain")

	c.get("/wait")
	s = <-p.slots
	c.get("/plain") // nobody reads it now
	c.get("/wait")
	answerOK(s, "fourth")
	c.want("fourth")
	c.want("plain")
	answerOK(<-p.slots, "fifth")
	c.want("fifth")
}

func TestASlowReaderHoldsUpNobodyAndIsClosed(t *testing.T) {
	p := parkOnTCP(t, func(l *lot) { l.write = 100 * time.Millisecond })
	slow, quick := p.dial(), p.dial()
	slow.get("/wait")
	large := strings.Repeat("x", 16<<20) // more than the kernel buffers
	answerOK(<-p.slots, large)
	quick.get("/wait")
	answerOK(<-p.slots, "quick")
	quick.want("quick")
	testkit.Eventually(t, func() error {
		if n := len(p.lot.all()); n > 1 { // the quick one is idle
			return fmt.Errorf("%d connections are left", n)
		}
		return nil
	})
	if n, err := io.Copy(io.Discard, slow.in); n >= int64(len(large)) || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

func TestALongAnswerGetsThroughWhole(t *testing.T) {
	p := parkOnTCP(t, nil)
	c := p.dial()
	long := strings.Repeat("0123456789abcdef", 1<<20)
	for range 2 {
		c.get("/wait")
		answerOK(<-p.slots, long) // returns although nobody reads yet
		c.want(long)
	}
}

func TestAnIdleConnectionIsClosedInTime(t *testing.T) {
	p := parkOnTCP(t, func(l *lot) { l.idle = 80 * time.Millisecond })
	waits, rests := p.dial(), p.dial()
	waits.get("/wait")
	s := <-p.slots
	rests.get("/wait")
	answerOK(<-p.slots, "x")
	rests.want("x")
	rests.wantEnd()
	answerOK(s, "y") // one that waits is not idle
	waits.want("y")
}

func TestConnectionsThatCannotBeParkedAreRefused(t *testing.T) {
	p := parkOnTCP(t, nil)
	c := p.dial()
	c.send("GET /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
	if res := c.answer(http.MethodGet); res.code != http.StatusTeapot {
		t.Errorf("with a body: got %d", res.code)
	}
	if s := p.lot.take(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/wait", nil), nil); s != nil {
		t.Error("without a connection: taken")
	}
	for _, http2 := range []bool{false, true} {
		secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if p.lot.take(w, r, nil) != nil {
				t.Errorf("%s over TLS: taken", r.Proto)
				return
			}
			w.WriteHeader(http.StatusTeapot)
		}))
		secure.EnableHTTP2 = http2
		secure.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		secure.StartTLS()
		res, err := secure.Client().Get(secure.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusTeapot {
			t.Errorf("%s over TLS: got %d", res.Proto, res.StatusCode)
		}
		secure.Close()
	}
	c = p.dial()
	p.lot.shut()
	c.get("/wait")
	if res := c.answer(http.MethodGet); res.code != http.StatusTeapot {
		t.Errorf("at the end: got %d", res.code)
	}
}

func TestUnixSocketsAreParked(t *testing.T) {
	p := newParkServer(t, listenOn(t, "unix", filepath.Join(t.TempDir(), "s")), nil)
	c := p.dial()
	for range 3 {
		c.get("/wait?n=unix")
		answerOK(<-p.slots, "x")
		c.want("x")
	}
	c.get("/wait?n=unix")
	<-p.slots
	_ = c.Close()
	if got := <-p.gone; got != "unix" {
		t.Errorf("%q is gone", got)
	}
}

// wrapping is a listener whose connections are wrapped; opaque ones do not tell
// what is inside.
type wrapping struct {
	net.Listener

	opaque bool
	open   atomic.Int32
}

type outer struct {
	net.Conn

	closed func()
}

func (o *outer) Close() error {
	o.closed()
	return o.Conn.Close()
}

type open struct{ *outer }

func (o open) NetConn() net.Conn { return o.Conn }

func (w *wrapping) Accept() (net.Conn, error) {
	conn, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	w.open.Add(1)
	o := &outer{Conn: conn, closed: sync.OnceFunc(func() { w.open.Add(-1) })}
	if w.opaque {
		return o, nil
	}
	return open{o}, nil
}

func TestAWrappedConnectionStaysWrapped(t *testing.T) {
	ln := &wrapping{Listener: listenOn(t, "tcp", "127.0.0.1:0")}
	p := newParkServer(t, ln, nil)
	c := p.dial()
	for range 2 {
		c.get("/wait")
		answerOK(<-p.slots, "x")
		c.want("x")
	}
	c.get("/plain")
	c.want("plain")
	if n := ln.open.Load(); n != 1 {
		t.Errorf("%d are open", n)
	}
	_ = c.Close()
	testkit.Eventually(t, func() error {
		if n := ln.open.Load(); n > 0 {
			return fmt.Errorf("%d are open", n)
		}
		return nil
	})
}

// TestAConnectionThatCannotBeWatchedIsAnswered shows the way out when its
// descriptor is out of reach: it ends with its answer.
func TestAConnectionThatCannotBeWatchedIsAnswered(t *testing.T) {
	ln := &wrapping{Listener: listenOn(t, "tcp", "127.0.0.1:0"), opaque: true}
	p := newParkServer(t, ln, nil)
	c := p.dial()
	c.get("/wait")
	answerOK(<-p.slots, "x")
	if res := c.want("x"); !res.closes {
		t.Error("it does not say that it closes")
	}
	c.wantEnd()
}
