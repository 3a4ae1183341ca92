package httpapi

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"isthmus/internal/rpc"
)

// Requests that wait for a change of the same thing share one topic: one view that
// is watched, one evaluation for each change, and one encoding of the answer. Those
// whose connection can be parked wait without a goroutine.

// topics are all that is waited for at the moment.
type topics struct {
	mu  sync.Mutex
	all map[string]*topic
}

// topic is what some requests wait for that differ only in index and wait.
type topic struct {
	of    *topics
	key   string
	api   *API
	place *place
	ask   func(p *parking) *recording
	alive func() bool // ends what calls drain when the server stops
	users int         // guarded by of.mu: whoever waits, or is about to

	mu      sync.Mutex
	drained bool
	answer  *recording
	asked   time.Time   // when answer was made
	parked  *rpc.Parked // of answer; nil when nothing is watched
	waiting map[*waiter]struct{}
}

// waiter is a request that waits. Whoever takes it out of its topic answers it or
// lets go of it.
type waiter struct {
	topic *topic
	index uint64 // the answer must be newer
	begin time.Time
	timer *time.Timer
	seat  seat
	left  bool // the caller went away; guarded by the topic's mutex
}

// seat is where a waiter is answered, once, without waiting for its caller.
type seat interface {
	answer(status int, header http.Header, body []byte)
}

// hall is the seat of a request that waits in its goroutine. It has room for one.
type hall chan *recording

func (h hall) answer(status int, header http.Header, body []byte) {
	h <- &recording{header: header, status: status, body: body}
}

// parking is how a request is evaluated for all who wait for it, and holds what
// came of it.
type parking struct {
	changed func() // is told of a change; nil to be answered by whomever, without waiting
	parked  *rpc.Parked
	refused bool // each has to wait by itself
}

// recording is an answer that was sent to nobody yet.
type recording struct {
	header http.Header
	status int
	body   []byte
	index  uint64 // 0 when nobody can wait for the next one
}

// Header implements http.ResponseWriter.
func (r *recording) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter.
func (r *recording) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

// Write implements http.ResponseWriter.
func (r *recording) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	r.body = append(r.body, b...)
	return len(b), nil
}

func (r *recording) isGood() bool { return r.status < http.StatusInternalServerError }

func (r *recording) send(w http.ResponseWriter) {
	maps.Copy(w.Header(), r.header)
	w.WriteHeader(r.status)
	_, _ = w.Write(r.body) // a caller that went away is told by its context
}

// refreshAfter is how old what an answer says of its own age may get while nothing
// changes.
const refreshAfter = time.Second

// await serves a request that may wait as part of a topic. It returns false, and
// has done nothing, when the request has to be served by itself.
func (q *request) await(serve handler) bool {
	switch {
	case q.Method != http.MethodGet, q.Body != nil && q.Body != http.NoBody, !q.has("index"),
		strings.HasPrefix(q.URL.Path, "/v1/agent/"), // is not asked of servers, or never ends
		q.has("cached"), q.has("consistent"):
		return false
	}
	h, err := q.read()
	if _, can := q.api.cfg.Caller.(rpc.Parker); err != nil || h.MinIndex == 0 || !can {
		return false
	}
	t := q.api.topics.enter(q, serve)
	answer, ok := t.current(h.MinIndex)
	if !ok || answer.index > h.MinIndex || answer.index == 0 {
		t.leave()
		if ok {
			answer.send(q.w)
			q.api.measure(q.place, q.Method, q.begin, answer.isGood())
		}
		return ok
	}
	w := &waiter{topic: t, index: h.MinIndex, begin: q.begin}
	if l := lotOf(q.Context()); l != nil {
		if s := l.take(q.w, q.Request, w.gone); s != nil {
			w.seat = s
			t.add(w, h.Wait())
			return true
		}
	}
	here := make(hall, 1)
	w.seat = here
	t.add(w, h.Wait())
	select {
	case answer := <-here:
		answer.send(q.w)
	case <-q.Context().Done():
		w.gone()
	}
	return true
}

// topicKey is the same for requests with the same answer, and for no others: all
// but its end is escaped, so that nobody can make up a request that others then
// share.
func (q *request) topicKey() string {
	var b strings.Builder
	b.WriteString(q.URL.EscapedPath())
	separator := "?"
	names := make([]string, 0, len(q.query))
	for name := range q.query {
		if name != "index" && name != "wait" && name != "token" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range q.query[name] {
			b.WriteString(separator + url.QueryEscape(name) + "=" + url.QueryEscape(value))
			separator = "&"
		}
	}
	encoding := "#plain "
	if acceptsGzip(q.Header) {
		encoding = "#gzip "
	}
	b.WriteString(encoding + q.token())
	return b.String()
}

// asker makes what evaluates a request for everybody, also when it is long gone.
func (q *request) asker(serve handler) func(p *parking) *recording {
	header := q.w.Header().Clone()
	r := (&http.Request{Method: q.Method, URL: q.URL, Host: q.Host, Header: q.Header, Body: http.NoBody}).
		WithContext(context.WithoutCancel(q.Context()))
	return func(p *parking) *recording {
		out := &recording{header: header.Clone()}
		again := &request{Request: r, api: q.api, w: out, rest: q.rest, query: q.query, parking: p}
		if err := serve(again); err != nil {
			q.api.fail(again, err)
		}
		out.WriteHeader(http.StatusOK)
		if p.parked != nil {
			out.index = max(p.parked.Meta.Index, 1)
		}
		return out
	}
}

// enter finds the topic of a request, or makes it. leave must follow.
func (ts *topics) enter(q *request, serve handler) *topic {
	key := q.topicKey()
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.all[key]
	if t == nil {
		t = &topic{of: ts, key: key, api: q.api, place: q.place, ask: q.asker(serve), waiting: map[*waiter]struct{}{}}
		t.alive = context.AfterFunc(drainOf(q.Context()), t.drain)
		if ts.all == nil {
			ts.all = map[string]*topic{}
		}
		ts.all[key] = t
	}
	t.users++
	return t
}

// leave ends what enter began. The last one lets go of the topic.
func (t *topic) leave() {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	if t.users--; t.users > 0 {
		return
	}
	delete(t.of.all, t.key)
	t.alive()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.disarm()
}

// disarm lets go of what is watched. The mutex is held.
func (t *topic) disarm() {
	if t.parked != nil {
		t.parked.Release()
		t.parked = nil
	}
}

// current returns the present answer. It is not ok when a request has to be served
// by itself.
func (t *topic) current(minIndex uint64) (answer *recording, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.parked == nil && !t.evaluate() {
		return t.answer, t.answer != nil
	}
	return t.answer, t.parked.Holds(minIndex)
}

// evaluate asks anew, and reports whether the answer is watched. There is no answer
// when requests have to be served by themselves. The mutex is held.
func (t *topic) evaluate() bool {
	t.disarm()
	p := &parking{changed: func() { go t.renew() }} // it is a writer that calls
	t.answer, t.asked, t.parked = t.ask(p), time.Now(), p.parked
	if p.refused {
		t.answer = nil
	}
	return t.parked != nil
}

// renew answers those for whom a change is news.
func (t *topic) renew() {
	t.mu.Lock()
	if t.parked == nil { // nobody waits any more, or all were told
		t.mu.Unlock()
		return
	}
	woken := t.refresh()
	answer := t.answer
	t.mu.Unlock()
	t.tell(answer, woken...)
}

// refresh evaluates a watched topic, and takes out those for whom there is news.
// Whoever waits for something that is not there hears only once it is. The mutex is
// held.
func (t *topic) refresh() []*waiter {
	missing := !t.parked.Found
	if !t.evaluate() {
		return t.takeAll() // they may ask again
	}
	if missing && !t.parked.Found {
		return nil
	}
	var woken []*waiter
	for w := range t.waiting {
		if t.answer.index > w.index {
			delete(t.waiting, w)
			woken = append(woken, w)
		}
	}
	return woken
}

// takeAll takes all waiters out. The mutex is held.
func (t *topic) takeAll() []*waiter {
	all := slices.Collect(maps.Keys(t.waiting))
	clear(t.waiting)
	return all
}

// tell answers waiters that were taken out. Without an answer, the one is asked for
// that whoever leads now gives.
func (t *topic) tell(answer *recording, woken ...*waiter) {
	if len(woken) == 0 {
		return
	}
	if answer == nil {
		answer = t.ask(new(parking))
	}
	for _, w := range woken {
		w.timer.Stop()
		w.seat.answer(answer.status, answer.header, answer.body)
		t.api.measure(t.place, http.MethodGet, w.begin, answer.isGood())
		t.leave()
	}
}

// add has a waiter wait, unless there is news for it already.
func (t *topic) add(w *waiter, wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.left { // so soon
		go t.leave() // which takes the mutexes in another order
		return
	}
	now := t.drained || t.parked == nil || t.answer.index > w.index
	if now {
		wait = 0
	}
	t.waiting[w] = struct{}{}
	w.timer = time.AfterFunc(wait, w.expire)
}

// expire answers a waiter as things are once its wait is over.
func (w *waiter) expire() {
	t := w.topic
	t.mu.Lock()
	if !w.takeOut() {
		t.mu.Unlock()
		return
	}
	woken := []*waiter{w}
	if t.parked != nil && time.Since(t.asked) > refreshAfter {
		woken = append(woken, t.refresh()...)
	}
	answer := t.answer
	if t.parked != nil && !t.parked.Holds(w.index) {
		answer = nil
	}
	t.mu.Unlock()
	t.tell(answer, woken...)
}

// gone lets go of a waiter whose caller went away.
func (w *waiter) gone() {
	w.topic.mu.Lock()
	w.left = true
	taken := w.takeOut()
	w.topic.mu.Unlock()
	if taken {
		w.timer.Stop()
		w.topic.leave()
	}
}

// takeOut reports whether it took the waiter out. The topic's mutex is held.
func (w *waiter) takeOut() bool {
	_, there := w.topic.waiting[w]
	delete(w.topic.waiting, w)
	return there
}

// drain answers all, since the server stops.
func (t *topic) drain() {
	t.mu.Lock()
	t.drained = true
	woken := t.takeAll()
	t.mu.Unlock()
	stopping := &recording{header: http.Header{}}
	writeError(stopping, http.StatusServiceUnavailable, errStopping.Error())
	t.tell(stopping, woken...)
}
