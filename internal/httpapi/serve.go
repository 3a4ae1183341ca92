package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// How long a caller may take for the head of a request, how long a connection
// may be without one, how long requests may go on once the server stops, and how
// long the head may be.
const (
	headWithin    = 10 * time.Second
	idleWithin    = 2 * time.Minute
	drainWithin   = 5 * time.Second
	maxHeadLength = 128 << 10
)

// ServeConfig is how requests are served.
type ServeConfig struct {
	TLS *tls.Config // nil serves plain HTTP
	// MaxConnsPerClient is how many connections an IP address may have; 0 is any
	// number. Connections without an address, of Unix sockets, are not counted.
	MaxConnsPerClient int
	Log               *slog.Logger
}

type drainKey struct{}

// Serve answers requests of ln until ctx is done. Then reads that wait for a
// change are cut, other requests get a moment to end, and ln is closed.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, cfg ServeConfig) error {
	// Requests do not end with ctx, so that those under way can be answered; those
	// that wait see that it ends.
	base := context.WithValue(context.WithoutCancel(ctx), drainKey{}, ctx)
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headWithin,
		IdleTimeout:       idleWithin,
		MaxHeaderBytes:    maxHeadLength,
		TLSConfig:         cfg.TLS,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	if cfg.MaxConnsPerClient > 0 {
		ln = &limited{Listener: ln, most: cfg.MaxConnsPerClient, speak: cfg.TLS == nil, count: map[netip.Addr]int{}}
	}
	drained := make(chan error, 1) // holds the result until Serve has returned
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(base, drainWithin)
		defer cancel()
		err := srv.Shutdown(end)
		if errors.Is(err, context.DeadlineExceeded) {
			err = srv.Close()
		}
		drained <- err
	})
	var err error
	if cfg.TLS != nil {
		err = srv.ServeTLS(ln, "", "")
	} else {
		err = srv.Serve(ln)
	}
	if !stop() {
		err = <-drained
	}
	if err != nil {
		return fmt.Errorf("serve HTTP on %s: %w", ln.Addr(), err)
	}
	return nil
}

// untilDrain returns a context that also ends when the server stops.
func untilDrain(ctx context.Context) (context.Context, context.CancelFunc) {
	drain, ok := ctx.Value(drainKey{}).(context.Context)
	if !ok {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(drain, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// limited is a listener that limits how many connections an address has.
type limited struct {
	net.Listener

	most  int
	speak bool // tell whoever has too many in plain HTTP

	mu    sync.Mutex
	count map[netip.Addr]int
}

// tooMany is the answer to a connection too many. It ends with the connection,
// and fits into the socket's buffer, so that writing it does not wait.
const tooMany = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n" +
	"too many connections from your IP address"

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err //nolint:wrapcheck // the server matches it
		}
		at, ok := conn.RemoteAddr().(*net.TCPAddr)
		if !ok {
			return conn, nil
		}
		addr := at.AddrPort().Addr().Unmap().WithZone("")
		if l.add(addr) {
			return &counted{Conn: conn, done: sync.OnceFunc(func() { l.remove(addr) })}, nil
		}
		if l.speak {
			_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = conn.Write([]byte(tooMany)) // best effort: the connection is refused anyway
		}
		_ = conn.Close()
	}
}

func (l *limited) add(addr netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count[addr] >= l.most {
		return false
	}
	l.count[addr]++
	return true
}

func (l *limited) remove(addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count[addr]--; l.count[addr] == 0 {
		delete(l.count, addr)
	}
}

// counted is a connection that is no longer counted once it is closed.
type counted struct {
	net.Conn

	done func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.done()
	return c.Conn.Close() //nolint:wrapcheck // the connection's own error
}
