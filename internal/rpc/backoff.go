package rpc

import (
	"context"
	"math/rand/v2"
	"time"
)

// Waits of a Watch between errors.
const (
	minWatchWait = 250 * time.Millisecond
	maxWatchWait = 15 * time.Second
)

// backoff doubles its wait each time, up to a limit, and varies it so that those
// who failed together do not return together.
type backoff struct {
	first, limit, next time.Duration
}

func newBackoff(first, limit time.Duration) *backoff {
	return &backoff{first: first, limit: limit, next: first}
}

func (b *backoff) reset() { b.next = b.first }

// wait returns false when ctx is done first.
func (b *backoff) wait(ctx context.Context) bool {
	d := b.next/2 + rand.N(b.next) //nolint:gosec // spreads load, hides nothing
	b.next = min(2*b.next, b.limit)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
