package rpc

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	"isthmus/internal/telemetry"
)

// grpcStats counts connections and calls of one side, under the names that
// dashboards know.
type grpcStats struct {
	side           string // client or server
	conns, streams atomic.Int64
}

// serverType says that these are calls between agents.
const serverType = "internal"

func (g *grpcStats) count(of string) {
	telemetry.GRPCCounts.Count(g.side, of, serverType)
}

// gauge changes a number that goes up and down.
func (g *grpcStats) gauge(of string, n *atomic.Int64, by int64) {
	telemetry.GRPCGauges.Set(float64(n.Add(by)), g.side, of, serverType)
}

// TagRPC implements stats.Handler.
func (g *grpcStats) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn implements stats.Handler.
func (g *grpcStats) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler.
func (g *grpcStats) HandleRPC(_ context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.Begin); ok {
		g.count("request")
	}
}

// HandleConn implements stats.Handler.
func (g *grpcStats) HandleConn(_ context.Context, s stats.ConnStats) {
	switch s.(type) {
	case *stats.ConnBegin:
		g.count("connection")
		g.gauge("connections", &g.conns, 1)
	case *stats.ConnEnd:
		g.gauge("connections", &g.conns, -1)
	}
}

// stream counts a stream that a server answers.
func (g *grpcStats) stream(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	g.count("stream")
	g.gauge("streams", &g.streams, 1)
	defer g.gauge("streams", &g.streams, -1)
	return next(srv, s)
}
