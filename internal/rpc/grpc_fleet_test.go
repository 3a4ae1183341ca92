package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"isthmus/internal/transport"
)

// grpcFleet is gRPC servers in memory, and the dialer that reaches them.
type grpcFleet struct {
	t *testing.T

	mu      sync.Mutex
	servers map[transport.Target]*grpcMember
	dials   []transport.Target
	wrapped func(net.Conn) net.Conn
}

// grpcMember is one server and the connections to it.
type grpcMember struct {
	*GRPCServer

	conns []net.Conn
	delay time.Duration // before it accepts
	stop  func()
}

func newGRPCFleet(t *testing.T) *grpcFleet {
	t.Helper()
	return &grpcFleet{t: t, servers: map[transport.Target]*grpcMember{}}
}

// start runs a server, as the router knows it.
func (f *grpcFleet) start(s ServerInfo) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	m := &grpcMember{GRPCServer: NewGRPCServer(), stop: func() { cancel(); <-done }}
	go func() {
		defer close(done)
		if err := m.Run(ctx); err != nil {
			f.t.Error(err)
		}
	}()
	f.t.Cleanup(m.stop)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.servers[s.target()] = m
}

// kill ends a server as a crash does.
func (f *grpcFleet) kill(s ServerInfo) {
	f.mu.Lock()
	m := f.servers[s.target()]
	delete(f.servers, s.target())
	f.mu.Unlock()
	for _, c := range m.conns {
		_ = c.Close()
	}
	m.stop()
}

// at is a connection whose other end has a name.
type at struct {
	net.Conn

	name string
}

func (a at) RemoteAddr() net.Addr { return a }
func (at) Network() string        { return "memory" }
func (a at) String() string       { return a.name }

func (f *grpcFleet) Dial(ctx context.Context, to transport.Target, p transport.Proto) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p != transport.GRPC {
		f.t.Errorf("dialled for %s", p.Name)
	}
	f.dials = append(f.dials, to)
	m := f.servers[to]
	if m == nil {
		return nil, errors.New("connection refused")
	}
	if m.delay > 0 {
		f.mu.Unlock()
		select {
		case <-time.After(m.delay):
		case <-ctx.Done():
		}
		f.mu.Lock()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	client, server := net.Pipe()
	m.conns = append(m.conns, server)
	go func() {
		m.ServeConn(context.Background(), server)
		_ = server.Close() // as Mux does
	}()
	conn := net.Conn(at{client, to.Node + "." + to.Datacenter})
	if f.wrapped != nil {
		conn = f.wrapped(conn)
	}
	return conn, nil
}

// dialled is how often a server was dialled.
func (f *grpcFleet) dialled(s ServerInfo) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, to := range f.dials {
		if to == s.target() {
			n++
		}
	}
	return n
}

// all is how often any server was dialled.
func (f *grpcFleet) all() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.dials)
}

func (f *grpcFleet) server(s ServerInfo) *grpcMember {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.servers[s.target()]
}

// grpcAgent is one agent: a router and its gRPC connections.
type grpcAgent struct {
	*Router

	t *testing.T
	g *GRPC
}

func (f *grpcFleet) agent(servers ...ServerInfo) *grpcAgent {
	f.t.Helper()
	r := NewRouter("dc1", nil, quiet)
	g := NewGRPC(f, r, quiet)
	for _, s := range servers {
		r.AddServer(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := g.Run(ctx); err != nil {
			f.t.Error(err)
		}
	}()
	f.t.Cleanup(func() { cancel(); <-done })
	return &grpcAgent{r, f.t, g}
}

func (a *grpcAgent) conn(datacenter string) *grpc.ClientConn {
	a.t.Helper()
	c, err := a.g.Conn(datacenter)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// try asks for a server's health, and returns the server's name.
func (a *grpcAgent) try(datacenter string, opts ...grpc.CallOption) (string, error) {
	var from peer.Peer
	_, err := grpc_health_v1.NewHealthClient(a.conn(datacenter)).
		Check(context.Background(), &grpc_health_v1.HealthCheckRequest{}, append(opts, grpc.Peer(&from))...)
	if err != nil {
		return "", err
	}
	return from.Addr.String(), nil
}

// ask is try, and must succeed.
func (a *grpcAgent) ask(datacenter string) string {
	a.t.Helper()
	name, err := a.try(datacenter, grpc.WaitForReady(true))
	if err != nil {
		a.t.Fatal(err)
	}
	return name
}

// watch opens a stream to the server in use, and returns the server's name.
func (a *grpcAgent) watch(ctx context.Context) (grpc.ServerStreamingClient[grpc_health_v1.HealthCheckResponse], string) {
	a.t.Helper()
	s, err := grpc_health_v1.NewHealthClient(a.conn("dc1")).Watch(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil {
		a.t.Fatal(err)
	}
	if out, err := s.Recv(); err != nil || out.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		a.t.Fatalf("got %v, %v", out, err)
	}
	from, _ := peer.FromContext(s.Context())
	return s, from.Addr.String()
}

// first is the name of the server that the router ranks first.
func (a *grpcAgent) first() string {
	s := a.Servers("dc1")[0]
	return s.Name + "." + s.Datacenter
}

// rebalance draws the order anew until another server than name is the first.
func (a *grpcAgent) rebalance(name string) {
	a.Rebalance()
	for a.first() == name {
		a.Rebalance()
	}
	synctest.Wait()
}

func serversOf(datacenter string, names ...string) []ServerInfo {
	var list []ServerInfo
	for _, n := range names {
		list = append(list, ServerInfo{Datacenter: datacenter, Name: n, Addr: "10.0.0.1:8300", Alive: true})
	}
	return list
}

// grpcServers runs servers s1, s2, … of dc1, and one agent that knows them.
func grpcServers(t *testing.T, n int) (*grpcFleet, *grpcAgent, []ServerInfo) {
	t.Helper()
	f := newGRPCFleet(t)
	var list []ServerInfo
	for i := range n {
		list = append(list, serversOf("dc1", fmt.Sprintf("s%d", i+1))...)
		f.start(list[i])
	}
	return f, f.agent(list...), list
}

// named finds a server by the name that ask returns.
func named(list []ServerInfo, name string) ServerInfo {
	for _, s := range list {
		if s.Name+"."+s.Datacenter == name {
			return s
		}
	}
	return ServerInfo{}
}
