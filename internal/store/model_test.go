package store_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"isthmus/internal/store"
)

// A question is a read that can be asked of a store and of a model of it.
type question struct {
	name   string
	tx     func(store.Reader) string
	model  func(model) string
	strict bool // wakes only when the answer changes, if it had a row before and after
}

type model map[string]*pair

func (m model) rows(keep func(*pair) bool) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if keep(m[k]) {
			fmt.Fprintf(&b, "%s=%d ", k, m[k].n)
		}
	}
	return b.String()
}

// tagged lists the rows by each of their tags that is wanted, in order of tags.
func (m model) tagged(want func(string) bool) string {
	tags := map[string]bool{}
	for _, r := range m {
		for _, t := range r.tags {
			tags[t] = want(t)
		}
	}
	var b strings.Builder
	for _, t := range slices.Sorted(maps.Keys(tags)) {
		if tags[t] {
			b.WriteString(m.rows(func(p *pair) bool { return slices.Contains(p.tags, t) }))
		}
	}
	return b.String()
}

func show(rows func(func(*pair) bool)) string {
	var b strings.Builder
	for r := range rows {
		fmt.Fprintf(&b, "%s=%d ", r.key, r.n)
	}
	return b.String()
}

func questions(word func(int) string) []question {
	var qs []question
	for range 6 {
		p := word(4)
		qs = append(qs, question{"get " + p, func(r store.Reader) string {
			if row := pairs.Get(r, store.Key(p)); row != nil {
				return fmt.Sprintf("%s=%d ", row.key, row.n)
			}
			return ""
		}, func(m model) string { return m.rows(func(r *pair) bool { return r.key == p }) }, true})
		qs = append(qs, question{"prefix " + p, func(r store.Reader) string {
			return show(pairs.Prefix(r, store.Key(p)))
		}, func(m model) string { return m.rows(func(r *pair) bool { return strings.HasPrefix(r.key, p) }) }, true})
	}
	for range 4 {
		p := word(2)
		qs = append(qs, question{"tag " + p, func(r store.Reader) string {
			return show(byTag.Get(r, store.Key(p)))
		}, func(m model) string { return m.tagged(func(t string) bool { return t == p }) }, true})
		qs = append(qs, question{"tags " + p, func(r store.Reader) string {
			return show(byTag.Prefix(r, store.Key(p)))
		}, func(m model) string { return m.tagged(func(t string) bool { return strings.HasPrefix(t, p) }) }, true})
	}
	return append(qs,
		question{"len", func(r store.Reader) string {
			return strings.Repeat("i", pairs.Len(r))
		}, func(m model) string { return strings.Repeat("i", len(m)) }, false},
		question{"keys", func(r store.Reader) string {
			return fmt.Sprintf("%q", slices.Collect(byTag.Keys(r)))
		}, func(m model) string {
			keys := []store.Key(nil)
			for _, r := range m {
				keys = append(keys, tagKeys(r)...)
			}
			slices.Sort(keys)
			return fmt.Sprintf("%q", slices.Compact(keys))
		}, false},
	)
}

// asked is an answer and the view it came from.
type asked struct {
	tx     *store.Tx
	answer string
	parked <-chan struct{} // nil: the reader comes to wait only after the next write
}

// tally counts how often answers changed and how often readers were woken.
type tally struct{ changes, wakes, spurious int }

func ask(s *store.Store, q question, park bool) asked {
	tx := s.Read()
	a := asked{tx: tx, answer: q.tx(tx)}
	if park {
		a.parked = tx.Changed()
	}
	return a
}

// check compares an answer with the one before the write at index.
func (c *tally) check(q question, before, now asked, m model, index uint64, single bool) error {
	if want := q.model(m); now.answer != want {
		return fmt.Errorf("got %q, want %q", now.answer, want)
	}
	if before.parked == nil {
		before.parked = before.tx.Changed()
	}
	woken, moved := isClosed(before.parked), now.tx.Index() != before.tx.Index()
	before.tx.Release()
	changed := now.answer != before.answer
	switch {
	case now.tx.Index() < before.tx.Index():
		return fmt.Errorf("index went back from %d to %d", before.tx.Index(), now.tx.Index())
	case woken != moved:
		return fmt.Errorf("woken: %v, index from %d to %d", woken, before.tx.Index(), now.tx.Index())
	case changed && !woken:
		return fmt.Errorf("changed from %q to %q without a wake", before.answer, now.answer)
	case woken && now.tx.Index() != index:
		return fmt.Errorf("woken by the write at %d, but the index is %d", index, now.tx.Index())
	case woken && !changed && single && q.strict && now.answer != "":
		return fmt.Errorf("woken although it is still %q", now.answer)
	}
	if changed {
		c.changes++
	}
	if woken {
		c.wakes++
	}
	if woken && !changed && single && q.strict {
		c.spurious++
	}
	return nil
}

// TestIndexMovesExactlyWithTheWake runs random writes against a store and a
// model. Readers who waited before the write and readers who come to wait after
// it, with an old view, must be told the same.
func TestIndexMovesExactlyWithTheWake(t *testing.T) {
	var total tally
	for seed := range uint64(12) {
		total.run(t, seed)
	}
	t.Logf("%d answers changed; %d readers were woken, %d of them though a row or prefix was still missing",
		total.changes, total.wakes, total.spurious)
}

// FuzzIndexMovesExactlyWithTheWake is the same for any seed.
func FuzzIndexMovesExactlyWithTheWake(f *testing.F) {
	f.Add(uint64(100))
	f.Fuzz(func(t *testing.T, seed uint64) { new(tally).run(t, seed) })
}

func (c *tally) run(t *testing.T, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 7))
	letters := "ab/\x00\x01"[:2+r.IntN(4)]
	word := func(n int) string {
		b := make([]byte, r.IntN(n+1))
		for i := range b {
			b[i] = letters[r.IntN(len(letters))]
		}
		return string(b)
	}
	s, m := store.New(pairs), model{}
	qs := questions(word)
	before := make([]asked, len(qs))
	for i, q := range qs {
		before[i] = ask(s, q, r.IntN(2) == 0)
	}
	for index := uint64(2); index < 300; index++ {
		ops := 1
		if r.IntN(4) == 0 {
			ops = r.IntN(6)
		}
		write(t, s, m, r, index, ops, word, qs)
		for i, q := range qs {
			now := ask(s, q, r.IntN(2) == 0)
			if err := c.check(q, before[i], now, m, index, ops == 1); err != nil {
				t.Fatalf("seed %d write %d: %q: %v", seed, index, q.name, err)
			}
			before[i] = now
		}
	}
}

// write does some random changes in one transaction, or restores the rows as they are.
func write(t *testing.T, s *store.Store, m model, r *rand.Rand, index uint64, ops int, word func(int) string, qs []question) {
	t.Helper()
	if ops == 5 && r.IntN(3) == 0 {
		if err := s.Restore(index, func(w *store.WriteTx) error {
			for _, row := range m {
				pairs.Put(w, row)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return
	}
	if r.IntN(10) == 0 { // an aborted write first; it must leave nothing behind
		w := s.Write(index)
		pairs.DeletePrefix(w, store.Key(word(2)))
		pairs.Put(w, &pair{key: word(6), tags: []string{word(2)}})
		w.Abort()
	}
	w := s.Write(index)
	defer w.Abort()
	for range ops {
		k := word(6)
		switch n := r.IntN(20); {
		case n < 11:
			row := &pair{key: k, n: r.Int()}
			for range r.IntN(3) {
				row.tags = append(row.tags, word(2))
			}
			pairs.Put(w, row)
			m[k] = row
		case n < 19:
			if got, want := pairs.Delete(w, store.Key(k)), m[k] != nil; got != want {
				t.Fatalf("delete %q: got %v, want %v", k, got, want)
			}
			delete(m, k)
		default:
			k += word(2)
			want := len(m)
			maps.DeleteFunc(m, func(key string, _ *pair) bool { return strings.HasPrefix(key, k) })
			if got := pairs.DeletePrefix(w, store.Key(k)); got != want-len(m) {
				t.Fatalf("delete prefix %q: got %d, want %d", k, got, want-len(m))
			}
		}
		if q := qs[r.IntN(len(qs))]; q.tx(w) != q.model(m) {
			t.Fatalf("the writer reads %q: got %q, want %q", q.name, q.tx(w), q.model(m))
		}
	}
	w.Commit()
}
