package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"isthmus/api"
)

// streamEvery is how often it is looked for whether an interval of the metrics has
// ended.
const streamEvery = time.Second

// agentMetricsStream sends what was measured in each interval once it has ended,
// for as long as the caller listens.
func agentMetricsStream(q *request) error {
	m := q.api.cfg.Metrics
	if m == nil {
		return api.Errorf(api.NotBuilt, "metrics are not built yet")
	}
	ctx, stop := untilDrain(q.Context())
	defer stop()
	_, begun, err := interval(m)
	if err != nil {
		return calledError{err}
	}
	control := http.NewResponseController(q.w)
	q.w.WriteHeader(http.StatusOK)
	_ = control.Flush() // A caller that went away is told by its context.
	tick := time.NewTicker(streamEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		text, next, err := interval(m)
		switch {
		case err != nil:
			return nil // the answer has begun
		case next == begun:
			continue
		}
		begun = next
		if _, err := q.w.Write(append(text, '\n')); err != nil {
			return nil // nobody listens any more
		}
		_ = control.Flush() // the same as above
	}
}

// interval is the last interval as JSON, and when it began.
func interval(m Metrics) (text []byte, begun string, err error) {
	out, err := m.Summary()
	if err != nil {
		return nil, "", err //nolint:wrapcheck // shown to the caller
	}
	if text, err = json.Marshal(out); err != nil {
		return nil, "", fmt.Errorf("render metrics: %w", err)
	}
	var at struct{ Timestamp string }
	if err := json.Unmarshal(text, &at); err != nil {
		return nil, "", fmt.Errorf("render metrics: %w", err)
	}
	return text, at.Timestamp, nil
}
