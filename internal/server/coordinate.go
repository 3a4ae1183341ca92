package server

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"isthmus/api"
	"isthmus/internal/acl"
	"isthmus/internal/rpc"
	"isthmus/internal/state"
	"isthmus/internal/store"
	"isthmus/internal/wire"
)

// Coordinates come from every node all the time and nobody waits for them, so a
// leader writes them in batches, and no more than some in a period.
const (
	coordinatePeriod = 5 * time.Second
	coordinateBatch  = 128
	coordinatesMost  = 5 * coordinateBatch
)

// dimensions is how many the vectors of coordinates have.
const dimensions = 8

// waiting are the newest coordinates that the log does not have yet, by node and
// segment.
type waiting struct {
	mu sync.Mutex
	by map[[2]string]*api.NodeCoordinate
}

func (w *waiting) add(c *api.NodeCoordinate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by == nil {
		w.by = map[[2]string]*api.NodeCoordinate{}
	}
	w.by[[2]string{c.Node, c.Segment}] = c
}

// take yields all of them and forgets them.
func (w *waiting) take() []*api.NodeCoordinate {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := slices.Collect(maps.Values(w.by))
	w.by = nil
	return out
}

func bindCoordinate(s *Server) {
	rpc.Bind(s.handlers, wire.CoordinateUpdate, s.updateCoordinate)
	rpc.Bind(s.handlers, wire.CoordinateDatacenters, s.datacenterCoordinates)
	readable := only(func(z acl.Authorizer, c *api.NodeCoordinate) bool { return z.Allow(acl.Node, c.Node, acl.Read) == nil })
	bindRead(s, wire.CoordinateNodes, Read[wire.DCQuery, []*api.NodeCoordinate]{
		Run: func(tx *store.Tx, _ *wire.DCQuery) ([]*api.NodeCoordinate, error) {
			return slices.AppendSeq([]*api.NodeCoordinate{}, state.Coordinates(tx)), nil
		},
		Filter: readable,
	})
	bindRead(s, wire.CoordinateNode, Read[wire.NodeQuery, []*api.NodeCoordinate]{
		Allow: allowNode,
		Run: func(tx *store.Tx, in *wire.NodeQuery) ([]*api.NodeCoordinate, error) {
			return slices.Collect(state.NodeCoordinates(tx, in.Node)), nil
		},
	})
}

// updateCoordinate keeps a coordinate until the next batch is written.
func (s *Server) updateCoordinate(ctx context.Context, h rpc.Header, in *wire.CoordinateRequest) (out wire.Empty, meta rpc.Meta, err error) {
	meta, err = s.route(ctx, &rpc.Request{Desc: wire.CoordinateUpdate.Desc(), Header: h, In: in, Out: &out}, func() (rpc.Meta, error) {
		switch {
		case in.Node == "":
			return rpc.Meta{}, api.Errorf(api.Invalid, "Must provide node")
		case in.Coord == nil || !isFinite(in.Coord):
			return rpc.Meta{}, api.Errorf(api.Invalid, "invalid coordinate")
		case len(in.Coord.Vec) != dimensions:
			return rpc.Meta{}, api.Errorf(api.Invalid, "incompatible coordinate")
		}
		z, err := s.authorizer(h.Token)
		if err != nil {
			return rpc.Meta{}, err
		}
		if err := z.Allow(acl.Node, in.Node, acl.Write); err != nil {
			return rpc.Meta{}, err //nolint:wrapcheck // says what is lacking
		}
		s.coordinates.add(&api.NodeCoordinate{Node: in.Node, Segment: in.Segment, Coord: in.Coord})
		return rpc.Meta{KnownLeader: true}, nil
	})
	return out, meta, err
}

// isFinite tells whether a coordinate has numbers that one can reckon with.
func isFinite(c *api.NetworkCoordinate) bool {
	return !slices.ContainsFunc(append(slices.Clone(c.Vec), c.Error, c.Adjustment, c.Height), func(f float64) bool {
		return math.IsNaN(f) || math.IsInf(f, 0)
	})
}

// writeCoordinates writes what came, batch by batch.
func (s *Server) writeCoordinates(ctx context.Context) error {
	period := s.cfg.CoordinatePeriod
	if period <= 0 {
		period = coordinatePeriod
	}
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		all := s.coordinates.take()
		if dropped := len(all) - coordinatesMost; dropped > 0 {
			s.cfg.Log.Warn("coordinates come faster than they are written: some wait for their nodes' next report", "dropped", dropped)
			all = all[:coordinatesMost]
		}
		for batch := range slices.Chunk(all, coordinateBatch) {
			if _, _, err := apply(ctx, s, &state.CoordinateUpdate, &batch); err != nil && ctx.Err() == nil {
				s.cfg.Log.Warn("coordinates are not written", "nodes", len(batch), "err", err)
			}
		}
	}
}

// nearestFirst sorts datacenters by the median of the round-trip times to their
// servers. The own one comes first, those that nothing is known of come last, and
// equal ones stand by name.
func (s *Server) nearestFirst(list []string) []string {
	own, ok := api.NetworkCoordinate{}, false
	if s.cfg.WANCoordinate != nil {
		own, ok = s.cfg.WANCoordinate(s.cfg.Node + "." + s.cfg.Datacenter)
	}
	if !ok {
		return list
	}
	distance := make(map[string]float64, len(list))
	for _, dc := range list {
		var all []float64
		for _, server := range s.router.Servers(dc) {
			if c, ok := s.cfg.WANCoordinate(server.Name + "." + dc); ok {
				all = append(all, state.RTT(&own, &c))
			}
		}
		slices.Sort(all)
		switch {
		case dc == s.cfg.Datacenter:
			distance[dc] = 0
		case len(all) == 0:
			distance[dc] = math.Inf(1)
		default:
			distance[dc] = all[len(all)/2]
		}
	}
	slices.SortFunc(list, func(a, b string) int { return cmp.Or(cmp.Compare(distance[a], distance[b]), cmp.Compare(a, b)) })
	return list
}

// datacenterCoordinates tells where the servers of each datacenter stand, as this
// one's WAN pool knows them.
func (s *Server) datacenterCoordinates(context.Context, rpc.Header, *wire.Empty) ([]*api.DatacenterCoordinates, rpc.Meta, error) {
	out := []*api.DatacenterCoordinates{}
	if s.cfg.WANCoordinate == nil {
		return out, rpc.Meta{}, nil
	}
	for _, dc := range s.router.Datacenters() {
		d := &api.DatacenterCoordinates{Datacenter: dc, AreaID: "wan", Coordinates: []*api.NodeCoordinate{}}
		for _, server := range s.router.Servers(dc) {
			if c, ok := s.cfg.WANCoordinate(server.Name + "." + dc); ok {
				d.Coordinates = append(d.Coordinates, &api.NodeCoordinate{Node: server.Name, Coord: &c})
			}
		}
		out = append(out, d)
	}
	return out, rpc.Meta{}, nil
}
