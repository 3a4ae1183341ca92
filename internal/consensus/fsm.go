package consensus

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// A machine is the FSM as the raft library wants it. It takes batches: fewer
// measurements by the library, and configuration entries count as applied, so
// that a snapshot right after one is not refused.
type machine struct {
	fsm     FSM
	applied atomic.Uint64
}

func (m *machine) ApplyBatch(logs []*raft.Log) []any {
	results := make([]any, len(logs))
	for i, l := range logs {
		if l.Type == raft.LogCommand {
			results[i] = m.fsm.Apply(l.Index, l.Data)
		}
	}
	m.applied.Store(logs[len(logs)-1].Index)
	return results
}

// Apply is what the library would call if it did not know of batches.
func (m *machine) Apply(l *raft.Log) any { return m.ApplyBatch([]*raft.Log{l})[0] }

func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	write, err := m.fsm.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("take snapshot: %w", err)
	}
	return view(write), nil
}

// Restore leaves it to the library to close what it opened.
func (m *machine) Restore(r io.ReadCloser) error {
	var index uint64
	inner := r
	if w, ok := r.(raft.ReadCloserWrapper); ok {
		inner = w.WrappedReadCloser()
	}
	if s, ok := inner.(*snapshotReader); ok {
		index = s.index
	}
	if err := m.fsm.Restore(index, r); err != nil {
		return fmt.Errorf("restore snapshot at %d: %w", index, err)
	}
	m.applied.Store(index)
	return nil
}

// A view is a snapshot that was taken and not yet written.
type view func(io.Writer) error

func (v view) Persist(sink raft.SnapshotSink) error {
	if err := v(sink); err != nil {
		_ = sink.Cancel() // the error that led here counts
		return err
	}
	return sink.Close()
}

func (view) Release() {}
