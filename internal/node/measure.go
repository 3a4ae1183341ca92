package node

import (
	"context"
	"time"

	"isthmus/api"
	"isthmus/internal/telemetry"
)

// measureEvery is how often an agent tells its version and how long its certificate
// lasts.
const measureEvery = 10 * time.Second

// measure does so until ctx is done.
func (n *Node) measure(ctx context.Context) error {
	tick := time.NewTicker(measureEvery)
	defer tick.Stop()
	for {
		telemetry.Version.Set(1, api.Compat, "")
		if end := n.tls.NotAfter(); !end.IsZero() {
			telemetry.TLSExpiry.Set(time.Until(end).Seconds())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
