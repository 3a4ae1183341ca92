package checks

import (
	"context"
	"fmt"
	"sync"
	"time"

	"isthmus/api"
)

// maxOutput is how many bytes of output are kept unless something else is asked
// for.
const maxOutput = 4096

// TTL is a check whose state comes from outside, and which is critical when
// nothing comes in time.
type TTL struct {
	ttl    time.Duration
	max    int
	report Report
	moved  chan struct{} // says that the deadline moved; one waiting signal is enough

	// mu is held while a result is reported, so that an update and the expiry it
	// was just in time for are reported in the order they happened.
	mu       sync.Mutex
	deadline time.Time
	expired  bool
	output   string
}

func newTTL(def *api.CheckType, report Report, env *Env) (Runner, error) {
	ttl := time.Duration(def.TTL)
	return &TTL{
		ttl: ttl, max: env.MaxOutput, report: report, moved: make(chan struct{}, 1), deadline: time.Now().Add(ttl),
	}, nil
}

// Update reports a state and starts the time anew. It may be called whether the
// check runs or not.
func (t *TTL) Update(status, output string) {
	if total := len(output); total > t.max {
		output = fmt.Sprintf("%s ... (captured %d of %d bytes)", output[:t.max], t.max, total)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.deadline, t.expired, t.output = time.Now().Add(t.ttl), false, output
	t.report(status, output)
	select {
	case t.moved <- struct{}{}:
	default:
	}
}

// Resume makes output the one that an expiry will repeat, without a report: the
// check goes on from a state that was kept.
func (t *TTL) Resume(output string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.output = output
}

// Run implements Runner.
func (t *TTL) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if left, waiting := t.expire(); waiting {
			timer.Reset(left)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.moved:
		case <-timer.C:
		}
	}
}

// expire makes the check critical when its time is over, and otherwise returns
// how much is left.
func (t *TTL) expire() (left time.Duration, waiting bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.expired {
		return 0, false
	}
	if left = time.Until(t.deadline); left > 0 {
		return left, true
	}
	t.expired = true
	output := "TTL expired"
	if t.output != "" {
		output += " (last output before timeout follows): " + t.output
	}
	t.report(api.Critical, output)
	return 0, false
}
