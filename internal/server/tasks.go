package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"isthmus/api"
	"isthmus/internal/federation"
	"isthmus/internal/rpc"
	"isthmus/internal/state"
	"isthmus/internal/telemetry"
	"isthmus/internal/wire"
)

// task is what runs on a leader, for as long as it leads.
type task struct {
	name string
	run  func(ctx context.Context) error
}

// tasks lists what a leader does.
func (s *Server) tasks() []task {
	publisher := &federation.Publisher{
		Log: s.cfg.Log.With("component", "federation_state"), Datacenter: s.cfg.Datacenter,
		Read: s.ownGateways, Put: s.putState,
	}
	list := []task{
		{"member reconciliation", s.reconcileMembers},
		{"federation state anti-entropy", publisher.Run},
		{"coordinates", s.writeCoordinates},
	}
	if s.cfg.Connect {
		list = append(list, task{"certificate authority", s.keepCA})
	}
	if s.cfg.Primary == s.cfg.Datacenter {
		return append(list, task{"federation state pruning", s.pruneStates})
	}
	return append(list, task{"federation state replication", s.copier.Run})
}

// Lead runs while this server leads (consensus.Config.Lead). It returns when ctx
// is done and every task has ended.
func (s *Server) Lead(ctx context.Context) error {
	begin := time.Now()
	if err := s.log.Barrier(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // leadership ended first
		}
		return fmt.Errorf("apply what earlier leaders committed: %w", err)
	}
	telemetry.LeaderBarrier.Since(begin)
	s.ready.Store(true)
	s.measureLog()
	defer s.ready.Store(false)
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range s.tasks() {
		g.Go(func() error {
			if err := t.run(ctx); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			return nil
		})
	}
	return g.Wait() //nolint:wrapcheck // wrapped above
}

// ownGateways reads what the publisher compares.
func (s *Server) ownGateways() (*api.FederationState, []api.CheckServiceNode, func(context.Context) error) {
	tx := s.state.Read()
	stored := state.FederationState(tx, s.cfg.Datacenter)
	gateways := bare(state.InstancesOfKind(tx, api.MeshGateway))
	return stored, gateways, tx.Wait
}

// putState writes a federation state in the primary.
func (s *Server) putState(ctx context.Context, in wire.FederationRequest) error {
	_, _, err := wire.FederationApply.Call(ctx, s, rpc.Header{Token: s.cfg.Token}, in)
	return err //nolint:wrapcheck // the pipeline's own errors
}

// pruneEvery is how often states of vanished datacenters are deleted.
const pruneEvery = time.Hour

// pruneStates deletes the states of datacenters that no server is known of any
// more.
func (s *Server) pruneStates(ctx context.Context) error {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		known := s.router.Datacenters()
		for f := range state.FederationStates(s.state.Read()) {
			if f.Datacenter == s.cfg.Datacenter || slices.Contains(known, f.Datacenter) {
				continue
			}
			in := wire.FederationRequest{Op: wire.FederationDelete, State: &api.FederationState{Datacenter: f.Datacenter}}
			if err := s.putState(ctx, in); err != nil && ctx.Err() == nil {
				s.cfg.Log.Warn("a vanished datacenter is still listed", "datacenter", f.Datacenter, "err", err)
			}
		}
	}
}
