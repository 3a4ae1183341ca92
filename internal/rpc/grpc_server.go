package rpc

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

const (
	// maxGRPCStreams is how many calls one agent may have under way: one for each
	// service that it watches, and plenty.
	maxGRPCStreams = 4096

	// pingsApart is how far apart an agent's signs of life must be. Ours are 30 s
	// apart.
	pingsApart = 15 * time.Second

	// drainGRPC is how long calls under way may last when a server stops. Streams
	// have no end to wait for.
	drainGRPC = time.Second
)

// GRPCServer answers gRPC on connections that are handed to it. It has the standard
// health service.
type GRPCServer struct {
	server *grpc.Server
	health *health.Server
	conns  handedOver
}

// NewGRPCServer returns a server that answers once it runs.
func NewGRPCServer() *GRPCServer {
	count := &grpcStats{side: "server"}
	s := &GRPCServer{
		server: grpc.NewServer(
			grpc.WaitForHandlers(true), grpc.ConnectionTimeout(dialLimit),
			grpc.MaxConcurrentStreams(maxGRPCStreams),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingsApart, PermitWithoutStream: true}),
			grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveEvery, Timeout: keepaliveLimit}),
			grpc.StatsHandler(count), grpc.StreamInterceptor(count.stream),
		),
		health: health.NewServer(),
		conns:  handedOver{queue: make(chan net.Conn), closed: make(chan struct{})},
	}
	grpc_health_v1.RegisterHealthServer(s.server, s.health)
	return s
}

// ServeConn answers one connection until it is closed or ctx is done. It waits for
// Run.
func (s *GRPCServer) ServeConn(ctx context.Context, conn net.Conn) {
	l := newLent(conn)
	select {
	case s.conns.queue <- l:
	case <-s.conns.closed:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-l.closed:
	case <-ctx.Done():
	}
}

// Run answers until ctx is done. Then it says so to those who ask for its health,
// lets calls under way end for a moment, and closes every connection.
func (s *GRPCServer) Run(ctx context.Context) error {
	var stopping sync.WaitGroup
	defer stopping.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopping.Go(func() {
		<-ctx.Done()
		s.health.Shutdown()
		late := time.AfterFunc(drainGRPC, s.server.Stop)
		defer late.Stop()
		s.server.GracefulStop()
	})
	if err := s.server.Serve(&s.conns); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve gRPC: %w", err)
	}
	return nil
}

// handedOver is a listener whose connections others accept.
type handedOver struct {
	queue  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// Accept implements net.Listener.
func (h *handedOver) Accept() (net.Conn, error) {
	select {
	case conn := <-h.queue:
		return conn, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handedOver) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements net.Listener.
func (h *handedOver) Addr() net.Addr { return handedOverAddr{} }

type handedOverAddr struct{}

func (handedOverAddr) Network() string { return "handed over" }
func (handedOverAddr) String() string  { return "handed over" }
