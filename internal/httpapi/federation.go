package httpapi

import (
	"net/http"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

func federationStates(q *request) error {
	out, meta, err := federationRead(q, wire.FederationList, wire.DCQuery{})
	q.meta(meta)
	if err != nil {
		return err
	}
	v, _ := listed(q, out)
	return q.json(v)
}

func federationGateways(q *request) error {
	out, meta, err := federationRead(q, wire.FederationGateways, wire.DCQuery{})
	q.meta(meta)
	if err != nil {
		return err
	}
	if out == nil {
		out = map[string][]api.CheckServiceNode{}
	}
	return q.json(out)
}

// federationReply is a state among the figures that are headers elsewhere: the
// protocol's struct as it is.
type federationReply struct {
	State                 *api.FederationState
	Index                 uint64
	LastContact           time.Duration
	KnownLeader           bool
	ConsistencyLevel      string
	NotModified           bool
	Backend               int
	ResultsFilteredByACLs bool
}

// federationState shows one state.
func federationState(q *request) error {
	name, err := q.named("datacenter")
	if err != nil {
		return err
	}
	out, meta, err := federationRead(q, wire.FederationGet, wire.FederationQuery{Datacenter: name})
	if err != nil {
		return err
	}
	if out == nil {
		q.w.WriteHeader(http.StatusNotFound)
		return nil
	}
	q.meta(meta)
	return q.json(federationReply{out, meta.Index, meta.LastContact, meta.KnownLeader, meta.Consistency, false, 0, meta.Filtered})
}

func federationRead[In, Out any](q *request, m rpc.Method[In, Out], in In) (out Out, meta rpc.Meta, err error) {
	h, err := q.read()
	if err != nil {
		return out, meta, err
	}
	return ask(q, m, h, in)
}
