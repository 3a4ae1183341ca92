//go:build linux

package httpapi

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"isthmus/internal/testkit"
)

// TestTheLotServesAsTheServerDoes asks again on a connection that was parked: what
// is the same is answered by the lot, what is different or broken by net/http.
func TestTheLotServesAsTheServerDoes(t *testing.T) {
	for name, c := range map[string]struct {
		request string
		status  int
		body    string
		again   int32
	}{
		"at once":        {"GET /wait?n=now HTTP/1.1\r\nHost: x\r\n\r\n", 200, "now", 1},
		"version 1.0":    {"GET /wait?n=now HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n", 200, "now", 1},
		"other path":     {"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n", 200, "plain", 0},
		"in two parts":   {"GET /wait?n=now HTTP/1.1\r\nHo\x00st: x\r\n\r\n", 200, "now", 0},
		"two":            {"GET /wait?n=now HTTP/1.1\r\nHost: x\r\n\r\nGET /plain HTTP/1.1\r\nHost: x\r\n\r\n", 200, "now", 0},
		"body":           {"GET /wait?n=now HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 200, "now", 0},
		"body to come":   {"GET /wait?n=now HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n\x00{}", 200, "now", 0},
		"chunks":         {"GET /wait?n=now HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\x000\r\n\r\n", 200, "now", 0},
		"other method":   {"POST /wait?n=now HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 200, "now", 0},
		"long":           {"GET /wait?n=now HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 5000) + "\r\n\r\n", 200, "now", 0},
		"text":           {"GET /wait?n=now HTTP/1.1\r\nHost: x\r\nX: \xc3\xa4\r\n\r\n", 200, "now", 0},
		"no host":        {"GET /wait?n=now HTTP/1.1\r\n\r\n", 400, "400 Bad Request: missing required Host header", 0},
		"two hosts":      {"GET /wait?n=now HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, "400 Bad Request", 0},
		"broken":         {"GET /wait?n=now HTTP/1.1\r\nHost: x\r\nbroken\r\n\r\n", 400, "400 Bad Request", 0},
		"broken address": {"GET /wait?n=%zz%% HTTP/9.1\r\nHost: x\r\n\r\n", 505, "505 HTTP Version Not Supported: unsupported protocol version", 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := parkOnTCP(t, nil)
			conn := p.dial()
			conn.get("/wait")
			answerOK(<-p.slots, "x")
			conn.want("x")
			first, second, _ := strings.Cut(c.request, "\x00")
			conn.send(first)
			if second != "" {
				testkit.Eventually(t, func() error { // the first part was handed over
					if n := len(p.lot.all()); n > 0 && !strings.Contains(first, "Content-Length") {
						return fmt.Errorf("%d connections are left", n)
					}
					return nil
				})
				conn.send(second)
			}
			if got := conn.answer(http.MethodGet); got.code != c.status || got.body != c.body {
				t.Errorf("got %d %q, want %d %q", got.code, got.body, c.status, c.body)
			}
			if got := p.again.Load(); got != c.again {
				t.Errorf("the lot served %d requests, want %d", got, c.again)
			}
			if name == "two" {
				conn.want("plain")
			}
		})
	}
}

func TestAHangUpEndsAHandlerThatTheLotRuns(t *testing.T) {
	p := parkOnTCP(t, nil)
	c := p.dial()
	c.get("/wait")
	answerOK(<-p.slots, "x")
	c.want("x")
	c.get("/wait?n=itself")
	<-p.slots
	_ = c.Close()
	if got := <-p.gone; got != "itself" || p.again.Load() != 1 {
		t.Errorf("%q is gone", got)
	}
}

func TestAPanicEndsItsConnectionOnly(t *testing.T) {
	p := parkOnTCP(t, nil)
	c, other := p.dial(), p.dial()
	other.get("/wait")
	s := <-p.slots
	c.get("/wait")
	answerOK(<-p.slots, "x")
	c.want("x")
	c.get("/wait?n=panic")
	c.wantEnd()
	answerOK(s, "y")
	other.want("y")
}

// TestManyRoundsLoseNothing has clients ask again at once, at times before they have
// the answer, while others go on to a path that is not parked.
func TestManyRoundsLoseNothing(t *testing.T) {
	p := parkOnTCP(t, nil)
	ended := make(chan struct{})
	var owner, clients sync.WaitGroup
	owner.Go(func() {
		for {
			select {
			case s := <-p.slots:
				answerOK(s, "x")
			case <-ended:
				return
			}
		}
	})
	for n := range 20 {
		c := p.dial()
		clients.Go(func() {
			for round := range 200 {
				c.get("/wait")
				early := (n+round)%3 == 0
				if early {
					c.get("/wait")
				}
				plain := (n+round)%7 == 0
				if plain {
					c.get("/plain")
				}
				c.want("x")
				if early {
					c.want("x")
				}
				if plain {
					c.want("plain")
				}
			}
		})
	}
	clients.Wait()
	close(ended)
	owner.Wait()
	t.Logf("the lot served %d requests itself", p.again.Load())
}

func TestALastRequestBeforeAHalfCloseIsAnswered(t *testing.T) {
	p := parkOnTCP(t, nil)
	for range 50 {
		c := p.dial()
		c.get("/wait")
		answerOK(<-p.slots, "x")
		c.want("x")
		c.get("/plain")
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		c.want("plain")
		c.wantEnd()
	}
}
