package consensus

import (
	"errors"
	"testing"
	"time"
)

func TestSnapshotsAreMadeAsChanged(t *testing.T) {
	cfg := quick(t, newCables(), "a", t.TempDir())
	cfg.SnapshotInterval, cfg.SnapshotThreshold, cfg.TrailingLogs = 5*time.Millisecond, 1<<20, 1<<20
	n := lone(t, cfg)
	for range 30 {
		mustAppend(t, n.Log, "x")
	}
	if err := n.SetSnapshots(Snapshots{Threshold: 10, Interval: 5 * time.Millisecond, Trailing: 5}); err != nil {
		t.Fatal(err)
	}
	if got := n.raft.Load().ReloadableConfig(); got.SnapshotThreshold != 10 || got.TrailingLogs != 5 || got.SnapshotInterval != 5*time.Millisecond {
		t.Errorf("got %+v", got)
	}
	eventually(t, 10*time.Second, func() error {
		mustAppend(t, n.Log, "x")
		if n.Stats()["last_snapshot_index"] == "0" {
			return errors.New("no snapshot yet")
		}
		return nil
	})
	if err := (&Log{}).SetSnapshots(Snapshots{}); err != nil {
		t.Errorf("before the log runs: %v", err)
	}
}
