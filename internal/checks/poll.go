package checks

import (
	"context"
	"math/rand/v2"
	"time"

	"isthmus/api"
)

const (
	minInterval    = time.Second // shorter intervals are lengthened to it
	defaultTimeout = 10 * time.Second
	commandTimeout = 30 * time.Second // of probes that run a command
	earlyProbes    = 20               // in the first interval, while none has passed
	earlyCommands  = 4                // of those, when they run a command: it may cost much
)

// poll is a runner that probes at once and then again an interval after each
// probe has ended. The first interval alone is a random part of the whole, so
// that checks which begin together do not go on together.
type poll struct {
	interval time.Duration
	timeout  time.Duration // of one probe; 0 leaves it to the probe
	early    int           // probes in the first interval, while none has passed
	probe    func(ctx context.Context) (status, output string)
	report   Report
	part     func(whole time.Duration) time.Duration // draws the first interval
}

// newPoll takes from def what all probing kinds have in common.
func newPoll(def *api.CheckType, probe func(ctx context.Context) (status, output string), report Report, env *Env) *poll {
	p := &poll{
		time.Duration(def.Interval), timeout(def, defaultTimeout), earlyProbes, probe,
		newThreshold(def, report, env.Log).result, randomPart,
	}
	if p.interval < minInterval {
		env.Log.Warn("check interval is lengthened", "interval", p.interval, "minimum", minInterval)
		p.interval = minInterval
	}
	return p
}

// newCommandPoll is newPoll for a probe that runs a command.
func newCommandPoll(def *api.CheckType, probe func(ctx context.Context) (status, output string), report Report, env *Env) *poll {
	p := newPoll(def, probe, report, env)
	p.timeout, p.early = timeout(def, commandTimeout), earlyCommands
	return p
}

// timeout is how long a probe may take.
func timeout(def *api.CheckType, unset time.Duration) time.Duration {
	if def.Timeout > 0 {
		return time.Duration(def.Timeout)
	}
	return unset
}

func randomPart(whole time.Duration) time.Duration {
	return 1 + rand.N(whole) //nolint:gosec // nobody gains by guessing it
}

// Run implements Runner.
func (p *poll) Run(ctx context.Context) error {
	pause := p.part(p.interval)
	for first := true; ctx.Err() == nil; first = false {
		status, output := p.once(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // to be told to end is no error, and what an aborted probe found says nothing
		}
		p.report(status, output)
		if first && status != api.Passing && !p.begin(ctx) {
			continue
		}
		wait(ctx, pause)
		pause = p.interval
	}
	return nil
}

// begin probes often for one interval, or until a probe passes, which it tells:
// what is checked may be registered just before it serves, and would be down for
// a whole interval. Only the probe that passes is reported, so that thresholds
// mean what they say.
func (p *poll) begin(ctx context.Context) (passed bool) {
	interval, cancel := context.WithTimeout(ctx, p.interval)
	defer cancel()
	for {
		wait(interval, p.interval/time.Duration(p.early))
		if interval.Err() != nil {
			return false
		}
		status, output := p.once(interval)
		if interval.Err() != nil {
			return false
		}
		if status == api.Passing {
			p.report(status, output)
			return true
		}
	}
}

// once probes once.
func (p *poll) once(ctx context.Context) (status, output string) {
	if p.timeout > 0 {
		limited, cancel := context.WithTimeout(ctx, p.timeout)
		defer cancel()
		ctx = limited
	}
	return p.probe(ctx)
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
