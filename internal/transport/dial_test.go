package transport_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"isthmus/internal/transport"
)

func TestServerNames(t *testing.T) {
	for _, c := range []struct {
		target       transport.Target
		domain, want string
	}{
		{transport.Target{Datacenter: "dc1", Node: "n1"}, "consul", "n1.server.dc1.consul"},
		{transport.Target{Datacenter: "dc1", Node: "N1.rack"}, "Consul.", "n1.rack.server.dc1.consul"},
		{transport.Target{Datacenter: "dc1"}, "consul.", "server.dc1.consul"},
		{transport.Target{Datacenter: "dc1", Node: "*"}, "", "server.dc1.consul"},
		{transport.Target{Datacenter: "dc2"}, "a.example.", "server.dc2.a.example"},
	} {
		if got := c.target.ServerName(c.domain); got != c.want {
			t.Errorf("%+v in %q: got %q, want %q", c.target, c.domain, got, c.want)
		}
	}
}

func TestDirectNamesTheProtocolByItsByte(t *testing.T) {
	ca := newAuthority(t)
	cfg := ca.server(t)
	cfg.VerifyIncoming, cfg.VerifyServerHostname = true, true
	for name, s := range map[string]*transport.TLS{"in clear": nil, "encrypted": load(t, cfg)} {
		t.Run(name, func(t *testing.T) {
			m := &transport.Mux{TLS: s}
			handleAll(m)
			to := transport.Target{Datacenter: "dc1", Node: "whatever", Addr: serve(t, m)}
			var d transport.Dialer = &transport.Direct{TLS: s, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}
			for _, p := range transport.Protos() {
				conn, err := d.Dial(t.Context(), to, p)
				if served(p.Byte) != p.Name && p != transport.Gossip {
					if err == nil {
						t.Errorf("%s: dialled, has no byte of its own", p.Name)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				want := p.Name + ":ping"
				if p == transport.Gossip {
					want = ""
				}
				if got := ask(t, conn, "ping"); got != want {
					t.Errorf("%s: got %q, want %q", p.Name, got, want)
				}
				if err := conn.Close(); err != nil && want != "" {
					t.Error(err)
				}
			}
		})
	}
}

func TestDirectVerifiesTheServer(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	for _, c := range []struct {
		what   string
		server transport.TLSConfig
		names  bool
		ok     bool
	}{
		{"server", ca.server(t), true, true},
		{"client as server", ca.client(t), true, false},
		{"client as server, names not verified", ca.client(t), false, true},
		{"other datacenter", ca.config(t, transport.CertOptions{Role: transport.ServerCert, Datacenter: "dc2"}), true, false},
		{"other CA", other.server(t), true, false},
		{"other CA, names not verified", other.server(t), false, false},
		{"expired", expiredConfig(t, ca), false, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			m := &transport.Mux{TLS: load(t, c.server)}
			handleAll(m)
			cfg := ca.client(t)
			cfg.VerifyOutgoing, cfg.VerifyServerHostname = true, c.names
			d := &transport.Direct{TLS: load(t, cfg)}
			conn, err := d.Dial(t.Context(), transport.Target{Datacenter: "dc1", Addr: serve(t, m)}, transport.RPCMulti)
			if (err == nil) != c.ok {
				t.Fatalf("got %v, want success %t", err, c.ok)
			}
			if err == nil && ask(t, conn, "x") != "rpc-multi:x" {
				t.Error("not served")
			}
		})
	}
}

func TestUpgradeVerifiesChainAndNameWhateverTheSettings(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	dc2 := transport.CertOptions{Role: transport.ServerCert, Datacenter: "dc2", Node: "n1"}
	all := transport.CertOptions{Role: transport.ServerCert, Datacenter: "dc2", Node: "*"}
	for _, c := range []struct {
		what, name string
		server     transport.TLSConfig
		want       string
	}{
		{"right node", "n1.server.dc2.consul", ca.config(t, dc2), ""},
		{"any server", "server.dc2.consul", ca.config(t, dc2), ""},
		{"wildcard", "n7.server.dc2.consul", ca.config(t, all), ""},
		{"other node", "n2.server.dc2.consul", ca.config(t, dc2), "not n2.server.dc2.consul"},
		{"other datacenter", "n1.server.dc3.consul", ca.config(t, dc2), "not n1.server.dc3.consul"},
		{"other CA", "n1.server.dc2.consul", other.config(t, dc2), "unknown authority"},
		{"expired", "n1.server.dc1.consul", expiredConfig(t, ca), "expired"},
		{"no name", "", ca.config(t, dc2), "server name"},
	} {
		t.Run(c.what, func(t *testing.T) {
			m := &transport.Mux{TLS: load(t, c.server)}
			handleAll(m)
			dialer := load(t, ca.server(t)) // It verifies nothing by its settings.
			conn, err := dialer.Upgrade(t.Context(), serve(t, m), c.name, transport.WANStream)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("got %v, want %q in it", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := ask(t, conn, "x"); got != "wan-gossip-stream:x" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestUpgradeSendsOneALPNIDAndTheServerName records what a gateway sees.
func TestUpgradeSendsOneALPNIDAndTheServerName(t *testing.T) {
	cfg := newAuthority(t).server(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	hellos := make(chan *tls.ClientHelloInfo, 1) // The one hello outlives its connection.
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		_ = tls.Server(conn, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			hellos <- h
			return nil, errors.New("seen enough")
		}}).Handshake()
		_ = conn.Close()
	}()
	_, err = load(t, cfg).Upgrade(t.Context(), ln.Addr().String(), "n1.server.dc2.consul", transport.WANPacket)
	if err == nil {
		t.Fatal("no error from a gateway that closes")
	}
	h := <-hellos
	if h.ServerName != "n1.server.dc2.consul" || len(h.SupportedProtos) != 1 ||
		h.SupportedProtos[0] != "consul/wan-gossip/packet" {
		t.Errorf("got name %q and ALPN ids %q", h.ServerName, h.SupportedProtos)
	}
	for _, v := range h.SupportedVersions {
		if v < tls.VersionTLS12 {
			t.Errorf("offers version %#x", v)
		}
	}
}

func TestUpgradeNeedsAnALPNIDAndBothCertificates(t *testing.T) {
	ca := newAuthority(t)
	s := load(t, ca.server(t))
	for _, p := range []transport.Proto{transport.TLSUpgrade, transport.InsecureTLS} {
		_, err := s.Upgrade(t.Context(), "192.0.2.1:1", "server.dc2.consul", p)
		if err == nil || !strings.Contains(err.Error(), "cannot be routed through a mesh gateway") {
			t.Errorf("%s: got %v", p.Name, err)
		}
	}
	half := load(t, transport.TLSConfig{CAFile: ca.server(t).CAFile})
	for name, s := range map[string]*transport.TLS{"nil": nil, "CA only": half} {
		_, err := s.Upgrade(t.Context(), "192.0.2.1:1", "server.dc2.consul", transport.RPCMulti)
		if err == nil || !strings.Contains(err.Error(), "TLS is off") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestUpgradeNeedsTheServersWord(t *testing.T) {
	cfg := newAuthority(t).server(t)
	pair, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	// A TLS server that knows no ALPN, say behind a gateway that routes wrongly.
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}()
	_, err = load(t, cfg).Upgrade(t.Context(), ln.Addr().String(), "server.dc1.consul", transport.RPCMulti)
	if err == nil || !strings.Contains(err.Error(), `want "consul/rpc-multi"`) {
		t.Errorf("got %v, want it to tell the ALPN id", err)
	}
}

// TestStalledPeerIsGivenUp dials who accepts and then says nothing.
func TestStalledPeerIsGivenUp(t *testing.T) {
	cfg := newAuthority(t).server(t)
	cfg.VerifyOutgoing = true
	s := load(t, cfg)
	ln, err := net.Listen("tcp", "127.0.0.1:0") // Its backlog accepts.
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	addr := ln.Addr().String()
	to := transport.Target{Datacenter: "dc1", Addr: addr}
	for name, dial := range map[string]func(context.Context) (net.Conn, error){
		"upgrade": func(ctx context.Context) (net.Conn, error) {
			return s.Upgrade(ctx, addr, "server.dc1.consul", transport.RPCMulti)
		},
		"direct": func(ctx context.Context) (net.Conn, error) {
			return (&transport.Direct{TLS: s}).Dial(ctx, to, transport.RPCMulti)
		},
		"direct with its own timeout": func(context.Context) (net.Conn, error) {
			d := &transport.Direct{TLS: s, Timeout: 50 * time.Millisecond}
			return d.Dial(context.Background(), to, transport.RPCMulti)
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		start := time.Now()
		_, err := dial(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v, want the deadline", name, err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}
