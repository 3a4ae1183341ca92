package dns

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// readyAnswers are answers to questions that are asked often, each kept up to date
// by a blocking read of its own. An answer that is not kept up to date any more is
// none.
type readyAnswers struct {
	mu    sync.RWMutex
	by    map[string]*readyAnswer // by question, in lower case
	asked map[string]struct{}     // questions that were asked once lately
	fresh []*readyAnswer          // nobody keeps them up to date yet
	wake  chan struct{}           // holds a token while there is something in fresh; nil before Run
}

type readyAnswer struct {
	key    string
	place  place
	answer atomic.Pointer[answer]
	used   atomic.Bool
	gone   chan struct{} // closed when it is dropped
}

// How many answers are kept, how often those that nobody asked for since the last
// time are dropped, and how old an answer must be allowed to be for it: a connection
// to a server may be dead for so long before it is noticed.
const (
	maxReady   = 1024
	maxAsked   = 4 * maxReady
	readySweep = 30 * time.Second
	readyStale = 2 * time.Minute
)

// isHot tells whether an answer may be kept.
func (f *Front) isHot(l *lookup) bool {
	switch l.place.kind {
	case aNode, aService, aProxy:
		return l.own() && l.s.AllowStale && l.s.MaxStale >= readyStale && !l.answer.passing && l.answer.rcode == dns.RcodeSuccess
	case nothing, anAddress, notBuilt, wrongShape:
	}
	return false
}

// find returns the answer to a question, or nil.
func (r *readyAnswers) find(key []byte) *answer {
	r.mu.RLock()
	one := r.by[string(key)]
	r.mu.RUnlock()
	if one == nil {
		return nil
	}
	if !one.used.Load() {
		one.used.Store(true)
	}
	return one.answer.Load()
}

// ask notes that a question was asked. The second time, its answer is kept.
func (r *readyAnswers) ask(key []byte, p place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wake == nil || r.by[string(key)] != nil || len(r.by) >= maxReady {
		return
	}
	if _, again := r.asked[string(key)]; !again {
		if len(r.asked) < maxAsked {
			r.asked[string(key)] = struct{}{}
		}
		return
	}
	one := &readyAnswer{key: string(key), place: p, gone: make(chan struct{})}
	r.by[one.key] = one
	r.fresh = append(r.fresh, one)
	select {
	case r.wake <- struct{}{}:
	default: // Run was told already
	}
}

// forget drops everything.
func (r *readyAnswers) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.by {
		r.drop(one)
	}
}

// drop lets go of an answer. The mutex is held.
func (r *readyAnswers) drop(one *readyAnswer) {
	one.answer.Store(nil)
	close(one.gone)
	delete(r.by, one.key)
}

// sweep drops what nobody asked for since the last time.
func (r *readyAnswers) sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.asked)
	for _, one := range r.by {
		if !one.used.Swap(false) {
			r.drop(one)
		}
	}
}

func (r *readyAnswers) takeFresh() []*readyAnswer {
	r.mu.Lock()
	defer r.mu.Unlock()
	fresh := r.fresh
	r.fresh = nil
	return fresh
}

// Run keeps answers ready to questions that are asked often, until ctx is done.
// Without it each question is asked of the servers.
func (f *Front) Run(ctx context.Context) error {
	r := &f.ready
	wake := make(chan struct{}, 1)
	r.mu.Lock()
	r.wake = wake
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.wake = nil
		r.mu.Unlock()
		r.forget()
	}()
	ctx, cancel := context.WithCancel(ctx)
	var watches sync.WaitGroup
	defer watches.Wait()
	defer cancel()
	tick := time.NewTicker(readySweep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
			for _, one := range r.takeFresh() {
				watches.Go(func() { f.keep(ctx, one) })
			}
		case <-tick.C:
			r.sweep()
		}
	}
}

// keep keeps an answer up to date until it is dropped.
func (f *Front) keep(ctx context.Context, one *readyAnswer) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-one.gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	h := rpc.Header{Datacenter: f.cfg.Datacenter, AllowStale: true}
	if one.place.kind == aNode {
		for u, err := range wire.CatalogNodeServiceList.Watch(ctx, f.cfg.Caller, h, wire.NodeQuery{Node: one.place.name}) {
			f.renew(ctx, one, err, func(l *lookup) { l.ofNode(ctx, u.Out.Node) })
		}
		return
	}
	for u, err := range wire.HealthServiceNodes.Watch(ctx, f.cfg.Caller, h, one.place.query()) {
		f.renew(ctx, one, err, func(l *lookup) { l.instances(ctx, u.Out) })
	}
}

// renew makes an answer anew. There is none while the servers cannot be asked, nor
// where it depends on more than they say.
func (f *Front) renew(ctx context.Context, one *readyAnswer, err error, fill func(*lookup)) {
	if err != nil {
		one.answer.Store(nil)
		return
	}
	question := []byte(one.key)
	q := &query{question: question, name: len(question) - 4, qtype: uint16(question[len(question)-4])<<8 | uint16(question[len(question)-3])}
	l := &lookup{f: f, s: f.settings.Load(), q: q, place: one.place, dc: f.cfg.Datacenter, answer: newAnswer()}
	l.domain, _, _ = f.domainOf(q.text())
	fill(l)
	if l.answer.passing {
		one.answer.Store(nil)
		return
	}
	f.ready.mu.Lock()
	defer f.ready.mu.Unlock()
	if f.ready.by[one.key] == one && ctx.Err() == nil {
		one.answer.Store(l.answer.finish())
	}
}
