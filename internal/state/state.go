package state

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"isthmus/internal/rpc"
	"isthmus/internal/store"
)

// State holds the tables and applies the log to them.
type State struct {
	store    *store.Store
	commands [128]anyCommand
}

// New returns an empty state.
func New() *State {
	schemas := []store.Schema{joined}
	for _, t := range Tables {
		schemas = append(schemas, t.schema)
	}
	s := &State{store: store.New(schemas...)}
	for _, c := range commands {
		if s.commands[c.number()] != nil {
			panic(fmt.Sprintf("state: two commands have the number %d", c.number()))
		}
		s.commands[c.number()] = c
	}
	return s
}

// Read returns a view that remembers what was read from it.
func (s *State) Read() *store.Tx { return s.store.Read() }

// View returns a view that remembers nothing, and costs less.
func (s *State) View() *store.Tx { return s.store.View() }

// LastIndex is the log index of the newest applied entry.
func (s *State) LastIndex() uint64 { return s.store.LastIndex() }

// ignorable marks an entry that may be passed over by who does not know it.
const ignorable = 128

// Apply applies one entry of the log and returns the command's result, which may
// be an error. An entry of an unknown type that may not be ignored means that
// this server is too old for its peers: going on would make it differ from them,
// so it stops.
func (s *State) Apply(index uint64, entry []byte) any {
	result, _ := s.Do(index, entry)
	return result
}

// Do is Apply for who also wants to know which operation of its command the entry is.
func (s *State) Do(index uint64, entry []byte) (result any, op string) {
	if len(entry) == 0 {
		return nil, ""
	}
	c := s.commands[entry[0]&^ignorable]
	switch {
	case c != nil:
	case entry[0]&ignorable != 0:
		return nil, ""
	default:
		panic(fmt.Sprintf("state: log entry %d has the type %d, which this version does not know: "+
			"upgrade this server before it rejoins", index, entry[0]))
	}
	w := s.store.Write(index)
	result, op = c.run(w, entry[1:])
	if _, failed := result.(error); failed {
		w.Abort()
		w = s.store.Write(index) // nothing changed, but the entry is applied
	}
	w.Commit()
	return result, op
}

// Number is the one of an entry's command.
func Number(entry []byte) byte {
	if len(entry) == 0 {
		return 0
	}
	return entry[0] &^ ignorable
}

// snapshotHeader begins a snapshot.
type snapshotHeader struct {
	LastIndex uint64
}

// Snapshot returns a function that writes the state as it is now, while later
// entries are applied. The format is the protocol's: a header, then records of a
// type byte and a value until the end.
func (s *State) Snapshot() (func(io.Writer) error, error) {
	tx := s.store.View()
	return func(out io.Writer) error {
		w := bufio.NewWriterSize(out, 256<<10)
		b, err := rpc.Marshal(snapshotHeader{tx.Index()})
		if err != nil {
			return err //nolint:wrapcheck // says what it encodes
		}
		if _, err := w.Write(b); err != nil {
			return fmt.Errorf("write snapshot: %w", err)
		}
		for _, t := range Tables {
			if err := t.write(tx, w); err != nil {
				return fmt.Errorf("write snapshot: table %s: %w", t.schema.Name(), err)
			}
		}
		if err := w.Flush(); err != nil {
			return fmt.Errorf("write snapshot: %w", err)
		}
		return nil
	}, nil
}

// maxRecord limits one record of a snapshot.
const maxRecord = 256 << 20

// Restore replaces the state by that of a snapshot, or leaves it as it is when
// the snapshot has an error. Records may come in any order.
func (s *State) Restore(index uint64, in io.Reader) error {
	r := bufio.NewReaderSize(in, 256<<10)
	buf, err := rpc.ReadValue(r, nil, maxRecord)
	if err != nil {
		return fmt.Errorf("restore: header: %w", err)
	}
	var head snapshotHeader
	if err := rpc.Unmarshal(buf, &head); err != nil {
		return fmt.Errorf("restore: header: %w", err)
	}
	if index == 0 {
		index = head.LastIndex
	}
	err = s.store.Restore(max(index, 1), func(w *store.WriteTx) error {
		for {
			id, err := r.ReadByte()
			if errors.Is(err, io.EOF) {
				for row := range services.All(w) {
					join(w, row)
				}
				return nil
			} else if err != nil {
				return err //nolint:wrapcheck // wrapped below
			}
			if buf, err = rpc.ReadValue(r, buf[:0], maxRecord); err != nil {
				return fmt.Errorf("record of type %d: %w", id, noEOF(err))
			}
			restore := restorers[id]
			if restore == nil {
				return fmt.Errorf("record of type %d is not known: the snapshot was made by a version that keeps more than this one", id)
			}
			if err := restore(w, buf); err != nil {
				return fmt.Errorf("record of type %d: %w", id, err)
			}
		}
	})
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

// noEOF keeps an end within a record from being taken for the end of the file.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
