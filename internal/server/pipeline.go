package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"isthmus/api"
	"isthmus/internal/acl"
	"isthmus/internal/rpc"
	"isthmus/internal/state"
	"isthmus/internal/store"
	"isthmus/internal/telemetry"
	"isthmus/internal/wire"
)

// Read answers a method from a view of the state.
//
// Run reads only the transaction it is given, may run many times, builds its
// answer anew each time, and changes nothing it found. The other functions copy,
// never edit, since equal reads share their answer.
type Read[In, Out any] struct {
	Allow func(z acl.Authorizer, in *In) error
	Run   func(tx *store.Tx, in *In) (Out, error)
	// Where makes of a filter expression what keeps the rows that it holds true of.
	// It is nil where the protocol has no filters and passes over the expression.
	Where  func(expression string) (func(tx *store.Tx, in *In, out Out) Out, error)
	Filter func(z acl.Authorizer, out Out) Out
	// Near sorts a copy of the answer by its distance from where the caller is.
	Near func(in *In, out Out) Out
	// Count counts that this was asked.
	Count func(in *In, out Out)
}

// Write answers a method by appending a command to the log.
type Write[In, Out any] struct {
	Allow   func(z acl.Authorizer, in *In) error
	Prepare func(tx *store.Tx, in *In) error // the leader's checks and defaults, such as the time
	Command *state.Command[In, Out]
}

// bindRead makes r the answer to m.
func bindRead[In, Out any](s *Server, m rpc.Method[In, Out], r Read[In, Out]) {
	if r.Allow == nil && r.Filter == nil {
		panic("server: " + m.Name + " has no access rule")
	}
	d := m.Desc()
	rpc.Bind(s.handlers, m, func(ctx context.Context, h rpc.Header, in *In) (out Out, meta rpc.Meta, err error) {
		meta, err = s.route(ctx, &rpc.Request{Desc: d, Header: h, In: in, Out: &out}, func() (rpc.Meta, error) {
			query, shown, err := r.open(s, h, in)
			if err != nil {
				return rpc.Meta{}, err
			}
			var meta rpc.Meta
			if out, meta, err = block(ctx, s, h, query); err == nil {
				out = shown(out)
			}
			return meta, err
		})
		return out, meta, err
	})
	s.parks[m.Name] = func(req *rpc.Request, changed func()) (*rpc.Parked, error) { return r.park(s, req, changed) }
}

// open checks whether a caller may ask, and returns what answers it and what makes
// of an answer the part that is shown, nearest first.
func (r *Read[In, Out]) open(s *Server, h rpc.Header, in *In) (query func(*store.Tx) (Out, error), shown func(Out) Out, err error) {
	z, err := s.authorizer(h.Token)
	if err != nil {
		return nil, nil, err
	}
	if r.Allow != nil {
		if err := r.Allow(z, in); err != nil {
			return nil, nil, err
		}
	}
	if query, err = r.query(in, h.Filter); err != nil {
		return nil, nil, err
	}
	return query, func(out Out) Out {
		if r.Filter != nil {
			out = r.Filter(z, out)
		}
		if r.Near != nil {
			out = r.Near(in, out)
		}
		if r.Count != nil {
			r.Count(in, out)
		}
		return out
	}, nil
}

// query is what answers in, with the rows alone that an expression holds true of.
func (r *Read[In, Out]) query(in *In, expression string) (func(tx *store.Tx) (Out, error), error) {
	if expression == "" || r.Where == nil {
		return func(tx *store.Tx) (Out, error) { return r.Run(tx, in) }, nil
	}
	keep, err := r.Where(expression)
	if err != nil {
		return nil, err
	}
	return func(tx *store.Tx) (Out, error) {
		out, err := r.Run(tx, in)
		if err != nil {
			return out, err
		}
		return keep(tx, in, out), nil
	}, nil
}

// bindWrite makes w the answer to m.
func bindWrite[In, Out any](s *Server, m rpc.Method[In, Out], w Write[In, Out]) {
	if w.Allow == nil {
		panic("server: " + m.Name + " has no access rule")
	}
	d := m.Desc()
	rpc.Bind(s.handlers, m, func(ctx context.Context, h rpc.Header, in *In) (out Out, meta rpc.Meta, err error) {
		meta, err = s.route(ctx, &rpc.Request{Desc: d, Header: h, In: in, Out: &out}, func() (rpc.Meta, error) {
			z, err := s.authorizer(h.Token)
			if err != nil {
				return rpc.Meta{}, err
			}
			if err := w.Allow(z, in); err != nil {
				return rpc.Meta{}, err
			}
			if w.Prepare != nil {
				if err := w.Prepare(s.state.Read(), in); err != nil {
					return rpc.Meta{}, err
				}
			}
			var index uint64
			out, index, err = apply(ctx, s, w.Command, in)
			return rpc.Meta{Index: index, KnownLeader: true}, err
		})
		return out, meta, err
	})
}

// apply appends a command and returns its typed result.
func apply[In, Out any](ctx context.Context, s *Server, c *state.Command[In, Out], in *In) (out Out, index uint64, err error) {
	entry, err := c.Entry(s.cfg.Datacenter, in)
	if err != nil {
		return out, 0, err //nolint:wrapcheck // says what it encoded
	}
	result, index, err := s.append(ctx, entry)
	if err != nil {
		return out, index, err
	}
	out, ok := result.(Out)
	if !ok {
		return out, index, fmt.Errorf("%s gave a %T", c.Name, result)
	}
	return out, index, nil
}

// route has a request answered by whom it concerns: here, by the leader, or by
// another datacenter. It is held while no leader is known.
func (s *Server) route(ctx context.Context, r *rpc.Request, here func() (rpc.Meta, error)) (rpc.Meta, error) {
	if took, ok := metrics[r.Name]; ok {
		defer took.Since(time.Now())
	}
	return rpc.Hold(ctx, s.cfg.Hold, r, func() (rpc.Meta, error) { //nolint:wrapcheck // the pipeline's own errors
		to, err := s.forward(r.Desc, r.Header)
		if err != nil {
			return rpc.Meta{}, err
		}
		if to == nil {
			return here()
		}
		return to.Call(ctx, r)
	})
}

// metrics are those by which dashboards know how long a method took.
var metrics = map[string]telemetry.Sample{
	wire.CatalogRegister.Name:    telemetry.CatalogRegister,
	wire.CatalogDeregister.Name:  telemetry.CatalogDeregister,
	wire.KVApply.Name:            telemetry.KVSApply,
	wire.FederationApply.Name:    telemetry.FederationApply,
	wire.FederationGet.Name:      telemetry.FederationGet,
	wire.FederationList.Name:     telemetry.FederationList,
	wire.FederationGateways.Name: telemetry.FederationVia,
}

var errWaited = errors.New("waited long enough")

// block runs query until its answer is newer than h.MinIndex or the wait is over.
// A reader of something that is not there is woken only once it is there.
func block[Out any](ctx context.Context, s *Server, h rpc.Header, query func(*store.Tx) (Out, error)) (Out, rpc.Meta, error) {
	telemetry.RPCQuery.Count()
	if h.MinIndex > 0 {
		s.blocking.Add(1)
		defer s.blocking.Add(-1)
		var cancel context.CancelFunc
		wait := h.Wait()
		if h.MinIndex > s.state.LastIndex() {
			// The index is of the datacenter's former life, or this server lags. Either way
			// the caller soon hears what there is, and waits on from there.
			wait = min(wait, aheadWait)
		}
		ctx, cancel = context.WithTimeoutCause(ctx, wait, errWaited)
		defer cancel()
	}
	missing := false
	for {
		var zero Out
		if h.Consistent {
			begin := time.Now()
			if err := s.log.Verify(ctx); err != nil {
				if errors.Is(context.Cause(ctx), errWaited) {
					err = api.Known(api.NoLeader, nil)
				}
				return zero, rpc.Meta{}, err
			}
			telemetry.RPCConsistent.Since(begin)
		}
		tx := s.state.Read()
		out, err := query(tx)
		if err != nil {
			return zero, rpc.Meta{}, err
		}
		meta := s.meta()
		meta.Index = tx.Index()
		if h.MinIndex == 0 || meta.Index > h.MinIndex && (!missing || tx.Found()) {
			return out, meta, nil
		}
		missing = !tx.Found()
		if err := tx.Wait(ctx); err != nil {
			if errors.Is(err, errWaited) {
				return out, meta, nil
			}
			return zero, rpc.Meta{}, err //nolint:wrapcheck // the context's cause
		}
	}
}

// aheadWait is how long a blocking read waits for an index that is not there yet.
const aheadWait = time.Second
