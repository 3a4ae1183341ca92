package federation

import (
	"sync/atomic"

	"isthmus/internal/rpc"
)

// Gate tells whether federation states may be used: every server that takes part
// must know them. Once open it stays open.
type Gate struct {
	Servers func(datacenter string) []rpc.ServerInfo
	Stored  func() bool // whether any state is stored already
	// Datacenters are those whose servers count: the own one and the primary.
	Datacenters []string

	open atomic.Bool
}

// Open tells whether the gate is open.
func (g *Gate) Open() bool {
	if g.open.Load() {
		return true
	}
	if !g.Stored() && !g.supported() {
		return false
	}
	g.open.Store(true)
	return true
}

func (g *Gate) supported() bool {
	for _, dc := range g.Datacenters {
		servers := g.Servers(dc)
		for _, s := range servers {
			if !s.FedStates {
				return false
			}
		}
		if len(servers) == 0 {
			return false
		}
	}
	return true
}
