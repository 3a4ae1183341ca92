package main

import (
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// hello is what a gateway can read of a connection: the server name that routes it,
// and the protocol that is spoken inside.
type hello struct{ Name, Protocol string }

// recorder is a relay in front of a gateway that notes what the first message of
// every connection says in clear.
type recorder struct {
	to      string
	ln      net.Listener
	running sync.WaitGroup

	mu   sync.Mutex
	seen map[hello]bool
	open []net.Conn // both ends of what is relayed
}

// record relays from one address to another one until the test ends.
func record(t testing.TB, from, to string) *recorder {
	t.Helper()
	ln, err := net.Listen("tcp", from)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{to: to, ln: ln, seen: map[hello]bool{}}
	r.running.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			r.running.Go(func() { r.relay(conn) })
		}
	})
	t.Cleanup(r.stop)
	return r
}

// stop ends relaying. It comes before a gateway goes for good: checks that only ask
// whether somebody listens would hold it for alive.
func (r *recorder) stop() {
	r.ln.Close()
	r.mu.Lock()
	for _, conn := range r.open {
		conn.Close()
	}
	r.mu.Unlock()
	r.running.Wait()
}

// hellos are what connections asked for so far; none, where nothing is recorded.
func (r *recorder) hellos() map[hello]bool {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.seen)
}

func (r *recorder) relay(conn net.Conn) {
	r.keep(conn)
	defer conn.Close()
	first := &tap{Conn: conn}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return
	}
	stop := errors.New("that was all")
	err := tls.Server(first, &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
		h := hello{Name: info.ServerName, Protocol: strings.Join(info.SupportedProtos, " ")} // one is expected
		r.mu.Lock()
		r.seen[h] = true
		r.mu.Unlock()
		return nil, stop
	}}).Handshake()
	if !errors.Is(err, stop) || conn.SetReadDeadline(time.Time{}) != nil {
		return // a check whether something listens here
	}
	far, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	r.keep(far)
	defer far.Close()
	if _, err := far.Write(first.read); err != nil {
		return
	}
	var ways sync.WaitGroup
	for from, to := range map[net.Conn]net.Conn{conn: far, far: conn} {
		ways.Go(func() {
			_, _ = io.Copy(to, from) // either end may break off
			_ = to.(*net.TCPConn).CloseWrite()
		})
	}
	ways.Wait()
}

// keep remembers a connection that must not outlive the test.
func (r *recorder) keep(conn net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = append(r.open, conn)
}

// tap keeps what is read from a connection, and writes nothing.
type tap struct {
	net.Conn
	read []byte
}

func (c *tap) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read = append(c.read, b[:n]...)
	return n, err
}

func (*tap) Write(b []byte) (int, error) { return len(b), nil }
