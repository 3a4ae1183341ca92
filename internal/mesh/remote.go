package mesh

import (
	"cmp"
	"reflect"
	"slices"

	"isthmus/api"
)

// registration tells an instance from every other one that had its name, before
// it or in another history of its datacenter.
type registration struct {
	node, nodeID, id     string
	nodeCreated, created uint64
}

// seenMost is how many registrations a source remembers beside the present ones.
const seenMost = 256

// sighting is what one source last told of the gateways of a datacenter.
type sighting struct {
	gateways []Endpoint
	newest   uint64 // log index up to which it knows of changes
	at       uint64 // tick at which it came
	seen     map[registration]bool
}

// take replaces what the source told. afresh says that a new history began.
func (s *sighting) take(rows []*api.CheckServiceNode, index, now uint64, afresh bool) {
	s.gateways, s.newest, s.at = gatewayEndpoints(rows), max(index, newest(rows)), now
	if s.seen == nil || afresh || len(s.seen) > seenMost {
		s.seen = map[registration]bool{}
	}
	for _, c := range rows {
		s.seen[registrationOf(c)] = true
	}
}

// unheard tells whether none of the registrations was seen before.
func (s *sighting) unheard(rows []*api.CheckServiceNode) bool {
	return !slices.ContainsFunc(rows, func(c *api.CheckServiceNode) bool { return s.seen[registrationOf(c)] })
}

func registrationOf(c *api.CheckServiceNode) registration {
	return registration{c.Node.Node, c.Node.ID, c.Service.ID, c.Node.CreateIndex, c.Service.CreateIndex}
}

// newest is the index of the last change that rows hold.
func newest(rows []*api.CheckServiceNode) uint64 {
	var last uint64
	for _, c := range rows {
		last = max(last, c.Node.ModifyIndex, c.Service.ModifyIndex)
		for _, check := range c.Checks {
			last = max(last, check.ModifyIndex)
		}
	}
	return last
}

// remote is what is known of another datacenter, from two sources. Which of them
// is the newer one is decided as the package comment says.
type remote struct {
	dump    sighting
	index   uint64 // of the dump's last answer
	failing bool   // the dump's watch has failed since that

	state sighting
	began uint64                 // tick at which the state's history began; 0: nobody knows
	rows  []api.CheckServiceNode // of the state as it came
}

// dumped takes what the datacenter itself answered.
func (r *remote) dumped(rows []api.CheckServiceNode, index, now uint64) {
	list := sorted(rows)
	// A lagging server also answers with an index that goes back, but names
	// registrations that were seen.
	afresh := (index < r.index || index < r.state.newest) && r.dump.unheard(list)
	r.dump.take(list, index, now, afresh)
	r.index, r.failing = index, false
}

// stated takes what the federation state says; rows are nil when there is none.
// first says that it is of the first reading.
func (r *remote) stated(rows []api.CheckServiceNode, now uint64, first bool) {
	if reflect.DeepEqual(rows, r.rows) {
		return // another datacenter's has changed
	}
	list := sorted(rows)
	afresh := len(list) > 0 && r.state.unheard(list)
	switch {
	case first:
		r.began = 0
	case afresh:
		r.began = now
	}
	r.state.take(list, 0, now, afresh)
	r.rows = rows
}

// gateways are those that the newer source names.
func (r *remote) gateways() []Endpoint {
	dump, state := &r.dump, &r.state
	switch {
	case len(state.gateways) == 0:
		return dump.gateways
	case len(dump.gateways) == 0:
		return state.gateways
	}
	newer := r.began > dump.at
	if r.oneHistory() {
		newer = state.newest > dump.newest
	}
	switch {
	case newer:
		return state.gateways
	case r.failing:
		return unite(dump.gateways, state.gateways)
	default:
		return dump.gateways
	}
}

func (r *remote) oneHistory() bool {
	for seen := range r.state.seen {
		if r.dump.seen[seen] {
			return true
		}
	}
	return false
}

// unite returns the endpoints of both, those of a where both have the same
// address, ordered by node.
func unite(a, b []Endpoint) []Endpoint {
	out := slices.Clone(a)
	for _, e := range b {
		if !slices.ContainsFunc(a, func(o Endpoint) bool { return o.Host == e.Host && o.Port == e.Port }) {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b Endpoint) int { return cmp.Compare(a.Node, b.Node) })
	return out
}
