package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// source answers echo with a text that changes, as servers do: it knows blocking
// reads.
type source struct {
	mu      sync.Mutex
	text    string
	index   uint64
	err     error
	changed chan struct{}
	asked   []Header
	waiting int
	gate    chan struct{} // when set, calls wait until it is closed
}

func newSource(text string) *source {
	return &source{text: text, index: 10, changed: make(chan struct{})}
}

func (s *source) Call(ctx context.Context, r *Request) (Meta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Header)
	s.waiting++
	defer func() { s.waiting-- }()
	if s.gate != nil {
		gate := s.gate
		s.mu.Unlock()
		<-gate
		s.mu.Lock()
	}
	over := time.After(DefaultWait)
	for s.err == nil && r.Header.MinIndex >= s.index && over != nil {
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-changed:
		case <-over:
			over = nil
		}
		s.mu.Lock()
		if ctx.Err() != nil {
			return Meta{}, ctx.Err()
		}
	}
	if s.err != nil {
		return Meta{}, s.err
	}
	in, _ := r.In.(*echoIn)
	out, _ := r.Out.(*string)
	*out = s.text + in.Text
	return Meta{Index: s.index, KnownLeader: true}, nil
}

// set changes the answer, or makes the source fail.
func (s *source) set(text string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text != s.text {
		s.index++
	}
	s.text, s.err = text, err
	close(s.changed)
	s.changed = make(chan struct{})
}

// calls is how many calls were made, and how many of them wait for an answer.
func (s *source) calls() (made, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked), s.waiting
}

// newTestCache returns a cache of echo in front of a source, which runs until the
// test is over. It is for tests in a bubble.
func newTestCache(t *testing.T, logs slog.Handler) (*Cache, *source) {
	t.Helper()
	s := newSource("one")
	c := NewCache(s, slog.New(logs), CacheOf(echo, "test-echo"))
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if _, waiting := s.calls(); waiting > 0 {
			t.Errorf("%d reads outlive Run", waiting)
		}
	})
	return c, s
}

var useCache = Header{UseCache: true}

// ask calls echo through the cache and compares the answer.
func ask(t *testing.T, c Caller, h Header, want string, hit bool) Meta {
	t.Helper()
	out, meta, err := echo.Call(t.Context(), c, h, echoIn{})
	if err != nil || out != want || !meta.Cached || meta.Hit != hit {
		t.Errorf("got %q, %+v, %v, want %q and hit %v", out, meta, err, want, hit)
	}
	return meta
}

// elapse lets d go by.
func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestCacheKeepsAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newTestCache(t, slog.DiscardHandler)
		ask(t, c, useCache, "one", false)
		for range 5 {
			if meta := ask(t, c, useCache, "one", true); meta.Index != 10 || !meta.KnownLeader || meta.Age != 0 {
				t.Errorf("got %+v", meta)
			}
		}
		synctest.Wait()
		made, waiting := s.calls()
		if made != 2 || waiting != 1 {
			t.Errorf("%d calls, %d of them waiting, want one read and one that waits for a change", made, waiting)
		}
		for _, h := range s.asked {
			if !h.AllowStale || h.UseCache {
				t.Errorf("asked with %+v, want a read that any server may answer", h)
			}
		}
	})
}

func TestCacheFollowsChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newTestCache(t, slog.DiscardHandler)
		ask(t, c, useCache, "one", false)
		synctest.Wait()
		s.set("two", nil)
		synctest.Wait()
		if meta := ask(t, c, useCache, "two", true); meta.Index != 11 {
			t.Errorf("index %d", meta.Index)
		}
		elapse(24 * time.Hour) // the waits of background reads end without news
		ask(t, c, useCache, "two", true)
	})
}

func TestCachePassesOthersThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newTestCache(t, slog.DiscardHandler)
		other := Method[echoIn, string]{Name: "Test.Other"}
		for range 2 {
			for _, h := range []Header{{}, {UseCache: true, Consistent: true}} {
				if out, meta, err := echo.Call(t.Context(), c, h, echoIn{}); err != nil || out != "one" || meta.Cached {
					t.Errorf("got %q, %+v, %v", out, meta, err)
				}
			}
			if out, meta, err := other.Call(t.Context(), c, useCache, echoIn{}); err != nil || out != "one" || meta.Cached {
				t.Errorf("got %q, %+v, %v", out, meta, err)
			}
		}
		if made, _ := s.calls(); made != 6 {
			t.Errorf("%d calls, want each passed on", made)
		}
	})
}

func TestCacheTellsRequestsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newTestCache(t, slog.DiscardHandler)
		for _, hit := range []bool{false, true} {
			for _, h := range []Header{
				{UseCache: true},
				{UseCache: true, Datacenter: "dc2"},
				{UseCache: true, Token: "t"},
				{UseCache: true, Filter: "f"},
			} {
				ask(t, c, h, "one", hit)
			}
			out, meta, err := echo.Call(t.Context(), c, useCache, echoIn{"!"})
			if err != nil || out != "one!" || meta.Hit != hit {
				t.Errorf("got %q, %+v, %v", out, meta, err)
			}
		}
		// These do not change what is read.
		for _, h := range []Header{{UseCache: true, AllowStale: true}, {UseCache: true, MaxWait: time.Second}, {UseCache: true, MaxAge: time.Hour}} {
			ask(t, c, h, "one", true)
		}
	})
}

func TestFirstCallersShareAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newTestCache(t, slog.DiscardHandler)
		s.gate = make(chan struct{})
		var callers sync.WaitGroup
		for range 10 {
			callers.Go(func() { ask(t, c, useCache, "one", false) })
		}
		synctest.Wait()
		if made, _ := s.calls(); made != 1 {
			t.Errorf("%d calls for ten callers", made)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := echo.Call(ctx, c, useCache, echoIn{}); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that went got %v", err)
		}
		close(s.gate)
		callers.Wait()
	})
}

func TestFirstErrorIsReturnedAndNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newTestCache(t, slog.DiscardHandler)
		down := errors.New("down")
		s.set("one", down)
		var callers sync.WaitGroup
		for range 3 {
			callers.Go(func() {
				if _, meta, err := echo.Call(t.Context(), c, useCache, echoIn{}); !errors.Is(err, down) || meta != (Meta{}) {
					t.Errorf("got %+v, %v", meta, err)
				}
			})
		}
		callers.Wait()
		s.set("one", nil)
		start := time.Now()
		ask(t, c, useCache, "one", false)
		if waited := time.Since(start); waited > 0 {
			t.Errorf("waited %s after the outage", waited)
		}
	})
}

func TestErrorKeepsTheOldAnswer(t *testing.T) {
	var lines bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		c, s := newTestCache(t, slog.NewTextHandler(&lines, nil))
		ask(t, c, useCache, "one", false)
		synctest.Wait()
		down := errors.New("down")
		s.set("one", down)
		elapse(40 * time.Second)
		if meta := ask(t, c, useCache, "one", true); meta.Age != 40*time.Second || meta.Index != 10 {
			t.Errorf("got %+v, want the age of the outage", meta)
		}
		if n := strings.Count(lines.String(), "type=test-echo"); n != 1 {
			t.Errorf("told %d times of one outage:\n%s", n, &lines)
		}
		// Who wants it no older than it is asks anew.
		h := Header{UseCache: true, MaxAge: 30 * time.Second}
		if _, _, err := echo.Call(t.Context(), c, h, echoIn{}); !errors.Is(err, down) {
			t.Errorf("max-age: got %v", err)
		}
		h.StaleIfError = 10 * time.Second
		if meta := ask(t, c, h, "one", true); meta.Age != 40*time.Second {
			t.Errorf("stale-if-error: got %+v", meta)
		}
		h.MaxAge = 40 * time.Second
		ask(t, c, h, "one", true)
		s.set("two", nil)
		ask(t, c, Header{UseCache: true, MaxAge: time.Second}, "two", false)
		elapse(time.Minute)
		if meta := ask(t, c, useCache, "two", true); meta.Age != 0 {
			t.Errorf("age %s although the servers are back", meta.Age)
		}
	})
}

func TestMustRevalidateAsksAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newTestCache(t, slog.DiscardHandler)
		ask(t, c, useCache, "one", false)
		synctest.Wait()
		before, _ := s.calls()
		ask(t, c, Header{UseCache: true, MustRevalidate: true}, "one", false)
		if made, _ := s.calls(); made != before+1 {
			t.Errorf("%d calls, want one", made-before)
		}
	})
}

func TestBlockingReadWaitsForANewerAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newTestCache(t, slog.DiscardHandler)
		ask(t, c, useCache, "one", false)
		ask(t, c, Header{UseCache: true, MinIndex: 9}, "one", true)
		start := time.Now()
		if meta := ask(t, c, Header{UseCache: true, MinIndex: 10, MaxWait: time.Minute}, "one", false); meta.Index != 10 {
			t.Errorf("got %+v", meta)
		}
		if waited := time.Since(start); waited != time.Minute {
			t.Errorf("waited %s, want what was asked for", waited)
		}
		ask(t, c, Header{UseCache: true, MinIndex: 10}, "one", false)
		if waited := time.Since(start); waited != time.Minute+DefaultWait {
			t.Errorf("waited %s in all, want the default", waited)
		}

		done := make(chan Meta)
		go func() { done <- ask(t, c, Header{UseCache: true, MinIndex: 10}, "two", false) }()
		synctest.Wait()
		before, _ := s.calls()
		s.set("two", nil)
		if meta := <-done; meta.Index != 11 {
			t.Errorf("got %+v", meta)
		}
		synctest.Wait()
		if made, _ := s.calls(); made != before+1 {
			t.Errorf("%d calls, want the background's next alone", made-before)
		}
	})
}

func TestUnusedEntriesGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newTestCache(t, slog.DiscardHandler)
		other := Header{UseCache: true, Token: "t"}
		ask(t, c, useCache, "one", false)
		ask(t, c, other, "one", false)
		elapse(cacheLifetime - time.Second)
		ask(t, c, other, "one", true)
		elapse(2 * time.Second)
		if _, waiting := s.calls(); waiting != 1 {
			t.Errorf("%d reads wait, want that of the entry in use", waiting)
		}
		ask(t, c, other, "one", true)
		ask(t, c, useCache, "one", false)
		elapse(cacheLifetime)
		if _, waiting := s.calls(); waiting != 0 || len(c.entries) != 0 || c.used.Len() != 0 {
			t.Errorf("%d reads wait and %d entries are there, want none", waiting, len(c.entries))
		}
	})
}

func TestFullCacheDropsTheLeastRecentlyUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newTestCache(t, slog.DiscardHandler)
		c.size = 3
		token := func(n int) Header { return Header{UseCache: true, Token: fmt.Sprint(n)} }
		for n := range 3 {
			ask(t, c, token(n), "one", false)
		}
		ask(t, c, token(0), "one", true)
		parked := make(chan string)
		go func() { // on the entry that goes
			h := token(1)
			h.MinIndex = 10
			out, _, err := echo.Call(t.Context(), c, h, echoIn{})
			if err != nil {
				t.Error(err)
			}
			parked <- out
		}()
		synctest.Wait()
		ask(t, c, token(2), "one", true)
		ask(t, c, token(0), "one", true)
		ask(t, c, token(3), "one", false) // drops 1
		synctest.Wait()
		if _, waiting := s.calls(); waiting != 4 {
			t.Errorf("%d reads wait, want three in the background and the one that lost its entry", waiting)
		}
		s.set("two", nil)
		if out := <-parked; out != "two" {
			t.Errorf("got %q", out)
		}
		synctest.Wait()
		for _, n := range []int{0, 2, 3} {
			ask(t, c, token(n), "two", true)
		}
		ask(t, c, token(1), "two", false)
	})
}

func TestEndedCachePassesThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource("one")
		c := NewCache(s, quiet, CacheOf(echo, "test-echo"))
		early := make(chan struct{})
		go func() { // waits for Run
			defer close(early)
			ask(t, c, useCache, "one", false)
		}()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
		<-early
		ask(t, c, useCache, "one", false)
		ask(t, c, useCache, "one", false)
	})
}

func BenchmarkCacheHit(b *testing.B) {
	s := newSource("one")
	c := NewCache(s, quiet, CacheOf(echo, "test-echo"))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = c.Run(ctx) })
	defer running.Wait()
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := echo.Call(ctx, c, useCache, echoIn{"x"}); err != nil {
			b.Fatal(err)
		}
	}
}
