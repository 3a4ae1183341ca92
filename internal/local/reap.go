package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"isthmus/api"
)

// minReap is the shortest time that a check must be critical before its service
// is removed.
const minReap = time.Minute

// watchCritical notes whether a check is critical, if its service is to be removed
// for that. The caller holds a.mu.
func (a *Agent) watchCritical(c *check) {
	if c.def.DeregisterCriticalServiceAfter <= 0 || c.of == "" {
		return
	}
	if c.row.Status != api.Critical {
		delete(a.critical, c)
		return
	}
	now := time.Now()
	a.critical[c] = now
	if due := now.Add(c.patience()); a.nextReap.IsZero() || due.Before(a.nextReap) {
		signal(a.reapable)
	}
}

// patience is how long a check may be critical until its service is removed.
func (c *check) patience() time.Duration {
	return max(time.Duration(c.def.DeregisterCriticalServiceAfter), minReap)
}

// runReaper removes the services whose checks stay critical for too long, until
// ctx is done.
func (a *Agent) runReaper(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.reapable:
		case <-timer.C:
		}
		overdue, next := a.overdue()
		if err := a.reap(overdue); err != nil {
			a.log.Error("services are critical for too long but cannot be removed", "err", err)
		}
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
	}
}

// overdue are the checks that were critical for too long, and when the next one
// will be. Those whose service cannot be removed have all their time again.
func (a *Agent) overdue() (all []*check, next time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	for c, since := range a.critical {
		if !now.Before(since.Add(c.patience())) {
			all = append(all, c)
			since = now
			a.critical[c] = now
		}
		if due := since.Add(c.patience()); next.IsZero() || due.Before(next) {
			next = due
		}
	}
	a.nextReap = next
	return all, next
}

// reap removes the services of checks that are still critical. It does not wait
// for the disk: a service that comes back after a power cut is removed again.
func (a *Agent) reap(overdue []*check) error {
	if len(overdue) == 0 {
		return nil
	}
	a.edit.Lock()
	defer a.edit.Unlock()
	var wrong []error
	for _, c := range overdue {
		a.mu.Lock()
		_, critical := a.critical[c] // it may have recovered, or its service may be gone
		a.mu.Unlock()
		if !critical {
			continue
		}
		if err := a.removeService(c.of); err != nil {
			wrong = append(wrong, fmt.Errorf("service %q: %w", c.of, err))
			continue
		}
		a.log.Warn("service removed: its check was critical for too long", "service", c.of, "check", c.def.CheckID, "after", c.patience())
	}
	return errors.Join(wrong...)
}
