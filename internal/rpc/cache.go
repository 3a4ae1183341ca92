package rpc

import (
	"container/list"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"isthmus/internal/telemetry"
)

// How much a cache keeps, and for how long nobody need have asked for it.
const (
	cacheSize     = 256
	cacheLifetime = 72 * time.Hour
)

// CacheType is a method whose answers a Cache keeps.
type CacheType struct {
	name   string // in logs and metrics
	method string
	fits   func(r *Request) bool
	fill   func(out, answer any)
	watch  func(ctx context.Context, c Caller, h Header, in any, take func(answer any, meta Meta, err error) bool)
}

// CacheOf makes a type of a method. Its name is the one in logs and metrics.
func CacheOf[In, Out any](m Method[In, Out], name string) CacheType {
	return CacheType{
		name: name, method: m.Name,
		fits: func(r *Request) bool {
			_, in := r.In.(*In)
			_, out := r.Out.(*Out)
			return in && out
		},
		fill: func(out, answer any) {
			if o, ok := out.(*Out); ok {
				*o, _ = answer.(Out)
			}
		},
		watch: func(ctx context.Context, c Caller, h Header, in any, take func(any, Meta, error) bool) {
			i, ok := in.(*In)
			if !ok {
				return
			}
			for u, err := range m.Watch(ctx, c, h, *i) {
				if !take(u.Out, u.Meta, err) {
					return
				}
			}
		},
	}
}

// Cache is a Caller that keeps the answers of some methods and keeps them up to
// date, each by one blocking read of its own in the background, which any server
// may answer. It serves requests that say UseCache; all others pass through, and
// so does everything once Run has ended.
//
// What it hands out is shared by all who asked: it must not be changed.
type Cache struct {
	next     Caller
	log      *slog.Logger
	types    map[string]CacheType // by method
	wake     chan struct{}        // holds a token while there is something in fresh
	size     int
	lifetime time.Duration

	mu      sync.Mutex
	entries map[string]*entry
	used    *list.List // of *entry, the least recently asked for first
	fresh   []*entry   // nobody keeps them up to date yet
	ended   bool
}

// entry is one answer. All but the first block is guarded by the cache's mutex.
type entry struct {
	key    string
	kind   CacheType
	header Header
	in     any

	place   *list.Element
	asked   time.Time          // when it was last asked for
	stop    context.CancelFunc // ends its watch; nil before that began
	gone    bool               // not in the cache any more
	filled  bool               // there is an answer
	answer  any
	meta    Meta
	err     error         // of the last attempt
	failing time.Time     // since when attempts fail; zero while they do not
	changed chan struct{} // closed with the next change of any of these
}

// NewCache returns a cache of some methods in front of next. It needs Run.
func NewCache(next Caller, log *slog.Logger, types ...CacheType) *Cache {
	c := &Cache{
		next: next, log: log, types: map[string]CacheType{}, wake: make(chan struct{}, 1), size: cacheSize, lifetime: cacheLifetime,
		entries: map[string]*entry{}, used: list.New(),
	}
	for _, t := range types {
		c.types[t.method] = t
	}
	return c
}

// Run keeps the entries up to date, and lets go of those that nobody asks for,
// until ctx is done.
func (c *Cache) Run(ctx context.Context) error {
	var watches sync.WaitGroup
	defer watches.Wait()
	defer c.end()
	expiry := time.NewTimer(c.lifetime)
	defer expiry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
			for _, e := range c.takeFresh() {
				watches.Go(func() { c.keep(ctx, e) })
			}
		case <-expiry.C:
		}
		expiry.Reset(c.expire())
	}
}

// Call implements Caller.
func (c *Cache) Call(ctx context.Context, r *Request) (Meta, error) {
	kind, ok := c.types[r.Name]
	if !ok || !r.Header.UseCache || r.Header.Consistent || !kind.fits(r) {
		return c.next.Call(ctx, r)
	}
	if r.Header.MustRevalidate {
		return c.bypass(ctx, r)
	}
	e, made, err := c.entry(kind, r)
	switch {
	case err != nil:
		return Meta{}, err
	case e == nil:
		return c.bypass(ctx, r)
	}
	got, waited, err := c.await(ctx, e, made, &r.Header)
	if err != nil {
		return Meta{}, err
	}
	if !got.filled { // it went before it was there
		return c.bypass(ctx, r)
	}
	meta := got.meta
	meta.Cached, meta.Hit = true, !waited
	if !got.failing.IsZero() {
		meta.Age = time.Since(got.failing)
	}
	if h := &r.Header; h.MaxAge > 0 && meta.Age > h.MaxAge {
		fresh, err := c.bypass(ctx, r)
		if err == nil || meta.Age-h.MaxAge > h.StaleIfError {
			return fresh, err
		}
	}
	telemetry.CacheOutcome.Count(kind.name, outcome(waited, &r.Header))
	kind.fill(r.Out, got.answer)
	return meta, nil
}

// outcome is the name that dashboards know for how a request fared.
func outcome(waited bool, h *Header) string {
	switch {
	case !waited:
		return "hit"
	case h.MinIndex > 0:
		return "miss_block"
	}
	return "miss_new"
}

// bypass asks anew for a caller whom no entry can serve.
func (c *Cache) bypass(ctx context.Context, r *Request) (Meta, error) {
	telemetry.CacheBypass.Count()
	meta, err := c.next.Call(ctx, r)
	meta.Cached = err == nil
	return meta, err
}

// entry finds the entry of a request or makes it. It returns nil after Run.
func (c *Cache) entry(kind CacheType, r *Request) (e *entry, made bool, err error) {
	// What may differ between two callers of one entry is not in its header.
	h := Header{Datacenter: r.Header.Datacenter, Token: r.Header.Token, Filter: r.Header.Filter, AllowStale: true}
	key, err := encodeRequest([]byte(r.Name+" "), &Request{Desc: r.Desc, Header: h, In: r.In})
	if err != nil {
		return nil, false, fmt.Errorf("cache %s: %w", kind.name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil, false, nil
	}
	if e = c.entries[string(key)]; e != nil {
		e.asked = time.Now()
		c.used.MoveToBack(e.place)
		return e, false, nil
	}
	if len(c.entries) >= c.size {
		c.drop(oldest(c.used))
	}
	e = &entry{key: string(key), kind: kind, header: h, in: r.In, asked: time.Now(), changed: make(chan struct{})}
	e.place = c.used.PushBack(e)
	c.entries[e.key] = e
	c.fresh = append(c.fresh, e)
	c.count()
	select {
	case c.wake <- struct{}{}:
	default: // Run was told already
	}
	return e, true, nil
}

// await returns a copy of e once it can answer: when it has an answer, and one
// that is newer than h wants or all that came while h would wait. It returns what
// there is when the entry goes. waited says that it was not there at once, which an
// entry made for this caller never was, however soon it came.
func (c *Cache) await(ctx context.Context, e *entry, made bool, h *Header) (got entry, waited bool, err error) {
	var over <-chan time.Time
	waited = made
	late := h.MinIndex == 0
	for {
		c.mu.Lock()
		got = *e
		c.mu.Unlock()
		switch {
		case got.filled && (late || got.meta.Index > h.MinIndex):
			return got, waited, nil
		case !got.filled && got.err != nil:
			return got, true, got.err
		case got.gone:
			got.filled = false
			return got, true, nil
		}
		waited = true
		if !late && over == nil {
			wait := h.MaxWait
			if wait <= 0 {
				wait = DefaultWait
			}
			t := time.NewTimer(min(wait, MaxWait))
			defer t.Stop()
			over = t.C
		}
		select {
		case <-ctx.Done():
			return got, true, context.Cause(ctx)
		case <-over:
			late = true
		case <-got.changed:
		}
	}
}

// keep keeps an entry up to date until it is dropped or its first read fails.
func (c *Cache) keep(ctx context.Context, e *entry) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	e.stop = cancel
	gone := e.gone
	c.mu.Unlock()
	if gone {
		return
	}
	e.kind.watch(ctx, c.next, e.header, e.in, func(answer any, meta Meta, err error) bool {
		if err == nil {
			telemetry.CacheGood.Count("false")
			telemetry.CacheFetched.Count(e.kind.name, "false")
			c.refresh(e, answer, meta)
			return true
		}
		telemetry.CacheBad.Count()
		first, kept := c.fail(e, err)
		if first && kept {
			c.log.Warn("cached answer is not kept up to date", "type", e.kind.name, "datacenter", e.header.Datacenter, "err", err)
		}
		return kept
	})
}

// refresh puts a new answer into an entry.
func (c *Cache) refresh(e *entry, answer any, meta Meta) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.filled, e.answer, e.meta, e.err, e.failing = true, answer, meta, nil, time.Time{}
	e.notify()
}

// fail notes that an entry could not be read. An old answer stays; an entry
// without one goes, so that whoever asks next tries at once.
func (c *Cache) fail(e *entry, err error) (first, kept bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first = e.failing.IsZero()
	if first {
		e.failing = time.Now()
	}
	e.err = err
	if !e.filled {
		c.drop(e)
		return first, false
	}
	e.notify()
	return first, true
}

// drop takes an entry out. The mutex is held.
func (c *Cache) drop(e *entry) {
	if e.gone {
		return
	}
	e.gone = true
	delete(c.entries, e.key)
	c.used.Remove(e.place)
	if e.stop != nil {
		e.stop()
	}
	e.notify()
	c.count()
}

// notify wakes whoever waits for a change. The mutex is held.
func (e *entry) notify() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// count tells how many entries there are. The mutex is held.
func (c *Cache) count() { telemetry.CacheEntries.Set(float64(len(c.entries))) }

// oldest is the first entry of a list, or nil.
func oldest(l *list.List) *entry {
	if l.Len() == 0 {
		return nil
	}
	e, _ := l.Front().Value.(*entry)
	return e
}

// expire drops what nobody asked for, and returns when to look again.
func (c *Cache) expire() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		e := oldest(c.used)
		if e == nil {
			return c.lifetime
		}
		if left := c.lifetime - time.Since(e.asked); left > 0 {
			return left
		}
		telemetry.CacheExpire.Count()
		c.drop(e)
	}
}

// takeFresh returns the entries that nobody keeps up to date yet.
func (c *Cache) takeFresh() []*entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	fresh := c.fresh
	c.fresh = nil
	return fresh
}

// end drops everything; there is nobody any more to keep it up to date.
func (c *Cache) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended, c.fresh = true, nil
	for e := oldest(c.used); e != nil; e = oldest(c.used) {
		c.drop(e)
	}
}
