package consensus

import (
	"fmt"
	"time"
)

// Snapshots say when the log is replaced by a snapshot.
type Snapshots struct {
	Threshold uint64        // entries since the last one
	Interval  time.Duration // how often the need for one is checked
	Trailing  uint64        // entries kept behind one
}

// SetSnapshots changes when snapshots are made. Before Run it has no effect.
func (l *Log) SetSnapshots(s Snapshots) error {
	r := l.raft.Load()
	if r == nil {
		return nil
	}
	cfg := r.ReloadableConfig()
	cfg.SnapshotThreshold, cfg.SnapshotInterval, cfg.TrailingLogs = s.Threshold, s.Interval, s.Trailing
	if err := r.ReloadConfig(cfg); err != nil {
		return fmt.Errorf("change snapshots of the log: %w", err)
	}
	return nil
}
