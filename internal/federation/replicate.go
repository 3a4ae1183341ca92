package federation

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/telemetry"
	"isthmus/internal/wire"
)

// Replicator copies the federation states of the primary. It runs on the leader
// of a secondary.
type Replicator struct {
	Log    *slog.Logger
	Remote rpc.Caller // the primary
	Token  string
	Stored func() []*api.FederationState
	Apply  func(ctx context.Context, op string, state *api.FederationState) error

	mu   sync.Mutex
	view wire.ReplicationView
}

// Pace of replication: a burst of rounds, then one a second; in a round so many
// changes at once, then a pause.
const (
	roundEvery     = time.Second
	roundBurst     = 5
	replicateBurst = 50
	replicatePause = 500 * time.Millisecond
)

// View tells how far the copy is.
func (r *Replicator) View() wire.ReplicationView {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.view
}

func (r *Replicator) note(edit func(v *wire.ReplicationView)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	edit(&r.view)
}

// Run copies until ctx is done.
func (r *Replicator) Run(ctx context.Context) error {
	r.note(func(v *wire.ReplicationView) { v.Running = true })
	defer r.note(func(v *wire.ReplicationView) { v.Running = false })
	pace := pace{every: roundEvery, burst: roundBurst}
	h := rpc.Header{AllowStale: true, Token: r.Token}
	for update, err := range wire.FederationList.Watch(ctx, r.Remote, h, wire.DCQuery{}) {
		if err == nil {
			err = r.round(ctx, update.Out)
		}
		telemetry.ReplicationStatus.Set(map[bool]float64{true: 1}[err == nil])
		if err != nil {
			r.note(func(v *wire.ReplicationView) { v.LastError = err.Error() })
			if ctx.Err() == nil && api.CodeOf(err) != api.StatesDisabled {
				r.Log.Warn("replication is behind", "kind", "federation-state", "err", err)
			}
			continue
		}
		telemetry.ReplicationIndex.Set(float64(update.Meta.Index))
		r.note(func(v *wire.ReplicationView) {
			v.LastSuccess, v.LastError, v.Index = time.Now(), "", update.Meta.Index
		})
		if !pace.wait(ctx) {
			break
		}
	}
	return nil
}

// round makes the stored states equal to the remote ones.
func (r *Replicator) round(ctx context.Context, remote []*api.FederationState) error {
	defer telemetry.ReplicationApply.Since(time.Now())
	local := map[string]*api.FederationState{}
	for _, f := range r.Stored() {
		local[f.Datacenter] = f
	}
	changes := 0
	apply := func(op string, f *api.FederationState) error {
		if changes++; changes%replicateBurst == 0 && !sleep(ctx, replicatePause) {
			return ctx.Err() //nolint:wrapcheck // the end, no failure
		}
		if err := r.Apply(ctx, op, f); err != nil {
			return fmt.Errorf("store the federation state of %s: %w", f.Datacenter, err)
		}
		return nil
	}
	for _, f := range remote {
		old := local[f.Datacenter]
		delete(local, f.Datacenter)
		if old != nil && old.PrimaryModifyIndex == f.ModifyIndex && old.UpdatedAt.Equal(f.UpdatedAt) {
			continue
		}
		row := *f
		row.PrimaryModifyIndex = f.ModifyIndex
		if err := apply(wire.FederationUpsert, &row); err != nil {
			return err
		}
	}
	for _, f := range local {
		if err := apply(wire.FederationDelete, f); err != nil {
			return err
		}
	}
	return nil
}
