package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
)

type row struct{ k string }

var rows = NewTable("rows", func(r *row) Key { return Key(r.k) })

func (s *Store) putRow(index uint64, k string) {
	w := s.Write(index)
	defer w.Abort()
	rows.Put(w, &row{k})
	w.Commit()
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestAMillionWaitsOnOneKeyLeaveNothing(t *testing.T) {
	s := New(rows)
	s.putRow(1, "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	waits := 1_000_000
	if testing.Short() {
		waits = 100_000
	}
	before := heap()
	for range waits {
		tx := s.Read()
		rows.Get(tx, "a")
		rows.Prefix(tx, "")(func(*row) bool { return true })
		if err := tx.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if grown := int64(heap()) - int64(before); grown > 64<<10 {
		t.Errorf("%d waits left %d bytes", waits, grown)
	}
	if tx := s.Read(); rows.data(tx).rows.watch.Load() != nil {
		t.Error("the table is still watched")
	}
	runtime.KeepAlive(s)
}

func TestWhoeverLeavesIsForgottenAndTheOthersAreWoken(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		s := New(rows)
		s.putRow(1, "abc")
		var txs []*Tx
		for range 1 + r.IntN(20) {
			tx := s.Read()
			for range 1 + r.IntN(4) { // the same row, with many a reach
				k := Key("abc"[:r.IntN(4)])
				rows.Prefix(tx, k)(func(*row) bool { return true })
				rows.Get(tx, "abc")
			}
			tx.Changed()
			txs = append(txs, tx)
		}
		r.Shuffle(len(txs), func(i, j int) { txs[i], txs[j] = txs[j], txs[i] })
		left := r.IntN(len(txs) + 1)
		for _, tx := range txs[:left] {
			tx.Release()
			tx.Release()
		}
		root := rows.data(s.View()).rows
		leaf := root.kids[0].leaf
		s.putRow(2, "abc")
		for i, tx := range txs {
			if got := tx.waiter.fired.Load(); got != (i >= left) {
				t.Fatalf("seed %d: reader %d of %d, %d left: woken: %v", seed, i, len(txs), left, got)
			}
			tx.Release()
		}
		if root.watch.Load() != nil || leaf.watch.Load() != nil || root.shape.watch.Load() != nil {
			t.Fatalf("seed %d: something is still watched", seed)
		}
	}
}

func TestEmptyGroupsGoWhileOthersStay(t *testing.T) {
	m := &mark{}
	by := []*waiter{{ch: make(chan struct{})}, {ch: make(chan struct{})}, {ch: make(chan struct{})}}
	places := make([]place, len(by))
	for i := range by {
		if !m.park(reachSelf+uint32(i), &places[i], by[i]) {
			t.Fatal("changed")
		}
	}
	places[1].leave()
	var reaches []uint32
	for g := m.watch.Load().groups; g != nil; g = g.next {
		reaches = append(reaches, g.reach)
	}
	if want := []uint32{3, 1}; !slices.Equal(reaches, want) {
		t.Errorf("got groups %v, want %v", reaches, want)
	}
	if woken := m.cutAt(2, nil); !slices.Equal(woken, by[2:]) {
		t.Errorf("woke %d readers, not the last one alone", len(woken))
	}
	if m.park(2, &places[1], by[1]) || !m.park(1, &places[1], by[1]) {
		t.Error("a cut does not tell near from far")
	}
}

func TestACutAndAReaderThatComesDoNotMissEachOther(t *testing.T) {
	for i := range 50_000 {
		m, by, p := &mark{}, &waiter{ch: make(chan struct{})}, &place{}
		var other place // keeps the watch there
		if i%2 == 0 {
			m.park(reachSelf, &other, &waiter{})
		}
		var woken []*waiter
		var wg sync.WaitGroup
		wg.Go(func() { woken = m.cutAt(reachSelf, nil) })
		ok := m.park(reachSelf, p, by)
		wg.Wait()
		if ok && !slices.Contains(woken, by) {
			t.Fatal("the reader waits for what has changed before")
		}
		if m.watch.Load() != nil {
			t.Fatal("a mark that has changed is still watched")
		}
	}
}

// TestNodesLeftByDeletesGoWithTheNextWriteBelow shows that deleting does not leave nodes behind
// without bound: what a delete has to keep goes with the next write below it.
func TestNodesLeftByDeletesGoWithTheNextWriteBelow(t *testing.T) {
	s := New(rows)
	s.putRow(1, "abcd")
	for i, k := range []string{"a", "ab", "abc", "x", "abx"} {
		s.putRow(uint64(i)+2, k)
	}
	w := s.Write(20)
	for _, k := range []Key{"a", "ab", "abc", "x", "abx"} {
		rows.Delete(w, k)
	}
	w.Commit()
	s.putRow(21, "abcd")
	root := rows.data(s.View()).rows
	if len(root.kids) != 1 || root.kids[0].leaf == nil || root.shape.edges[0].label != "abcd" {
		t.Errorf("the root has edges %v", root.shape.edges)
	}
}
