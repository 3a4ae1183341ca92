package server

import (
	"context"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"isthmus/api"
	"isthmus/internal/consensus"
	"isthmus/internal/gossip"
	"isthmus/internal/state"
	"isthmus/internal/telemetry"
)

// reconcileEvery is how often a leader compares everything, whether or not it was
// told of a change.
const reconcileEvery = 60 * time.Second

// LANChanged tells the server that the members of the LAN pool changed.
func (s *Server) LANChanged() {
	select {
	case s.lan <- struct{}{}:
	default: // it is told already
	}
}

// reconcileMembers keeps catalog and peers equal to the LAN's members.
func (s *Server) reconcileMembers(ctx context.Context) error {
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	for {
		wait := tick.C
		if err := s.reconcile(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("members are not all in the catalog yet", "err", err)
			retry := time.NewTimer(time.Second)
			defer retry.Stop()
			wait = retry.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wait:
		case <-s.lan:
		}
	}
}

// reconcile makes one comparison. It stops at the first error: the next one
// begins anew.
func (s *Server) reconcile(ctx context.Context) error {
	defer telemetry.LeaderReconcile.Since(time.Now())
	known := map[string]bool{}
	members := s.cfg.Members()
	for i := range members {
		m := &members[i]
		known[m.Name] = true
		begin := time.Now()
		var err error
		switch m.Status {
		case gossip.StatusAlive, gossip.StatusLeaving:
			err = s.memberAlive(ctx, m)
		case gossip.StatusFailed:
			err = s.memberFailed(ctx, m)
		case gossip.StatusLeft:
			err = s.memberLeft(ctx, m.Name, m.Tags["id"])
		case gossip.StatusNone:
		}
		telemetry.LeaderReconcileMember.Since(begin)
		if err != nil {
			return err
		}
	}
	// Nodes that gossip once watched over and has forgotten.
	tx := s.state.Read()
	for n := range state.Nodes(tx) {
		if !known[n.Node] && state.Check(tx, n.Node, api.SerfHealth) != nil {
			if err := s.memberLeft(ctx, n.Node, n.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// memberAlive registers a member and, when it is a server, makes it a peer.
func (s *Server) memberAlive(ctx context.Context, m *gossip.Member) error {
	check := &api.HealthCheck{
		Node: m.Name, CheckID: api.SerfHealth, Name: "Serf Health Status",
		Status: api.Passing, Output: "Agent alive and reachable",
	}
	var service *api.NodeService
	if IsServer(m) {
		if err := s.addPeer(ctx, m); err != nil {
			return err
		}
		service = consulService(m)
	}
	tx := s.state.Read()
	node := state.Node(tx, m.Name)
	sameNode := node != nil && node.Address == m.Addr.String() && node.ID == m.Tags["id"]
	upToDate := sameNode
	if old := state.Check(tx, m.Name, api.SerfHealth); old == nil || old.Status != api.Passing {
		upToDate = false
	}
	if service != nil {
		old := state.Service(tx, m.Name, service.ID)
		upToDate = upToDate && old != nil && old.Port == service.Port && maps.Equal(old.Meta, service.Meta)
	}
	if upToDate {
		return nil
	}
	in := &api.Registration{
		Datacenter: s.cfg.Datacenter, ID: m.Tags["id"], Node: m.Name, Address: m.Addr.String(),
		Service: service, Checks: []*api.HealthCheck{check},
		// The agent may register its node at the same moment, and knows more of it.
		SkipNodeUpdate: sameNode || node == nil,
	}
	if node != nil { // what the agent itself registered stays
		in.TaggedAddresses, in.NodeMeta, in.Locality = node.TaggedAddresses, node.Meta, node.Locality
	}
	_, _, err := apply(ctx, s, &state.Register, in)
	return err
}

// IsServer tells whether a member is a server.
func IsServer(m *gossip.Member) bool { return m.Tags["role"] == "consul" }

// Addr is the address of a server's RPC port.
func Addr(m *gossip.Member) string { return net.JoinHostPort(m.Addr.String(), m.Tags["port"]) }

func (s *Server) memberFailed(ctx context.Context, m *gossip.Member) error {
	tx := s.state.Read()
	if state.Node(tx, m.Name) == nil {
		return nil
	}
	if old := state.Check(tx, m.Name, api.SerfHealth); old != nil && old.Status == api.Critical {
		return nil
	}
	_, _, err := apply(ctx, s, &state.Register, &api.Registration{
		Datacenter: s.cfg.Datacenter, Node: m.Name, SkipNodeUpdate: true,
		Checks: []*api.HealthCheck{{
			Node: m.Name, CheckID: api.SerfHealth, Name: "Serf Health Status",
			Status: api.Critical, Output: "Agent not live or unreachable",
		}},
	})
	return err
}

// memberLeft takes a node out of the catalog and out of the peers.
func (s *Server) memberLeft(ctx context.Context, node, id string) error {
	if node == s.cfg.Node {
		return nil // it leads at this moment
	}
	peers, err := s.log.Servers()
	if err != nil {
		return err //nolint:wrapcheck // says what it read
	}
	if slices.ContainsFunc(peers, func(p consensus.Server) bool { return p.ID == id }) {
		s.cfg.Log.Info("server left the peers", "server", node)
		if err := s.log.RemoveServer(ctx, id); err != nil {
			return err //nolint:wrapcheck // says what it changed
		}
	}
	if state.Node(s.state.Read(), node) == nil {
		return nil
	}
	_, _, err = apply(ctx, s, &state.Deregister, &api.Deregistration{Datacenter: s.cfg.Datacenter, Node: node})
	return err
}

// addPeer makes a server a voter. One that came back with another id takes the
// place of the one that had its address.
func (s *Server) addPeer(ctx context.Context, m *gossip.Member) error {
	id, addr := m.Tags["id"], Addr(m)
	if id == "" || m.Tags["nonvoter"] != "" || m.Tags["read_replica"] != "" {
		return nil
	}
	peers, err := s.log.Servers()
	if err != nil {
		return err //nolint:wrapcheck // says what it read
	}
	for _, p := range peers {
		switch {
		case p.ID == id && p.Address == addr:
			return nil
		case p.ID != id && p.Address == addr && p.ID != s.cfg.ID:
			if err := s.log.RemoveServer(ctx, p.ID); err != nil {
				return err //nolint:wrapcheck // says what it changed
			}
		}
	}
	s.cfg.Log.Info("server joined the peers", "server", m.Name, "address", addr)
	return s.log.AddVoter(ctx, id, addr) //nolint:wrapcheck // says what it changed
}

// consulService is the service that every server is registered with.
func consulService(m *gossip.Member) *api.NodeService {
	port, _ := strconv.Atoi(m.Tags["port"]) // a server without a port is of no use to anybody
	version, _, _ := strings.Cut(m.Tags["build"], ":")
	number := func(n uint8) string { return strconv.Itoa(int(n)) }
	yes := func(tag string) string { return strconv.FormatBool(m.Tags[tag] != "") }
	meta := map[string]string{
		"version": version, "raft_version": m.Tags["raft_vsn"], "non_voter": yes("nonvoter"), "read_replica": yes("read_replica"),
		"serf_protocol_current": number(m.ProtocolCur), "serf_protocol_min": number(m.ProtocolMin), "serf_protocol_max": number(m.ProtocolMax),
	}
	for _, tag := range []string{"grpc_port", "grpc_tls_port"} {
		if v := m.Tags[tag]; v != "" {
			meta[tag] = v
		}
	}
	return &api.NodeService{
		ID: api.ConsulService, Service: api.ConsulService, Tags: []string{}, Port: port, Meta: meta,
		Weights: &api.Weights{Passing: 1, Warning: 1},
	}
}
