package local

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// virtualAddress begins the tags of addresses that servers add to the instances
// of a service mesh.
const virtualAddress = "consul-virtual"

// compare notes what of the agent the catalog lacks, has differently, or has too
// much.
func (a *Agent) compare(ctx context.Context) error {
	h := rpc.Header{Datacenter: a.cfg.Datacenter, Token: a.cfg.Token}
	in := wire.NodeQuery{Node: a.cfg.Node}
	list, _, err := wire.CatalogNodeServiceList.Call(ctx, a.cfg.Caller, h, in)
	if err != nil {
		return fmt.Errorf("read own services: %w", err)
	}
	health, _, err := wire.HealthNodeChecks.Call(ctx, a.cfg.Caller, h, in)
	if err != nil {
		return fmt.Errorf("read own checks: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	n := list.Node
	a.node.synced = n != nil && n.ID == a.cfg.NodeID && n.Address == a.cfg.Address &&
		sameNode(&a.node, &nodeInfo{tagged: n.TaggedAddresses, meta: n.Meta})
	a.compareServices(list.Services)
	a.compareChecks(health)
	return nil
}

func sameNode(a, b *nodeInfo) bool {
	return maps.Equal(a.tagged, b.tagged) && maps.Equal(a.meta, b.meta)
}

func (a *Agent) compareServices(catalog []*api.NodeService) {
	before := a.goneServices
	a.goneServices = map[string]goneService{}
	same := make(map[*service]bool, len(catalog))
	for _, remote := range catalog {
		s := a.services[remote.ID]
		switch {
		case s != nil:
			a.takeTags(s, remote)
			same[s] = sameService(s.row, remote)
		case remote.ID != api.ConsulService:
			a.goneServices[remote.ID] = before[remote.ID]
		}
	}
	a.unsyncedServices = map[*service]struct{}{}
	for _, s := range a.services {
		if !same[s] {
			a.unsyncedServices[s] = struct{}{}
		}
	}
}

// takeTags takes over the catalog's tags of a service that allows it.
func (a *Agent) takeTags(s *service, remote *api.NodeService) {
	if !s.row.EnableTagOverride || slices.Equal(s.row.Tags, remote.Tags) {
		return
	}
	row := *s.row
	row.Tags = append([]string{}, remote.Tags...)
	s.row = &row
	a.tell(row.ID)
	for _, c := range a.checksOf[row.ID] {
		a.follow(c, &row)
	}
}

func (a *Agent) compareChecks(catalog []*api.HealthCheck) {
	before := a.goneChecks
	a.goneChecks = map[string]goneCheck{}
	same := make(map[*check]bool, len(catalog))
	for _, remote := range catalog {
		c := a.checks[remote.CheckID]
		switch {
		case c != nil:
			same[c] = sameCheck(c.row, remote, !c.due.IsZero())
		case remote.CheckID != api.SerfHealth && remote.ServiceID != api.ConsulService:
			a.goneChecks[remote.CheckID] = goneCheck{before[remote.CheckID].token, remote.ServiceID}
		}
	}
	a.unsyncedChecks = map[*check]struct{}{}
	for _, c := range a.checks {
		if !same[c] {
			a.unsyncedChecks[c] = struct{}{}
		}
	}
}

// sameService compares what an agent says of a service. An empty list or map is
// the same as none, and numbers in free-form settings are the same whatever
// their type: both change on the way through the codecs.
func sameService(local, remote *api.NodeService) bool {
	x, y := plain(local), plain(remote)
	if _, own := local.TaggedAddresses[virtualAddress]; !own {
		y.TaggedAddresses = maps.Clone(y.TaggedAddresses)
		maps.DeleteFunc(y.TaggedAddresses, func(tag string, _ api.ServiceAddress) bool {
			return strings.HasPrefix(tag, virtualAddress)
		})
	}
	if reflect.DeepEqual(x, y) {
		return true
	}
	a, errA := json.Marshal(x)
	b, errB := json.Marshal(y)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

func plain(s *api.NodeService) *api.NodeService {
	row := *s
	row.RaftIndex, row.LocallyRegisteredAsSidecar = api.RaftIndex{}, false
	if len(row.Tags) == 0 {
		row.Tags = nil
	}
	if len(row.Meta) == 0 {
		row.Meta = nil
	}
	if row.Weights == nil {
		row.Weights = &api.Weights{Passing: 1, Warning: 1}
	}
	return &row
}

// sameCheck compares what an agent says of a check, without the output when that
// waits to be pushed.
func sameCheck(local, remote *api.HealthCheck, anyOutput bool) bool {
	return local.Name == remote.Name && local.Status == remote.Status && local.Notes == remote.Notes &&
		(anyOutput || local.Output == remote.Output) &&
		local.ServiceID == remote.ServiceID && local.ServiceName == remote.ServiceName &&
		slices.Equal(local.ServiceTags, remote.ServiceTags) && local.Type == remote.Type &&
		local.Interval == remote.Interval && local.Timeout == remote.Timeout &&
		local.ExposedPort == remote.ExposedPort
}
