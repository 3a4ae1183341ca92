package rpc

import (
	"context"
	"time"

	"isthmus/api"
	"isthmus/internal/telemetry"
)

// Hold repeats try for as long as a call fails in a way that passes: no leader is
// elected at the moment, or no server was reached. It gives up, with the last
// error, when the hold time and the wait of a blocking read are over.
func Hold(ctx context.Context, hold time.Duration, r *Request, try func() (Meta, error)) (Meta, error) {
	limit := hold
	if r.Header.MinIndex > 0 {
		limit += min(r.Header.MaxWait, MaxWait)
	}
	start := time.Now()
	b := newBackoff(max(hold/256, time.Millisecond), max(hold/32, time.Millisecond))
	for {
		meta, err := try()
		if err == nil || !passes(r, err) || time.Since(start) >= limit || !b.wait(ctx) {
			return meta, err
		}
	}
}

// passes tells whether the same call may succeed soon and is safe to repeat.
func passes(r *Request, err error) bool {
	switch api.CodeOf(err) {
	case api.NoLeader, api.NotReady, api.LeaderUnmatched:
		return true
	case api.NoPath, api.Unreachable:
		return false
	default:
	}
	return repeatable(r, err)
}

// Keep returns a caller that asks c and holds on to calls that fail in passing.
func Keep(c Caller, hold time.Duration) Caller { return keeper{c, hold} }

type keeper struct {
	Caller

	hold time.Duration
}

// Call implements Caller.
func (k keeper) Call(ctx context.Context, r *Request) (Meta, error) {
	telemetry.ClientRPC.Count()
	meta, err := Hold(ctx, k.hold, r, func() (Meta, error) { return k.Caller.Call(ctx, r) })
	if err != nil {
		telemetry.ClientRPCFailed.Count()
	}
	return meta, err
}
