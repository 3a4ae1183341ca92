package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Config are the settings of a gateway. Zero values stand for the defaults.
type Config struct {
	Log *slog.Logger
	// HelloTimeout is how long a client may take from the accept to the last
	// byte of its ClientHello: 5 s.
	HelloTimeout time.Duration
	// MaxHellos is how many connections may be in that stage: 1024. One more
	// closes the oldest of them.
	MaxHellos int
	// MaxHellosPerSource is the same for one IP address: a quarter of MaxHellos.
	MaxHellosPerSource int
	// DialTimeout bounds the dial of one address: 5 s.
	DialTimeout time.Duration
	// DrainTimeout is how long streams may go on after the end of Serve's
	// context: 30 s.
	DrainTimeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.HelloTimeout <= 0 {
		c.HelloTimeout = 5 * time.Second
	}
	if c.MaxHellos <= 0 {
		c.MaxHellos = 1024
	}
	if c.MaxHellosPerSource <= 0 {
		c.MaxHellosPerSource = max(c.MaxHellos/4, 1)
	}
	if c.DialTimeout <= 0 {
		c.DialTimeout = 5 * time.Second
	}
	if c.DrainTimeout <= 0 {
		c.DrainTimeout = 30 * time.Second
	}
	return c
}

// Gateway routes TLS connections by server name.
type Gateway struct {
	cfg     Config
	log     *slog.Logger
	table   atomic.Pointer[table]
	hellos  *hellos
	failing failing
	dial    func(ctx context.Context, addr string, timeout time.Duration) (conn, error)
	refused [refusals]atomic.Uint64

	mu       sync.Mutex
	counters map[string]*counters
}

// table is a routing table with what the gateway keeps for each of its routes.
type table struct {
	routes  *Routes
	targets []*target
}

// target is one route in use.
type target struct {
	*counters

	addrs []string
	turn  atomic.Uint32 // whose turn among addrs it is
}

// New makes a gateway that refuses every name until it is given routes.
func New(cfg Config) *Gateway {
	cfg = cfg.withDefaults()
	g := &Gateway{
		cfg:      cfg,
		log:      cfg.Log,
		hellos:   newHellos(cfg.MaxHellos, cfg.MaxHellosPerSource),
		failing:  failing{until: make(map[string]time.Time)},
		dial:     dialTCP,
		counters: make(map[string]*counters),
	}
	g.table.Store(&table{routes: &Routes{}})
	return g
}

// SetRoutes puts a table in force for the connections that come from now on. It
// may be called at any time.
func (g *Gateway) SetRoutes(r *Routes) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := &table{routes: r}
	current := make(map[string]bool)
	for _, route := range r.list {
		current[route.Name] = true
		c := g.counters[route.Name]
		if c == nil {
			c = &counters{}
			g.counters[route.Name] = c
		}
		dst := &target{counters: c, addrs: route.Addrs}
		// A table that is replaced often must not favour the first address.
		dst.turn.Store(rand.Uint32()) //nolint:gosec // only a fair start
		t.targets = append(t.targets, dst)
	}
	for name, c := range g.counters {
		if !current[name] && c.active.Load() == 0 {
			delete(g.counters, name)
		}
	}
	g.table.Store(t)
}

const acceptBackoff = 50 * time.Millisecond

// Serve routes the connections of one listener, which is its own from then on,
// until ctx is done. It then closes the listener, lets the streams end, closes
// those that have not after Config.DrainTimeout, and returns nil. Several
// listeners may be served at once.
func (g *Gateway) Serve(ctx context.Context, origin net.Listener) error {
	ln, err := newListener(origin)
	if err != nil {
		return fmt.Errorf("serve %s: %w", origin.Addr(), err)
	}
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	// The streams outlive ctx by the time to drain.
	hard, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	s := &server{gateway: g, ctx: hard, sessions: make(map[*session]struct{}), relay: newRelay()}
	err = s.accept(ctx, ln)
	if err != nil {
		err = fmt.Errorf("serve %s: %w", origin.Addr(), err)
	}

	drained := time.AfterFunc(g.cfg.DrainTimeout, func() {
		kill()
		g.log.Warn("streams closed after the time to drain", "streams", s.closeAll())
	})
	s.wg.Wait()
	drained.Stop()
	s.relay.close()
	return err
}

// server is one call of Serve.
type server struct {
	gateway *Gateway
	ctx     context.Context //nolint:containedctx // bounds dials; the sessions have no other
	relay   *relay
	wg      sync.WaitGroup

	mu       sync.Mutex
	sessions map[*session]struct{}
	closed   bool
}

func (s *server) accept(ctx context.Context, ln listener) error {
	for {
		c, source, err := ln.Accept()
		switch {
		case err == nil:
			s.wg.Go(func() { s.serve(c, source) })
		case ctx.Err() != nil:
			return nil //nolint:nilerr // ctx is done
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrClosed):
			return err
		case errors.Is(err, syscall.ECONNABORTED): // by a client that has gone already
		default:
			// Mostly a lack of file descriptors, which passes.
			s.gateway.log.Warn("accept failed", "err", err)
			select {
			case <-time.After(acceptBackoff):
			case <-ctx.Done():
			}
		}
	}
}

// closeAll closes all streams and tells how many there were.
func (s *server) closeAll() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for x := range s.sessions {
		x.close()
	}
	return len(s.sessions)
}
