package httpapi

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

func statusLeader(q *request) error {
	return ownStatus(q, wire.StatusLeader)
}

func statusPeers(q *request) error {
	return ownStatus(q, wire.StatusPeers)
}

// ownStatus shows what servers tell of themselves, without an index.
func ownStatus[Out any](q *request, m rpc.Method[wire.DCQuery, Out]) error {
	h, err := q.read()
	if err != nil {
		return err
	}
	h.MinIndex = 0
	out, _, err := ask(q, m, h, wire.DCQuery{})
	if err != nil {
		return err
	}
	return q.json(out)
}

// federationView is the answer of /v1/federation/status.
type federationView struct {
	Datacenter string
	Primary    string
	Servers    []serverView
}

// serverView is how one server sees the federation, or why it did not tell.
type serverView struct {
	wire.ServerView

	Error string `json:",omitempty"`
}

// viewWithin is how long a server may take to tell how it sees the federation.
const viewWithin = 2 * time.Second

func federationStatus(q *request) error {
	cfg := &q.api.cfg
	peers := []Peer{{Caller: cfg.Caller, Node: cfg.Node}}
	if cfg.Servers != nil {
		if all := cfg.Servers(); len(all) > 0 {
			peers = all
		}
	}
	ctx, stop := context.WithTimeout(q.Context(), viewWithin)
	defer stop()
	out := federationView{Datacenter: cfg.Datacenter, Primary: cfg.Primary, Servers: make([]serverView, len(peers))}
	var wg sync.WaitGroup
	for i, peer := range peers {
		wg.Go(func() {
			view, _, err := wire.FederationStatus.Call(ctx, peer, rpc.Header{Token: q.token(), AllowStale: true}, wire.Empty{})
			if err != nil {
				view = wire.ServerView{Node: peer.Node, Datacenter: cfg.Datacenter}
				out.Servers[i].Error = err.Error()
			}
			out.Servers[i].ServerView = withoutNull(view)
		})
	}
	wg.Wait()
	slices.SortFunc(out.Servers, func(a, b serverView) int { return strings.Compare(a.Node, b.Node) })
	return q.json(out)
}

// withoutNull makes lists that are empty lists in JSON, too. The view was made
// for this answer, so nobody else sees the change.
func withoutNull(v wire.ServerView) wire.ServerView {
	if v.Datacenters == nil {
		v.Datacenters = []wire.DatacenterView{}
	}
	for i := range v.Datacenters {
		dc := &v.Datacenters[i]
		if dc.Gateways == nil {
			dc.Gateways = []wire.GatewayView{}
		}
		if dc.Problems == nil {
			dc.Problems = []string{}
		}
	}
	return v
}
