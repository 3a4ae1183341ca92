package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// conn is what the gateway needs of a connection.
type conn interface {
	io.ReadWriteCloser
	CloseWrite() error
	SetReadDeadline(t time.Time) error
}

// listener is what the gateway needs of a listener: Accept yields the address
// of the client too.
type listener interface {
	Accept() (conn, netip.Addr, error)
	Close() error
}

// keepAlive finds peers that have vanished within about three minutes. The
// count of probes is the system's, which saves a call for each connection.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: -1}

// plainListener takes connections as they come from the standard library.
type plainListener struct{ net.Listener }

func (l plainListener) Accept() (conn, netip.Addr, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, netip.Addr{}, err //nolint:wrapcheck // the caller names the listener
	}
	var source netip.Addr
	if tcp, ok := c.(*net.TCPConn); ok {
		source = tcp.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap() //nolint:forcetypeassert // as documented
		_ = tcp.SetKeepAliveConfig(keepAlive)
	}
	x, err := asConn(c)
	return x, source, err
}

// asConn refuses connections that cannot be half closed.
func asConn(c net.Conn) (conn, error) {
	x, ok := c.(conn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("connection of type %T cannot be half closed", c)
	}
	return x, nil
}

// dialPlain dials by the standard library, which resolves host names to
// addresses of both families and races these.
func dialPlain(ctx context.Context, addr string, timeout time.Duration) (conn, error) {
	d := net.Dialer{Timeout: timeout, KeepAliveConfig: keepAlive}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller names the address
	}
	return asConn(c)
}
