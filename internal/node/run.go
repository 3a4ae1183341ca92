package node

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// part is a named piece that runs until its context is done and has let go of
// everything when it returns.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// stages are started in order and stopped in reverse, each when the one after it
// has stopped.
type stages [][]part

// run runs every part until ctx is done or one of them fails.
func (s stages) run(ctx context.Context) error {
	if len(s) == 0 {
		<-ctx.Done()
		return nil
	}
	// This stage outlives ctx until the stages after it have stopped.
	own, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, failed := errgroup.WithContext(own)
	for _, p := range s[0] {
		g.Go(func() error {
			err := p.run(failed)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			return nil
		})
	}
	rest, stopRest := context.WithCancel(ctx)
	defer stopRest()
	defer context.AfterFunc(failed, stopRest)()
	err := s[1:].run(rest) //nolint:gosec // an empty one has returned above
	stop()
	return errors.Join(g.Wait(), err)
}
