package api

// NetworkCoordinate is where a node stands in the space in which distance is the
// round-trip time. All figures are seconds.
type NetworkCoordinate struct {
	Vec        []float64
	Error      float64
	Adjustment float64
	Height     float64
}

// NodeCoordinate is the coordinate of a node within a network segment.
type NodeCoordinate struct {
	Node      string
	Segment   string
	Partition string `json:",omitempty"`
	Coord     *NetworkCoordinate
}

// DatacenterCoordinates are those of the servers of a datacenter. They compare
// with those of the same area alone.
type DatacenterCoordinates struct {
	Datacenter  string
	AreaID      string
	Coordinates []*NodeCoordinate
}
