package state

import (
	"iter"
	"math"
	"strings"

	"isthmus/api"
	"isthmus/internal/store"
	"isthmus/internal/wire"
)

// The coordinates of the nodes, each within a network segment.
var coordinates = store.NewTable("coordinates", func(c *api.NodeCoordinate) store.Key {
	return store.Join(strings.ToLower(c.Node), c.Segment)
})

// Coordinates yields every coordinate, ordered by node.
func Coordinates(r store.Reader) iter.Seq[*api.NodeCoordinate] { return coordinates.All(r) }

// NodeCoordinates yields those of a node, ordered by segment.
func NodeCoordinates(r store.Reader, node string) iter.Seq[*api.NodeCoordinate] {
	return coordinates.Prefix(r, nodeKey(node))
}

// CoordinateUpdate writes a batch of coordinates. Those of nodes that are not in
// the catalog are passed over, for nothing would ever take them out again.
var CoordinateUpdate = Command[[]*api.NodeCoordinate, wire.Empty]{
	ID: 6, Name: "coordinate.update", Bare: true,
	Apply: func(w *store.WriteTx, in *[]*api.NodeCoordinate) (out wire.Empty, err error) {
		for _, c := range *in {
			if c == nil || c.Coord == nil || Node(w, c.Node) == nil {
				continue
			}
			if old := coordinates.Get(w, store.Join(strings.ToLower(c.Node), c.Segment)); old == nil || !sameCoordinate(old.Coord, c.Coord) {
				coordinates.Put(w, c)
			}
		}
		return out, nil
	},
}

func sameCoordinate(a, b *api.NetworkCoordinate) bool {
	if a.Error != b.Error || a.Adjustment != b.Adjustment || a.Height != b.Height || len(a.Vec) != len(b.Vec) {
		return false
	}
	for i := range a.Vec {
		if a.Vec[i] != b.Vec[i] {
			return false
		}
	}
	return true
}

// RTT returns the round-trip time between two coordinates, in seconds. It is
// infinite where it cannot be told.
func RTT(a, b *api.NetworkCoordinate) float64 {
	if a == nil || b == nil || len(a.Vec) != len(b.Vec) {
		return math.Inf(1)
	}
	sum := 0.0
	for i := range a.Vec {
		d := a.Vec[i] - b.Vec[i]
		sum += d * d
	}
	rtt := math.Sqrt(sum) + a.Height + b.Height
	if adjusted := rtt + a.Adjustment + b.Adjustment; adjusted > 0 {
		return adjusted
	}
	return rtt
}

// Distances returns the round-trip time from a node to others, in seconds, by their
// names. Only coordinates of the same segment compare. It is nil when nothing is known of the
// node.
func Distances(r store.Reader, from, segment string) func(node string) float64 {
	own := map[string]*api.NetworkCoordinate{}
	for c := range NodeCoordinates(r, from) {
		own[c.Segment] = c.Coord
	}
	if len(own) == 0 {
		return nil
	}
	return func(node string) float64 {
		if c := coordinates.Get(r, store.Join(strings.ToLower(node), segment)); c != nil {
			return RTT(own[segment], c.Coord)
		}
		best := math.Inf(1)
		for c := range NodeCoordinates(r, node) {
			best = min(best, RTT(own[c.Segment], c.Coord))
		}
		return best
	}
}

func coordinateRecord(c *api.NodeCoordinate) any { return []*api.NodeCoordinate{c} }

func restoreCoordinates(w *store.WriteTx, r *[]*api.NodeCoordinate) error {
	for _, c := range *r {
		if c != nil {
			coordinates.Put(w, c)
		}
	}
	return nil
}
