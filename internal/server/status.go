package server

import (
	"context"
	"strconv"

	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// bindStatus binds what a server tells of itself, also while there is no leader.
func bindStatus(s *Server) {
	rpc.Bind(s.handlers, wire.StatusPing, func(context.Context, rpc.Header, *wire.Empty) (wire.Empty, rpc.Meta, error) {
		return wire.Empty{}, rpc.Meta{}, nil
	})
	bindOwn(s, wire.StatusLeader, func() (string, error) {
		addr, _ := s.log.Leader()
		return addr, nil
	})
	bindOwn(s, wire.StatusPeers, func() ([]string, error) {
		servers, err := s.log.Servers()
		if err != nil {
			return nil, err //nolint:wrapcheck // says what it read
		}
		out := make([]string, len(servers))
		for i, server := range servers {
			out[i] = server.Address
		}
		return out, nil
	})
	rpc.Bind(s.handlers, wire.StatusRaft, func(context.Context, rpc.Header, *wire.Empty) (out wire.RaftStats, meta rpc.Meta, err error) {
		stats := s.log.Stats()
		out.LastContact = stats["last_contact"]
		out.LastIndex, _ = strconv.ParseUint(stats["last_log_index"], 10, 64)
		out.LastTerm, _ = strconv.ParseUint(stats["last_log_term"], 10, 64)
		return out, meta, nil
	})
}

// bindOwn makes f the answer to m on every server of the datacenter asked, leader
// or not.
func bindOwn[Out any](s *Server, m rpc.Method[wire.DCQuery, Out], f func() (Out, error)) {
	d := m.Desc()
	rpc.Bind(s.handlers, m, func(ctx context.Context, h rpc.Header, in *wire.DCQuery) (out Out, meta rpc.Meta, err error) {
		if h.Datacenter == "" || h.Datacenter == s.cfg.Datacenter {
			out, err = f()
			return out, meta, err
		}
		meta, err = s.router.To(h.Datacenter).Call(ctx, &rpc.Request{Desc: d, Header: h, In: in, Out: &out})
		return out, meta, err //nolint:wrapcheck // the router says whom it asked
	})
}
