package local

import (
	"context"
	"iter"
	"reflect"

	"isthmus/api"
)

// Follow yields a service as it is, nil when there is none of that id, and again
// each time it has become another, until ctx is done. Of changes that follow each
// other fast the last one is sure to come. What is yielded is shared: nobody may
// change it.
func (a *Agent) Follow(ctx context.Context, id string) iter.Seq[*api.NodeService] {
	return func(yield func(*api.NodeService) bool) {
		changed := make(chan struct{}, 1) // one waiting signal is enough
		a.mu.Lock()
		if a.followers[id] == nil {
			a.followers[id] = map[chan struct{}]struct{}{}
		}
		a.followers[id][changed] = struct{}{}
		a.mu.Unlock()
		defer func() {
			a.mu.Lock()
			defer a.mu.Unlock()
			delete(a.followers[id], changed)
			if len(a.followers[id]) == 0 {
				delete(a.followers, id)
			}
		}()
		last := a.Service(id)
		for yield(last) {
			for {
				select {
				case <-ctx.Done():
					return
				case <-changed:
				}
				if now := a.Service(id); !reflect.DeepEqual(now, last) {
					last = now
					break
				}
			}
		}
	}
}

// tell wakes the followers of a service and of its checks. The caller holds a.mu.
func (a *Agent) tell(id string) {
	a.tellAliases(id)
	for changed := range a.followers[id] {
		signal(changed)
	}
}
