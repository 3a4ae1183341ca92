package wire

import (
	"isthmus/api"
	"isthmus/internal/rpc"
)

// Network coordinates: where nodes stand, in round-trip time.
var (
	CoordinateUpdate      = rpc.Method[CoordinateRequest, Empty]{Name: "Coordinate.Update", Write: true}
	CoordinateNodes       = rpc.Method[DCQuery, []*api.NodeCoordinate]{Name: "Coordinate.ListNodes", Reply: "Coordinates"}
	CoordinateNode        = rpc.Method[NodeQuery, []*api.NodeCoordinate]{Name: "Coordinate.Node", Reply: "Coordinates"}
	CoordinateDatacenters = rpc.Method[Empty, []*api.DatacenterCoordinates]{Name: "Coordinate.ListDatacenters", Local: true, Bare: true}
)

// CoordinateRequest tells where a node stands.
type CoordinateRequest struct {
	Node    string
	Segment string
	Coord   *api.NetworkCoordinate
}
