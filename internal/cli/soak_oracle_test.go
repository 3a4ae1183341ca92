package cli

import (
	"slices"
	"sync"
	"testing"
	"time"
)

const (
	// healBar is how long the federation may take to use again what came back, and
	// to get over the loss of a gateway.
	healBar = 5 * time.Second

	// readBar is the deadline of a read: a client would not wait longer than it
	// takes to heal.
	readBar = healBar
)

// span is a time. The one that has not ended yet ends at never.
type span struct{ from, to time.Time }

var never = time.Unix(1<<40, 0)

func (s span) overlaps(from, to time.Time) bool { return s.from.Before(to) && from.Before(s.to) }

// way is a pair of datacenters, in the direction of the reads.
type way struct{ from, to string }

func (w way) String() string { return w.from + " → " + w.to }

// timeline remembers when which part of the federation was of no use: nodes by
// name, directions of the WAN by way.
type timeline struct {
	mu    sync.Mutex
	spans map[any][]span
}

func newTimeline() *timeline { return &timeline{spans: map[any][]span{}} }

// lose marks something as of no use from now until settle after the call of the
// function that it returns.
func (t *timeline) lose(what any) (back func(settle time.Duration)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := len(t.spans[what])
	t.spans[what] = append(t.spans[what], span{time.Now(), never})
	return func(settle time.Duration) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.spans[what][at].to = time.Now().Add(settle)
	}
}

// add marks a time that is over.
func (t *timeline) add(what any, s span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.spans[what] = append(t.spans[what], s)
}

// oracle knows when reads must work. It is asked when all is over.
type oracle struct {
	*timeline

	servers, gateways map[string][]string // nodes by datacenter
	agent             map[string]string   // the server by which a gateway is registered
}

// lost tells whether something was of no use at a moment.
func (o *oracle) lost(what any, at time.Time) bool {
	return slices.ContainsFunc(o.spans[what], func(s span) bool { return !at.Before(s.from) && at.Before(s.to) })
}

// gatewaySound tells whether a gateway was of use: it and the server that
// registers it ran, and it was not stalled.
func (o *oracle) gatewaySound(name string, at time.Time) bool {
	return !o.lost(name, at) && !o.lost(o.agent[name], at)
}

// path tells whether a way existed at a moment: the WAN let packets through both
// ways, and a gateway at each end and a server at the far end were of use.
func (o *oracle) path(w way, at time.Time) bool {
	sound := func(name string) bool { return o.gatewaySound(name, at) }
	alive := func(name string) bool { return !o.lost(name, at) }
	return !o.lost(w, at) && !o.lost(way{w.to, w.from}, at) &&
		slices.ContainsFunc(o.gateways[w.from], sound) && slices.ContainsFunc(o.gateways[w.to], sound) &&
		slices.ContainsFunc(o.servers[w.to], alive)
}

// pathless are the times in which a way did not exist. What changes it changes at
// the ends of spans, so it is enough to look there.
func (o *oracle) pathless(w way) []span {
	var marks []time.Time
	for _, spans := range o.spans {
		for _, s := range spans {
			marks = append(marks, s.from, s.to)
		}
	}
	slices.SortFunc(marks, time.Time.Compare)
	var out []span
	for i, at := range marks {
		end := never
		if i+1 < len(marks) {
			end = marks[i+1]
		}
		if !at.Before(end) || o.path(w, at) {
			continue
		}
		if n := len(out); n > 0 && out[n-1].to.Equal(at) {
			out[n-1].to = end
		} else {
			out = append(out, span{at, end})
		}
	}
	return out
}

func anyOverlaps(spans []span, from, to time.Time) bool {
	return slices.ContainsFunc(spans, func(s span) bool { return s.overlaps(from, to) })
}

func soakOracle() (o *oracle, begin time.Time) {
	o = &oracle{
		timeline: newTimeline(),
		servers:  map[string][]string{"dc1": {"s1", "s2"}, "dc2": {"t1"}},
		gateways: map[string][]string{"dc1": {"g1", "g2"}, "dc2": {"h1", "h2"}},
		agent:    map[string]string{"g1": "s1", "g2": "s2", "h1": "t1", "h2": "t1"},
	}
	return o, time.Now()
}

func TestSoakExpectsReadsWhileAnyPathExists(t *testing.T) {
	o, begin := soakOracle()
	at := func(s int) time.Time { return begin.Add(time.Duration(s) * time.Second) }
	lose := func(what any, from, to int) { o.spans[what] = append(o.spans[what], span{at(from), at(to)}) }
	lose("g1", 1, 9)                // one of two: a path remains
	lose("g2", 5, 7)                // and now the other one
	lose("s2", 12, 15)              // takes g2 with it, g1 remains
	lose(way{"dc2", "dc1"}, 20, 25) // answers do not come back either
	lose("t1", 25, 30)              // the only server of dc2, and its gateways
	for _, c := range []struct {
		w    way
		want []span
	}{
		{way{"dc1", "dc2"}, []span{{at(5), at(7)}, {at(20), at(30)}}},
		{way{"dc2", "dc1"}, []span{{at(5), at(7)}, {at(20), at(30)}}},
	} {
		if got := o.pathless(c.w); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.w, got, c.want)
		}
	}
	if !anyOverlaps(o.pathless(way{"dc1", "dc2"}), at(4), at(6)) || anyOverlaps(o.pathless(way{"dc1", "dc2"}), at(1), at(5)) {
		t.Error("wrong about which reads met a time without a path")
	}
}

func TestSoakCountsWhatComesBackAsLostUntilItSettled(t *testing.T) {
	o, begin := soakOracle()
	back := o.lose("g1")
	if o.gatewaySound("g1", begin.Add(time.Hour)) {
		t.Error("sound although it is lost")
	}
	back(healBar)
	for after, want := range map[time.Duration]bool{healBar / 2: false, 2 * healBar: true} {
		if got := o.gatewaySound("g1", time.Now().Add(after)); got != want {
			t.Errorf("%s after it came back: sound %v", after, got)
		}
	}
}
