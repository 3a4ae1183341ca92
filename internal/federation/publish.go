package federation

import (
	"context"
	"log/slog"
	"reflect"
	"slices"
	"time"

	"isthmus/api"
	"isthmus/internal/wire"
)

// Publisher keeps the federation state of the own datacenter equal to the mesh
// gateways in its catalog. It runs on the leader of every datacenter.
type Publisher struct {
	Log        *slog.Logger
	Datacenter string
	// Read returns the stored state, or nil, the gateways, and a function that
	// waits until either changes.
	Read func() (stored *api.FederationState, gateways []api.CheckServiceNode, wait func(context.Context) error)
	// Put writes the state, in the primary.
	Put func(ctx context.Context, in wire.FederationRequest) error
}

// Pace of publishing: a burst of changes passes at once, then one every 5 s.
const (
	publishEvery = 5 * time.Second
	publishBurst = 5
	publishRetry = 100 * time.Millisecond
	publishLimit = 30 * time.Second
)

// Run publishes until ctx is done.
func (p *Publisher) Run(ctx context.Context) error {
	pace := pace{every: publishEvery, burst: publishBurst}
	retry := publishRetry
	for ctx.Err() == nil {
		stored, gateways, wait := p.Read()
		if stored != nil && same(stored.MeshGateways, gateways) {
			if err := wait(ctx); err != nil {
				return nil //nolint:nilerr // ctx is done
			}
			continue
		}
		if !pace.wait(ctx) {
			break
		}
		state := &api.FederationState{Datacenter: p.Datacenter, MeshGateways: gateways, UpdatedAt: time.Now().UTC()}
		if err := p.Put(ctx, wire.FederationRequest{Op: wire.FederationUpsert, State: state}); err != nil {
			if ctx.Err() == nil && api.CodeOf(err) != api.StatesDisabled {
				p.Log.Warn("own mesh gateways are not published yet", "gateways", len(gateways), "err", err)
			}
			pace.spent-- // nothing was written
			sleep(ctx, retry)
			retry = min(2*retry, publishLimit)
			continue
		}
		retry = publishRetry
		p.Log.Info("own mesh gateways published", "gateways", len(gateways))
		// A secondary reads its own state back from the primary, a moment later.
		if now, _, wait := p.Read(); now == nil || !same(now.MeshGateways, gateways) {
			short, cancel := context.WithTimeout(ctx, publishEvery)
			_ = wait(short)
			cancel()
		}
	}
	return nil
}

// same compares gateways without the log indexes, which differ between
// datacenters.
func same(a, b []api.CheckServiceNode) bool {
	return slices.EqualFunc(a, b, func(a, b api.CheckServiceNode) bool {
		return reflect.DeepEqual(bare(a), bare(b))
	})
}

// bare returns a copy without log indexes, and with no empty maps and lists,
// which come and go on the wire.
func bare(c api.CheckServiceNode) api.CheckServiceNode {
	node, service := *c.Node, *c.Service
	node.RaftIndex, service.RaftIndex = api.RaftIndex{}, api.RaftIndex{}
	if len(node.Meta) == 0 {
		node.Meta = nil
	}
	if len(node.TaggedAddresses) == 0 {
		node.TaggedAddresses = nil
	}
	if len(service.Meta) == 0 {
		service.Meta = nil
	}
	if len(service.Tags) == 0 {
		service.Tags = nil
	}
	if len(service.TaggedAddresses) == 0 {
		service.TaggedAddresses = nil
	}
	checks := make([]*api.HealthCheck, len(c.Checks))
	for i, check := range c.Checks {
		check := *check
		check.RaftIndex = api.RaftIndex{}
		if len(check.ServiceTags) == 0 {
			check.ServiceTags = nil
		}
		check.Definition = api.HealthCheckDefinition{} // its maps vary likewise, and nobody routes by it
		checks[i] = &check
	}
	return api.CheckServiceNode{Node: &node, Service: &service, Checks: checks}
}
