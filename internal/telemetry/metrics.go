package telemetry

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/hashicorp/go-metrics"
	prom "github.com/hashicorp/go-metrics/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// Metrics is the registry that this process and its libraries report to.
type Metrics struct {
	memory   *metrics.InmemSink
	registry *prometheus.Registry // nil when that format is off
}

// How long the figures of /v1/agent/metrics cover, and how long they are kept.
const (
	interval = 10 * time.Second
	retain   = time.Minute
)

// NewMetrics sets up the registry of the process. retention is how long Prometheus
// is shown a metric without news; 0 switches that format off.
func NewMetrics(retention time.Duration) (*Metrics, error) {
	m := &Metrics{memory: metrics.NewInmemSink(interval, retain)}
	sinks := metrics.FanoutSink{m.memory}
	if retention > 0 {
		m.registry = prometheus.NewRegistry()
		sink, err := prom.NewPrometheusSinkFrom(prom.PrometheusOpts{Expiration: retention, Registerer: m.registry})
		if err != nil {
			return nil, fmt.Errorf("set up metrics: %w", err)
		}
		sinks = append(sinks, sink)
	}
	cfg := metrics.DefaultConfig("consul")
	cfg.EnableHostname = false
	cfg.EnableRuntimeMetrics = true
	if _, err := metrics.NewGlobal(cfg, sinks); err != nil {
		return nil, fmt.Errorf("set up metrics: %w", err)
	}
	return m, nil
}

// Summary returns the figures of the last interval, for JSON.
func (m *Metrics) Summary() (any, error) {
	out, err := m.memory.DisplayMetrics(nil, &http.Request{})
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	return out, nil
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

// Label is a name and value that a metric is told apart by.
type Label struct{ Name, Value string }

func labels(list []Label) []metrics.Label {
	out := make([]metrics.Label, len(list))
	for i, l := range list {
		out[i] = metrics.Label{Name: l.Name, Value: l.Value}
	}
	return out
}

// Count adds one to a counter, whose name is given in parts.
func Count(name []string, by ...Label) { metrics.IncrCounterWithLabels(name, 1, labels(by)) }

// Add adds to a counter.
func Add(name []string, n uint64, by ...Label) {
	metrics.IncrCounterWithLabels(name, float32(n), labels(by))
}

// Gauge sets a metric to a value.
func Gauge(name []string, v float64, by ...Label) {
	metrics.SetPrecisionGaugeWithLabels(name, v, labels(by))
}

// Since adds the time since start to a metric of durations, in milliseconds.
func Since(name []string, start time.Time, by ...Label) {
	metrics.MeasureSinceWithLabels(name, start, labels(by))
}
