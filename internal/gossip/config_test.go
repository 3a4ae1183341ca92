package gossip

import (
	"testing"
	"time"
)

// The defaults are what other members of a pool expect of each other.
func TestDefaultsOfLANAndWAN(t *testing.T) {
	type settings struct {
		Gossip, Probe, ProbeTimeout, PushPull, Stream, Dead, LeaveDelay, Reconnect time.Duration

		Nodes, Suspicion, Retransmit int
	}
	const ms, s = time.Millisecond, time.Second
	for wan, want := range map[bool]settings{
		false: {200 * ms, s, 500 * ms, 30 * s, 10 * s, 30 * s, s, 72 * time.Hour, 3, 4, 4},
		true:  {500 * ms, 5 * s, 3 * s, 60 * s, 30 * s, 60 * s, 3 * s, 72 * time.Hour, 3, 6, 4},
	} {
		net := config(t, "a").Net
		t.Cleanup(func() { _ = net.Close() }) // Nothing was received.
		c, err := libraryConfig(&Config{Name: "a", Net: net, WAN: wan, Keyring: [][]byte{make([]byte, 16)}})
		if err != nil {
			t.Fatal(err)
		}
		m := c.MemberlistConfig
		got := settings{
			m.GossipInterval, m.ProbeInterval, m.ProbeTimeout, m.PushPullInterval, m.TCPTimeout, m.GossipToTheDeadTime,
			c.LeavePropagateDelay, c.ReconnectTimeout, m.GossipNodes, m.SuspicionMult, m.RetransmitMult,
		}
		if got != want {
			t.Errorf("wan %v: got %+v, want %+v", wan, got, want)
		}
		if !m.GossipVerifyIncoming || !m.GossipVerifyOutgoing || c.EnableNameConflictResolution {
			t.Error("encryption is not required, or name conflicts are resolved")
		}
		if label := m.MetricLabels[0]; label.Name != "network" || label.Value != map[bool]string{false: "lan", true: "wan"}[wan] {
			t.Errorf("metric label is %v", label)
		}
	}
}
