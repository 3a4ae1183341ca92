package httpapi

import (
	"slices"

	"isthmus/api"
	"isthmus/internal/wire"
)

// coordinatesOf keeps the coordinates of the segment that was asked for, if any.
func coordinatesOf(q *request, all []*api.NodeCoordinate) []*api.NodeCoordinate {
	if !q.has("segment") {
		return all
	}
	segment := q.query.Get("segment")
	return slices.DeleteFunc(slices.Clone(all), func(c *api.NodeCoordinate) bool { return c.Segment != segment })
}

func coordinateDatacenters(q *request) error {
	out, _, err := ask(q, wire.CoordinateDatacenters, q.write(), wire.Empty{})
	if err != nil {
		return err
	}
	for _, dc := range out {
		if dc.Coordinates == nil {
			dc.Coordinates = []*api.NodeCoordinate{}
		}
	}
	v, _ := listed(q, out)
	return q.json(v)
}

// The reads of coordinates say nothing of their consistency, as in the reference.

func coordinateNodes(q *request) error {
	h, err := q.read()
	if err != nil {
		return err
	}
	in, err := dcQuery(q)
	if err != nil {
		return err
	}
	out, meta, err := ask(q, wire.CoordinateNodes, h, in)
	q.meta(meta)
	if err != nil {
		return err
	}
	v, _ := listed(q, coordinatesOf(q, out))
	return q.json(v)
}

func coordinateNode(q *request) error {
	h, err := q.read()
	if err != nil {
		return err
	}
	out, meta, err := ask(q, wire.CoordinateNode, h, wire.NodeQuery{Node: q.rest})
	q.meta(meta)
	if err != nil {
		return err
	}
	if out = coordinatesOf(q, out); len(out) == 0 {
		return api.Errorf(api.NotFound, "")
	}
	return q.json(out)
}

func coordinateUpdate(q *request) error {
	in, err := decode[api.NodeCoordinate](q)
	if err != nil {
		return err
	}
	_, err = change(q, wire.CoordinateUpdate, q.write(), wire.CoordinateRequest{Node: in.Node, Segment: in.Segment, Coord: in.Coord})
	return err
}
