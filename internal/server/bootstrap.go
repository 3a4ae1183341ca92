package server

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"isthmus/api"
	"isthmus/internal/consensus"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// Bootstrap makes the first set of peers once as many servers are there as were
// expected, unless one of them has peers already. It ends when this server has
// peers, its own or those of a leader that took it in.
func (s *Server) Bootstrap(ctx context.Context) error {
	if s.cfg.Expect <= 0 || s.log.HasState() {
		return nil
	}
	if s.cfg.Expect == 1 {
		return s.log.Bootstrap([]consensus.Server{{ID: s.cfg.ID, Address: s.cfg.Address, Voter: true}}) //nolint:wrapcheck // says what it did
	}
	for !s.log.HasState() {
		done, err := s.tryBootstrap(ctx)
		if err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("no election yet", "err", err)
		}
		if done {
			break
		}
		if !s.nextLANChange(ctx) {
			return nil
		}
	}
	return nil
}

func (s *Server) tryBootstrap(ctx context.Context) (done bool, err error) {
	var servers []consensus.Server
	members := s.cfg.Members()
	for i := range members {
		m := &members[i]
		if !IsServer(m) || m.Tags["nonvoter"] != "" {
			continue
		}
		if expect, err := strconv.Atoi(m.Tags["expect"]); err != nil || expect != s.cfg.Expect {
			return false, api.Errorf(api.Invalid, "server %s expects %q servers and this one %d: give all the same bootstrap_expect",
				m.Name, m.Tags["expect"], s.cfg.Expect)
		}
		servers = append(servers, consensus.Server{ID: m.Tags["id"], Address: Addr(m), Voter: true})
	}
	if len(servers) < s.cfg.Expect {
		return false, nil
	}
	for i := range members {
		m := &members[i]
		if !IsServer(m) || m.Name == s.cfg.Node {
			continue
		}
		peer := s.router.Server(rpc.ServerInfo{Datacenter: s.cfg.Datacenter, Name: m.Name, Addr: Addr(m)})
		peers, _, err := wire.StatusPeers.Call(ctx, peer, rpc.Header{}, wire.DCQuery{})
		if err != nil {
			return false, fmt.Errorf("ask %s for its peers: %w", m.Name, err)
		}
		if len(peers) > 0 {
			s.cfg.Log.Info("waiting to be taken in: there are peers already", "server", m.Name)
			return true, nil
		}
	}
	s.cfg.Log.Info("first election", "servers", len(servers))
	if err := s.log.Bootstrap(servers); err != nil {
		return false, err //nolint:wrapcheck // says what it did
	}
	return true, nil
}

// nextLANChange waits for the LAN to change, or for a moment. It returns false
// when ctx is done.
func (s *Server) nextLANChange(ctx context.Context) bool {
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-s.lan:
	case <-t.C:
	}
	return true
}
