package store_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"isthmus/internal/store"
)

func FuzzTextKeepsOrderAndDelimitsItself(f *testing.F) {
	f.Add("", "\x00")
	f.Add("a", "a\x00")
	f.Add("a\x00b", "a\x01b")
	f.Add("\x01", "\x02")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := string(store.Text(a)), string(store.Text(b))
		if strings.Compare(a, b) != strings.Compare(x, y) {
			t.Errorf("%q and %q are ordered unlike %q and %q", x, y, a, b)
		}
		if a != b && strings.HasPrefix(x, y) {
			t.Errorf("%q is a prefix of %q", y, x)
		}
	})
}

func FuzzJoinKeepsOrderOfParts(f *testing.F) {
	f.Add("a", "b", "ab", "")
	f.Add("a\x00", "b", "a", "\x00b")
	f.Fuzz(func(t *testing.T, a1, a2, b1, b2 string) {
		a, b := []string{a1, a2}, []string{b1, b2}
		x, y := string(store.Join(a...)), string(store.Join(b...))
		if slices.Compare(a, b) != strings.Compare(x, y) {
			t.Errorf("%q and %q are ordered unlike %q and %q", x, y, a, b)
		}
		if want := string(store.Text(a1) + store.Text(a2)); x != want {
			t.Errorf("got %q, want %q", x, want)
		}
	})
}

func FuzzUintKeepsOrder(f *testing.F) {
	f.Add(uint64(0), uint64(256))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		x := []byte(store.Uint(a))
		if got := binary.BigEndian.Uint64(x); got != a {
			t.Errorf("got %d, want %d", got, a)
		}
		if (a < b) != (bytes.Compare(x, []byte(store.Uint(b))) < 0) {
			t.Errorf("%d and %d lost their order", a, b)
		}
	})
}

func FuzzIndexKeysComeBackAsTheyWere(f *testing.F) {
	f.Add("a\x00b", "\x01\x00")
	f.Fuzz(func(t *testing.T, a, b string) {
		s := store.New(pairs)
		put(s, 1, &pair{key: b, tags: []string{a, b}}, &pair{key: a, tags: []string{b}})
		want := []store.Key{store.Key(a), store.Key(b)}
		slices.Sort(want)
		if got := slices.Collect(byTag.Keys(s.Read())); !slices.Equal(got, slices.Compact(want)) {
			t.Errorf("got %q, want %q", got, want)
		}
		if row := pairs.Get(s.Read(), store.Key(b)); row == nil || row.key != b {
			t.Errorf("got %v for %q", row, b)
		}
	})
}
