package transport_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/internal/transport"
)

func TestPeersInTheirHandshakeAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &transport.Mux{MaxConnsPerClient: 2}
		ln := newPipes()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Serve(ctx, ln) }()
		var mu sync.Mutex
		closed := map[string]int{}
		var wg sync.WaitGroup
		for range 10 {
			for _, ip := range []string{"10.0.0.1", "::1"} {
				conn := ln.from(ip)
				wg.Go(func() {
					if _, err := conn.Read(make([]byte, 1)); err != nil {
						mu.Lock()
						defer mu.Unlock()
						closed[ip]++
					}
				})
			}
		}
		synctest.Wait()
		mu.Lock()
		if closed["10.0.0.1"] != 2 || closed["::1"] != 2 {
			t.Errorf("got %v closed of 10 each, want the 2 above 4 times the limit", closed)
		}
		mu.Unlock()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		wg.Wait()
	})
}

func TestConnectionsOfOneAddressAreLimitedButNotThoseThroughGateways(t *testing.T) {
	var log logged
	cfg := newAuthority(t).server(t)
	m := &transport.Mux{TLS: load(t, cfg), MaxConnsPerClient: 2, Log: log.logger()}
	echo := func(_ context.Context, conn net.Conn) { _, _ = io.Copy(conn, conn) }
	m.Handle(transport.RPCMulti, echo)
	addr := serve(t, m)
	talk := func(conn net.Conn, send string) bool {
		_, werr := conn.Write([]byte(send))
		_, rerr := conn.Read(make([]byte, 1))
		return werr == nil && rerr == nil
	}
	first := dial(t, addr)
	if !talk(first, "\x04x") || !talk(dial(t, addr), "\x04x") {
		t.Fatal("not served below the limit")
	}
	if talk(dial(t, addr), "\x04x") {
		t.Error("served above the limit")
	}
	if !strings.Contains(log.String(), "too many connections") {
		t.Errorf("got %q, want the limit logged", log.String())
	}
	for i := range 5 {
		conn, err := within(t, dial(t, addr), cfg, transport.RPCMulti.ALPN)
		if err != nil || !talk(conn, "x") {
			t.Fatalf("connection %d through a gateway: refused: %v", i, err)
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a place is free again", func() bool { return talk(dial(t, addr), "\x04x") })
}

func TestRefusalsAreLoggedOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logged
		m := &transport.Mux{Log: log.logger()}
		ln := newPipes()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Serve(ctx, ln) }()
		refuse := func(b byte) {
			conn := ln.from("10.0.0.1")
			_, _ = conn.Write([]byte{b}) // Refused while it is written, perhaps.
			synctest.Wait()
		}
		for range 50 {
			refuse(2)
		}
		if err := ln.from("10.0.0.1").Close(); err != nil { // A port check is not worth a word.
			t.Fatal(err)
		}
		synctest.Wait()
		if got := strings.Count(log.String(), "\n"); got != 1 {
			t.Errorf("got %d lines, want 1: %s", got, log.String())
		}
		<-time.After(time.Minute)
		refuse(200)
		if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "suppressed=49") {
			t.Errorf("got %s, want a second line that tells of 49 more", got)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestLimitOfConnectionsChangesWhileServing(t *testing.T) {
	m := &transport.Mux{MaxConnsPerClient: 1}
	m.Handle(transport.RPCMulti, func(_ context.Context, conn net.Conn) { _, _ = io.Copy(conn, conn) })
	addr := serve(t, m)
	served := func() bool {
		conn := dial(t, addr)
		_, werr := conn.Write([]byte("\x04x"))
		_, rerr := conn.Read(make([]byte, 1))
		return werr == nil && rerr == nil
	}
	if !served() || served() {
		t.Fatal("the limit is not 1")
	}
	m.SetMaxConnsPerClient(2)
	if !served() || served() {
		t.Error("the limit is not 2")
	}
	m.SetMaxConnsPerClient(0)
	for range 5 {
		if !served() {
			t.Fatal("there is still a limit")
		}
	}
}
