package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-metrics"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
)

// MetricsConfig is how metrics are shown and where they are sent.
type MetricsConfig struct {
	Prefix string // of all names
	// Host stands after the prefix in the names of gauges, unless empty.
	Host string
	// Retention is how long Prometheus is shown a metric without news; 0 switches
	// that format off.
	Retention time.Duration
	// Filter are beginnings of names, with the prefix, after a plus sign for those
	// that are shown or a minus sign for those that are not. The longest counts, and
	// FilterDefault for names that none fits. Others are passed over.
	Filter        []string
	FilterDefault bool
	// Statsd, Statsite and Dogstatsd are addresses (host:port) that metrics are sent
	// to, over UDP, TCP and UDP; empty for none.
	Statsd, Statsite, Dogstatsd string
	DogstatsdTags               []string // of all metrics there
	Log                         *slog.Logger
}

// Metrics shows what this process and its libraries measured.
type Metrics struct {
	cfg      MetricsConfig
	from     *registry
	registry *prometheus.Registry // nil when that format is off
	keep     int                  // intervals for which series without news are kept
	targets  []*target
	runtime  runtimeStats
}

// Hostname is the name of this machine, as it stands in the names of gauges.
func Hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "" // the gauges go without
	}
	return name
}

// NewMetrics shows the metrics of the process.
func NewMetrics(cfg MetricsConfig) (*Metrics, error) {
	m, err := show(process, cfg)
	if err != nil {
		return nil, err
	}
	own := metrics.DefaultConfig("")
	own.HostName, own.EnableHostname, own.EnableRuntimeMetrics = "", false, false
	if _, err := metrics.NewGlobal(own, sink{process}); err != nil {
		return nil, fmt.Errorf("set up metrics: %w", err)
	}
	return m, nil
}

// show shows the metrics of a registry.
func show(r *registry, cfg MetricsConfig) (*Metrics, error) {
	m := &Metrics{cfg: cfg, from: r, keep: max(1, int(cfg.Retention/interval))}
	m.cfg.Filter = nil
	for _, f := range cfg.Filter {
		if f == "" || f[0] != '+' && f[0] != '-' {
			cfg.Log.Warn("setting has no effect: it begins with neither + nor -", "setting", "telemetry.prefix_filter", "value", f)
			continue
		}
		m.cfg.Filter = append(m.cfg.Filter, f)
	}
	if cfg.Retention > 0 {
		m.registry = prometheus.NewRegistry()
		err := errors.Join(m.registry.Register(collector{m}), m.registry.Register(collectors.NewGoCollector()),
			m.registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})))
		if err != nil {
			return nil, fmt.Errorf("set up metrics: %w", err)
		}
	}
	for _, t := range []target{
		{address: cfg.Statsd, network: "udp"},
		{address: cfg.Statsite, network: "tcp"},
		{address: cfg.Dogstatsd, network: "udp", tags: cfg.DogstatsdTags, tagged: true},
	} {
		if t.address != "" {
			m.targets = append(m.targets, &t)
		}
	}
	r.rotate(time.Now(), m.keep)
	return m, nil
}

// Run measures the process itself, ends the intervals, and sends metrics to where
// they are collected.
func (m *Metrics) Run(ctx context.Context) error {
	var sending sync.WaitGroup
	defer sending.Wait()
	pause := interval
	if len(m.targets) > 0 {
		pause = time.Second
		for _, t := range m.targets {
			t.queue = make(chan []byte, maxQueue)
			sending.Go(func() { t.run(ctx, m.cfg.Log) })
		}
		for _, d := range m.from.metrics() {
			d.gather()
		}
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-timer.C:
			m.from.rotate(now, m.keep)
			m.runtime.measure()
			if len(m.targets) > 0 {
				m.send()
			}
			now = time.Now()
			timer.Reset(now.Truncate(pause).Add(pause).Sub(now))
		}
	}
}

// name is how a series is called outside, or "" when it is filtered out.
func (m *Metrics) name(d *metric, key *values) string {
	parts := make([]string, 0, 3)
	if m.cfg.Prefix != "" {
		parts = append(parts, m.cfg.Prefix)
	}
	if d.Kind == KindGauge && m.cfg.Host != "" {
		parts = append(parts, m.cfg.Host)
	}
	name := strings.Join(append(parts, d.fullName(key)), ".")
	shown, length := m.cfg.FilterDefault, -1
	for _, f := range m.cfg.Filter {
		if len(f) > length && strings.HasPrefix(name, f[1:]) {
			shown, length = f[0] == '+', len(f)
		}
	}
	if !shown {
		return ""
	}
	return name
}

// gaugeValue and sampledValue are lines of the JSON form.
type gaugeValue struct {
	Name   string
	Value  float64
	Labels map[string]string
}

type sampledValue struct {
	Name                              string
	Count                             int
	Rate, Sum, Min, Max, Mean, Stddev float64
	Labels                            map[string]string
}

// Summary is what the last interval showed, for JSON.
type Summary struct {
	Timestamp string // when it began
	Gauges    []gaugeValue
	Points    []struct{}
	Counters  []sampledValue
	Samples   []sampledValue
}

// Summary returns the figures of the last interval, or of the running one when
// none has ended yet.
func (m *Metrics) Summary() (any, error) {
	m.from.rotate(time.Now(), m.keep)
	m.from.mu.RLock()
	begin, finished := m.from.rotated, m.from.finished
	m.from.mu.RUnlock()
	if finished {
		begin = begin.Add(-interval)
	}
	out := Summary{
		Timestamp: begin.UTC().String(), Gauges: []gaugeValue{}, Points: []struct{}{}, Counters: []sampledValue{}, Samples: []sampledValue{},
	}
	for _, d := range m.from.metrics() {
		d.each(func(key *values, s *series) {
			name := m.name(d, key)
			figures := &s.now
			if finished {
				figures = &s.last
			}
			switch {
			case name == "":
			case d.Kind == KindGauge:
				if d.Kept || s.silent <= 1 {
					out.Gauges = append(out.Gauges, gaugeValue{name, s.gauge, d.labelled(key)})
				}
			case figures.count == 0:
			case d.Kind == KindCounter:
				out.Counters = append(out.Counters, figures.shown(name, d.labelled(key)))
			default:
				out.Samples = append(out.Samples, figures.shown(name, d.labelled(key)))
			}
		})
	}
	return out, nil
}

func (f *figures) shown(name string, labels map[string]string) sampledValue {
	return sampledValue{
		Name: name, Count: int(f.count), Rate: f.sum / interval.Seconds(), Sum: f.sum, Min: f.least, Max: f.most,
		Mean: f.mean(), Stddev: f.deviation(), Labels: labels,
	}
}

// each calls yield with every series, in the order of its values.
func (m *metric) each(yield func(key *values, s *series)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	keys := make([]values, 0, len(m.series))
	for key := range m.series {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b values) int { return slices.Compare(a[:], b[:]) })
	for i := range keys {
		yield(&keys[i], m.series[keys[i]])
	}
}

func (m *metric) labelled(key *values) map[string]string {
	out := make(map[string]string, len(m.Labels))
	for i, name := range m.Labels {
		out[name] = key[m.stars+i]
	}
	return out
}

// collector shows Prometheus every metric.
type collector struct{ of *Metrics }

// Describe implements prometheus.Collector. What there will be is not known.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	c.of.from.rotate(time.Now(), c.of.keep)
	for _, d := range c.of.from.metrics() {
		if d.Kind != KindGauge && d.stars+len(d.Labels) == 0 && d.Help != "" {
			d.mu.Lock()
			d.at(&values{}) // shows 0 from the beginning on
			d.mu.Unlock()
		}
		d.each(func(key *values, s *series) {
			name := c.of.name(d, key)
			if name == "" || d.Kind == KindGauge && !d.Kept && s.silent > c.of.keep {
				return
			}
			help := d.Help
			if help == "" {
				help = name
			}
			desc := prometheus.NewDesc(promName.Replace(name), help, d.Labels, nil)
			labels := key[d.stars : d.stars+len(d.Labels)]
			switch d.Kind {
			case KindCounter:
				out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, s.sum, labels...)
			case KindGauge:
				out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, s.gauge, labels...)
			case KindSample:
				out <- prometheus.MustNewConstSummary(desc, s.count, s.sum, s.quantiles(), labels...)
			}
		})
	}
}

// promName replaces what Prometheus has no room for in names.
var promName = strings.NewReplacer(".", "_", "-", "_", " ", "_", "=", "_", "/", "_")

// quantiles are those of this interval and the one before; there are none without
// samples.
func (s *series) quantiles() map[float64]float64 {
	all := slices.Sorted(slices.Values(slices.Concat(s.before, s.recent)))
	out := map[float64]float64{0.5: math.NaN(), 0.9: math.NaN(), 0.99: math.NaN()}
	for q := range out {
		if len(all) > 0 {
			out[q] = all[min(int(q*float64(len(all))), len(all)-1)]
		}
	}
	return out
}

// WritePrometheus writes every metric as text. It returns false when that format
// is off.
func (m *Metrics) WritePrometheus(w io.Writer) (bool, error) {
	if m.registry == nil {
		return false, nil
	}
	families, err := m.registry.Gather()
	if err != nil {
		return true, fmt.Errorf("gather metrics: %w", err)
	}
	enc := expfmt.NewEncoder(w, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return true, fmt.Errorf("write metrics: %w", err)
		}
	}
	return true, nil
}

// runtimeStats is what the Go runtime says of this m.from.
type runtimeStats struct{ collections uint32 }

func (r *runtimeStats) measure() {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	runtimeGoroutines.Set(float64(runtime.NumGoroutine()))
	runtimeAlloc.Set(float64(s.Alloc))
	runtimeSys.Set(float64(s.Sys))
	runtimeMallocs.Set(float64(s.Mallocs))
	runtimeFrees.Set(float64(s.Frees))
	runtimeObjects.Set(float64(s.HeapObjects))
	runtimePauses.Set(float64(s.PauseTotalNs))
	runtimeCollections.Set(float64(s.NumGC))
	for i := max(r.collections, s.NumGC-min(s.NumGC, uint32(len(s.PauseNs)))); i < s.NumGC; i++ {
		runtimePause.Add(float64(s.PauseNs[i%uint32(len(s.PauseNs))]))
	}
	r.collections = s.NumGC
}
