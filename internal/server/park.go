package server

import (
	"context"
	"fmt"
	"sync"

	"isthmus/internal/rpc"
	"isthmus/internal/telemetry"
)

// park answers a read as rpc.Parker says.
type park func(r *rpc.Request, changed func()) (*rpc.Parked, error)

// Park implements rpc.Parker for the fronts of this process. A read that asks the
// peers each time is not for it, nor one that another server answers.
func (s *Server) Park(_ context.Context, r *rpc.Request, changed func()) (*rpc.Parked, error) {
	park := s.parks[r.Name]
	if park == nil || r.Header.Consistent || !s.here(r) {
		return nil, nil //nolint:nilnil // as the interface says
	}
	return park(r, changed)
}

// here tells whether this server answers a read now.
func (s *Server) here(r *rpc.Request) bool {
	to, err := s.forward(r.Desc, r.Header)
	return to == nil && err == nil
}

func (r *Read[In, Out]) park(s *Server, req *rpc.Request, changed func()) (*rpc.Parked, error) {
	in, okIn := req.In.(*In)
	into, okOut := req.Out.(*Out)
	if !okIn || !okOut {
		return nil, fmt.Errorf("%s parked with %T and %T", req.Name, req.In, req.Out)
	}
	query, shown, err := r.open(s, req.Header, in)
	if err != nil {
		return nil, err
	}
	telemetry.RPCQuery.Count()
	telemetry.ClientRPC.Count()
	tx := s.state.Read()
	out, err := query(tx)
	if err != nil {
		return nil, err
	}
	meta := s.meta()
	meta.Index = tx.Index()
	*into = shown(out)
	s.blocking.Add(1)
	p := &rpc.Parked{
		Meta: meta, Found: tx.Found(), Release: sync.OnceFunc(func() {
			s.blocking.Add(-1)
			tx.Release()
		}),
		// An index that is not there yet is of the datacenter's former life, or this
		// server lags: such a read soon wants to hear what there is.
		Holds: func(minIndex uint64) bool { return minIndex <= s.state.LastIndex() && s.here(req) },
	}
	tx.Notify(changed)
	return p, nil
}
