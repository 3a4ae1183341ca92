package store_test

import (
	"testing"

	"isthmus/internal/store"
)

func TestNotifyCallsOnceWhenWhatWasReadHasChanged(t *testing.T) {
	s := store.New(pairs)
	put(s, 1, &pair{key: "a"}, &pair{key: "c"})
	calls := 0
	notify := func(tx *store.Tx) { tx.Notify(func() { calls++ }) }
	read := func() *store.Tx {
		tx := s.Read()
		pairs.Get(tx, "a")
		pairs.Get(tx, "c")
		return tx
	}

	tx := read()
	notify(tx)
	put(s, 2, &pair{key: "b"})
	if calls != 0 {
		t.Error("called for another row")
	}
	put(s, 3, &pair{key: "a"}, &pair{key: "c"})
	put(s, 4, &pair{key: "a"})
	if calls != 1 {
		t.Errorf("called %d times for one wait", calls)
	}
	tx.Release()

	calls, tx = 0, read()
	put(s, 5, &pair{key: "a"})
	notify(tx)
	if calls != 1 {
		t.Errorf("called %d times for what had changed before", calls)
	}
	tx.Release()

	calls, tx = 0, read()
	notify(tx)
	tx.Release()
	put(s, 6, &pair{key: "a"})
	if calls != 0 {
		t.Error("called after Release")
	}
}
