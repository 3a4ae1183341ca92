package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

func needFiles(t *testing.T, n uint64) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < n {
		t.Skipf("needs %d open files, %d are allowed", n, limit.Cur)
	}
}

// Clients that never finish their hello neither exhaust memory nor keep out
// those that do, though all come from one address.
func TestFloodOfUnfinishedHellos(t *testing.T) {
	const flood = 10_000
	needFiles(t, flood+2_000)
	g := start(t, Config{HelloTimeout: time.Minute},
		Route{Name: "s", Match: "s.consul", Addrs: []string{named(t, "s")}})
	half := helloFor(t, "s.consul", tls.VersionTLS13)[:600]
	open := make([]net.Conn, flood)
	before := memory()
	for i := range open {
		open[i] = g.dial(t)
		_, _ = open[i].Write(half)
		if i%1000 == 999 {
			if got := greeting(t, g.tls(t, "s.consul")); got != "s" {
				t.Fatalf("got server %q after %d", got, i)
			}
		}
	}
	limit := g.cfg.MaxHellosPerSource
	eventually(t, "all but the limit closed", func() bool {
		s := g.Stats()
		return s.Hellos <= limit && s.Refused["too_many"] >= flood-uint64(limit)
	})
	// The clients, which are part of this process, take most of it.
	if grown := int64(memory()) - int64(before); grown > 32<<20 {
		t.Errorf("memory grew by %d bytes", grown)
	}
}

// A stream that waits holds neither buffers nor pipes, whatever it has moved.
func TestIdleStreamsHoldNoPipe(t *testing.T) {
	f := &flow{relay: newRelay(), moved: bulkAfter, lastLen: bulkRead}
	defer f.relay.close()
	ours, theirs := pair(t)
	fd := rawFD(t, ours)
	if f.fill(fd) {
		t.Fatal("filled from nothing")
	}
	if f.pipe != nil || f.buf != nil || f.relay.pipes.lent != 0 || len(f.relay.pipes.spare) != 1 {
		t.Error("a pipe is held while there is nothing to move")
	}
	_, _ = theirs.Write(make([]byte, 10))
	eventually(t, "ten bytes", func() bool { return f.fill(fd) })
	if f.pipe == nil || f.n != 10 {
		t.Errorf("got %d bytes, in a pipe: %v", f.n, f.pipe != nil)
	}
	f.release()
	if f.relay.pipes.lent != 0 || len(f.relay.pipes.spare) != 0 {
		t.Error("a pipe with bytes in it was kept for the next stream")
	}
}

func TestOnlyBulkIsSpliced(t *testing.T) {
	for name, f := range map[string]*flow{
		"young stream":   {moved: bulkAfter - 1, lastLen: relayBufLen},
		"small messages": {moved: bulkAfter, lastLen: bulkRead - 1},
	} {
		f.relay = newRelay()
		ours, theirs := pair(t)
		_, _ = theirs.Write([]byte("hello"))
		eventually(t, "bytes", func() bool { return f.fill(rawFD(t, ours)) })
		if f.pipe != nil || !bytes.Equal(f.buf[:f.n], []byte("hello")) {
			t.Errorf("%s: spliced", name)
		}
	}
}

// Without pipes, as when all are held by readers that do not read, streams go
// on by copying.
func TestCopiesWhenPipesAreUsedUp(t *testing.T) {
	r := newRelay()
	r.pipes.lent = maxPipes
	client, in := pair(t)
	out, server := pair(t)
	var count counters
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.run(in, out, &count)
	}()
	const size = 4 << 20
	go func() {
		_, _ = client.Write(make([]byte, size))
		_ = client.CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, server); n != size || err != nil {
		t.Errorf("got %d bytes, %v", n, err)
	}
	_ = server.CloseWrite()
	<-done
	if r.pipes.lent != maxPipes || len(r.pipes.spare) != 0 {
		t.Error("a pipe was made beyond the limit")
	}
}

// full is an address whose queue of connections has no room: dials of it stay
// pending until drain has been called, and then until the kernel tries again.
func full(t *testing.T) (addr string, drain func()) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	own, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr = fmt.Sprintf("127.0.0.1:%d", own.(*unix.SockaddrInet4).Port)
	queued := 0
	for {
		c, err := dialTCP(t.Context(), addr, 100*time.Millisecond)
		if err != nil {
			break
		}
		queued++
		t.Cleanup(func() { _ = c.Close() })
	}
	return addr, func() {
		for range queued {
			if fd, _, err := unix.Accept(fd); err == nil {
				_ = unix.Close(fd)
			}
		}
	}
}

func TestPendingDial(t *testing.T) {
	addr, drain := full(t)
	if _, err := dialTCP(t.Context(), addr, 10*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a timeout", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := dialTCP(ctx, addr, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the end of the context", err)
	}
	done := make(chan error)
	go func() {
		c, err := dialTCP(t.Context(), addr, deadline)
		if err == nil {
			err = c.Close()
		}
		done <- err
	}()
	drain()
	if err := <-done; err != nil {
		t.Errorf("dial of what has room again: %v", err)
	}
}

func TestPendingDialIsRaced(t *testing.T) {
	addr, _ := full(t)
	g := start(t, Config{}, Route{Name: "s", Match: "s.consul", Addrs: []string{addr, named(t, "live")}})
	for range 4 {
		if got := greeting(t, g.tls(t, "s.consul")); got != "live" {
			t.Fatalf("got server %q", got)
		}
	}
}

// pair is both ends of a connection.
func pair(t *testing.T) (*net.TCPConn, *net.TCPConn) {
	t.Helper()
	ln := listen(t)
	a, err := net.DialTCP("tcp", nil, ln.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

func rawFD(t *testing.T, c *net.TCPConn) (fd uintptr) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(x uintptr) { fd = x }); err != nil {
		t.Fatal(err)
	}
	return fd
}
