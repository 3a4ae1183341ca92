package xds

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"isthmus/api"
	"isthmus/internal/mesh"
)

const (
	// After a change the next one is looked at this much later, so that a burst is
	// rendered a few times only.
	renderPause = 100 * time.Millisecond
	// How often the source is asked again for a proxy that it does not know, or
	// that it cannot follow at the moment.
	followPause = time.Second
)

// feedKey tells feeds apart. The token is part of it: what one token may read is
// nothing to another.
type feedKey struct{ proxy, token string }

// feed follows one proxy for all its streams and holds its newest view.
type feed struct {
	key    feedKey
	refs   int // guarded by Server.mu
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	view    *view
	err     error         // the end
	changed chan struct{} // closed at the next change
	at      time.Time     // of the newest snapshot
	problem string        // why the newest snapshot could not be rendered, or none is there
	left    []string      // what Render left out of the newest view
}

// join returns the feed of a proxy, which all its streams share. Whoever joined
// parts from it.
func (s *Server) join(ctx context.Context, key feedKey) *feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.feeds[key]; ok {
		f.refs++
		return f
	}
	f := &feed{key: key, refs: 1, done: make(chan struct{}), changed: make(chan struct{})}
	// It outlives the stream that began it as long as there are others.
	ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.feeds[key] = f
	go func() {
		defer close(f.done)
		f.end(s.follow(ctx, f))
		s.forget(f)
	}()
	return f
}

// part leaves a feed; the last one waits for its end.
func (s *Server) part(f *feed) {
	s.mu.Lock()
	f.refs--
	last := f.refs == 0
	s.mu.Unlock()
	if last {
		s.forget(f)
		f.cancel()
		<-f.done
	}
}

// forget makes room for a new feed of the same proxy.
func (s *Server) forget(f *feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.feeds[f.key] == f {
		delete(s.feeds, f.key)
	}
}

// follow keeps a feed current until there is nothing more to follow. A proxy that
// is not known is waited for, since an Envoy may start before its service is
// registered; one that was known and is gone ends its streams.
func (s *Server) follow(ctx context.Context, f *feed) error {
	known := false
	for {
		begin := time.Now()
		snapshots, err := s.source.Follow(ctx, f.key.proxy, f.key.token)
		if err == nil {
			known = s.take(ctx, f, snapshots) || known
		}
		switch {
		case ctx.Err() != nil:
			return status.FromContextError(ctx.Err()).Err()
		case err == nil:
		case final(err, known):
			return status.Error(codeOf(err), err.Error())
		default:
			s.doubt(f, "proxy cannot be followed yet", err)
		}
		if !pause(ctx, followPause-time.Since(begin)) {
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// take renders snapshots as they come. It tells whether there was one.
func (s *Server) take(ctx context.Context, f *feed, snapshots iter.Seq[*mesh.Snapshot]) (took bool) {
	for snapshot := range snapshots {
		took = true
		resources, err := s.render(snapshot)
		if err != nil {
			s.doubt(f, "snapshot cannot be rendered", err)
		} else if f.put(newView(resources)) {
			s.warn(f, Warnings(snapshot))
		}
		if !pause(ctx, renderPause) {
			break
		}
	}
	return took
}

// doubt notes why there is no news. The last good view stays.
func (s *Server) doubt(f *feed, what string, err error) {
	f.mu.Lock()
	text := fmt.Sprintf("%s: %s", what, err)
	news := f.problem != text
	f.problem = text
	f.mu.Unlock()
	if news {
		s.log.Warn("proxy gets no news", "proxy", f.key.proxy, "problem", what, "err", err)
	}
}

// warn notes what Render left out.
func (s *Server) warn(f *feed, left []string) {
	f.mu.Lock()
	before := f.left
	f.left = left
	f.mu.Unlock()
	for _, text := range left {
		if !slices.Contains(before, text) {
			s.log.Warn("part of a proxy's settings is left out", "proxy", f.key.proxy, "problem", text)
		}
	}
}

// put sets the newest view, and wakes the streams if it differs from the last.
func (f *feed) put(v *view) (changed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.problem = time.Now(), ""
	if f.view != nil && f.view.same(v) {
		return false
	}
	f.view = v
	close(f.changed)
	f.changed = make(chan struct{})
	return true
}

// end tells the streams why there is nothing more.
func (f *feed) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
	close(f.changed)
	f.changed = make(chan struct{})
}

// now returns the newest view, nil if there is none yet, and what tells of the
// next one.
func (f *feed) now() (*view, <-chan struct{}, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.view, f.changed, f.err
}

// final tells whether an error of Source.Follow is the last word.
func final(err error, known bool) bool {
	switch api.CodeOf(err) {
	case api.NotFound:
		return known
	case api.NotAllowed, api.Invalid, api.NotBuilt:
		return true
	default:
		return false
	}
}

// codeOf is the status of a final error. A token that does not exist is told
// apart from one that may not, as clients of the protocol know it.
func codeOf(err error) codes.Code {
	switch api.CodeOf(err) {
	case api.NotFound:
		return codes.NotFound
	case api.NotAllowed:
		if strings.Contains(err.Error(), "ACL not found") {
			return codes.Unauthenticated
		}
		return codes.PermissionDenied
	case api.NotBuilt:
		return codes.Unimplemented
	default:
		return codes.InvalidArgument
	}
}

// pause waits, and tells whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
