package xds

import (
	"context"
	"iter"
	"log/slog"
	"sync"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"isthmus/internal/mesh"
	"isthmus/internal/telemetry"
)

// Source yields the snapshots of proxies that are registered here.
type Source interface {
	// Follow yields the proxy's snapshot now and after each change, until ctx is
	// done or there is nothing more to follow; then Follow says why when it is
	// called again. Who takes a snapshot late gets the newest, not all that were
	// between. An error of code NotFound is no such proxy, NotAllowed a token that
	// may not act for it; others pass.
	Follow(ctx context.Context, proxyID, token string) (iter.Seq[*mesh.Snapshot], error)
}

// Config is what a Server needs.
type Config struct {
	Source Source
	Log    *slog.Logger
	// Render makes the resources of a snapshot: nil is the function Render.
	Render func(*mesh.Snapshot) (Resources, error)
	// MaxStreams is how many streams there may be at once: 0 is any number.
	MaxStreams int
	// MaxNames is how many names of one type one stream may ask for: 10,000.
	MaxNames int
}

// Server answers the aggregated discovery service for the proxies of a Source.
type Server struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer

	source     Source
	log        *slog.Logger
	render     func(*mesh.Snapshot) (Resources, error)
	maxStreams int
	maxNames   int

	stop chan struct{} // closed when no stream may go on

	mu      sync.Mutex
	stopped bool
	feeds   map[feedKey]*feed
	streams map[*stream]struct{}
	active  sync.WaitGroup // of streams
}

const (
	defaultMaxNames = 10_000
	// A message of the server holds all resources of a type, so its size is left
	// to the client; requests are names.
	maxRequestSize = 4 << 20
	// Envoy sends pings about every 30 s where it is told to.
	minPing = 10 * time.Second
)

// New makes a server. Run stops it.
func New(cfg Config) *Server {
	s := &Server{
		source: cfg.Source, log: cfg.Log, render: cfg.Render, maxStreams: cfg.MaxStreams, maxNames: cfg.MaxNames,
		stop: make(chan struct{}), feeds: make(map[feedKey]*feed), streams: make(map[*stream]struct{}),
	}
	if s.render == nil {
		s.render = Render
	}
	if s.maxNames == 0 {
		s.maxNames = defaultMaxNames
	}
	return s
}

// Register adds the service to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	discovery.RegisterAggregatedDiscoveryServiceServer(r, s)
}

// ServerOptions are those that a gRPC server for proxies needs: dead connections
// are found within a minute, and pings of clients are welcome.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		grpc.MaxRecvMsgSize(maxRequestSize),
	}
}

// Run waits for the end of ctx, then ends all streams, and returns when they are
// gone.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock()
	if !s.stopped {
		s.stopped = true
		close(s.stop)
	}
	s.mu.Unlock()
	s.active.Wait()
	return nil
}

// enter admits a stream. Whoever entered leaves.
func (s *Server) enter(t *stream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errStopping()
	}
	if s.maxStreams > 0 && len(s.streams) >= s.maxStreams {
		return status.Errorf(codes.ResourceExhausted, "there are %d streams already", s.maxStreams)
	}
	s.streams[t] = struct{}{}
	s.active.Add(1)
	telemetry.XDSStreams.Set(float64(len(s.streams)))
	return nil
}

func (s *Server) leave(t *stream) {
	s.mu.Lock()
	delete(s.streams, t)
	telemetry.XDSStreams.Set(float64(len(s.streams)))
	s.mu.Unlock()
	s.active.Done()
}

func errStopping() error { return status.Error(codes.Unavailable, "the server is stopping") }
