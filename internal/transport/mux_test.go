package transport_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/internal/transport"
)

func TestProtocolsAreDeclaredOnceWithTheNumbersOfTheProtocol(t *testing.T) {
	want := map[string]string{
		"rpc":               "0 consul/rpc-single",
		"raft":              "1 consul/raft",
		"tls":               "3 ",
		"rpc-multi":         "4 consul/rpc-multi",
		"snapshot":          "5 consul/rpc-snapshot",
		"gossip":            "6 consul/rpc-gossip",
		"tls-insecure":      "7 ",
		"grpc":              "8 consul/rpc-grpc",
		"raft-forwarding":   "9 consul/raft-forwarding",
		"wan-gossip-packet": "- consul/wan-gossip/packet",
		"wan-gossip-stream": "- consul/wan-gossip/stream",
	}
	for _, p := range transport.Protos() {
		got := "- " + p.ALPN
		if p.HasByte {
			got = fmt.Sprintf("%d %s", p.Byte, p.ALPN)
		}
		if got != want[p.Name] {
			t.Errorf("%s: got %q, want %q", p.Name, got, want[p.Name])
		}
		delete(want, p.Name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

// served names the protocol handleAll serves for a first byte, or "".
func served(b byte) string {
	for _, p := range transport.Protos() {
		if p.HasByte && p.Byte == b && b != 3 && b != 6 && b != 7 {
			return p.Name
		}
	}
	return ""
}

func TestEveryFirstByte(t *testing.T) {
	ca := newAuthority(t)
	strict := ca.server(t)
	strict.VerifyIncoming = true
	for _, mode := range []struct {
		name  string
		tls   *transport.TLS
		plain bool
	}{
		{"TLS off", nil, true},
		{"TLS possible", load(t, ca.server(t)), true},
		{"TLS demanded", load(t, strict), false},
	} {
		t.Run(mode.name, func(t *testing.T) {
			m := &transport.Mux{TLS: mode.tls}
			handleAll(m)
			addr := serve(t, m)
			for b := range 256 {
				want := served(byte(b))
				if want != "" {
					want += ":ping"
				}
				if !mode.plain {
					want = ""
				}
				got := ask(t, dial(t, addr), string([]byte{byte(b)})+"ping")
				// Whoever sends no TLS where TLS is expected may be told so by an alert.
				if mode.tls != nil && b > 9 && strings.HasPrefix(got, "\x15") {
					got = ""
				}
				if got != want {
					t.Errorf("byte %d: got %q, want %q", b, got, want)
				}
			}
		})
	}
}

func TestEveryFirstByteInsideTLS(t *testing.T) {
	ca := newAuthority(t)
	strict := ca.server(t)
	strict.VerifyIncoming = true
	m := &transport.Mux{TLS: load(t, strict)}
	handleAll(m)
	addr := serve(t, m)
	for b := range 256 {
		raw := dial(t, addr)
		if _, err := raw.Write([]byte{3}); err != nil {
			t.Fatal(err)
		}
		conn, err := within(t, raw, strict)
		if err != nil {
			t.Fatal(err)
		}
		want := served(byte(b))
		if want != "" {
			want += ":ping"
		}
		if got := ask(t, conn, string([]byte{byte(b)})+"ping"); got != want {
			t.Errorf("byte %d: got %q, want %q", b, got, want)
		}
	}
}

func TestEveryALPNID(t *testing.T) {
	ca := newAuthority(t)
	server := ca.server(t) // Incoming connections are not verified by the settings.
	m := &transport.Mux{TLS: load(t, server)}
	handleAll(m)
	addr := serve(t, m)
	for _, p := range transport.Protos() {
		if p.ALPN == "" {
			continue
		}
		conn, err := within(t, dial(t, addr), server, p.ALPN)
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
			continue
		}
		want := p.Name + ":\x04ping" // There is no type byte inside.
		if p == transport.Gossip {
			want = ""
		}
		if got := ask(t, conn, "\x04ping"); got != want {
			t.Errorf("%s: got %q, want %q", p.Name, got, want)
		}
	}
	for _, alpn := range [][]string{nil, {"h2"}, {"consul/rpc-multi/2"}, {""}} {
		conn, err := within(t, dial(t, addr), server, alpn...)
		if err == nil && ask(t, conn, "\x04ping") != "" {
			t.Errorf("%q was served", alpn)
		}
	}
}

// TestWhoMaySpeak tries every kind of peer on every way in.
func TestWhoMaySpeak(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	server, client := ca.server(t), ca.client(t)
	elsewhere := ca.config(t, transport.CertOptions{Role: transport.ServerCert, Datacenter: "dc2", Node: "n1"})
	expired := expiredConfig(t, ca)
	stranger := other.server(t)
	nobody := transport.TLSConfig{}

	open := ca.server(t)
	verify := open
	verify.VerifyIncoming = true
	names := verify
	names.VerifyServerHostname = true

	for _, c := range []struct {
		what         string
		settings     transport.TLSConfig
		peer         transport.TLSConfig
		proto        transport.Proto
		byByte, alpn bool
	}{
		{"server speaks raft", names, server, transport.Raft, true, true},
		{"client speaks raft", names, client, transport.Raft, false, false},
		{"client speaks raft, names not verified", verify, client, transport.Raft, true, false},
		{"client forwards raft", names, client, transport.RaftForwarding, false, false},
		{"server of another datacenter speaks raft", names, elsewhere, transport.Raft, false, false},
		{"server of another datacenter speaks RPC", names, elsewhere, transport.RPCMulti, true, true},
		{"client speaks RPC", names, client, transport.RPCMulti, true, true},
		{"no certificate", names, nobody, transport.RPCMulti, false, false},
		{"no certificate, not verified", open, nobody, transport.RPCMulti, true, false},
		{"certificate of another CA", verify, stranger, transport.RPCMulti, false, false},
		{"certificate of another CA, not verified", open, stranger, transport.RPCMulti, true, false},
		{"expired certificate", verify, expired, transport.RPCMulti, false, false},
		{"expired certificate, not verified", open, expired, transport.RPCMulti, true, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			m := &transport.Mux{TLS: load(t, c.settings)}
			handleAll(m)
			addr := serve(t, m)
			want := map[bool]string{true: c.proto.Name + ":ping"}

			raw := dial(t, addr)
			if _, err := raw.Write([]byte{3}); err != nil {
				t.Fatal(err)
			}
			got := ""
			if conn, err := within(t, raw, c.peer); err == nil {
				got = ask(t, conn, string([]byte{c.proto.Byte})+"ping")
			}
			if got != want[c.byByte] {
				t.Errorf("by byte: got %q, want %q", got, want[c.byByte])
			}
			got = ""
			if conn, err := within(t, dial(t, addr), c.peer, c.proto.ALPN); err == nil {
				got = ask(t, conn, "ping")
			}
			if got != want[c.alpn] {
				t.Errorf("by ALPN: got %q, want %q", got, want[c.alpn])
			}
		})
	}
}

// expiredConfig makes a certificate where the clock stands in the year 2000.
func expiredConfig(t *testing.T, ca authority) transport.TLSConfig {
	t.Helper()
	var cert, key []byte
	synctest.Test(t, func(t *testing.T) {
		var err error
		cert, key, err = transport.NewCert(ca.cert, ca.key,
			transport.CertOptions{Role: transport.ServerCert, Node: "n1"})
		if err != nil {
			t.Fatal(err)
		}
	})
	return transport.TLSConfig{
		CAFile: write(t, "ca.pem", ca.cert), CertFile: write(t, "cert.pem", cert), KeyFile: write(t, "key.pem", key),
		Datacenter: "dc1", NodeName: "n1",
	}
}

// expiredCA makes a CA in the same year, valid for a day.
func expiredCA(t *testing.T) authority {
	t.Helper()
	var ca authority
	synctest.Test(t, func(t *testing.T) {
		cert, key, err := transport.NewCA(transport.CAOptions{Days: 1})
		if err != nil {
			t.Fatal(err)
		}
		ca = authority{cert, key}
	})
	return ca
}

// TestHandlersCanAskWhetherThePeerIsAServer is for requests of servers inside a
// protocol that all may use.
func TestHandlersCanAskWhetherThePeerIsAServer(t *testing.T) {
	ca := newAuthority(t)
	strict := ca.server(t)
	strict.VerifyIncoming, strict.VerifyServerHostname = true, true
	for _, settings := range []transport.TLSConfig{strict, ca.server(t)} {
		s := load(t, settings)
		m := &transport.Mux{TLS: s}
		m.Handle(transport.RPCMulti, func(_ context.Context, conn net.Conn) {
			text := "server"
			if s.CheckServerPeer(conn) != nil {
				text = "client"
			}
			_, _ = conn.Write([]byte(text)) // The test reads it, or fails.
		})
		addr := serve(t, m)
		for want, peer := range map[string]transport.TLSConfig{"server": ca.server(t), "client": ca.client(t)} {
			if !settings.VerifyIncoming {
				want = "server" // Nothing is demanded.
			}
			conn, err := load(t, peer).Upgrade(t.Context(), addr, "server.dc1.consul", transport.RPCMulti)
			if err != nil {
				t.Fatal(err)
			}
			if got := ask(t, conn, ""); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	}
}

func TestTLSInTLSIsRefused(t *testing.T) {
	var log logged
	cfg := newAuthority(t).server(t)
	m := &transport.Mux{TLS: load(t, cfg), Log: log.logger()}
	handleAll(m)
	addr := serve(t, m)
	for _, b := range []byte{3, 7, 22} {
		raw := dial(t, addr)
		if _, err := raw.Write([]byte{3}); err != nil {
			t.Fatal(err)
		}
		outer, err := within(t, raw, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if b != 22 { // The byte with which the handshake itself begins.
			if _, err := outer.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := within(t, outer, cfg, "consul/rpc-multi"); err == nil {
			t.Errorf("byte %d: TLS in TLS was accepted", b)
		}
	}
	eventually(t, "the log says so", func() bool { return strings.Contains(log.String(), `reason="TLS in TLS"`) })
}

func TestHandlerOwnsTheConnectionUntilItReturns(t *testing.T) {
	m := &transport.Mux{HandshakeTimeout: time.Second}
	m.Handle(transport.RPCSingle, func(_ context.Context, conn net.Conn) {
		if _, ok := conn.(*net.TCPConn); !ok {
			t.Errorf("got a %T, want what the listener accepted", conn)
		}
	})
	conn := dial(t, serve(t, m))
	if _, err := conn.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end of the connection", err)
	}
}

func TestRegisteringWronglyPanics(t *testing.T) {
	serve := func(context.Context, net.Conn) {}
	for _, protos := range [][]transport.Proto{
		{transport.TLSUpgrade}, {transport.InsecureTLS}, {transport.Raft, transport.Raft},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v: no panic", protos)
				}
			}()
			m := &transport.Mux{}
			for _, p := range protos {
				m.Handle(p, serve)
			}
		}()
	}
}

// pipes is a listener of connections in memory.
type pipes struct {
	conns  chan net.Conn
	errs   chan error
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes {
	return &pipes{conns: make(chan net.Conn), errs: make(chan error), closed: make(chan struct{})}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case err := <-p.errs:
		return nil, err
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// from gives the listener a connection that seems to come from an address.
func (p *pipes) from(ip string) net.Conn {
	near, far := net.Pipe()
	p.conns <- addressed{far, &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}}
	return near
}

type addressed struct {
	net.Conn
	remote net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.remote }

func TestSilentPeerIsClosedAtTheDeadline(t *testing.T) {
	cfg := newAuthority(t).server(t)
	for name, sent := range map[string][]byte{
		"nothing": nil, "a handshake's first byte": {22}, "the byte that asks for TLS": {3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logged
				m := &transport.Mux{TLS: load(t, cfg), Log: log.logger()}
				handleAll(m)
				ln := newPipes()
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- m.Serve(ctx, ln) }()
				start := time.Now()
				conn := ln.from("127.0.0.1")
				if _, err := conn.Write(sent); err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, conn); err != nil {
					t.Errorf("got %v, want the end of the connection", err)
				}
				if took := time.Since(start); took != 5*time.Second {
					t.Errorf("closed after %v, want 5s", took)
				}
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
				if !strings.Contains(log.String(), "i/o timeout") {
					t.Errorf("got %q, want the timeout logged", log.String())
				}
			})
		})
	}
}

func TestServedConnectionHasNoDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &transport.Mux{}
		m.Handle(transport.RPCSingle, func(_ context.Context, conn net.Conn) {
			_, _ = io.Copy(conn, conn) // Ends when the test closes the connection.
		})
		ln := newPipes()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Serve(ctx, ln) }()
		conn := ln.from("127.0.0.1")
		if _, err := conn.Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Hour)
		got := make([]byte, 1)
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(got); err != nil || got[0] != 'x' {
			t.Errorf("got %q, %v", got, err)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestStoppingClosesEverythingAndWaitsForHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logged
		m := &transport.Mux{Log: log.logger()}
		release := make(chan struct{})
		m.Handle(transport.RPCSingle, func(ctx context.Context, conn net.Conn) {
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Error("read something")
			}
			<-ctx.Done()
			<-release
		})
		ln := newPipes()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1) // Read after the handler is let go.
		go func() { done <- m.Serve(ctx, ln) }()
		conn := ln.from("127.0.0.1")
		if _, err := conn.Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
		silent := ln.from("127.0.0.1")
		synctest.Wait()
		stop()
		for _, c := range []net.Conn{conn, silent} {
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("a connection is still open")
			}
		}
		synctest.Wait()
		if len(done) > 0 {
			t.Error("returned before its handler")
		}
		close(release)
		if err := <-done; err != nil {
			t.Errorf("got %v, want nil when ctx is done", err)
		}
		if log.String() != "" {
			t.Errorf("got %q logged, want nothing", log.String())
		}
	})
}

func TestAcceptingGoesOnAfterTheSystemRanShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &transport.Mux{}
		handleAll(m)
		ln := newPipes()
		done := make(chan error)
		go func() { done <- m.Serve(t.Context(), ln) }()
		for range 3 {
			ln.errs <- &net.OpError{Op: "accept", Err: syscall.EMFILE}
		}
		conn := ln.from("127.0.0.1")
		if _, err := conn.Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
		broken := errors.New("broken")
		ln.errs <- broken
		if err := <-done; !errors.Is(err, broken) {
			t.Errorf("got %v, want %v", err, broken)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("a connection outlived its listener")
		}
	})
}
