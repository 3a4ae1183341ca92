package state

import (
	"fmt"
	"io"
	"iter"

	"isthmus/api"
	"isthmus/internal/ca"
	"isthmus/internal/rpc"
	"isthmus/internal/store"
)

// Tables lists every table, in the order in which a snapshot holds them: what
// others refer to comes first.
var Tables = []Table{
	record(nodes, 0, nodeRecord),
	record(services, 0, serviceRecord),
	record(checks, 0, checkRecord),
	record(coordinates, 6, coordinateRecord),
	record(kvs, 2, func(e *api.KVPair) any { return e }),
	record(caRoots, 13, func(r *api.CARoot) any { return r }),
	record(caStates, 14, func(s *ca.State) any { return s }),
	record(caConfig, 15, func(c *api.CAConfiguration) any { return c }),
	record(caSerial, 16, func(s *caSerialRow) any { return s }),
	record(federationStates, 30, federationRecord),
}

// restorers put the records of a snapshot back, by type.
var restorers = map[byte]func(w *store.WriteTx, b []byte) error{
	0:  restoring(restoreRegistration),
	2:  restoring(restoreKV),
	6:  restoring(restoreCoordinates),
	13: restoring(restoreCARoot),
	14: restoring(restoreCAState),
	15: restoring(restoreCAConfig),
	16: restoring(restoreIndex),
	30: restoring(restoreFederation),
}

// Table is a table and how its rows stand in a snapshot.
type Table struct {
	schema store.Schema
	write  func(tx *store.Tx, w io.Writer) error
}

// record declares that each row of a table is a record of a type.
func record[T any](t *store.Table[T], id byte, to func(*T) any) Table {
	return Table{t, func(tx *store.Tx, w io.Writer) error { return writeRows(t.All(tx), id, to, w) }}
}

func writeRows[T any](rows iter.Seq[*T], id byte, to func(*T) any, w io.Writer) error {
	for row := range rows {
		b, err := rpc.Marshal(to(row))
		if err != nil {
			return err //nolint:wrapcheck // says what it encodes
		}
		if _, err := w.Write([]byte{id}); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		if _, err := w.Write(b); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	return nil
}

func restoring[R any](restore func(w *store.WriteTx, r *R) error) func(w *store.WriteTx, b []byte) error {
	return func(w *store.WriteTx, b []byte) error {
		r := new(R)
		if err := rpc.Unmarshal(b, r); err != nil {
			return err //nolint:wrapcheck // says what it decodes
		}
		return restore(w, r)
	}
}
