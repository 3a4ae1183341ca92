package node

import (
	"context"
	"math/rand/v2"
	"time"

	"isthmus/api"
	"isthmus/internal/gossip"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// Nodes tell the servers where they stand, in a large pool more seldom, so that the
// servers get no more than so many of these reports a second.
const (
	coordinatesASecond = 64
	coordinateEvery    = 15 * time.Second // at the least
	coordinatesInDev   = 100 * time.Millisecond
)

// coordinateWait is how long the node waits before it tells again.
func coordinateWait(nodes int) time.Duration {
	every := max(coordinateEvery, time.Duration(nodes)*time.Second/coordinatesASecond)
	return every + rand.N(every) //nolint:gosec // spreads load, hides nothing
}

// sendCoordinate tells the servers where this node stands, again and again.
func (n *Node) sendCoordinate(ctx context.Context) error {
	for pause(ctx, coordinateWait(n.lan.NumNodes())) {
		c, ok := coordinate(n.lan, n.cfg.NodeName)
		if !ok {
			continue
		}
		in := wire.CoordinateRequest{Node: n.cfg.NodeName, Coord: &c}
		if _, _, err := wire.CoordinateUpdate.Call(ctx, n.caller, rpc.Header{}, in); err != nil && ctx.Err() == nil {
			n.log.Debug("coordinate not told", "err", err)
		}
	}
	return nil
}

// coordinate is where a member stands, as this node knows it.
func coordinate(pool *gossip.Pool, member string) (api.NetworkCoordinate, bool) {
	c, ok := pool.Coordinate(member)
	return api.NetworkCoordinate(c), ok
}

// coordinatePeriod is how often a leader writes the coordinates that came; 0 is the
// protocol's.
func (n *Node) coordinatePeriod() time.Duration {
	if n.cfg.DevMode {
		return coordinatesInDev
	}
	return 0
}

// shownCoordinate is where this node stands, or nil.
func (n *Node) shownCoordinate() any {
	if c, ok := coordinate(n.lan, n.cfg.NodeName); ok {
		return c
	}
	return nil
}

// wanCoordinate is where a server of some datacenter stands, as this one knows it.
func (s *serverParts) wanCoordinate(member string) (api.NetworkCoordinate, bool) {
	if s.wan == nil {
		return api.NetworkCoordinate{}, false
	}
	return coordinate(s.wan, member)
}
