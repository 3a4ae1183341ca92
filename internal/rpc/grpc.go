package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/attributes"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"

	"isthmus/internal/transport"
)

// grpcScheme begins the name of a datacenter's servers: isthmus:///dc1.
const grpcScheme = "isthmus"

// Times of gRPC connections.
const (
	dialLimit      = 10 * time.Second // connecting, and the first sign of life in the protocol
	firstPause     = 250 * time.Millisecond
	longestPause   = 4 * time.Second // between attempts to reach one server
	keepaliveEvery = 30 * time.Second
	keepaliveLimit = 10 * time.Second
)

// GRPC keeps one gRPC connection to the servers of each datacenter that somebody
// calls. The router says which servers there are and in which order they are
// asked; nobody else does.
type GRPC struct {
	dialer  transport.Dialer
	router  *Router
	log     *slog.Logger
	stats   *grpcStats
	changed chan struct{} // holds a token when a channel is to be told something

	open sync.WaitGroup // connections

	mu       sync.Mutex
	done     bool
	channels map[string]*channel // by datacenter
}

// channel is the connection to the servers of one datacenter.
type channel struct {
	owner      *GRPC
	datacenter string
	conn       *grpc.ClientConn

	// The owner's lock guards what follows.
	resolver *grpcResolver // nil while the connection has nothing to do
	stale    bool          // the resolver has not told the latest
	drawn    uint64        // counts how often the order was drawn anew
	better   map[transport.Target]uint64
}

// spot is what the resolver tells of a server, to the balancer and the dialer.
type spot struct {
	place

	alive bool
}

// place is where a connection leads. Two datacenters may have servers of equal
// names and addresses, so both are part of it. way counts the better ways that
// appeared to the server: a connection that went an older one is replaced.
type place struct {
	to  transport.Target
	way uint64
}

// ranking is what the resolver tells of all servers together.
type ranking struct {
	drawn uint64
	none  error // why there are no servers
}

// Keys of the resolver's attributes.
type (
	spotKey    struct{}
	rankingKey struct{}
)

// NewGRPC returns the gRPC connections of an agent. Calls on them wait until Run
// runs.
func NewGRPC(dialer transport.Dialer, router *Router, log *slog.Logger) *GRPC {
	g := &GRPC{
		dialer: dialer, router: router, log: log, stats: &grpcStats{side: "client"},
		changed: make(chan struct{}, 1), channels: map[string]*channel{},
	}
	router.Observe(grpcObserver{g})
	return g
}

// Conn returns the connection to the servers of a datacenter. It belongs to g:
// the caller must not close it.
func (g *GRPC) Conn(datacenter string) (*grpc.ClientConn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.done {
		return nil, fmt.Errorf("gRPC to %s: %w", datacenter, net.ErrClosed)
	}
	if c := g.channels[datacenter]; c != nil {
		return c.conn, nil
	}
	c := &channel{owner: g, datacenter: datacenter, better: map[transport.Target]uint64{}}
	var err error
	c.conn, err = grpc.NewClient(grpcScheme+":///"+datacenter,
		grpc.WithResolvers(c),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"`+grpcPolicy+`":{}}]}`),
		grpc.WithContextDialer(g.dial),
		// The dialer encrypts. gRPC therefore refuses credentials of a call that
		// demand encryption, as it does not know whether there is any.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           grpcbackoff.Config{BaseDelay: firstPause, Multiplier: 1.6, Jitter: 0.2, MaxDelay: longestPause},
			MinConnectTimeout: dialLimit,
		}),
		// Without a call there are no signs of life: the reference's servers hang up on
		// whoever sends them. The first call sends one.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveEvery, Timeout: keepaliveLimit}),
		grpc.WithStatsHandler(g.stats),
	)
	if err != nil {
		return nil, fmt.Errorf("gRPC to %s: %w", datacenter, err)
	}
	g.channels[datacenter] = c
	return c.conn, nil
}

// Run tells the connections what the router knows until ctx is done. Then it
// closes them.
func (g *GRPC) Run(ctx context.Context) error {
	for {
		select {
		case <-g.changed:
			g.tell()
		case <-ctx.Done():
			return g.close()
		}
	}
}

func (g *GRPC) close() error {
	g.mu.Lock()
	g.done = true
	channels := g.channels
	g.channels = nil
	g.mu.Unlock()
	var errs []error
	for _, c := range channels {
		errs = append(errs, c.conn.Close())
	}
	g.open.Wait()
	return errors.Join(errs...)
}

// tell brings every connection up to date.
func (g *GRPC) tell() {
	type update struct {
		*channel

		to     resolver.ClientConn
		drawn  uint64
		better map[transport.Target]uint64
	}
	var due []update
	g.mu.Lock()
	for _, c := range g.channels {
		if c.stale && c.resolver != nil {
			c.stale = false
			due = append(due, update{c, c.resolver.cc, c.drawn, maps.Clone(c.better)})
		}
	}
	g.mu.Unlock()
	for _, u := range due {
		list := aliveFirst(g.router.Servers(u.datacenter))
		rank := ranking{drawn: u.drawn}
		if len(list) == 0 {
			rank.none = g.router.unknown(u.datacenter)
		}
		state := resolver.State{Attributes: attributes.New(rankingKey{}, rank)}
		for _, s := range list {
			to := s.target()
			state.Addresses = append(state.Addresses, resolver.Address{
				Addr:       s.Datacenter + "-" + s.Addr,
				Attributes: attributes.New(spotKey{}, spot{place{to, u.better[to]}, s.Alive}),
			})
		}
		if err := u.to.UpdateState(state); err != nil {
			g.log.Warn("gRPC refuses the servers of a datacenter", "datacenter", u.datacenter, "err", err)
		}
	}
}

// grpcObserver hears what the router says.
type grpcObserver struct{ *GRPC }

// AddServer implements Observer.
func (o grpcObserver) AddServer(s ServerInfo) { o.note(s.Datacenter, func(*channel) {}) }

// RemoveServer implements Observer.
func (o grpcObserver) RemoveServer(s ServerInfo) {
	o.note(s.Datacenter, func(c *channel) { delete(c.better, s.target()) })
}

// Rebalanced implements Observer.
func (o grpcObserver) Rebalanced(datacenter string) {
	o.note(datacenter, func(c *channel) { c.drawn++ })
}

// note changes what is known of a datacenter, and has Run tell it.
func (g *GRPC) note(datacenter string, change func(*channel)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.channels[datacenter]
	if c == nil {
		return
	}
	change(c)
	c.stale = true
	select {
	case g.changed <- struct{}{}:
	default: // it is told already
	}
}

// dial connects to the server that the resolver told of.
func (g *GRPC) dial(ctx context.Context, addr string) (net.Conn, error) {
	s, ok := credentials.ClientHandshakeInfoFromContext(ctx).Attributes.Value(spotKey{}).(spot)
	if !ok {
		return nil, fmt.Errorf("the address %s is not the router's", addr)
	}
	raw, err := g.dialer.Dial(ctx, s.to, transport.GRPC)
	if err != nil {
		g.log.Debug("gRPC does not reach a server", "datacenter", s.to.Datacenter, "server", s.to.Node, "err", err)
		return nil, err //nolint:wrapcheck // the dialer says what and why
	}
	conn := newLent(raw)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.done {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	g.open.Go(func() { g.follow(conn, raw, s.place) })
	return conn, nil
}

// follow waits until a connection is closed, and notes when there is a better way
// to its server.
func (g *GRPC) follow(conn *lent, raw net.Conn, p place) {
	var better <-chan struct{}
	if c, ok := raw.(Superseded); ok {
		better = c.Superseded()
	}
	select {
	case <-better:
		g.log.Debug("gRPC connection superseded", "datacenter", p.to.Datacenter, "server", p.to.Node)
		g.note(p.to.Datacenter, func(c *channel) {
			if c.better[p.to] == p.way { // and not an old connection that ends its streams
				c.better[p.to]++
			}
		})
		<-conn.closed
	case <-conn.closed:
	}
}

// Scheme implements resolver.Builder.
func (c *channel) Scheme() string { return grpcScheme }

// Build implements resolver.Builder.
func (c *channel) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	r := &grpcResolver{c, cc}
	c.owner.note(c.datacenter, func(c *channel) { c.resolver = r })
	return r, nil
}

// grpcResolver stands for the time during which a connection has something to do.
type grpcResolver struct {
	channel *channel
	cc      resolver.ClientConn
}

// ResolveNow implements resolver.Resolver. There is nobody to ask: the router
// tells.
func (r *grpcResolver) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements resolver.Resolver.
func (r *grpcResolver) Close() {
	r.channel.owner.mu.Lock()
	defer r.channel.owner.mu.Unlock()
	if r.channel.resolver == r {
		r.channel.resolver = nil
	}
}

// lent is a connection that was given to the gRPC library and tells when the
// library closes it.
type lent struct {
	net.Conn

	once   sync.Once
	closed chan struct{}
}

func newLent(conn net.Conn) *lent { return &lent{Conn: conn, closed: make(chan struct{})} }

// Close closes the connection and tells who waits.
func (l *lent) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Conn.Close() //nolint:wrapcheck // a plain wrapper
}
