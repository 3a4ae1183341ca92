package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

const (
	// upgradeTimeout bounds connecting through a gateway and the handshake behind
	// it together: a gateway that accepts and then stalls must not hold its caller.
	upgradeTimeout = 10 * time.Second

	// directTimeout bounds a dial in the own datacenter when none is set.
	directTimeout = 10 * time.Second
)

// Target is a server to reach.
type Target struct {
	Datacenter string

	// Node is the name of the server. Empty or "*" means any server.
	Node string

	// Addr is the host:port of the server. It means something in the server's own
	// datacenter only.
	Addr string
}

// ServerName is the name by which gateways route to the target and which its
// certificate must carry. It is lower-case, as gateways compare it so.
func (t Target) ServerName(domain string) string {
	name := "server." + t.Datacenter + "." + trimDomain(domain)
	if t.Node != "" && t.Node != "*" {
		name = t.Node + "." + name
	}
	return strings.ToLower(name)
}

// trimDomain gives the DNS domain without its trailing dot, or the default one.
func trimDomain(domain string) string {
	if domain = strings.TrimSuffix(domain, "."); domain == "" {
		return defaultDomain
	}
	return domain
}

// Dialer is the only way to open a connection to a server.
type Dialer interface {
	// Dial yields a connection on which p has been chosen and nothing else sent.
	Dial(ctx context.Context, to Target, p Proto) (net.Conn, error)
}

// Direct dials servers of the own datacenter at their address.
type Direct struct {
	// TLS says whether connections are encrypted. Nil means never.
	TLS *TLS

	// Timeout bounds connecting and the handshake together. Zero means 10 s.
	Timeout time.Duration

	// LocalAddr is the address to dial from. Nil leaves the choice to the system.
	LocalAddr *net.TCPAddr
}

// Dial connects to the target's address and names p by its first byte, inside
// TLS when outgoing connections are to be verified.
func (d *Direct) Dial(ctx context.Context, to Target, p Proto) (net.Conn, error) {
	conn, err := d.dial(ctx, to, p)
	if err != nil {
		return nil, fmt.Errorf("dial %s at %s for %s: %w", to.name(), to.Addr, p.Name, err)
	}
	return conn, nil
}

func (t Target) name() string {
	if t.Node == "" || t.Node == "*" {
		return "a server of " + t.Datacenter
	}
	return t.Node + "." + t.Datacenter
}

func (d *Direct) dial(ctx context.Context, to Target, p Proto) (net.Conn, error) {
	if !p.HasByte || p.envelope() {
		return nil, errors.New("the protocol has no type byte of its own and needs a mesh gateway")
	}
	timeout := d.Timeout
	if timeout <= 0 {
		timeout = directTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	var dialer net.Dialer
	if d.LocalAddr != nil {
		dialer.LocalAddr = d.LocalAddr
	}
	raw, err := dialer.DialContext(ctx, "tcp", to.Addr)
	if err != nil {
		return nil, err
	}
	conn, err := d.choose(ctx, raw, to, p)
	if err != nil {
		_ = raw.Close() // The first error is the one that says why.
		return nil, err
	}
	return conn, nil
}

// choose sends the type bytes, and upgrades to TLS between them when it is on.
func (d *Direct) choose(ctx context.Context, raw net.Conn, to Target, p Proto) (net.Conn, error) {
	// The single bytes fit into the socket's buffer, so only the handshake waits.
	conn := raw
	if m := d.TLS.material(); m.cfg.VerifyOutgoing {
		if _, err := raw.Write([]byte{TLSUpgrade.Byte}); err != nil {
			return nil, fmt.Errorf("ask for TLS: %w", err)
		}
		// Any server of the datacenter will do: certificates need a name for the
		// node only where gateways route by it.
		anyServer := Target{Datacenter: to.Datacenter}
		inner := tls.Client(raw, m.directConfig(anyServer.ServerName(m.cfg.Domain)))
		if err := inner.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("handshake: %w", err)
		}
		conn = inner
	}
	if _, err := conn.Write([]byte{p.Byte}); err != nil {
		return nil, fmt.Errorf("name the protocol: %w", err)
	}
	return conn, nil
}

// Upgrade connects to addr, a mesh gateway that routes by server name, and makes
// a TLS connection for p with the server behind it. The server's chain and name
// are verified whatever the settings say, since the way leads through others.
// Connecting and the handshake together end with ctx, or after 10 s.
func (t *TLS) Upgrade(ctx context.Context, addr, serverName string, p Proto) (net.Conn, error) {
	conn, err := t.upgrade(ctx, addr, serverName, p)
	if err != nil {
		return nil, fmt.Errorf("dial %s through the gateway %s for %s: %w", serverName, addr, p.Name, err)
	}
	return conn, nil
}

func (t *TLS) upgrade(ctx context.Context, addr, serverName string, p Proto) (net.Conn, error) {
	if p.ALPN == "" {
		return nil, errors.New("the protocol has no ALPN id and cannot be routed through a mesh gateway")
	}
	m := t.material()
	if !m.mutualCapable() {
		return nil, errors.New("TLS is off: the way through gateways needs a CA and a certificate")
	}
	if serverName == "" {
		return nil, errors.New("a gateway needs a server name to route by")
	}
	ctx, cancel := context.WithTimeout(ctx, upgradeTimeout)
	defer cancel()

	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, m.upgradeConfig(serverName, p))
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // The first error is the one that says why.
		return nil, fmt.Errorf("handshake: %w", err)
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != p.ALPN {
		_ = conn.Close()
		return nil, fmt.Errorf("handshake: the peer chose ALPN id %q, want %q", got, p.ALPN)
	}
	return conn, nil
}
