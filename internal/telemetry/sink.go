package telemetry

import "github.com/hashicorp/go-metrics"

// sink takes what the libraries report.
type sink struct{ to *registry }

var _ metrics.MetricSink = sink{}

// place finds the metric of a library's name, and the values of its series.
func (s sink) place(parts []string, kind Kind, labels []metrics.Label) (*metric, values) {
	names := make([]string, len(labels))
	for i, l := range labels {
		names[i] = l.Name
	}
	n := s.to.find(parts, kind, names)
	key := n.in
	for i, name := range n.Labels {
		for _, l := range labels {
			if l.Name == name {
				key[n.stars+i] = l.Value
			}
		}
	}
	return n.metric, key
}

// SetGauge implements metrics.MetricSink, as do those below.
func (s sink) SetGauge(key []string, v float32) { s.SetGaugeWithLabels(key, v, nil) }

func (s sink) SetGaugeWithLabels(key []string, v float32, labels []metrics.Label) {
	m, by := s.place(key, KindGauge, labels)
	m.set(float64(v), &by)
}

func (s sink) SetPrecisionGauge(key []string, v float64) { s.SetPrecisionGaugeWithLabels(key, v, nil) }

func (s sink) SetPrecisionGaugeWithLabels(key []string, v float64, labels []metrics.Label) {
	m, by := s.place(key, KindGauge, labels)
	m.set(v, &by)
}

// EmitKey takes points in time, which no library here reports.
func (sink) EmitKey([]string, float32) {}

func (s sink) IncrCounter(key []string, v float32) { s.IncrCounterWithLabels(key, v, nil) }

func (s sink) IncrCounterWithLabels(key []string, v float32, labels []metrics.Label) {
	m, by := s.place(key, KindCounter, labels)
	m.add(float64(v), &by)
}

func (s sink) AddSample(key []string, v float32) { s.AddSampleWithLabels(key, v, nil) }

func (s sink) AddSampleWithLabels(key []string, v float32, labels []metrics.Label) {
	m, by := s.place(key, KindSample, labels)
	m.add(float64(v), &by)
}
