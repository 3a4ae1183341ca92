package node

import (
	"fmt"
	"iter"
	"net"
	"strconv"
	"strings"

	"isthmus/api"
	"isthmus/internal/config"
	"isthmus/internal/gossip"
	"isthmus/internal/server"
)

// splitList yields the parts of a text between commas.
func splitList(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for part := range strings.SplitSeq(s, ",") {
			if part = strings.TrimSpace(part); part != "" && !yield(part) {
				return
			}
		}
	}
}

// tags are what a member says of itself (wanfed-facts §6).
func (n *Node) tags() map[string]string {
	t := map[string]string{
		"role": "node", "dc": n.cfg.Datacenter, "segment": "", "id": n.id,
		"vsn": "2", "vsn_min": "2", "vsn_max": "3", "build": api.Compat + ":",
	}
	if !n.cfg.Server {
		return t
	}
	t["role"] = "consul"
	t["raft_vsn"], t["acls"] = "3", "0"
	t["port"] = strconv.Itoa(n.cfg.Ports.Server)
	t["ft_fs"], t["ft_si"] = "1", "1"
	if n.cfg.Bootstrap {
		t["bootstrap"] = "1"
	}
	if n.cfg.BootstrapExpect > 0 {
		t["expect"] = strconv.Itoa(n.cfg.BootstrapExpect)
	}
	if n.tls.MutualCapable() && n.cfg.TLS.InternalRPC.VerifyOutgoing {
		t["use_tls"] = "1"
	}
	return t
}

// newLAN makes the LAN pool and what follows it.
func (n *Node) newLAN() ([]part, error) {
	listener, err := listenGossip(n.cfg.Listen.SerfLAN, n)
	if err != nil {
		return nil, fmt.Errorf("LAN gossip: %w", err)
	}
	snapshot, err := n.snapshotFile("local.snapshot")
	if err != nil {
		return nil, err
	}
	tags := n.tags()
	if n.server != nil && n.server.wanPort > 0 {
		tags["wan_join_port"] = strconv.Itoa(n.server.wanPort)
	}
	g := n.cfg.GossipLAN
	n.lan, err = gossip.New(gossip.Config{
		Name: n.cfg.NodeName, Tags: tags, Net: listener, AdvertiseAddr: n.cfg.AdvertiseAddr, AdvertisePort: listener.Port(),
		Keyring:     n.keyring(),
		Allowed:     config.Networks(n.cfg.SerfLANAllowedCIDRs),
		AcceptPlain: !n.cfg.EncryptVerifyIncoming, SendPlain: !n.cfg.EncryptVerifyOutgoing, SnapshotPath: snapshot, RejoinAfterLeave: n.cfg.RejoinAfterLeave, ReconnectTimeout: n.cfg.ReconnectTimeout,
		GossipInterval: g.GossipInterval, GossipNodes: g.GossipNodes, ProbeInterval: g.ProbeInterval, ProbeTimeout: g.ProbeTimeout,
		SuspicionMult: g.SuspicionMult, RetransmitMult: g.RetransmitMult,
		Merge: n.mergeLAN, Events: n.lanEvent, Log: n.log.With("component", "gossip", "pool", "lan"),
	})
	if err != nil {
		return nil, fmt.Errorf("LAN gossip: %w", err)
	}
	parts := []part{{"LAN gossip", n.lan.Run}}
	if len(n.cfg.RetryJoin) > 0 {
		join := joiner{
			pool: n.lan, settings: n.cfg.RetryJoin, interval: n.cfg.RetryInterval, most: n.cfg.RetryMax,
			log: n.log.With("component", "join", "pool", "lan"),
		}
		parts = append(parts, part{"LAN join", join.run})
	}
	return parts, nil
}

func (n *Node) keyring() [][]byte {
	if key := n.cfg.GossipKey(); len(key) > 0 {
		return [][]byte{key}
	}
	return nil
}

// mergeLAN keeps members of other datacenters, and one that has this node's id,
// out of the LAN.
func (n *Node) mergeLAN(members []gossip.Member) error {
	for _, m := range members {
		if dc := m.Tags["dc"]; dc != n.cfg.Datacenter {
			return fmt.Errorf("member %s is of datacenter %q, not %s", m.Name, dc, n.cfg.Datacenter)
		}
		if m.Tags["id"] == n.id && m.Name != n.cfg.NodeName {
			return fmt.Errorf("member %s has this node's id %s: give each node a data_dir of its own", m.Name, n.id)
		}
	}
	return nil
}

// lanEvent keeps the router in step with the servers of the LAN, and tells those
// who compare the whole pool that it changed.
func (n *Node) lanEvent(e gossip.Event) {
	for i := range e.Members {
		m := &e.Members[i]
		if !server.IsServer(m) {
			continue
		}
		info := serverInfo(m, n.cfg.Datacenter, m.Name)
		switch e.Kind {
		case gossip.EventJoin, gossip.EventUpdate, gossip.EventFailed:
			n.router.AddServer(info)
			n.joinOnce.Do(func() { close(n.joined) })
		case gossip.EventLeave, gossip.EventReap:
			n.router.RemoveServer(info)
		case gossip.EventUser:
		}
	}
	if n.server != nil {
		n.server.lanChanged()
	}
	if n.local != nil && len(e.Members) > 0 {
		n.local.Sync()
	}
}

// listenGossip listens at host:port for a pool.
func listenGossip(addr string, n *Node) (*gossip.Net, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	return gossip.Listen(host, number, n.log.With("component", "gossip")) //nolint:wrapcheck // says where it listens
}
