package checks

import (
	"context"
	"log/slog"
	"time"

	"isthmus/api"
)

const (
	minInterval    = time.Second // shorter intervals are lengthened to it
	defaultTimeout = 10 * time.Second
)

// poll is a runner that probes at once and then again an interval after each
// probe has ended.
type poll struct {
	interval time.Duration
	timeout  time.Duration // of one probe
	probe    func(ctx context.Context) (status, output string)
	report   Report
}

// newPoll takes from def what all probing kinds have in common.
func newPoll(def *api.CheckType, probe func(ctx context.Context) (status, output string), report Report, log *slog.Logger) *poll {
	p := &poll{time.Duration(def.Interval), time.Duration(def.Timeout), probe, newThreshold(def, report, log).result}
	if p.interval < minInterval {
		log.Warn("check interval is lengthened", "interval", p.interval, "minimum", minInterval)
		p.interval = minInterval
	}
	if p.timeout <= 0 {
		p.timeout = defaultTimeout
	}
	return p
}

// Run implements Runner.
func (p *poll) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, p.timeout)
		status, output := p.probe(limited)
		cancel()
		if ctx.Err() == nil { // what an aborted probe found says nothing
			p.report(status, output)
		}
		wait(ctx, p.interval)
	}
	return nil
}

// wait returns after d, or when ctx is done.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
