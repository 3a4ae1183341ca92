package node

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"isthmus/internal/cloudjoin"
	"isthmus/internal/gossip"
)

// joiner joins a pool, again and again until it worked.
type joiner struct {
	pool     *gossip.Pool
	settings []string // addresses and discovery strings
	interval time.Duration
	most     int // attempts; 0 is no limit
	log      *slog.Logger
}

// discoverAll replaces discovery strings by the addresses they stand for.
func (j *joiner) discoverAll(ctx context.Context) []string {
	var out []string
	for _, setting := range j.settings {
		if !cloudjoin.Is(setting) {
			out = append(out, setting)
			continue
		}
		addrs, err := cloudjoin.Addrs(ctx, setting, j.log)
		if err != nil {
			j.log.Warn("addresses were not discovered", "err", err)
		}
		out = append(out, addrs...)
	}
	return out
}

// firstJoinWait is the pause after the first failed attempt to join: what was
// missing, such as another process that starts at the same time, is mostly there
// a moment later. It doubles up to the interval that is set.
const firstJoinWait = 200 * time.Millisecond

// run joins until it worked once.
func (j *joiner) run(ctx context.Context) error {
	wait := min(firstJoinWait, j.interval)
	for attempt := 1; ; attempt++ {
		err := j.join(ctx)
		if err == nil || ctx.Err() != nil {
			return nil //nolint:nilerr // ctx is done
		}
		if j.most > 0 && attempt >= j.most {
			return fmt.Errorf("no member could be joined after %d attempts: %w", attempt, err)
		}
		j.log.Info("not joined yet", "err", err, "again_in", wait)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
		wait = min(2*wait, j.interval)
	}
}

func (j *joiner) join(ctx context.Context) error {
	addrs := j.discoverAll(ctx)
	if len(addrs) == 0 {
		return fmt.Errorf("no address to join among %d settings", len(j.settings))
	}
	joined, err := j.pool.Join(ctx, addrs)
	if joined > 0 {
		j.log.Info("joined", "members", joined)
		return nil
	}
	if err == nil {
		err = fmt.Errorf("none of %d addresses answered", len(addrs))
	}
	return err //nolint:wrapcheck // says whom it asked
}
