//go:build linux

package httpapi

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"isthmus/internal/testkit"
)

func TestOwnersMayAnswerWhenTheLotEnds(t *testing.T) {
	p := parkOnTCP(t, func(l *lot) { l.drain = time.Minute })
	c := p.dial()
	c.get("/wait?n=1")
	s := <-p.slots
	stopped := make(chan error, 1)
	go func() { stopped <- p.stop() }()
	<-p.lot.closed
	answerOK(s, "last")
	if res := c.want("last"); !res.closes {
		t.Error("it does not say that it closes")
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if len(p.gone) > 0 {
		t.Error("answered and gone")
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// TestTheEndLeavesNothingBehind ends a lot with connections that wait, are idle,
// were handed over, have an early request, and read slowly.
func TestTheEndLeavesNothingBehind(t *testing.T) {
	http.DefaultTransport.(*http.Transport).CloseIdleConnections() // of other tests
	goroutines, fds := runtime.NumGoroutine(), descriptors(t)
	p := parkOnTCP(t, func(l *lot) { l.drain, l.write = 100*time.Millisecond, time.Minute })
	var clients []*rawClient
	dial := func() *rawClient {
		c := p.dial()
		clients = append(clients, c)
		return c
	}
	for n := range 5 {
		dial().get(fmt.Sprint("/wait?n=", n))
	}
	var waiting []*slot
	for range 5 {
		waiting = append(waiting, <-p.slots)
	}
	for range 5 {
		rests, handed := dial(), dial()
		for _, c := range []*rawClient{rests, handed} {
			c.get("/wait")
			answerOK(<-p.slots, "x")
			c.want("x")
		}
		handed.get("/plain")
		handed.want("plain")
	}
	slow := dial()
	slow.get("/wait")
	answerOK(<-p.slots, strings.Repeat("x", 16<<20))
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	for range 5 {
		<-p.gone
	}
	for _, s := range waiting {
		answerOK(s, "late") // does nothing
	}
	for _, c := range clients {
		_ = c.Close()
	}
	testkit.Eventually(t, func() error {
		if g, f := runtime.NumGoroutine(), descriptors(t); g > goroutines || f > fds {
			return fmt.Errorf("%d goroutines and %d descriptors, before %d and %d", g, f, goroutines, fds)
		}
		return nil
	})
}

func TestParkedRequestsHoldNoGoroutine(t *testing.T) {
	const n = 2000
	p := parkOnTCP(t, nil)
	var clients []*rawClient
	for range n {
		c := p.dial()
		c.get("/wait")
		clients = append(clients, c)
	}
	var slots []*slot
	for range n {
		slots = append(slots, <-p.slots)
	}
	few := func() error {
		if g := runtime.NumGoroutine(); g >= 100 {
			return fmt.Errorf("%d goroutines", g)
		}
		return nil
	}
	testkit.Eventually(t, few)
	for _, s := range slots {
		answerOK(s, "x")
	}
	for _, c := range clients {
		c.want("x")
	}
	testkit.Eventually(t, few) // idle ones hold none either
}

// TestEitherTheAnswerOrTheHangUpWins lets both happen at once. The caller, who
// still reads, gets an answer exactly when the owner was not told of the hang-up.
func TestEitherTheAnswerOrTheHangUpWins(t *testing.T) {
	p := parkOnTCP(t, nil)
	const rounds = 500
	answered := 0
	for i := range rounds {
		c := p.dial()
		c.get("/wait")
		s := <-p.slots
		var both sync.WaitGroup
		both.Go(func() { _ = c.Conn.(*net.TCPConn).CloseWrite() })
		both.Go(func() {
			for range i % 50 {
				runtime.Gosched()
			}
			answerOK(s, "x")
		})
		both.Wait()
		if got, _ := io.ReadAll(c.in); len(got) > 0 {
			answered++
			continue
		}
		<-p.gone
	}
	t.Logf("%d of %d were answered", answered, rounds)
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	if len(p.gone) > 0 {
		t.Errorf("%d were answered and gone", len(p.gone))
	}
}
