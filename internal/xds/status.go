package xds

import (
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	maxReason        = 2 << 10
	maxRejectedNames = 10
)

// Rejection is what a client refused last, and why.
type Rejection struct {
	Time    time.Time
	Error   string   // in the client's words
	Version string   // of what it was sent
	Names   []string // of the resources, the first few
}

// ProxyStatus is what the server knows of one proxy that has a stream.
type ProxyStatus struct {
	ID         string
	Registered bool           // there was a snapshot of it
	Problem    string         `json:",omitempty"` // why there is no newer one
	Warnings   []string       `json:",omitempty"` // what of its settings is left out
	Snapshot   time.Time      // when the newest one came
	Resources  map[string]int // number of resources in it, by short type
	Streams    []StreamStatus // oldest first
}

// StreamStatus is one stream.
type StreamStatus struct {
	Protocol string // "delta" or "sotw"
	Peer     string
	Since    time.Time
	Cluster  string            // of the node
	Envoy    string            // version
	Metadata map[string]string `json:",omitempty"` // of the node, the texts in it
	Types    []TypeStatus      // those the client asked for, in the order in which they are sent
}

// TypeStatus is one type of a stream.
type TypeStatus struct {
	Type     string // short
	Wildcard bool
	Names    int    // asked for by name
	Has      int    // resources the client has
	Sent     string // version of all it was sent
	Acked    string // version of all it took
	Pending  bool   // a response waits for its answer
	Rejected *Rejection
}

// InSync tells whether the client took all that it was sent.
func (t *TypeStatus) InSync() bool { return !t.Pending && t.Rejected == nil }

// Proxies lists all proxies that have a stream, by id.
func (s *Server) Proxies() []ProxyStatus {
	s.mu.Lock()
	streams := slices.Collect(maps.Keys(s.streams))
	s.mu.Unlock()
	slices.SortFunc(streams, func(a, b *stream) int {
		if c := a.since.Compare(b.since); c != 0 {
			return c
		}
		return strings.Compare(a.peer, b.peer)
	})
	byID := make(map[string]*ProxyStatus)
	for _, t := range streams {
		st, f := t.status()
		if f == nil {
			continue
		}
		p, ok := byID[f.key.proxy]
		if !ok {
			p = f.status()
			byID[p.ID] = p
		}
		p.Streams = append(p.Streams, st)
	}
	out := make([]ProxyStatus, 0, len(byID))
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		out = append(out, *byID[id])
	}
	return out
}

func (f *feed) status() *ProxyStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &ProxyStatus{
		ID: f.key.proxy, Registered: f.at != time.Time{}, Problem: f.problem, Warnings: f.left, Snapshot: f.at,
		Resources: make(map[string]int),
	}
	if f.view != nil {
		for kind, list := range f.view.resources {
			p.Resources[shortType(kind)] = len(list)
		}
	}
	return p
}

func (t *stream) status() (StreamStatus, *feed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := StreamStatus{Protocol: "delta", Peer: t.peer, Since: t.since}
	if t.whole {
		st.Protocol = "sotw"
	}
	if t.hello != nil {
		st.Cluster, st.Envoy, st.Metadata = t.hello.cluster, t.hello.version, t.hello.metadata
	}
	for _, sub := range t.session.subs {
		if sub == nil {
			continue
		}
		n := 0
		for _, version := range sub.have {
			if version != "" {
				n++
			}
		}
		st.Types = append(st.Types, TypeStatus{
			Type: shortType(kinds[sub.kind]), Wildcard: sub.wildcard, Names: len(sub.names), Has: n,
			Sent: sub.after(sub.pending), Acked: sub.after(nil), Pending: sub.pending != nil, Rejected: sub.rejection,
		})
	}
	return st, t.feed
}

// shortType is the last word of a type URL, or "other": types come from outside,
// and their number must stay small where they label metrics.
func shortType(typeURL string) string {
	if !slices.Contains(kinds[:], typeURL) {
		return "other"
	}
	return typeURL[strings.LastIndexByte(typeURL, '.')+1:]
}
