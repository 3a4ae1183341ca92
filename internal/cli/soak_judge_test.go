package cli

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// feltFrom is how long a read takes at least that counts as disturbed when it was
// not answered late by an impaired WAN alone.
const feltFrom = time.Second

// soakJudge says of each read whether it had to work.
type soakJudge struct {
	oracle   *oracle
	pathless map[way][]span
	byWay    map[way][]*soakResult // stale reads, in the order in which they began
}

func newSoakJudge(o *oracle, results []soakResult) *soakJudge {
	j := &soakJudge{oracle: o, pathless: map[way][]span{}, byWay: map[way][]*soakResult{}}
	for i := range results {
		if r := &results[i]; r.kind == staleRead {
			j.byWay[r.way] = append(j.byWay[r.way], r)
		}
	}
	for w, reads := range j.byWay {
		slices.SortFunc(reads, func(a, b *soakResult) int { return a.begun.Compare(b.begun) })
		j.pathless[w] = o.pathless(w)
	}
	return j
}

// Excuses of a read that failed.
const (
	noExcuse     = ""
	noPath       = "no path existed"
	askedStarter = "the server that was asked was ending or starting"
	stoodStill   = "the machine stood still"
)

func (j *soakJudge) excuse(r *soakResult) string {
	switch {
	case anyOverlaps(j.pathless[r.way], r.begun, r.ended()):
		return noPath
	case anyOverlaps(j.oracle.spans[r.asked], r.begun, r.ended()):
		return askedStarter
	case j.stoodStill(r):
		return stoodStill
	default:
		return noExcuse
	}
}

// stoodStill tells whether the machine did, while a read was under way.
func (j *soakJudge) stoodStill(r *soakResult) bool {
	return anyOverlaps(j.oracle.spans[machine{}], r.begun, r.ended())
}

// feltBy is what the reads felt of a fault.
type feltBy struct {
	failed, excused int
	heal            time.Duration // until all reads worked again, from its begin, or from its end for the WAN
	gap             time.Duration // the longest time without a read that worked on one of its ways
}

// felt looks at the reads between whatever a fault concerned. A read counts as
// disturbed when it failed, or took long although the WAN was not impaired.
func (j *soakJudge) felt(f *soakFault, wan bool) feltBy {
	var out feltBy
	from := f.at
	if wan {
		from = f.ended // what was under way at that time had lost its path
	}
	for _, w := range f.ways {
		last := f.at
		for _, r := range j.byWay[w] {
			if r.ended().Before(f.at) || r.begun.After(f.until) {
				continue
			}
			switch {
			case r.err == "":
				if r.ended().After(last) {
					out.gap = max(out.gap, r.ended().Sub(last))
					last = r.ended()
				}
				if r.took < feltFrom || anyOverlaps(j.oracle.spans[impaired(w)], r.begun, r.ended()) {
					continue
				}
			case j.excuse(r) == noExcuse:
				out.failed++
			default:
				out.excused++
			}
			// The WAN may have been cut meanwhile, and servers lost: that is not this fault's.
			gateway := strings.HasPrefix(f.kind, "gateway")
			if (wan && r.begun.Before(from)) || (!wan && j.cut(r)) || (gateway && j.serverless(r)) || j.stoodStill(r) {
				continue
			}
			out.heal = max(out.heal, r.ended().Sub(from))
		}
	}
	return out
}

// cut tells whether the WAN was cut while a read was under way.
func (j *soakJudge) cut(r *soakResult) bool {
	spans := j.oracle.spans
	return anyOverlaps(spans[r.way], r.begun, r.ended()) || anyOverlaps(spans[way{r.way.to, r.way.from}], r.begun, r.ended())
}

// serverless tells whether a read was disturbed by the loss of servers: that of the
// one that was asked, or of all in the datacenter that has the key.
func (j *soakJudge) serverless(r *soakResult) bool {
	lost := func(name string) bool { return anyOverlaps(j.oracle.spans[name], r.begun, r.ended()) }
	return lost(r.asked) || !slices.ContainsFunc(j.oracle.servers[r.way.to], func(name string) bool { return !lost(name) })
}

// gaps are the longest times between two requests of a kind that worked on a way,
// over all, and while a path existed.
func (j *soakJudge) gaps(results []soakResult, kind soakKind) (longest, withPath time.Duration) {
	ends := map[way][]time.Time{}
	for i := range results {
		if r := &results[i]; r.kind == kind && r.err == "" {
			ends[r.way] = append(ends[r.way], r.ended())
		}
	}
	for w, at := range ends {
		slices.SortFunc(at, time.Time.Compare)
		for i := 1; i < len(at); i++ {
			gap := at[i].Sub(at[i-1])
			longest = max(longest, gap)
			if !anyOverlaps(j.pathless[w], at[i-1], at[i]) {
				withPath = max(withPath, gap)
			}
		}
	}
	return longest, withPath
}

// quantile is the value below which a share of the values lies.
func quantile(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

func TestSoakJudgesReadsByPathAndFault(t *testing.T) {
	o, begin := soakOracle()
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	w, back := way{"dc1", "dc2"}, way{"dc2", "dc1"}
	o.spans["g1"] = []span{{at(1000), at(8000)}}
	o.spans[w] = []span{{at(20000), at(30000)}}
	o.spans["s2"] = []span{{at(40000), at(45000)}}
	read := func(begun, took int, err string) soakResult {
		return soakResult{way: w, asked: "s2", begun: at(begun), took: time.Duration(took) * time.Millisecond, err: err}
	}
	results := []soakResult{
		read(500, 10, ""), read(1100, 2100, ""), read(1200, 3000, "500"), read(4000, 5, ""),
		read(21000, 5000, "deadline"), read(26000, 10, ""), read(40100, 10, "500"), read(50000, 5, ""),
	}
	j := newSoakJudge(o, results)
	var got []string
	for i := range results {
		if results[i].err != "" {
			got = append(got, j.excuse(&results[i]))
		}
	}
	if want := []string{noExcuse, noPath, askedStarter}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	killed := &soakFault{kind: "killed", ways: []way{w, back}, at: at(1000), ended: at(3000), until: at(8000)}
	if got, want := j.felt(killed, false), (feltBy{failed: 1, heal: 3200 * time.Millisecond, gap: 2200 * time.Millisecond}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	cut := &soakFault{kind: "cut", ways: []way{w, back}, at: at(20000), ended: at(25000), until: at(30000)}
	if got, want := j.felt(cut, true), (feltBy{excused: 1, gap: 6010 * time.Millisecond}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	// Of what a gateway's end is blamed for, the loss of the only server is no part.
	o.spans["t1"] = []span{{at(2500), at(4500)}}
	stalled := &soakFault{kind: gatewayStalled, ways: []way{w, back}, at: at(1000), ended: at(3000), until: at(8000)}
	if got := newSoakJudge(o, results).felt(stalled, false); got.heal != 0 || got.excused != 1 {
		t.Errorf("got %+v, want nothing but an excused read", got)
	}
	longest, withPath := j.gaps(results, staleRead)
	if longest != 23995*time.Millisecond || withPath != 2690*time.Millisecond {
		t.Errorf("got %s and %s", longest, withPath)
	}
	if q := quantile([]time.Duration{1, 2, 3, 4}, 0.5); q != 3 {
		t.Errorf("got %d", q)
	}
	if !strings.Contains(w.String(), "→") {
		t.Error(w)
	}
}
