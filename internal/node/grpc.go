package node

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"isthmus/api"
	"isthmus/internal/mesh"
	"isthmus/internal/transport"
	"isthmus/internal/xds"
)

// drainXDS is how long the streams of proxies may take to end.
const drainXDS = 2 * time.Second

// newXDS makes the server of proxies' configuration, and listens for it on the
// ports for gRPC.
func (n *Node) newXDS() ([]part, error) {
	if len(n.cfg.Listen.GRPC)+len(n.cfg.Listen.GRPCTLS) == 0 {
		return nil, nil
	}
	n.xds = xds.New(xds.Config{Source: proxies{n}, Log: n.log.With("component", "xds")})
	parts := []part{{"proxies", n.xds.Run}}
	serve := func(name, addr string, opts ...grpc.ServerOption) error {
		ln, err := net.Listen("tcp", addr) //nolint:noctx // bound to the node, not to a request
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		s := grpc.NewServer(append(opts, xds.ServerOptions()...)...)
		n.xds.Register(s)
		parts = append(parts, part{name + " " + addr, func(ctx context.Context) error { return serveGRPC(ctx, s, ln) }})
		return nil
	}
	for _, addr := range n.cfg.Listen.GRPC {
		if err := serve("gRPC", addr); err != nil {
			return nil, err
		}
	}
	if len(n.cfg.Listen.GRPCTLS) == 0 {
		return parts, nil
	}
	var err error
	if n.grpc, err = transport.NewTLS(n.tlsConfig(n.cfg, n.cfg.TLS.GRPC)); err != nil {
		return nil, fmt.Errorf("tls.grpc: %w", err)
	}
	for _, addr := range n.cfg.Listen.GRPCTLS {
		if err := serve("gRPC with TLS", addr, grpc.Creds(credentials.NewTLS(n.grpc.HTTPS()))); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// serveGRPC serves until ctx is done.
func serveGRPC(ctx context.Context, s *grpc.Server, ln net.Listener) error {
	drained := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(drained)
		hard := time.AfterFunc(drainXDS, s.Stop)
		defer hard.Stop()
		s.GracefulStop()
	})
	err := s.Serve(ln)
	if !stop() {
		<-drained
	}
	if err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve gRPC on %s: %w", ln.Addr(), err)
	}
	return nil
}

// proxies are the proxies that are registered with this node (xds.Source).
type proxies struct{ node *Node }

// Follow yields the snapshots of a proxy for as long as it is registered.
func (p proxies) Follow(ctx context.Context, id, token string) (iter.Seq[*mesh.Snapshot], error) {
	n := p.node
	if n.local.Service(id) == nil {
		return nil, api.Errorf(api.NotFound, "proxy %q is not registered with this agent", id)
	}
	return func(yield func(*mesh.Snapshot) bool) {
		ctx, gone := context.WithCancel(ctx)
		defer gone()
		g := &mesh.Gateway{
			Datacenter: n.cfg.Datacenter, Domain: strings.Trim(n.cfg.Domain, "."), Caller: n.caller, Token: token,
			Proxy: func(ctx context.Context) iter.Seq[*api.NodeService] {
				return func(yield func(*api.NodeService) bool) {
					for s := range n.local.Follow(ctx, id) {
						if s == nil {
							gone()
							return
						}
						if !yield(s) {
							return
						}
					}
				}
			},
			Log: n.log.With("component", "mesh_gateway", "proxy", id),
		}
		g.Snapshots(ctx)(yield)
	}, nil
}
