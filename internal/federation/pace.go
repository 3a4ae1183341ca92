package federation

import (
	"context"
	"time"
)

// pace lets a burst of rounds through at once, and then one in each interval.
type pace struct {
	every time.Duration
	burst int

	spent int
	since time.Time // up to which rounds were given back
}

// wait returns once the next round may begin, and false when ctx is done first.
func (p *pace) wait(ctx context.Context) bool {
	now := time.Now()
	for ; p.spent > 0 && now.Sub(p.since) >= p.every; p.spent-- {
		p.since = p.since.Add(p.every)
	}
	if p.spent == 0 {
		p.since = now
	}
	if p.spent < p.burst {
		p.spent++
		return ctx.Err() == nil
	}
	if !sleep(ctx, p.since.Add(p.every).Sub(now)) {
		return false
	}
	p.since = p.since.Add(p.every)
	return true
}
