package xds

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Places of the types in kinds.
const (
	clusters = iota
	endpoints
	listeners
	routes
	kindCount
)

// kinds are the types that are served, in the order in which they are sent.
var kinds = [kindCount]string{ClusterType, EndpointType, ListenerType, RouteType}

const (
	// How long listeners wait for the client to ask for the endpoints of clusters
	// it was just sent. A client that does not use endpoint discovery never asks.
	namesPatience = time.Second
	// How long the later types wait for the client to answer for an earlier one
	// that has changed again meanwhile.
	answerPatience = 5 * time.Second
	// How long clusters that are gone outlive listeners that the client refuses.
	holdPatience = time.Minute
)

// view is all that a proxy should have at one moment. Its streams share it, and
// nobody changes it.
type view struct {
	resources Resources
	byName    [kindCount]map[string]Resource
}

func newView(resources Resources) *view {
	v := &view{resources: resources}
	for k, kind := range kinds {
		v.byName[k] = make(map[string]Resource, len(resources[kind]))
		for _, r := range resources[kind] {
			v.byName[k][r.Name] = r
		}
	}
	return v
}

// same tells whether both hold the same content.
func (v *view) same(other *view) bool {
	return slices.EqualFunc(kinds[:], kinds[:], func(kind, _ string) bool {
		return slices.EqualFunc(v.resources[kind], other.resources[kind], func(a, b Resource) bool {
			return a.Name == b.Name && a.Version == b.Version
		})
	})
}

// session is what one stream has asked for, was sent and has taken: the
// protocol without its connection, clock and goroutines. It keeps names and
// versions; bodies are those of the shared view.
//
// Additions and changes go out in the order of kinds: listeners and routes wait
// until all that is new of the earlier types has been sent, and listeners until the
// client has asked for the endpoints of new clusters. Endpoints are sent to whoever
// asks for them: Envoy answers for clusters only once it has those. Clusters and endpoints that are gone
// are held back until the client has taken the listeners and routes that did
// without them; then endpoints leave, and clusters last.
type session struct {
	whole    bool // state of the world
	maxNames int  // of one type

	view      *view // nil until the first one arrives
	subs      [kindCount]*subscription
	held      [kindCount]map[string]Resource // gone from the view, and not yet from the client
	holdUntil time.Time
	// owed are clusters that were sent and whose endpoints the client has not yet
	// asked for. Endpoints bear the name of their cluster.
	owed      map[string]struct{}
	owedUntil time.Time
	nonce     uint64
}

// request is one request of either protocol.
type request struct {
	typeURL string
	nonce   string
	refused bool // what the nonce names
	reason  string

	subscribe, unsubscribe []string          // incremental
	initial                map[string]string // the same: what the client has

	names   []string // state of the world
	version string   // the same: what the client has
}

// response is one response of either protocol.
type response struct {
	kind      int
	nonce     string
	version   string // state of the world: of all that the client has when it takes this
	resources []Resource
	removed   []string
	versions  map[string]string // by name; "" of what is removed
	at        time.Time
}

// update gives the session the newest view.
func (s *session) update(now time.Time, v *view) {
	old := s.view
	s.view = v
	if old == nil {
		return
	}
	holding := s.holding()
	for _, k := range []int{clusters, endpoints} {
		maps.DeleteFunc(s.held[k], func(name string, _ Resource) bool {
			_, back := v.byName[k][name]
			return back
		})
		for name, r := range old.byName[k] {
			if _, ok := v.byName[k][name]; ok || !s.subs[k].has(name) {
				continue
			}
			if s.held[k] == nil {
				s.held[k] = make(map[string]Resource)
			}
			s.held[k][name] = r
		}
	}
	if !holding && s.holding() {
		s.holdUntil = now.Add(holdPatience)
	}
}

func (s *session) holding() bool { return len(s.held[clusters])+len(s.held[endpoints]) > 0 }

// request takes what the client says. It returns what the client refuses if
// that is news.
func (s *session) request(now time.Time, in *request) (*Rejection, error) {
	kind := slices.Index(kinds[:], in.typeURL)
	if kind < 0 {
		return nil, nil // a type that no proxy of ours needs: nothing will ever come
	}
	if s.whole {
		return s.requestWhole(now, kind, in)
	}
	return s.requestDelta(now, kind, in)
}

// answer takes the client's answer to the response that is pending.
func (s *session) answer(now time.Time, sub *subscription, in *request) *Rejection {
	p := sub.pending
	sub.pending = nil
	if in.refused {
		return sub.refuse(now, p, in.reason, s.isWhole(sub.kind))
	}
	for name, version := range p.versions {
		delete(sub.rejected, name)
		_, named := sub.names[name]
		if version == "" && (s.whole || !named) {
			delete(sub.have, name)
			continue
		}
		sub.have[name] = version
	}
	return nil
}

// next returns what must be sent now, or nil.
func (s *session) next(now time.Time) *response {
	if s.view == nil {
		return nil
	}
	s.resolve()
	unanswered := false
	for kind, sub := range s.subs {
		if kind == listeners && (unanswered || s.awaits(now)) {
			return nil
		}
		if sub == nil {
			continue
		}
		sub.retry(now)
		changed, gone := s.diff(sub)
		switch {
		case len(changed)+len(gone) == 0 && sub.answered:
			if sub.pending == nil {
				sub.settle()
			}
		case sub.pending == nil:
			return s.compose(now, sub, changed, gone)
		case now.Before(sub.pending.at.Add(answerPatience)):
			// A client may answer for clusters when it has their endpoints only.
			if unanswered = true; kind != clusters {
				return nil
			}
		}
	}
	return s.release(now)
}

// wake is when next may have something to say although nothing happens; it is
// zero when never.
func (s *session) wake(now time.Time) time.Time {
	var first time.Time
	at := func(t time.Time) {
		if t.After(now) && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	if len(s.owed) > 0 {
		at(s.owedUntil)
	}
	if s.holding() {
		at(s.holdUntil)
	}
	for _, sub := range s.subs {
		if sub != nil && len(sub.rejected) > 0 {
			at(sub.retryAt)
		}
		if sub != nil && sub.pending != nil {
			at(sub.pending.at.Add(answerPatience))
		}
	}
	return first
}

// resolve settles what had to wait for a view: what a state-of-the-world client
// claimed to have, and endpoints that were asked for before or after their
// cluster was sent.
func (s *session) resolve() {
	for _, sub := range s.subs {
		if sub == nil || sub.claim == "" {
			continue
		}
		want := make(map[string]string)
		s.wanted(sub, func(r Resource) { want[r.Name] = r.Version })
		if digest(want) == sub.claim {
			sub.have, sub.answered = want, true
		}
		sub.claim = ""
	}
	for name := range s.owed {
		if _, exists := s.view.byName[endpoints][name]; !exists {
			delete(s.owed, name)
			continue
		}
		if sub := s.subs[endpoints]; sub != nil && sub.wants(name) {
			sub.force(name)
			delete(s.owed, name)
		}
	}
}

// awaits tells whether the client should still ask for endpoints.
func (s *session) awaits(now time.Time) bool {
	if len(s.owed) > 0 && !now.Before(s.owedUntil) {
		clear(s.owed)
	}
	return len(s.owed) > 0
}

// isWhole tells whether each response of a type must be complete.
func (s *session) isWhole(kind int) bool {
	return s.whole && (kind == clusters || kind == listeners)
}

// lookup finds a resource that the client should have.
func (s *session) lookup(kind int, name string) (Resource, bool) {
	r, ok := s.view.byName[kind][name]
	if !ok {
		r, ok = s.held[kind][name]
	}
	return r, ok
}

// wanted calls yield with all that the client should have, in a fixed order.
func (s *session) wanted(sub *subscription, yield func(Resource)) {
	for _, r := range s.view.resources[kinds[sub.kind]] {
		if sub.wants(r.Name) {
			yield(r)
		}
	}
	held := s.held[sub.kind]
	for _, name := range slices.Sorted(maps.Keys(held)) {
		if sub.wants(name) {
			yield(held[name])
		}
	}
}

// diff is what the client should have and was not sent, and what it should lose
// and was not told.
func (s *session) diff(sub *subscription) (changed []Resource, gone []string) {
	s.forget(sub)
	s.wanted(sub, func(r Resource) {
		if v, ok := sub.told(r.Name); ok && v == r.Version {
			return
		}
		if v, ok := sub.rejected[r.Name]; ok && v == r.Version {
			return
		}
		changed = append(changed, r)
	})
	lose := func(name string) {
		if _, exists := s.lookup(sub.kind, name); exists {
			return
		}
		if s.whole && !s.isWhole(sub.kind) {
			delete(sub.have, name) // there is no way to say so, and no need
			return
		}
		if _, refused := sub.rejected[name]; !refused {
			gone = append(gone, name)
		}
	}
	for name := range sub.have {
		if v, _ := sub.told(name); v != "" {
			lose(name)
		}
	}
	for name := range sub.names {
		if _, told := sub.told(name); !told && !s.whole {
			lose(name)
		}
	}
	slices.Sort(gone)
	return changed, gone
}

// forget drops refusals of what is not wanted any more: a new version has a new
// chance. Where responses are complete, a refusal is of all they held.
func (s *session) forget(sub *subscription) {
	if len(sub.rejected) == 0 {
		return
	}
	current := func(name, version string) bool {
		r, exists := s.lookup(sub.kind, name)
		return exists && r.Version == version || !exists && version == ""
	}
	before := len(sub.rejected)
	maps.DeleteFunc(sub.rejected, func(name, version string) bool { return !current(name, version) })
	if s.isWhole(sub.kind) {
		fresh := len(sub.rejected) < before
		s.wanted(sub, func(r Resource) {
			_, known := sub.rejected[r.Name]
			fresh = fresh || !known
		})
		if fresh {
			clear(sub.rejected)
		}
	}
	if len(sub.rejected) == 0 {
		sub.retries, sub.retryAt = 0, time.Time{}
	}
}

// compose makes the response that brings the client up to date.
func (s *session) compose(now time.Time, sub *subscription, changed []Resource, gone []string) *response {
	switch {
	case s.isWhole(sub.kind):
		replaced := changed
		changed = nil
		s.wanted(sub, func(r Resource) { changed = append(changed, r) })
		s.owe(now, sub, replaced)
	case sub.single && len(changed) > 0:
		changed, gone = changed[:1], nil
		s.owe(now, sub, changed)
	case sub.single && len(gone) > 0:
		gone = gone[:1]
	default:
		s.owe(now, sub, changed)
	}
	s.nonce++
	p := &response{
		kind: sub.kind, nonce: fmt.Sprintf("%08x", s.nonce), resources: changed,
		removed: gone, versions: make(map[string]string, len(changed)+len(gone)), at: now,
	}
	for _, r := range changed {
		p.versions[r.Name] = r.Version
	}
	for _, name := range gone {
		p.versions[name] = ""
	}
	if s.whole {
		p.version = sub.after(p)
	}
	sub.pending, sub.last, sub.answered = p, p.nonce, true
	return p
}

// owe notes that the endpoints of clusters must be sent after them: a client
// that replaces a cluster waits for its endpoints, also when it has the same
// already and does not ask.
func (s *session) owe(now time.Time, sub *subscription, changed []Resource) {
	if sub.kind != clusters {
		return
	}
	for _, r := range changed {
		if _, ok := s.view.byName[endpoints][r.Name]; !ok {
			continue
		}
		if s.owed == nil {
			s.owed = make(map[string]struct{})
		}
		s.owed[r.Name] = struct{}{}
	}
	s.owedUntil = now.Add(namesPatience)
}

// release lets go of clusters and endpoints that no listener or route of the
// client needs any more.
func (s *session) release(now time.Time) *response {
	if !s.holding() {
		return nil
	}
	for _, kind := range []int{listeners, routes} {
		sub := s.subs[kind]
		if sub != nil && (sub.pending != nil || len(sub.rejected) > 0 || sub.single) && now.Before(s.holdUntil) {
			return nil
		}
	}
	if len(s.held[endpoints]) > 0 {
		s.held[endpoints] = nil
	} else {
		s.held[clusters] = nil
	}
	return s.next(now)
}
