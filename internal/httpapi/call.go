package httpapi

import (
	"context"

	"isthmus/internal/rpc"
)

// ask calls a method that reads.
func ask[In, Out any](q *request, m rpc.Method[In, Out], h rpc.Header, in In) (Out, rpc.Meta, error) {
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
