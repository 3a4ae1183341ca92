package store_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"isthmus/internal/store"
)

// pair is a row like one of a key-value table: keys may be prefixes of others.
type pair struct {
	key  string
	tags []string
	n    int
}

var (
	pairs  = store.NewTable("pairs", func(p *pair) store.Key { return store.Key(p.key) })
	byTag  = pairs.By("tag", tagKeys)
	counts = store.NewTable("counts", func(p *pair) store.Key { return store.Text(p.key) })
)

func tagKeys(p *pair) []store.Key {
	keys := make([]store.Key, len(p.tags))
	for i, t := range p.tags {
		keys[i] = store.Key(t)
	}
	return keys
}

func put(s *store.Store, index uint64, rows ...*pair) {
	w := s.Write(index)
	defer w.Abort()
	for _, r := range rows {
		pairs.Put(w, r)
	}
	w.Commit()
}

func del(s *store.Store, index uint64, keys ...store.Key) {
	w := s.Write(index)
	defer w.Abort()
	for _, k := range keys {
		pairs.Delete(w, k)
	}
	w.Commit()
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func names(rows iter.Seq[*pair]) string {
	var out []string
	for r := range rows {
		out = append(out, r.key)
	}
	return strings.Join(out, " ")
}

// watching runs read in a view of s, and yields whether it has changed since.
func watching(t *testing.T, s *store.Store, read func(*store.Tx)) func() bool {
	t.Helper()
	tx := s.Read()
	read(tx)
	ch := tx.Changed()
	t.Cleanup(tx.Release)
	return func() bool {
		now := s.Read()
		read(now)
		if isClosed(ch) != (now.Index() != tx.Index()) {
			t.Errorf("woken: %v, but the index went from %d to %d", isClosed(ch), tx.Index(), now.Index())
		}
		return isClosed(ch)
	}
}

func get(k store.Key) func(*store.Tx) { return func(tx *store.Tx) { pairs.Get(tx, k) } }

func prefix(k store.Key) func(*store.Tx) { return func(tx *store.Tx) { names(pairs.Prefix(tx, k)) } }

func TestRowsComeInOrderOfTheirKeys(t *testing.T) {
	s := store.New(pairs)
	put(s, 3, &pair{key: "b"}, &pair{key: "a/2"}, &pair{key: "a"}, &pair{key: "a/1"}, &pair{key: ""})
	tx := s.Read()
	if got, want := names(pairs.All(tx)), " a a/1 a/2 b"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := names(pairs.Prefix(tx, "a/")), "a/1 a/2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := pairs.Len(tx); got != 5 {
		t.Errorf("got %d rows, want 5", got)
	}
	if r := pairs.Get(tx, "a/"); r != nil {
		t.Errorf("got %v for a key that is not there", r)
	}
}

func TestIndexYieldsRowsOfExactlyItsKey(t *testing.T) {
	s := store.New(pairs)
	put(
		s, 1,
		&pair{key: "2", tags: []string{"web", "v1"}},
		&pair{key: "1", tags: []string{"web", "web"}},
		&pair{key: "3", tags: []string{"web\x00"}},
		&pair{key: "4", tags: []string{"web2"}},
		&pair{key: "5"},
	)
	tx := s.Read()
	if got, want := names(byTag.Get(tx, "web")), "1 2"; got != want {
		t.Errorf("get: got %q, want %q", got, want)
	}
	if got, want := names(byTag.Prefix(tx, "web")), "1 2 3 4"; got != want {
		t.Errorf("prefix: got %q, want %q", got, want)
	}
	if got, want := fmt.Sprintf("%q", slices.Collect(byTag.Keys(tx))), `["v1" "web" "web\x00" "web2"]`; got != want {
		t.Errorf("keys: got %v, want %v", got, want)
	}
	put(s, 2, &pair{key: "1", tags: []string{"v1"}})
	del(s, 3, "2")
	tx = s.Read()
	if got, want := names(byTag.Get(tx, "web"))+names(byTag.Get(tx, "v1")), "1"; got != want {
		t.Errorf("after the change: got %q, want %q", got, want)
	}
}

func TestReadOfARowWakesOnThatRowOnly(t *testing.T) {
	s := store.New(pairs)
	put(s, 5, &pair{key: "a"}, &pair{key: "ab/c"})
	woken := watching(t, s, get("a"))
	for i, k := range []string{"ab/d", "ab", "b", "a/x", "a/y", "aa", ""} {
		put(s, uint64(10+i), &pair{key: k})
		if woken() {
			t.Fatalf("a put of %q woke a read of a", k)
		}
	}
	del(s, 30, "a/x", "ab/d", "ab/c", "ab", "b", "a/y", "aa", "")
	if woken() {
		t.Fatal("deleting all other rows woke a read of a")
	}
	put(s, 40, &pair{key: "a"})
	if !woken() {
		t.Fatal("a put of a did not wake a read of a")
	}
}

func TestScanWakesOnRowsWithItsPrefixOnly(t *testing.T) {
	s := store.New(pairs)
	put(s, 5, &pair{key: "web/node1/a"})
	for _, p := range []store.Key{"web/", "web/node1/a", "web/n", "we"} {
		woken := watching(t, s, prefix(p))
		base := s.LastIndex()
		for i, k := range []string{"wa", "w", "x", "", "wf/a"} {
			put(s, base+uint64(i)+1, &pair{key: k})
			if woken() {
				t.Fatalf("a put of %q woke a scan of %q", k, p)
			}
		}
		del(s, base+10, "wa", "w", "x", "", "wf/a")
		if woken() {
			t.Fatalf("deleting neighbours woke a scan of %q", p)
		}
		put(s, base+11, &pair{key: string(p) + "+"})
		if !woken() {
			t.Fatalf("a put of %q did not wake a scan of %q", p+"+", p)
		}
		del(s, base+12, p+"+")
	}
}

func TestReadOfAServiceWakesOnThatServiceOnly(t *testing.T) {
	s := store.New(pairs)
	put(s, 5, &pair{key: "node1", tags: []string{"web"}})
	woken := watching(t, s, func(tx *store.Tx) { names(byTag.Get(tx, "web")) })
	put(s, 6, &pair{key: "node2", tags: []string{"we"}}, &pair{key: "node3", tags: []string{"web2", "weather"}})
	put(s, 7, &pair{key: "node4"})
	del(s, 8, "node2", "node3")
	if woken() {
		t.Fatal("other services woke a read of web")
	}
	put(s, 9, &pair{key: "node5", tags: []string{"web"}})
	if !woken() {
		t.Fatal("a second instance did not wake a read of web")
	}
}

func TestReadOfAMissingRowWakesWhenItAppears(t *testing.T) {
	s := store.New(pairs)
	put(s, 5, &pair{key: "other/1"}, &pair{key: "other/2"}, &pair{key: "a"})
	woken := watching(t, s, get("app/leader"))
	woken2 := watching(t, s, prefix("app/"))
	put(s, 6, &pair{key: "other/1", n: 1}, &pair{key: "other/3"}, &pair{key: "other/2/x"})
	if woken() || woken2() {
		t.Fatal("changes farther away woke a read of a missing row")
	}
	put(s, 7, &pair{key: "app/leader"})
	if !woken() || !woken2() {
		t.Fatal("the row appeared and nobody was woken")
	}
}

func TestLenWakesOnAnyRowOfTheTable(t *testing.T) {
	s := store.New(pairs, counts)
	woken := watching(t, s, func(tx *store.Tx) { pairs.Len(tx) })
	w := s.Write(4)
	counts.Put(w, &pair{key: "x"})
	w.Commit()
	if woken() {
		t.Fatal("a row of another table woke it")
	}
	put(s, 5, &pair{key: "x"})
	if !woken() {
		t.Fatal("a row of the table did not wake it")
	}
}

func TestKeysWakesWhenAnIndexKeyGoes(t *testing.T) {
	s := store.New(pairs)
	put(s, 2, &pair{key: "1", tags: []string{"x"}})
	woken := watching(t, s, func(tx *store.Tx) { _ = slices.Collect(byTag.Keys(tx)) })
	put(s, 3, &pair{key: "2"})
	if woken() {
		t.Fatal("a row without index keys woke a read of the index")
	}
	del(s, 4, "1")
	if !woken() {
		t.Fatal("not woken")
	}
}

func TestWriteSeesItselfAndNobodyElseDoes(t *testing.T) {
	s := store.New(pairs)
	put(s, 1, &pair{key: "a"})
	w := s.Write(2)
	pairs.Put(w, &pair{key: "b", tags: []string{"t"}})
	pairs.Delete(w, "a")
	if got := names(pairs.All(w)) + names(byTag.Get(w, "t")); got != "bb" {
		t.Errorf("the writer sees %q", got)
	}
	if got := names(pairs.All(s.Read())); got != "a" {
		t.Errorf("a reader sees %q before the commit", got)
	}
	view := s.View()
	w.Commit()
	w.Abort()
	w.Commit()
	if got := names(pairs.All(s.Read())); got != "b" {
		t.Errorf("a reader sees %q after the commit", got)
	}
	if got := names(pairs.All(view)); got != "a" || view.Index() != 1 {
		t.Errorf("a view taken before sees %q at %d", got, view.Index())
	}
}

func TestAbortLeavesNoTrace(t *testing.T) {
	s := store.New(pairs)
	put(s, 1, &pair{key: "ab"})
	woken := watching(t, s, prefix(""))
	w := s.Write(2)
	pairs.Put(w, &pair{key: "ac"})
	w.Abort()
	w.Abort()
	if woken() || s.LastIndex() != 1 || names(pairs.All(s.Read())) != "ab" {
		t.Error("an aborted write can be seen")
	}
	put(s, 2, &pair{key: "ac"})
	if !woken() {
		t.Error("the write after an aborted one woke nobody")
	}
}

func TestWriteOfNothingMovesLastIndexOnly(t *testing.T) {
	s := store.New(pairs)
	put(s, 5, &pair{key: "a"})
	woken := watching(t, s, prefix(""))
	w := s.Write(9)
	if pairs.Delete(w, "b") {
		t.Error("deleted what is not there")
	}
	w.Commit()
	if woken() || s.LastIndex() != 9 {
		t.Errorf("woken: %v, last index %d", woken(), s.LastIndex())
	}
}

func TestIndexesDifferEvenIfTheLogRepeatsOne(t *testing.T) {
	s := store.New(pairs)
	put(s, 5, &pair{key: "a"})
	woken := watching(t, s, get("a"))
	put(s, 5, &pair{key: "a"})
	if !woken() || s.LastIndex() != 6 {
		t.Errorf("woken: %v, last index %d", woken(), s.LastIndex())
	}
}

func TestRowsMayBeDeletedWhileTheyAreScanned(t *testing.T) {
	s := store.New(pairs)
	w := s.Write(1)
	for i := range 100 {
		pairs.Put(w, &pair{key: fmt.Sprintf("k%02d", i), tags: []string{"all"}})
	}
	n := 0
	for r := range byTag.Get(w, "all") {
		pairs.Delete(w, store.Key(r.key))
		pairs.Put(w, &pair{key: r.key + "x", tags: []string{"all"}})
		n++
	}
	if n != 100 || pairs.Len(w) != 100 {
		t.Errorf("scanned %d rows, %d are left", n, pairs.Len(w))
	}
	if got := pairs.DeletePrefix(w, "k1"); got != 10 || pairs.Len(w) != 90 {
		t.Errorf("deleted %d by prefix, %d are left", got, pairs.Len(w))
	}
	w.Commit()
	if got := len(slices.Collect(byTag.Get(s.Read(), "all"))); got != 90 {
		t.Errorf("the index has %d rows", got)
	}
}

func TestFoundSaysWhetherARowWasSeen(t *testing.T) {
	s := store.New(pairs)
	put(s, 1, &pair{key: "a", tags: []string{"t"}})
	for name, c := range map[string]struct {
		read func(*store.Tx)
		want bool
	}{
		"row":            {get("a"), true},
		"missing row":    {get("b"), false},
		"prefix":         {prefix("a"), true},
		"missing prefix": {prefix("ab"), false},
		"index":          {func(tx *store.Tx) { names(byTag.Get(tx, "t")) }, true},
		"missing index":  {func(tx *store.Tx) { names(byTag.Get(tx, "")) }, false},
		"nothing":        {func(*store.Tx) {}, false},
	} {
		tx := s.Read()
		if c.read(tx); tx.Found() != c.want {
			t.Errorf("%s: found is %v", name, tx.Found())
		}
	}
	if tx := store.New(pairs).Read(); names(pairs.All(tx)) != "" || tx.Found() || tx.Index() != 1 {
		t.Error("something is found in an empty store, or its index is not 1")
	}
}

func TestRestoreReplacesEverythingAndNoIndexGoesBack(t *testing.T) {
	s := store.New(pairs, counts)
	put(s, 50, &pair{key: "a", tags: []string{"x"}}, &pair{key: "b"})
	reads := map[string]func(*store.Tx){
		"row":      get("a"),
		"missing":  get("zz"),
		"prefix":   prefix("b"),
		"index":    func(tx *store.Tx) { names(byTag.Get(tx, "x")) },
		"nothing":  func(tx *store.Tx) { names(byTag.Get(tx, "y")) },
		"an empty": func(tx *store.Tx) { counts.Len(tx) },
	}
	for _, index := range []uint64{100, 70, 101} { // the second is older than what was there
		floor := max(index, s.LastIndex()+1)
		woken := map[string]func() bool{}
		for name, read := range reads {
			woken[name] = watching(t, s, read)
		}
		err := s.Restore(index, func(w *store.WriteTx) error {
			pairs.Put(w, &pair{key: "a", n: int(w.Index())})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for name, read := range reads {
			tx := s.Read()
			if read(tx); !woken[name]() || tx.Index() != floor || s.LastIndex() != floor {
				t.Errorf("%s: woken: %v, index %d, want %d", name, woken[name](), tx.Index(), floor)
			}
		}
		if got := names(pairs.All(s.Read())); got != "a" {
			t.Errorf("got rows %q", got)
		}
	}
}

func TestFailedRestoreChangesNothing(t *testing.T) {
	s := store.New(pairs)
	put(s, 5, &pair{key: "a"})
	woken := watching(t, s, prefix(""))
	broken := errors.New("broken")
	err := s.Restore(9, func(w *store.WriteTx) error {
		pairs.Put(w, &pair{key: "b"})
		return broken
	})
	if !errors.Is(err, broken) || woken() || names(pairs.All(s.Read())) != "a" || s.LastIndex() != 5 {
		t.Errorf("error %v, woken: %v, last index %d", err, woken(), s.LastIndex())
	}
	put(s, 6, &pair{key: "a"}) // the writer's lock is free
}

func TestWaitEndsWithTheChangeOrTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.New(pairs)
		put(s, 1, &pair{key: "a"})
		tx := s.Read()
		pairs.Get(tx, "a")
		done := make(chan error, 1)
		go func() { done <- tx.Wait(t.Context()) }()
		synctest.Wait()
		put(s, 2, &pair{key: "b"})
		synctest.Wait()
		if len(done) > 0 {
			t.Fatal("woken by another row")
		}
		put(s, 3, &pair{key: "a"})
		if err := <-done; err != nil {
			t.Fatal(err)
		}

		tx = s.Read()
		pairs.Get(tx, "a")
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if err := tx.Wait(ctx); !errors.Is(err, cause) {
			t.Fatalf("got %v, want %v", err, cause)
		}
		pairs.Get(tx, "b") // a view may be read on and waited for again
		put(s, 4, &pair{key: "b"})
		if err := tx.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestWaitAgainRemembersTheFirstReads(t *testing.T) {
	s := store.New(pairs)
	put(s, 1, &pair{key: "a"})
	tx := s.Read()
	pairs.Get(tx, "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 3 {
		if err := tx.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
	}
	put(s, 2, &pair{key: "a"})
	if err := tx.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestViewIsNeverWoken(t *testing.T) {
	s := store.New(pairs)
	tx := s.View()
	pairs.Get(tx, "a")
	put(s, 1, &pair{key: "a"})
	if isClosed(tx.Changed()) {
		t.Error("woken")
	}
}

func TestProgrammingErrorsPanic(t *testing.T) {
	for name, f := range map[string]func(){
		"table twice":   func() { store.New(pairs, pairs) },
		"unknown table": func() { counts.Get(store.New(pairs).Read(), "a") },
		"index 0":       func() { store.New(pairs).Write(0) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}
