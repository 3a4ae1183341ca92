package httpapi

import (
	"context"
	"errors"

	"isthmus/internal/rpc"
)

// ask calls a method that reads.
func ask[In, Out any](q *request, m rpc.Method[In, Out], h rpc.Header, in In) (Out, rpc.Meta, error) {
	if q.parking != nil && h.MinIndex > 0 {
		return park(q, m, h, in)
	}
	ctx := q.Context()
	if h.MinIndex > 0 {
		var stop context.CancelFunc
		ctx, stop = untilDrain(ctx)
		defer stop()
	}
	out, meta, err := m.Call(ctx, q.api.cfg.Caller, h, in)
	if err == nil && h.MaxStale > 0 && meta.LastContact > h.MaxStale {
		h.AllowStale, h.UseCache = false, false
		out, meta, err = m.Call(ctx, q.api.cfg.Caller, h, in)
	}
	if err != nil {
		return out, meta, calledError{err}
	}
	return out, meta, nil
}

// park asks for an answer that is watched for all who wait for it.
func park[In, Out any](q *request, m rpc.Method[In, Out], h rpc.Header, in In) (out Out, _ rpc.Meta, err error) {
	p := q.parking
	if p.changed == nil {
		h.MinIndex = 0
		return ask(q, m, h, in)
	}
	if parker, ok := q.api.cfg.Caller.(rpc.Parker); ok {
		p.parked, err = parker.Park(q.Context(), &rpc.Request{Desc: m.Desc(), Header: h, In: &in, Out: &out}, p.changed)
	}
	switch {
	case err != nil:
		return out, rpc.Meta{}, calledError{err}
	case p.parked != nil && h.MaxStale > 0 && p.parked.Meta.LastContact > h.MaxStale:
		p.parked.Release()
		p.parked = nil
	}
	if p.parked == nil {
		p.refused = true
		return out, rpc.Meta{}, errRefused
	}
	return out, p.parked.Meta, nil
}

// errRefused is what comes of an evaluation for all that there cannot be. Nobody
// sees it.
var errRefused = errors.New("the read has to wait by itself")

// change calls a method that writes.
func change[In, Out any](q *request, m rpc.Method[In, Out], h rpc.Header, in In) (Out, error) {
	out, _, err := m.Call(q.Context(), q.api.cfg.Caller, h, in)
	if err != nil {
		return out, calledError{err}
	}
	return out, nil
}

// read makes a route of a method: parse makes its argument of the request, and
// render the value that is shown of its answer.
func read[In, Out any](
	m rpc.Method[In, Out], parse func(*request) (In, error), render func(*request, Out) (any, error),
) handler {
	return func(q *request) error {
		h, err := q.read()
		if err != nil {
			return err
		}
		in, err := parse(q)
		if err != nil {
			return err
		}
		out, meta, err := ask(q, m, h, in)
		q.meta(meta) // The reference tells it beside errors, too.
		if err != nil {
			return err
		}
		q.w.Header()["X-Consul-Effective-Consistency"] = []string{consistency(h)}
		v, err := render(q, out)
		if err != nil {
			return err
		}
		return q.json(v)
	}
}
