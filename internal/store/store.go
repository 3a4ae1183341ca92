package store

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// Store holds the rows of some tables.
type Store struct {
	schemas []Schema
	at      map[Schema]int // in schemas and state.tables

	writer sync.Mutex // held by the one write transaction there is
	state  atomic.Pointer[state]
}

// state is what a store holds at one moment. It never changes.
type state struct {
	index  uint64
	tables []any // a *data[T] for each schema
}

// New makes an empty store with the given tables.
func New(tables ...Schema) *Store {
	s := &Store{schemas: tables, at: make(map[Schema]int, len(tables))}
	names := make(map[string]bool, len(tables))
	for i, t := range tables {
		if names[t.Name()] {
			panic(fmt.Sprintf("store: table %q given twice", t.Name()))
		}
		names[t.Name()] = true
		s.at[t] = i
	}
	s.state.Store(&state{tables: s.empty(0)})
	return s
}

func (s *Store) empty(index uint64) []any {
	tables := make([]any, len(s.schemas))
	for i, t := range s.schemas {
		tables[i] = t.empty(index)
	}
	return tables
}

func (s *Store) slot(t Schema) int {
	i, ok := s.at[t]
	if !ok {
		panic(fmt.Sprintf("store: table %q is not part of the store", t.Name()))
	}
	return i
}

// LastIndex yields the index of the last write or restore.
func (s *Store) LastIndex() uint64 { return s.state.Load().index }

// Read yields a view of the present state that remembers what is read from it.
func (s *Store) Read() *Tx { return &Tx{store: s, state: s.state.Load(), tracked: true} }

// View yields a view of the present state that remembers nothing. Its index is
// that of the state, and it never learns of a change. A view is how a snapshot
// is taken: it costs nothing and stands still while writes go on.
func (s *Store) View() *Tx { return &Tx{store: s, state: s.state.Load()} }

// Write starts the one write transaction there can be; it waits for the one
// before to end. The index is that of the log entry. What a reader has seen at
// one index must be told from what comes later, so an index that is not above
// the last one is raised to the next.
func (s *Store) Write(index uint64) *WriteTx {
	if index == 0 {
		panic("store: write at index 0")
	}
	s.writer.Lock()
	now := s.state.Load()
	return &WriteTx{store: s, index: max(index, now.index+1), tables: slices.Clone(now.tables)}
}

// Restore replaces everything by what fill puts, or nothing if fill reports an
// error. Every index that a reader can be given is then at least index, and
// above all that were given before; every reader is woken. Fill must neither
// commit nor abort.
func (s *Store) Restore(index uint64, fill func(*WriteTx) error) error {
	s.writer.Lock()
	old := s.state.Load()
	w := &WriteTx{store: s, index: max(index, old.index+1)}
	w.tables = s.empty(w.index)
	defer w.Abort()
	if err := fill(w); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	w.Commit()
	var woken []*waiter
	for i, t := range s.schemas {
		woken = t.cutAll(old.tables[i], woken)
	}
	for _, r := range woken {
		r.fire()
	}
	return nil
}

// WriteTx changes rows. It reads its own changes; nobody else sees them before
// Commit. A scan sees the rows as they were when it started, so rows may be put
// and deleted while one goes on. It is for one goroutine.
type WriteTx struct {
	store  *Store
	index  uint64
	gen    uint32 // counts freezes; what was made before the last one is not changed in place
	tables []any  // nil when the transaction has ended
	cuts   []cut  // what Commit has to tell readers
}

// A cut says that reads of a mark that reach this far have changed.
type cut struct {
	mark  *mark
	reach uint32
}

// Index yields the index of the transaction, which what it puts is known by.
func (w *WriteTx) Index() uint64 { return w.index }

// Commit makes the changes visible, all at once, and wakes whoever has read
// what they replace.
func (w *WriteTx) Commit() {
	if w.tables == nil {
		return
	}
	w.store.state.Store(&state{index: w.index, tables: w.tables})
	cuts := w.cuts
	w.end()

	// No lock is held from here on. Who was woken reads the new state.
	var woken []*waiter
	for _, c := range cuts {
		woken = c.mark.cutAt(c.reach, woken)
	}
	for _, r := range woken {
		r.fire()
	}
}

// Abort forgets the changes. It does nothing after Commit or Abort.
func (w *WriteTx) Abort() {
	if w.tables != nil {
		w.end()
	}
}

func (w *WriteTx) end() {
	w.tables, w.cuts = nil, nil
	w.store.writer.Unlock()
}

func (w *WriteTx) table(of Schema) any       { return w.tables[w.store.slot(of)] }
func (w *WriteTx) setTable(of Schema, d any) { w.tables[w.store.slot(of)] = d }
func (w *WriteTx) saw(*mark, uint32, bool)   {}
func (w *WriteTx) freeze()                   { w.gen++ }

func (w *WriteTx) newMark() mark { return mark{index: w.index, gen: w.gen} }

// owns reports whether the transaction made m and may change it in place. The
// indexes of transactions differ, so nothing that is published matches.
func (w *WriteTx) owns(m *mark) bool { return m.index == w.index && m.gen == w.gen }

// replaced notes that m will no longer be part of the tree.
func (w *WriteTx) replaced(m *mark) { w.cut(m, reachSelf) }

// cut notes a change that Commit has to tell. Nobody has read what this
// transaction made itself.
func (w *WriteTx) cut(m *mark, reach uint32) {
	if m.index != w.index {
		w.cuts = append(w.cuts, cut{m, reach})
	}
}
