package server

import (
	"cmp"
	"slices"

	"isthmus/api"
	"isthmus/internal/filter"
	"isthmus/internal/state"
	"isthmus/internal/store"
	"isthmus/internal/wire"
)

// where makes the Where of a list: it keeps the rows that an expression holds true
// of, in a list of its own.
func where[In, T any]() func(expression string) (func(*store.Tx, *In, []*T) []*T, error) {
	return whereIn(func(_ *store.Tx, _ *In, rows []*T, keep func(*T) bool) []*T {
		return collect(slices.Values(rows), keep)
	})
}

// whereIn makes a Where of how an answer is made of the rows that an expression
// holds true of.
func whereIn[In, Out, T any](
	keep func(tx *store.Tx, in *In, out Out, holds func(*T) bool) Out,
) func(expression string) (func(*store.Tx, *In, Out) Out, error) {
	var known filter.Cache[T]
	return func(expression string) (func(*store.Tx, *In, Out) Out, error) {
		f, err := known.Compile(expression)
		if err != nil {
			return nil, api.Errorf(api.Invalid, "%w", err)
		}
		return func(tx *store.Tx, in *In, out Out) Out { return keep(tx, in, out, f.Match) }, nil
	}
}

func keepInstances(_ *store.Tx, _ *wire.ServiceQuery, rows []*api.Instance, holds func(*api.CheckServiceNode) bool) []*api.Instance {
	return collect(slices.Values(rows), func(i *api.Instance) bool { return holds(&i.CheckServiceNode) })
}

func keepDumped(_ *store.Tx, _ *wire.DumpQuery, out wire.DumpReply, holds func(*api.CheckServiceNode) bool) wire.DumpReply {
	out.Nodes = collect(slices.Values(out.Nodes), func(c api.CheckServiceNode) bool { return holds(&c) })
	return out
}

func keepTags(tx *store.Tx, in *wire.DCQuery, _ map[string][]string, holds func(*api.ServiceNode) bool) map[string][]string {
	out := map[string][]string{}
	for n := range state.AllServiceNodes(tx) {
		if !hasMeta(n.NodeMeta, in.NodeMetaFilters) || !holds(n) {
			continue
		}
		tags, ok := out[n.ServiceName]
		if !ok {
			tags = []string{}
		}
		for _, tag := range n.ServiceTags {
			if !slices.Contains(tags, tag) {
				tags = append(tags, tag)
			}
		}
		out[n.ServiceName] = tags
	}
	return out
}

func keepByID(_ *store.Tx, _ *wire.NodeQuery, all *api.NodeServices, holds func(*api.NodeService) bool) *api.NodeServices {
	if all == nil {
		return nil
	}
	out := &api.NodeServices{Node: all.Node, Services: map[string]*api.NodeService{}}
	for id, svc := range all.Services {
		if holds(svc) {
			out.Services[id] = svc
		}
	}
	return out
}

func keepInOrder(_ *store.Tx, _ *wire.NodeQuery, all api.NodeServiceList, holds func(*api.NodeService) bool) api.NodeServiceList {
	all.Services = collect(slices.Values(all.Services), holds)
	return all
}

// near sorts a copy of rows by the round-trip time from the caller to their nodes. Those that
// nothing is known of come last, and those as far as each other stay as they were.
func near[T any](s *Server, from *wire.Source, rows []T, node func(T) string) []T {
	if from.Node == "" || from.Datacenter != s.cfg.Datacenter {
		return rows // coordinates of two datacenters do not compare
	}
	tx := s.state.View()
	distance := state.Distances(tx, from.Node, from.Segment)
	if distance == nil {
		return rows
	}
	type placed struct {
		row T
		rtt float64
	}
	all := make([]placed, len(rows))
	for i, row := range rows {
		all[i] = placed{row, distance(node(row))}
	}
	slices.SortStableFunc(all, func(a, b placed) int { return cmp.Compare(a.rtt, b.rtt) })
	out := make([]T, len(rows))
	for i := range all {
		out[i] = all[i].row
	}
	return out
}
