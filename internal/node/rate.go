package node

import (
	"context"
	"sync"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/telemetry"
)

// rate lets so many through each second, and so many at once after a pause. Its
// limits may change at any time.
type rate struct {
	mu     sync.Mutex
	second float64 // below 0: no limit
	burst  float64
	left   float64 // of the burst
	last   time.Time
}

func (r *rate) set(second float64, burst int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.second != second || r.burst != float64(burst) {
		r.second, r.burst, r.left = second, float64(burst), float64(burst)
	}
}

// allow takes one, when there is one.
func (r *rate) allow(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.second < 0 {
		return true
	}
	if !r.last.IsZero() {
		r.left = min(r.burst, r.left+now.Sub(r.last).Seconds()*r.second)
	}
	r.last = now
	if r.left < 1 {
		return false
	}
	r.left--
	return true
}

// limited is how a client asks servers: no more often than it is set.
type limited struct {
	rpc.Caller

	rate *rate
}

// Call implements rpc.Caller.
func (l limited) Call(ctx context.Context, r *rpc.Request) (rpc.Meta, error) {
	if !l.rate.allow(time.Now()) {
		telemetry.ClientRPCExceeded.Count()
		return rpc.Meta{}, api.Errorf(api.RateLimited, "RPC rate limit exceeded")
	}
	return l.Caller.Call(ctx, r) //nolint:wrapcheck // a plain wrapper
}
