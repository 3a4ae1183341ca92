package mesh

import (
	"maps"
	"slices"

	"isthmus/api"
)

// answer is the last one of a watch.
type answer[T any] struct {
	value T
	known bool
}

func (a *answer[T]) set(v T) { a.value, a.known = v, true }

// partial is a Snapshot that may lack parts. One goroutine owns it.
type partial struct {
	datacenter, domain string

	proxy    *api.NodeService // nil while it is not registered
	trust    answer[string]
	services answer[map[string][]Endpoint]
	servers  answer[[]Endpoint]
	states   bool // they have been read

	now    uint64      // tick: counts what came from or of other datacenters
	listed [2][]string // the last two lists of datacenters
	remote map[string]*remote
}

// exposes tells whether the gateway leads to servers.
func (p *partial) exposes() bool {
	return p.proxy != nil && (&Snapshot{Proxy: p.proxy}).ExposesServers()
}

// list takes a list of datacenters. One has to be missing from two of them to be
// gone, as a server that has just started does not know all yet.
func (p *partial) list(datacenters []string) {
	p.listed = [2][]string{datacenters, p.listed[0]}
	p.members()
}

// members makes the datacenters those that are listed or have a state.
func (p *partial) members() {
	known := map[string]bool{}
	for _, dc := range slices.Concat(p.listed[0], p.listed[1]) {
		if known[dc] = true; p.remote[dc] == nil && dc != p.datacenter {
			p.remote[dc] = &remote{}
		}
	}
	maps.DeleteFunc(p.remote, func(dc string, r *remote) bool { return !known[dc] && r.rows == nil })
}

// state takes the federation states' gateways by datacenter.
func (p *partial) state(states map[string][]api.CheckServiceNode) {
	p.now++
	for dc := range states {
		if p.remote[dc] == nil && dc != p.datacenter {
			p.remote[dc] = &remote{}
		}
	}
	for dc, r := range p.remote {
		r.stated(states[dc], p.now, !p.states)
	}
	p.states = true
	p.members()
}

// forgetServers lets go of all that only a gateway that leads to servers follows.
func (p *partial) forgetServers() {
	p.servers, p.states = answer[[]Endpoint]{}, false
	for _, r := range p.remote {
		r.state, r.began, r.rows = sighting{}, 0, nil
	}
	p.members()
}

// snapshot returns the snapshot, or false while something is missing.
func (p *partial) snapshot() (*Snapshot, bool) {
	if p.proxy == nil || !p.trust.known || !p.services.known || p.exposes() && !(p.servers.known && p.states) {
		return nil, false
	}
	s := &Snapshot{
		Proxy: p.proxy, Datacenter: p.datacenter, Domain: p.domain, TrustDomain: p.trust.value,
		Servers: p.servers.value, Services: p.services.value, Remote: make([]Remote, 0, len(p.remote)),
	}
	for _, dc := range slices.Sorted(maps.Keys(p.remote)) {
		s.Remote = append(s.Remote, Remote{Datacenter: dc, Gateways: p.remote[dc].gateways()})
	}
	return s, true
}
