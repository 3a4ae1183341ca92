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
	// MaxConnsPerClient tells how many connections an IP address may have at the
	// moment; 0, or no function, is any number. Connections without an address, of
	// Unix sockets, are not counted.
	MaxConnsPerClient func() int
	Log               *slog.Logger
}

type servingKey struct{}

// serving is what requests know of who serves them.
type serving struct {
	drain context.Context //nolint:containedctx // requests outlive it a little
	lot   *lot
}

// Serve answers requests of ln until ctx is done. Then reads that wait for a
// change are cut, other requests get a moment to end, and ln is closed.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, cfg ServeConfig) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	// Requests do not end with ctx, so that those under way can be answered; those
	// that wait see that it ends.
	parked, err := newLot(cfg.Log)
	if err != nil {
		return err
	}
	base := context.WithValue(context.WithoutCancel(ctx), servingKey{}, serving{ctx, parked})
	parked.serveAgain(base, h)
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headWithin,
		IdleTimeout:       idleWithin,
		MaxHeaderBytes:    maxHeadLength,
		TLSConfig:         cfg.TLS,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	if cfg.MaxConnsPerClient != nil {
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
	lotEnded := make(chan error, 1)
	var beside sync.WaitGroup
	beside.Go(func() { lotEnded <- parked.run(ctx) })
	beside.Go(func() { _ = srv.Serve(parked.listener()) }) // ends with the lot
	if cfg.TLS != nil {
		err = srv.ServeTLS(ln, "", "")
	} else {
		err = srv.Serve(ln)
	}
	if !stop() {
		err = <-drained
	}
	end()
	err = errors.Join(err, <-lotEnded)
	beside.Wait()
	if err != nil {
		return fmt.Errorf("serve HTTP on %s: %w", ln.Addr(), err)
	}
	return nil
}

// untilDrain returns a context that also ends when the server stops.
func untilDrain(ctx context.Context) (context.Context, context.CancelFunc) {
	drain := drainOf(ctx)
	if drain.Done() == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(drain, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// drainOf returns a context that ends when the server stops that a request is of.
func drainOf(ctx context.Context) context.Context {
	if by, ok := ctx.Value(servingKey{}).(serving); ok {
		return by.drain
	}
	return context.Background()
}

// lotOf returns the lot of the server that a request is of, or nil.
func lotOf(ctx context.Context) *lot {
	by, _ := ctx.Value(servingKey{}).(serving)
	return by.lot
}

// limited is a listener that limits how many connections an address has.
type limited struct {
	net.Listener

	most  func() int // 0 is any number
	speak bool       // tell whoever has too many in plain HTTP

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
	if most := l.most(); most > 0 && l.count[addr] >= most {
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

// NetConn returns the connection below.
func (c *counted) NetConn() net.Conn { return c.Conn }

// CloseWrite lets the server end its half alone, so that a caller who still sends
// reads the last answer.
func (c *counted) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite() //nolint:wrapcheck // the connection's own error
	}
	return nil
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.done()
	return c.Conn.Close() //nolint:wrapcheck // the connection's own error
}
