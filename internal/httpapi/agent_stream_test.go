package httpapi

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// countedMetrics ends an interval when it is told to.
type countedMetrics struct{ interval atomic.Int64 }

func (m *countedMetrics) Summary() (any, error) {
	return map[string]any{"Timestamp": time.Unix(m.interval.Load(), 0).UTC().String(), "Gauges": []any{}}, nil
}

func (*countedMetrics) WritePrometheus(io.Writer) (bool, error) { return false, nil }

func TestMetricsAreStreamedOnceForEachInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, m := config(fakeCaller{}), &countedMetrics{}
		cfg.Metrics = m
		a := New(cfg)
		ctx, stop := context.WithCancel(t.Context())
		w := httptest.NewRecorder()
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/agent/metrics/stream", nil))
		}()
		for range 3 {
			<-time.After(10 * time.Second)
			m.interval.Add(10)
		}
		<-time.After(10 * time.Second)
		stop()
		<-done
		want := ""
		for _, at := range []string{"00:00:10", "00:00:20", "00:00:30"} {
			want += `{"Gauges":[],"Timestamp":"1970-01-01 ` + at + ` +0000 UTC"}` + "\n"
		}
		if got := w.Body.String(); w.Code != http.StatusOK || got != want {
			t.Errorf("got %d\n%swant\n%s", w.Code, got, want)
		}
	})
}
