package state

import (
	"isthmus/api"
	"isthmus/internal/store"
)

// Usage is how much there is of what.
type Usage struct {
	Nodes, Services, Instances, KVEntries int
	// Billable are the instances that are neither of the mesh nor servers.
	Billable int
	Mesh     map[string]int // instances of the mesh by kind
}

// Native is the kind under which Usage counts instances that take the mesh's
// traffic themselves.
const Native = "connect-native"

// UsageOf counts what there is.
func UsageOf(r store.Reader) Usage {
	u := Usage{Nodes: nodes.Len(r), Instances: services.Len(r), KVEntries: kvs.Len(r), Mesh: map[string]int{}}
	names := map[string]bool{}
	for s := range services.All(r) {
		names[s.Service] = true
		switch {
		case s.Kind != "":
			u.Mesh[s.Kind]++
		case s.Service != api.ConsulService:
			u.Billable++
		}
		if s.Connect.Native {
			u.Mesh[Native]++
		}
	}
	u.Services = len(names)
	return u
}
