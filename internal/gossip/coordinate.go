package gossip

// Coordinate is where a node stands in the space in which distance is round-trip time. All figures are seconds.
type Coordinate struct {
	Vec                       []float64
	Error, Adjustment, Height float64
}

// Coordinate is that of a member as known here, of this node, too. It is false for a member that was never probed.
func (p *Pool) Coordinate(name string) (Coordinate, bool) {
	c, ok := p.serf.GetCachedCoordinate(name)
	if !ok {
		return Coordinate{}, false
	}
	return Coordinate{Vec: c.Vec, Error: c.Error, Adjustment: c.Adjustment, Height: c.Height}, true
}
