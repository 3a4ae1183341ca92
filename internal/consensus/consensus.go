package consensus

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"
)

// Config says how a Log is opened. Zero durations and counts take the default
// that stands beside them.
type Config struct {
	Dir         string // empty keeps log, term and snapshots in memory
	ID, Address string // of this server: its uuid, and the host:port others dial

	// Listen yields the raft connections the one-port mux accepted; Dial opens
	// those to other servers, and nothing else does.
	Listen <-chan net.Conn
	Dial   func(ctx context.Context, address string) (net.Conn, error)

	Heartbeat, Election time.Duration // 1 s
	LeaderLease         time.Duration // 500 ms
	CommitTimeout       time.Duration // 50 ms

	SnapshotThreshold uint64        // entries since the last snapshot: 16384
	SnapshotInterval  time.Duration // between two looks at the threshold: 30 s
	TrailingLogs      uint64        // entries kept behind a snapshot: 10240

	// WriteDeadline is how long a write to the log may take before it fails
	// and this server gives way as leader: 2 s.
	WriteDeadline time.Duration

	Log *slog.Logger
	FSM FSM

	// Lead runs for as long as this server leads. Its context is done when
	// leadership is lost or Run stops, and no second Lead begins before the
	// first returned. An error is logged and leadership is given up.
	Lead func(ctx context.Context) error

	wrap    func(path string, f file) file // tests put a faulty disk here
	segment int64                          // size of a log segment: 8 MiB
}

// FSM is the state machine the entries are applied to. Apply, Snapshot and
// Restore are never called at the same time.
type FSM interface {
	// Apply applies an entry. The result goes to whoever appended it and must
	// depend on the entries so far alone.
	Apply(index uint64, entry []byte) any
	// Snapshot takes a consistent view, which write writes while later entries
	// are being applied.
	Snapshot() (write func(io.Writer) error, err error)
	// Restore replaces the state by that of a snapshot, which holds the entries
	// up to index.
	Restore(index uint64, r io.Reader) error
}

// Server is a member of the configuration.
type Server struct {
	ID, Address string
	Voter       bool
}

var (
	// ErrNotLeader means that this server does not lead and did nothing.
	ErrNotLeader = errors.New("not the leader")
	// ErrLeadershipLost means that leadership was lost while an entry was on
	// its way: it may be applied yet, or never.
	ErrLeadershipLost = errors.New("leadership lost before the outcome was known")
	// ErrDeadline means that the disk took longer than the write deadline. This
	// server gave way as leader. The entry is undone when the disk answers; a kill
	// before that may leave it in the log.
	ErrDeadline = errors.New("write deadline exceeded")
)

func (c *Config) setDefaults() {
	c.Heartbeat = cmp.Or(c.Heartbeat, time.Second)
	c.Election = cmp.Or(c.Election, time.Second)
	c.LeaderLease = cmp.Or(c.LeaderLease, 500*time.Millisecond)
	c.CommitTimeout = cmp.Or(c.CommitTimeout, 50*time.Millisecond)
	c.SnapshotThreshold = cmp.Or(c.SnapshotThreshold, 16384)
	c.SnapshotInterval = cmp.Or(c.SnapshotInterval, 30*time.Second)
	c.TrailingLogs = cmp.Or(c.TrailingLogs, 10240)
	c.WriteDeadline = cmp.Or(c.WriteDeadline, 2*time.Second)
	c.segment = cmp.Or(c.segment, segmentSize)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
}
