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
	beginProbes    = 20 // in the first interval, while none has passed
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
	for first := true; ctx.Err() == nil; first = false {
		status, output := p.once(ctx)
		if ctx.Err() != nil {
			return nil // what an aborted probe found says nothing
		}
		p.report(status, output)
		if first && status != api.Passing {
			p.begin(ctx)
			continue
		}
		wait(ctx, p.interval)
	}
	return nil
}

// begin probes often for one interval, or until a probe passes and an interval
// after that: what is checked may be registered just before it serves, and would
// be down for a whole interval. Only the probe that passes is reported, so that
// thresholds mean what they say.
func (p *poll) begin(ctx context.Context) {
	interval, cancel := context.WithTimeout(ctx, p.interval)
	defer cancel()
	for {
		wait(interval, p.interval/beginProbes)
		status, output := p.once(interval)
		if interval.Err() != nil {
			return
		}
		if status == api.Passing {
			p.report(status, output)
			wait(ctx, p.interval)
			return
		}
	}
}

// once probes once.
func (p *poll) once(ctx context.Context) (status, output string) {
	limited, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	return p.probe(limited)
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
