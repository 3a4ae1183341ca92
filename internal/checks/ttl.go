package checks

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"isthmus/api"
)

// maxOutput is how many bytes of output are kept unless something else is asked
// for.
const maxOutput = 4096

// TTL is a check whose state comes from outside, and which is critical when
// nothing comes in time. It needs no goroutine: agents have many of them.
type TTL struct {
	ttl    time.Duration
	max    int
	report Report

	timer   atomic.Pointer[time.Timer] // nil until it is started
	stopped atomic.Bool

	// mu is held while a result is reported, so that an update and the expiry it
	// was just in time for are reported in the order they happened.
	mu       sync.Mutex
	deadline time.Time
	expired  bool
	output   string
}

func newTTL(def *api.CheckType, report Report, env *Env) (Runner, error) {
	ttl := time.Duration(def.TTL)
	return &TTL{ttl: ttl, max: env.MaxOutput, report: report, deadline: time.Now().Add(ttl)}, nil
}

// Update reports a state and starts the time anew. It may be called whether the
// check runs or not.
func (t *TTL) Update(status, output string) {
	if total := len(output); total > t.max {
		output = fmt.Sprintf("%s ... (captured %d of %d bytes)", output[:t.max], t.max, total)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	again := t.expired
	t.deadline, t.expired, t.output = time.Now().Add(t.ttl), false, output
	t.report(status, output)
	if timer := t.timer.Load(); again && timer != nil {
		timer.Reset(t.ttl) // one that runs finds the new deadline when it ends
	}
}

// Resume makes output the one that an expiry will repeat, without a report: the
// check goes on from a state that was kept.
func (t *TTL) Resume(output string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.output = output
}

// Run implements Runner, for who has no use for Start and Stop.
func (t *TTL) Run(ctx context.Context) error {
	t.Start()
	<-ctx.Done()
	t.Stop()
	return nil
}

// Start lets the time run. It may report before it returns.
func (t *TTL) Start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer.Store(time.AfterFunc(time.Until(t.deadline), t.expire))
	if t.stopped.Load() {
		t.Stop()
	}
}

// Stop ends the check, without a wait for a result that is being reported. It may
// be called before Start, which then does nothing.
func (t *TTL) Stop() {
	t.stopped.Store(true)
	if timer := t.timer.Load(); timer != nil {
		timer.Stop()
	}
}

// expire makes the check critical when its time is over, and otherwise waits for
// what is left of it.
func (t *TTL) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.expired || t.stopped.Load() {
		return
	}
	if left := time.Until(t.deadline); left > 0 {
		t.timer.Load().Reset(left)
		return
	}
	t.expired = true
	output := "TTL expired"
	if t.output != "" {
		output += " (last output before timeout follows): " + t.output
	}
	t.report(api.Critical, output)
}
