package node

import (
	"context"
	"fmt"
	"net"

	"isthmus/internal/cloudjoin"
	"isthmus/internal/config"
	"isthmus/internal/federation"
	"isthmus/internal/gossip"
	"isthmus/internal/rpc"
	"isthmus/internal/server"
	"isthmus/internal/transport"
	"isthmus/internal/wire"
)

// wide is how a server reaches other datacenters through mesh gateways.
type wide struct {
	locator *federation.Locator
	dialer  *federation.Dialer
}

// newWide makes the ends of the one circle in the system: gateways are found by
// replication, which dials through gateways. newWAN closes it.
func newWide(n *Node, direct *transport.Direct) *wide {
	locator := federation.NewLocator(n.cfg.PrimaryDatacenter != n.cfg.Datacenter)
	cfg := federation.DialerConfig{
		Datacenter: n.cfg.Datacenter, Primary: n.cfg.PrimaryDatacenter, Domain: n.cfg.Domain,
		Log: n.log.With("component", "gateway_locator"),
	}
	return &wide{locator, federation.NewDialer(cfg, locator, direct, n.tls)}
}

// newWAN makes the WAN pool and what follows it. Each line is handed only what
// the lines above made.
func (s *serverParts) newWAN(mux *transport.Mux, wan *wide) error {
	n := s.node
	listener, err := listenGossip(n.cfg.Listen.SerfWAN, n)
	if err != nil {
		return fmt.Errorf("WAN gossip: %w", err)
	}
	s.wanPort = listener.Port()
	cfg, err := s.wanConfig(listener)
	if err != nil {
		return err
	}
	if wan != nil {
		carrier := federation.NewCarrier(listener, n.cfg.Datacenter, wan.dialer, n.log.With("component", "wan"))
		cfg.Carrier, cfg.RequireNodeNames = carrier, true
		cfg.DisableTCPPings = func(name string) bool {
			_, dc, ok := federation.SplitName(name)
			return ok && dc != n.cfg.Datacenter
		}
		s.cluster = append(s.cluster, part{"WAN carrier", carrier.Run}, part{"gateway dialer", wan.dialer.Run})
	}
	if s.wan, err = gossip.New(cfg); err != nil {
		return fmt.Errorf("WAN gossip: %w", err)
	}
	s.cluster = append(s.cluster, part{"WAN gossip", s.wan.Run})
	if wan != nil {
		mux.Handle(transport.WANPacket, func(_ context.Context, conn net.Conn) { s.wan.ServePackets(conn) })
		mux.Handle(transport.WANStream, func(ctx context.Context, conn net.Conn) {
			kept := keep(conn)
			s.wan.ServeStream(kept)
			kept.wait(ctx)
		})
		s.follow(wan)
	}
	flood := federation.Flood{
		Datacenter: n.cfg.Datacenter, LAN: func() []gossip.Member { return n.lan.Members() }, WAN: s.wan.Members, Join: s.wan.Join,
		Wake: s.flood, News: s.news, Self: n.cfg.NodeName, Named: wan != nil, Log: n.log.With("component", "wan"),
	}
	s.cluster = append(s.cluster, part{"WAN flood", flood.Run})
	s.joinWAN(wan)
	return nil
}

// follow is where the circle closes, and nowhere else.
func (s *serverParts) follow(wan *wide) {
	n := s.node
	if len(n.cfg.PrimaryGateways) > 0 {
		s.cluster = append(s.cluster, part{"configured gateways", func(ctx context.Context) error {
			log := n.log.With("component", "gateway_locator")
			discover := func(ctx context.Context, setting string) ([]string, error) { return cloudjoin.Addrs(ctx, setting, log) }
			wan.locator.Follow("configured", federation.Configured(ctx, n.cfg.PrimaryGateways, n.cfg.PrimaryGatewaysInterval, discover, log))
			<-ctx.Done()
			return nil
		}})
	}
	s.cluster = append(s.cluster, part{"replicated gateways", func(ctx context.Context) error {
		log := n.log.With("component", "gateway_locator")
		states := wire.FederationList.Watch(ctx, s.server, rpc.Header{AllowStale: true}, wire.DCQuery{})
		wan.locator.Follow("replicated", federation.FromStates(states, n.cfg.Datacenter, n.cfg.PrimaryDatacenter, log))
		return nil
	}})
}

// joinWAN joins the WAN pool: through gateways every datacenter that is known, and
// without them the servers that are set.
func (s *serverParts) joinWAN(wan *wide) {
	n := s.node
	log := n.log.With("component", "join", "pool", "wan")
	if wan != nil {
		reach := federation.Reach{
			Own: n.cfg.Datacenter, WAN: s.wan.Members, Join: s.wan.Join, Changed: wan.locator.Changed(),
			Probe: func(ctx context.Context, dc string) error {
				conn, err := wan.dialer.Dial(ctx, transport.Target{Datacenter: dc}, transport.WANStream)
				if err != nil {
					return err //nolint:wrapcheck // says where it leads
				}
				return conn.Close() //nolint:wrapcheck // the same
			},
			Datacenters: func() []string { return append(s.server.Published(), n.cfg.PrimaryDatacenter) },
			Interval:    n.cfg.RetryIntervalWAN, Most: n.cfg.RetryMaxWAN, Log: log,
		}
		s.cluster = append(s.cluster, part{"WAN join", reach.Run})
		return
	}
	if len(n.cfg.RetryJoinWAN) > 0 {
		join := joiner{pool: s.wan, settings: n.cfg.RetryJoinWAN, interval: n.cfg.RetryIntervalWAN, most: n.cfg.RetryMaxWAN, log: log}
		s.cluster = append(s.cluster, part{"WAN join", join.run})
	}
}

func (s *serverParts) wanConfig(listener *gossip.Net) (gossip.Config, error) {
	n := s.node
	snapshot, err := n.snapshotFile("remote.snapshot")
	g := n.cfg.GossipWAN
	tags := n.tags()
	return gossip.Config{
		Name: n.cfg.NodeName + "." + n.cfg.Datacenter, Tags: tags, Net: listener, WAN: true,
		AdvertiseAddr: n.cfg.AdvertiseAddrWAN, AdvertisePort: listener.Port(), Keyring: n.keyring(),
		Allowed:     config.Networks(n.cfg.SerfWANAllowedCIDRs),
		AcceptPlain: !n.cfg.EncryptVerifyIncoming, SendPlain: !n.cfg.EncryptVerifyOutgoing,
		SnapshotPath: snapshot, RejoinAfterLeave: n.cfg.RejoinAfterLeave, ReconnectTimeout: n.cfg.ReconnectTimeoutWAN,
		GossipInterval: g.GossipInterval, GossipNodes: g.GossipNodes, ProbeInterval: g.ProbeInterval, ProbeTimeout: g.ProbeTimeout,
		SuspicionMult: g.SuspicionMult, RetransmitMult: g.RetransmitMult,
		Merge: mergeWAN, Events: s.wanEvent, Log: n.log.With("component", "gossip", "pool", "wan"),
	}, err
}

// mergeWAN keeps all but servers out of the WAN pool.
func mergeWAN(members []gossip.Member) error {
	for i := range members {
		m := &members[i]
		if !server.IsServer(m) {
			return fmt.Errorf("member %s is not a server", m.Name)
		}
		if _, dc, ok := federation.SplitName(m.Name); !ok || dc != m.Tags["dc"] {
			return fmt.Errorf("member %s is not named <node>.<datacenter> with its datacenter %q", m.Name, m.Tags["dc"])
		}
	}
	return nil
}

// wanEvent keeps the router in step with the servers of other datacenters.
func (s *serverParts) wanEvent(e gossip.Event) {
	select {
	case s.news <- struct{}{}:
	default: // it is told already
	}
	for i := range e.Members {
		m := &e.Members[i]
		node, dc, ok := federation.SplitName(m.Name)
		if !ok || dc == s.node.cfg.Datacenter {
			continue
		}
		info := serverInfo(m, dc, node)
		switch e.Kind {
		case gossip.EventJoin, gossip.EventUpdate, gossip.EventFailed:
			s.node.router.AddServer(info)
		case gossip.EventLeave, gossip.EventReap:
			s.node.router.RemoveServer(info)
		case gossip.EventUser:
		}
	}
}
