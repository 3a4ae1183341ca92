package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"isthmus/api"
	"isthmus/internal/config"
	"isthmus/internal/dns"
	"isthmus/internal/gossip"
	"isthmus/internal/local"
	"isthmus/internal/rpc"
	"isthmus/internal/server"
	"isthmus/internal/telemetry"
	"isthmus/internal/transport"
	"isthmus/internal/watches"
	"isthmus/internal/wire"
	"isthmus/internal/xds"
)

// Options are what a node is given beside its settings.
type Options struct {
	Settings *config.Settings
	// Reload reads the settings anew, for a reload that is asked for over HTTP.
	Reload  func() (*config.Settings, error)
	Logs    *telemetry.Logs
	Metrics *telemetry.Metrics // nil: none are kept
}

// Node is an agent: a server or a client.
type Node struct {
	opts Options
	cfg  *config.Settings
	log  *slog.Logger
	id   string
	lock *os.File // nil without a data directory

	tls     *transport.TLS
	https   *transport.TLS // nil unless HTTPS is served
	watches *watches.Runner
	grpc    *transport.TLS // nil unless gRPC is served with TLS
	xds     *xds.Server    // nil unless gRPC is served
	dns     *dns.Front     // nil unless DNS is served
	dialer  transport.Dialer
	pool    *rpc.Pool
	router  *rpc.Router
	lan     *gossip.Pool
	caller  rpc.Caller // whoever answers for the datacenter
	local   *local.Agent
	server  *serverParts // nil on clients

	reloading sync.Mutex
	httpConns atomic.Int64 // connections to the HTTP API for each address
	rate      rate         // of what clients ask servers

	systemd  *systemd
	joined   chan struct{} // closed when a server is heard of
	joinOnce sync.Once

	stages stages
	left   sync.Once
	leave  chan struct{} // closed by a request to leave
}

// New builds a node. It listens already, so that an address in use is told at
// once, but nothing runs before Run, which must be called to let go of it all.
func New(opts Options) (*Node, error) {
	log := opts.Logs.Logger()
	n := &Node{
		opts: opts, cfg: opts.Settings, log: log, systemd: newSystemd(log.With("component", "systemd")),
		joined: make(chan struct{}), leave: make(chan struct{}),
	}
	if err := n.build(); err != nil {
		if n.lock != nil {
			_ = n.lock.Close()
		}
		return nil, err
	}
	return n, nil
}

func (n *Node) build() error {
	if err := n.identify(); err != nil {
		return err
	}
	var err error
	if n.tls, err = n.loadTLS(n.cfg); err != nil {
		return err
	}
	var (
		storage, cluster, services, fronts []part
		wan                                *wide
	)
	direct := &transport.Direct{TLS: n.tls}
	n.dialer = direct
	if n.cfg.Server && n.cfg.Connect.EnableMeshGatewayWANFederation {
		wan = newWide(n, direct)
		n.dialer = wan.dialer
	}
	n.pool = rpc.NewPool(n.dialer, n.cfg.Limits.RPCClientTimeout, n.log.With("component", "rpc"))
	n.router = rpc.NewRouter(n.cfg.Datacenter, n.pool, n.log.With("component", "router"))
	n.rate.set(n.cfg.Limits.RPCRate, n.cfg.Limits.RPCMaxBurst)
	n.caller = limited{rpc.Keep(n.router.To(n.cfg.Datacenter), n.cfg.Performance.RPCHoldTimeout), &n.rate}
	cluster = append(cluster, part{"rpc pool", n.pool.Run}, part{"router", n.router.Run})
	if n.opts.Metrics != nil {
		storage = append(storage, part{"metrics", n.opts.Metrics.Run}, part{"measurements", n.measure})
	}
	if n.cfg.Server {
		if n.server, err = n.newServer(direct, wan); err != nil {
			return err
		}
		n.caller = n.server.server
		storage, cluster = append(storage, n.server.storage...), append(cluster, n.server.cluster...)
		services = n.server.services
	}
	lan, err := n.newLAN()
	if err != nil {
		return err
	}
	cluster = append(cluster, lan...)
	n.router.Nodes = n.lan.NumNodes
	if n.local, err = n.newLocal(); err != nil {
		return err
	}
	cache := rpc.NewCache(n.caller, n.log.With("component", "cache"),
		rpc.CacheOf(wire.FederationGateways, "federation-state-list-mesh-gateways"),
		rpc.CacheOf(wire.CARoots, "connect-ca-root"),
		rpc.CacheOf(wire.HealthServiceNodes, "health-services"),
		rpc.CacheOf(wire.CatalogServices, "catalog-list-services"),
		rpc.CacheOf(wire.CatalogServiceNodes, "catalog-services"))
	services = append(services, part{"local services", n.local.Run}, part{"agent cache", cache.Run})
	if !n.cfg.DisableCoordinates {
		services = append(services, part{"coordinate", n.sendCoordinate})
	}
	proxies, err := n.newXDS()
	if err != nil {
		return err
	}
	front, err := n.newHTTP(cache)
	if err != nil {
		return err
	}
	names, err := n.newDNS(cache)
	if err != nil {
		return err
	}
	fronts = slices.Concat(fronts, front, proxies, names, []part{{"service manager", n.tellSystemd}})
	n.stages = stages{storage, cluster, services, fronts}
	return nil
}

// identify takes the data directory and the node's id.
func (n *Node) identify() error {
	dir := n.cfg.DataDir
	if dir != "" {
		lock, err := lockDir(dir)
		if err != nil {
			return err
		}
		n.lock = lock
		if n.cfg.Server {
			if err := checkAge(dir, n.cfg.ServerRejoinAgeMax); err != nil {
				return err
			}
		}
	}
	var err error
	n.id, err = nodeID(n.cfg.NodeID, dir)
	return err
}

// tlsConfig is how a listener's settings look to transport.
func (n *Node) tlsConfig(cfg *config.Settings, l config.TLSListener) transport.TLSConfig {
	var suites []string
	for s := range splitList(l.TLSCipherSuites) {
		suites = append(suites, s)
	}
	return transport.TLSConfig{
		CAFile: l.CAFile, CAPath: l.CAPath, CertFile: l.CertFile, KeyFile: l.KeyFile,
		MinVersion: l.TLSMinVersion, CipherSuites: suites,
		VerifyIncoming: l.VerifyIncoming, VerifyOutgoing: l.VerifyOutgoing, VerifyServerHostname: l.VerifyServerHostname,
		Domain: cfg.Domain, Datacenter: cfg.Datacenter, NodeName: cfg.NodeName,
	}
}

// loadTLS loads the material for connections between agents. With federation
// through gateways the own certificate must have the names that gateways route
// by.
func (n *Node) loadTLS(cfg *config.Settings) (*transport.TLS, error) {
	t, err := transport.NewTLS(n.tlsConfig(cfg, cfg.TLS.InternalRPC))
	if err != nil {
		return nil, fmt.Errorf("tls.internal_rpc: %w", err)
	}
	if cfg.Connect.EnableMeshGatewayWANFederation {
		if !t.MutualCapable() {
			return nil, errors.New("connect.enable_mesh_gateway_wan_federation needs tls.internal_rpc.ca_file, cert_file and key_file")
		}
		if err := t.CheckServerNames(); err != nil {
			return nil, fmt.Errorf("connect.enable_mesh_gateway_wan_federation: %w", err)
		}
	}
	return t, nil
}

// newLocal makes the keeper of this node's services and checks.
func (n *Node) newLocal() (*local.Agent, error) {
	a, err := local.New(local.Config{
		Node: n.cfg.NodeName, NodeID: n.id, Datacenter: n.cfg.Datacenter, Address: n.cfg.AdvertiseAddr,
		TaggedAddresses: n.cfg.TaggedAddresses, Meta: n.meta(n.cfg), Caller: n.caller, Dir: n.cfg.DataDir,
		NumNodes: n.lan.NumNodes, CheckUpdateInterval: n.cfg.CheckUpdateInterval, DiscardOutput: n.cfg.DiscardCheckOutput,
		MaxCheckOutput: n.cfg.CheckOutputMaxSize, Scripts: scripts(n.cfg), CheckTLS: n.checkTLS(),
		Sidecars: local.Sidecars{MinPort: n.cfg.Ports.SidecarMin, MaxPort: n.cfg.Ports.SidecarMax, Bare: !n.cfg.Connect.SidecarInherit},
		Log:      n.log.With("component", "local"),
	})
	if err != nil {
		return nil, fmt.Errorf("local services: %w", err)
	}
	services, checks, err := definitions(n.cfg)
	if err != nil {
		return nil, err
	}
	if err := a.SetConfigured(services, checks); err != nil {
		return nil, fmt.Errorf("services in configuration files: %w", err)
	}
	return a, nil
}

// scripts says whose checks may run commands.
func scripts(cfg *config.Settings) local.Scripts {
	switch {
	case cfg.EnableScriptChecks:
		return local.ScriptsAlways
	case cfg.EnableLocalScriptChecks:
		return local.ScriptsLocal
	default:
		return local.ScriptsNever
	}
}

// checkTLS is what checks over TLS begin with; nil when they trust the system.
func (n *Node) checkTLS() func() *tls.Config {
	if !n.cfg.EnableAgentTLSForChecks {
		return nil
	}
	return n.tls.Probe
}

// meta is what the catalog keeps of the node: what is set, and what the protocol
// adds.
func (n *Node) meta(cfg *config.Settings) map[string]string {
	out := map[string]string{"consul-network-segment": "", "consul-version": api.Compat}
	maps.Copy(out, cfg.NodeMeta)
	return out
}

// Run runs the node until ctx is done, a part fails, or it has left.
func (n *Node) Run(ctx context.Context) error {
	if n.lock != nil {
		defer func() { _ = n.lock.Close() }()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-n.leave:
			cancel()
		case <-ctx.Done():
		}
	}()
	return n.stages.run(ctx)
}

// tellSystemd tells the service manager how far this node is.
func (n *Node) tellSystemd(ctx context.Context) error { return n.systemd.run(ctx, n.serves) }

// Leave tells the others that this node goes for good, and ends Run.
func (n *Node) Leave(ctx context.Context) error {
	var err error
	n.left.Do(func() {
		n.systemd.stopping()
		if n.server != nil {
			err = n.server.leave(ctx)
		}
		err = errors.Join(err, n.lan.Leave(ctx))
		pause(ctx, n.cfg.Performance.LeaveDrainTime)
		close(n.leave)
	})
	return err
}

// pause lets time pass, such as for requests under way to end. It returns false when
// ctx is done first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// snapshotFile is where gossip remembers a pool's members.
func (n *Node) snapshotFile(name string) (string, error) {
	if n.cfg.DataDir == "" {
		return "", nil
	}
	dir := filepath.Join(n.cfg.DataDir, "serf")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("data_dir: %w", err)
	}
	return filepath.Join(dir, name), nil
}

// serverInfo makes what the router keeps from a member of a pool.
func serverInfo(m *gossip.Member, datacenter, name string) rpc.ServerInfo {
	return rpc.ServerInfo{
		Datacenter: datacenter, Name: name, ID: m.Tags["id"], Addr: server.Addr(m),
		Build: m.Tags["build"], FedStates: m.Tags["ft_fs"] == "1", Alive: m.Status == gossip.StatusAlive,
	}
}
