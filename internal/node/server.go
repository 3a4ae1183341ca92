package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"isthmus/internal/ca"
	"isthmus/internal/consensus"
	"isthmus/internal/federation"
	"isthmus/internal/gossip"
	"isthmus/internal/rpc"
	"isthmus/internal/server"
	"isthmus/internal/state"
	"isthmus/internal/telemetry"
	"isthmus/internal/transport"
)

// serverParts is what a server has beside what every agent has.
type serverParts struct {
	node    *Node
	server  *server.Server
	log     *consensus.Log
	mux     *transport.Mux
	wan     *gossip.Pool // nil when the WAN pool is off
	wanPort int
	flood   chan struct{} // wakes the flood of LAN servers into the WAN
	news    chan struct{} // the WAN changed

	storage, cluster, services []part
}

// raftQueue is how many accepted connections may wait for the log to take them.
const raftQueue = 16

// newServer builds a server. wan is nil unless datacenters are joined through
// mesh gateways.
func (n *Node) newServer(direct *transport.Direct, wan *wide) (*serverParts, error) {
	s := &serverParts{node: n, flood: make(chan struct{}, 1), news: make(chan struct{}, 1)}
	authority, err := n.authority()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", n.cfg.Listen.Server) //nolint:noctx // bound to the node, not to a request
	if err != nil {
		return nil, fmt.Errorf("server port: %w", err)
	}
	dir := ""
	if n.cfg.DataDir != "" {
		dir = filepath.Join(n.cfg.DataDir, "raft")
	}
	heartbeat, election, lease := n.cfg.RaftTiming()
	st := state.New()
	raftConns := make(chan net.Conn, raftQueue)
	s.log, err = consensus.Open(consensus.Config{
		Dir: dir, ID: n.id, Address: n.rpcAddr(), Listen: raftConns,
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			return direct.Dial(ctx, transport.Target{Datacenter: n.cfg.Datacenter, Addr: addr}, transport.Raft)
		},
		Heartbeat: heartbeat, Election: election, LeaderLease: lease,
		SnapshotThreshold: uint64(n.cfg.RaftSnapshotThreshold), SnapshotInterval: n.cfg.RaftSnapshotInterval, //nolint:gosec // checked by config
		TrailingLogs: uint64(n.cfg.RaftTrailingLogs), Log: n.log.With("component", "raft"), FSM: server.Measured(st, n.cfg.Datacenter), //nolint:gosec // checked by config
		Lead: func(ctx context.Context) error { return s.server.Lead(ctx) },
	})
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	expect := n.cfg.BootstrapExpect
	if n.cfg.Bootstrap || n.cfg.DevMode {
		expect = 1
	}
	var locator *federation.Locator
	if wan != nil {
		locator = wan.locator
	}
	s.server = server.New(server.Config{
		Datacenter: n.cfg.Datacenter, Primary: n.cfg.PrimaryDatacenter, Node: n.cfg.NodeName, ID: n.id, Address: n.rpcAddr(),
		Hold: n.cfg.Performance.RPCHoldTimeout, Expect: expect,
		Connect: n.cfg.Connect.Enabled, CA: authority,
		CoordinatePeriod: n.coordinatePeriod(), WANCoordinate: s.wanCoordinate,
		Members: func() []gossip.Member { return n.lan.Members() }, Log: n.log.With("component", "server"),
	}, st, s.log, n.router, locator)

	s.mux = &transport.Mux{
		TLS: n.tls, HandshakeTimeout: n.cfg.Limits.RPCHandshakeTimeout, MaxConnsPerClient: n.cfg.Limits.RPCMaxConnsPerClient,
		Log: n.log.With("component", "mux"),
	}
	mux := s.mux
	answer := &rpc.Server{Handlers: s.server.Handlers(), Log: n.log.With("component", "rpc")}
	mux.Handle(transport.RPCMulti, answer.ServeMulti)
	mux.Handle(transport.RPCSingle, answer.ServeSingle)
	streams := rpc.NewGRPCServer()
	mux.Handle(transport.GRPC, streams.ServeConn)
	mux.Handle(transport.Raft, func(ctx context.Context, conn net.Conn) {
		telemetry.RPCRaft.Count()
		kept := keep(conn)
		select {
		case raftConns <- kept:
			kept.wait(ctx)
		case <-ctx.Done():
		}
	})
	s.storage = []part{{"log", s.log.Run}}
	s.cluster = []part{
		{"server port", func(ctx context.Context) error { return mux.Serve(ctx, listener) }},
		{"first election", s.server.Bootstrap},
		{"LAN rejoin", s.rejoin},
	}
	// It stops before the port does, so that its clients move on without an error.
	s.services = []part{{"gRPC", streams.Run}, {"measurements", s.server.Measure}}
	if dir != "" {
		s.storage = append(s.storage, part{"rejoin age", n.keepAge})
	}
	if n.cfg.Listen.SerfWAN == "" {
		return s, nil
	}
	return s, s.newWAN(mux, wan)
}

// authority is how a certificate authority of the mesh is made.
func (n *Node) authority() (ca.Settings, error) {
	c := n.cfg.Connect.CAConfig
	s := ca.Settings{
		LeafTTL: c.LeafCertTTL, IntermediateTTL: c.IntermediateCertTTL, RootTTL: c.RootCertTTL,
		KeyType: c.PrivateKeyType, KeyBits: c.PrivateKeyBits,
	}
	if err := s.Check(); err != nil {
		return s, fmt.Errorf("connect.ca_config: %w", err)
	}
	return s, nil
}

// rpcAddr is where other servers of the datacenter reach this one.
func (n *Node) rpcAddr() string {
	return net.JoinHostPort(n.cfg.AdvertiseAddr, strconv.Itoa(n.cfg.Ports.Server))
}

// ageEvery is how often a server notes that it runs.
const ageEvery = time.Hour

func (n *Node) keepAge(ctx context.Context) error {
	tick := time.NewTicker(ageEvery)
	defer tick.Stop()
	for {
		if err := noteAge(n.cfg.DataDir); err != nil {
			n.log.Warn("when this server last ran is not noted", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// lanChanged tells those who compare the whole LAN.
func (s *serverParts) lanChanged() {
	s.server.LANChanged()
	select {
	case s.flood <- struct{}{}:
	default: // it is told already
	}
}

// leave takes this server out of the peers, when it can, and out of the WAN.
func (s *serverParts) leave(ctx context.Context) error {
	var err error
	if s.log.IsLeader() {
		if peers, _ := s.log.Servers(); len(peers) > 1 {
			err = s.log.TransferLeadership(ctx)
		}
	}
	if s.wan != nil {
		err = errors.Join(err, s.wan.Leave(ctx))
	}
	return err //nolint:wrapcheck // says what it did
}

// kept is a connection that was handed to a library and tells when the library
// closes it.
type kept struct {
	net.Conn

	once sync.Once
	gone chan struct{}
}

func keep(conn net.Conn) *kept { return &kept{Conn: conn, gone: make(chan struct{})} }

// Close closes the connection and tells who waits.
func (k *kept) Close() error {
	k.once.Do(func() { close(k.gone) })
	return k.Conn.Close() //nolint:wrapcheck // a plain wrapper
}

// wait waits until the connection is closed or ctx is done.
func (k *kept) wait(ctx context.Context) {
	select {
	case <-k.gone:
	case <-ctx.Done():
	}
}

// Times of looking for the peers.
const (
	firstLook = 200 * time.Millisecond
	lastLook  = 5 * time.Second
)

// rejoin brings a server back into the LAN that lost every other server: one that
// restarted after a crash may remember no member, but its log names its peers.
func (s *serverParts) rejoin(ctx context.Context) error {
	n := s.node
	wait := firstLook
	for {
		if !pause(ctx, wait) {
			return nil
		}
		peers := s.lostPeers()
		if len(peers) == 0 {
			wait = lastLook
			continue
		}
		joined, err := n.lan.Join(ctx, peers)
		if joined > 0 {
			n.log.Info("joined the peers that the log names", "members", joined)
		} else if ctx.Err() == nil {
			n.log.Warn("none of the peers that the log names can be joined", "peers", peers, "err", err)
		}
		wait = min(2*wait, lastLook)
	}
}

// lostPeers are the addresses of the other peers when none of them is alive in the
// LAN. Their gossip port is taken to be this server's.
func (s *serverParts) lostPeers() []string {
	for _, m := range s.node.lan.Members() {
		if server.IsServer(&m) && m.Name != s.node.cfg.NodeName && m.Status == gossip.StatusAlive {
			return nil
		}
	}
	peers, err := s.log.Servers()
	if err != nil {
		return nil // the log does not run yet
	}
	var out []string
	for _, p := range peers {
		host, _, err := net.SplitHostPort(p.Address)
		if err == nil && p.ID != s.node.id {
			out = append(out, net.JoinHostPort(host, strconv.Itoa(s.node.cfg.Ports.SerfLAN)))
		}
	}
	return out
}
