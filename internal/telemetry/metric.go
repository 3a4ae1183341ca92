package telemetry

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Kind is what a metric measures.
type Kind string

const (
	// KindCounter is a number that grows.
	KindCounter Kind = "counter"
	// KindGauge is a number as it is now.
	KindGauge Kind = "gauge"
	// KindSample is a distribution, such as of how long calls take.
	KindSample Kind = "sample"
)

// Declaration says what a metric is.
type Declaration struct {
	Name   string // without the prefix; <words> stand for what differs
	Kind   Kind
	Unit   string
	Labels []string
	Help   string
	// Kept shows a gauge until it is set anew; others are only shown for a while.
	Kept bool
}

const (
	// most is how many values tell the series of a metric apart: those that stand in
	// its name, then its labels.
	most = 4
	// maxSeries bounds the series of a metric, whose labels may be of the choice of
	// whoever asks. What goes beyond is counted together.
	maxSeries = 4096
	// maxRecent is how many samples of an interval are kept for its quantiles.
	maxRecent = 128
	// maxPending is how many samples of a series are sent at once to a collector.
	maxPending = 1024
)

type values [most]string

// beyond are the values of the series that takes what is too many.
var beyond = values{"*", "*", "*", "*"}

// metric is a declared metric with its series.
type metric struct {
	Declaration

	parts []string // of the name
	stars int      // how many of them differ

	mu      sync.Mutex
	alone   *series // the one of a metric without values
	series  map[values]*series
	pending bool // news is gathered for a collector
}

// figures are those of an interval.
type figures struct {
	count, sum, squares, least, most float64
}

func (f *figures) add(v float64) {
	if f.count == 0 {
		f.least, f.most = v, v
	}
	f.count++
	f.sum += v
	f.squares += v * v
	f.least, f.most = min(f.least, v), max(f.most, v)
}

// mean and deviation are 0 where they say nothing.
func (f *figures) mean() float64 {
	if f.count == 0 {
		return 0
	}
	return f.sum / f.count
}

func (f *figures) deviation() float64 {
	if f.count < 2 {
		return 0
	}
	return math.Sqrt(max(0, f.count*f.squares-f.sum*f.sum) / (f.count * (f.count - 1)))
}

// series is a metric for one set of values.
type series struct {
	now, last      figures // of this interval and of the one before
	count          uint64  // since the beginning, as is sum
	sum            float64
	gauge          float64
	silent         int       // intervals without news
	recent, before []float64 // samples of this interval and of the one before
	news           []float64 // for a collector
	newSum         float64
}

// registry holds the metrics of the process: the libraries report to one that is
// the process's, and so does the rest.
type registry struct {
	mu   sync.RWMutex
	all  map[string]*metric // by declared name
	open []*metric          // those whose names differ
	// found remembers which metric a name given in parts is of.
	found map[string]named
	// rotated is when the running interval began, and finished whether one ended.
	rotated  time.Time
	finished bool
}

type named struct {
	*metric

	in values // what of the name differs
}

var process = newRegistry()

func newRegistry() *registry { return &registry{all: map[string]*metric{}, found: map[string]named{}} }

// declare adds a metric. Each name is declared once.
func (r *registry) declare(d Declaration) *metric {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.add(d)
}

// add is declare for who holds r.mu.
func (r *registry) add(d Declaration) *metric {
	if r.all[d.Name] != nil {
		panic("telemetry: metric declared twice: " + d.Name)
	}
	m := &metric{Declaration: d, parts: strings.Split(d.Name, "."), series: map[values]*series{}}
	for i, p := range m.parts {
		if strings.HasPrefix(p, "<") {
			m.parts[i] = ""
			m.stars++
		}
	}
	if m.stars+len(d.Labels) > most {
		panic("telemetry: too many values: " + d.Name)
	}
	r.all[d.Name] = m
	if m.stars > 0 {
		r.open = append(r.open, m)
	}
	return m
}

// metrics returns all, in the order of their names.
func (r *registry) metrics() []*metric {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.SortedFunc(maps.Values(r.all), func(a, b *metric) int { return strings.Compare(a.Name, b.Name) })
}

// find returns the metric of a name given in parts, and what of the name differs.
// A library may have one that nobody declared: it is shown, too.
func (r *registry) find(parts []string, kind Kind, labels []string) named {
	name := strings.Join(parts, ".")
	r.mu.RLock()
	n, ok := r.found[name]
	r.mu.RUnlock()
	if ok {
		return n
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n, ok = r.match(name)
	if !ok {
		n.metric = r.add(Declaration{Name: name, Kind: kind, Labels: labels[:min(len(labels), most)]})
	}
	if len(r.found) < maxSeries {
		r.found[name] = n
	}
	return n
}

// match does so among the declared ones. The caller holds r.mu.
func (r *registry) match(name string) (n named, ok bool) {
	if m := r.all[name]; m != nil {
		return named{metric: m}, true
	}
	for _, m := range r.open {
		if in, ok := m.fits(name); ok {
			return named{metric: m, in: in}, true
		}
	}
	return named{}, false
}

// fits tells whether a name is of this metric, and what stands where it differs.
// The last part takes the rest.
func (m *metric) fits(name string) (in values, ok bool) {
	rest, n := name, 0
	for i, want := range m.parts {
		part, after, more := strings.Cut(rest, ".")
		last := i == len(m.parts)-1
		if last && want == "" {
			part, more = rest, false
		}
		switch {
		case more == last:
			return in, false
		case want == "":
			in[n] = part
			n++
		case want != part:
			return in, false
		}
		rest = after
	}
	return in, true
}

// fullName is the name of the series of these values.
func (m *metric) fullName(key *values) string {
	if m.stars == 0 {
		return m.Name
	}
	parts, n := slices.Clone(m.parts), 0
	for i, p := range parts {
		if p == "" {
			parts[i] = key[n]
			n++
		}
	}
	return strings.Join(parts, ".")
}

// at returns the series of some values. The caller holds m.mu.
func (m *metric) at(key *values) *series {
	if m.stars+len(m.Labels) == 0 {
		if m.alone == nil {
			m.alone = &series{}
			m.series[values{}] = m.alone
		}
		return m.alone
	}
	s := m.series[*key]
	if s != nil {
		return s
	}
	own := *key
	if len(m.series) >= maxSeries {
		if own = beyond; m.series[own] != nil {
			return m.series[own]
		}
	}
	for i := range own {
		own[i] = strings.Clone(own[i]) // not the whole request that it was read from
	}
	s = &series{}
	m.series[own] = s
	return s
}

// add counts n events of v each, or one sample.
func (m *metric) add(v float64, key *values) {
	m.mu.Lock()
	s := m.at(key)
	s.silent = 0
	s.now.add(v)
	s.count++
	s.sum += v
	if m.Kind == KindSample {
		s.keep(v)
	}
	if m.pending {
		s.newSum += v
		if m.Kind == KindSample && len(s.news) < maxPending {
			s.news = append(s.news, v)
		}
	}
	m.mu.Unlock()
}

// keep remembers a fair choice of the samples of an interval.
func (s *series) keep(v float64) {
	if len(s.recent) < maxRecent {
		s.recent = append(s.recent, v)
	} else if i := rand.IntN(int(s.now.count)); i < maxRecent { //nolint:gosec // a choice of samples
		s.recent[i] = v
	}
}

func (m *metric) set(v float64, key *values) {
	m.mu.Lock()
	s := m.at(key)
	s.silent = 0
	s.gauge = v
	if m.pending {
		s.news = append(s.news[:0], v)
	}
	m.mu.Unlock()
}

// interval is how long the figures are gathered that JSON shows.
const interval = 10 * time.Second

// rotate ends the running interval if it is over, and forgets series without news
// for a number of intervals.
func (r *registry) rotate(now time.Time, keep int) {
	begin := now.Truncate(interval)
	r.mu.Lock()
	over := begin.After(r.rotated)
	r.finished = r.finished || over && !r.rotated.IsZero()
	if over {
		r.rotated = begin
	}
	ended := over && r.finished
	r.mu.Unlock()
	if !ended {
		return
	}
	for _, m := range r.metrics() {
		m.rotate(keep)
	}
}

func (m *metric) rotate(keep int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, s := range m.series {
		s.last, s.now = s.now, figures{}
		s.before, s.recent = s.recent, s.before[:0]
		s.silent++
		if s != m.alone && !m.Kept && s.silent > keep {
			delete(m.series, key)
		}
	}
}

// Counter is a number that grows.
type Counter struct{ m *metric }

// Count adds one. The values are those that differ in the name, then those of the
// labels.
func (c Counter) Count(by ...string) { c.m.add(1, keyOf(by)) }

// Add adds to the number.
func (c Counter) Add(n float64, by ...string) { c.m.add(n, keyOf(by)) }

// Gauge is a number as it is now.
type Gauge struct{ m *metric }

// Set says what it is.
func (g Gauge) Set(v float64, by ...string) { g.m.set(v, keyOf(by)) }

// Sample is a distribution.
type Sample struct{ m *metric }

// Add adds one value.
func (s Sample) Add(v float64, by ...string) { s.m.add(v, keyOf(by)) }

// Since adds the time since start, in milliseconds.
func (s Sample) Since(start time.Time, by ...string) {
	s.m.add(float64(time.Since(start))/float64(time.Millisecond), keyOf(by))
}

func keyOf(by []string) *values {
	var key values
	copy(key[:], by)
	return &key
}

// Declared lists the metrics of this program, in the order of their names.
func Declared() []Declaration {
	var out []Declaration
	for _, m := range process.metrics() {
		if m.Help != "" {
			out = append(out, m.Declaration)
		}
	}
	return out
}

// IsDeclared tells whether a name, without the prefix, is that of a declared metric.
func IsDeclared(name string) bool {
	process.mu.RLock()
	defer process.mu.RUnlock()
	n, ok := process.match(name)
	return ok && n.Help != ""
}

func counter(name, unit, help string, labels ...string) Counter {
	return Counter{process.declare(Declaration{Name: name, Kind: KindCounter, Unit: unit, Help: help, Labels: labels})}
}

// gauge is one that is set every few seconds, and not shown long after.
func gauge(name, unit, help string, labels ...string) Gauge {
	return Gauge{process.declare(Declaration{Name: name, Kind: KindGauge, Unit: unit, Help: help, Labels: labels})}
}

// kept is a gauge that is set when it changes.
func kept(name, unit, help string, labels ...string) Gauge {
	return Gauge{process.declare(Declaration{Name: name, Kind: KindGauge, Unit: unit, Help: help, Labels: labels, Kept: true})}
}

func sample(name, unit, help string, labels ...string) Sample {
	return Sample{process.declare(Declaration{Name: name, Kind: KindSample, Unit: unit, Help: help, Labels: labels})}
}
