package store_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"isthmus/internal/store"
)

// The benchmarks stand beside the same on go-immutable-radix, with the mutation
// tracking that wakes readers. That tree gives no index; a table on top of it
// would have to keep one elsewhere.

const benchRows = 100_000

func benchKey(i int) string { return fmt.Sprintf("service/%03d/instance/%04d", i%1000, i/1000) }

func benchPairs(n int) []*pair {
	rows := make([]*pair, n)
	for i := range rows {
		rows[i] = &pair{key: benchKey(i), n: i}
	}
	return rows
}

func fill(tb testing.TB, rows []*pair) *store.Store {
	tb.Helper()
	s := store.New(counts, pairs)
	if err := s.Restore(1, func(w *store.WriteTx) error {
		for _, r := range rows {
			pairs.Put(w, r)
		}
		return nil
	}); err != nil {
		tb.Fatal(err)
	}
	return s
}

func fillRadix(rows []*pair) *iradix.Tree[*pair] {
	tx := iradix.New[*pair]().Txn()
	for _, r := range rows {
		tx.Insert([]byte(r.key), r)
	}
	return tx.Commit()
}

func radixPut(tree *iradix.Tree[*pair], key []byte, r *pair) *iradix.Tree[*pair] {
	tx := tree.Txn()
	tx.TrackMutate(true)
	tx.Insert(key, r)
	return tx.Commit()
}

func BenchmarkPut(b *testing.B) {
	rows := benchPairs(benchRows)
	b.Run("store", func(b *testing.B) {
		s, i := fill(b, rows), 0
		b.ReportAllocs()
		for b.Loop() {
			w := s.Write(uint64(i) + 2)
			pairs.Put(w, rows[i*7919%len(rows)])
			w.Commit()
			i++
		}
	})
	b.Run("iradix", func(b *testing.B) {
		tree, i := fillRadix(rows), 0
		b.ReportAllocs()
		for b.Loop() {
			r := rows[i*7919%len(rows)]
			tree = radixPut(tree, []byte(r.key), r)
			i++
		}
	})
}

func BenchmarkGet(b *testing.B) {
	rows := benchPairs(benchRows)
	b.Run("store", func(b *testing.B) {
		tx, i := fill(b, rows).View(), 0
		b.ReportAllocs()
		for b.Loop() {
			if pairs.Get(tx, store.Key(rows[i*7919%len(rows)].key)) == nil {
				b.Fatal("missing")
			}
			i++
		}
	})
	b.Run("iradix", func(b *testing.B) {
		tree, i := fillRadix(rows), 0
		b.ReportAllocs()
		for b.Loop() {
			if _, _, ok := tree.Root().GetWatch([]byte(rows[i*7919%len(rows)].key)); !ok {
				b.Fatal("missing")
			}
			i++
		}
	})
}

func BenchmarkScan100(b *testing.B) {
	rows := benchPairs(benchRows)
	prefixes := make([]string, 1000)
	for i := range prefixes {
		prefixes[i] = fmt.Sprintf("service/%03d/", i)
	}
	b.Run("store", func(b *testing.B) {
		s, i := fill(b, rows), 0
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			for range pairs.Prefix(s.Read(), store.Key(prefixes[i*7919%1000])) {
				n++
			}
			if i++; n != 100 {
				b.Fatal(n)
			}
		}
	})
	b.Run("iradix", func(b *testing.B) {
		tree, i := fillRadix(rows), 0
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			it := tree.Root().Iterator()
			it.SeekPrefixWatch([]byte(prefixes[i*7919%1000]))
			for _, _, ok := it.Next(); ok; _, _, ok = it.Next() {
				n++
			}
			if i++; n != 100 {
				b.Fatal(n)
			}
		}
	})
}

// BenchmarkFanOut is one change that 5,000 readers wait for, until the last one
// has run.
func BenchmarkFanOut(b *testing.B) {
	const readers = 5000
	rows := benchPairs(1000)
	b.Run("store", func(b *testing.B) {
		s, i := fill(b, rows), uint64(1)
		for b.Loop() {
			b.StopTimer()
			var parked, woken sync.WaitGroup
			parked.Add(readers)
			for range readers {
				woken.Go(func() {
					tx := s.Read()
					pairs.Get(tx, store.Key(rows[0].key))
					tx.Changed()
					parked.Done()
					_ = tx.Wait(b.Context())
				})
			}
			parked.Wait()
			b.StartTimer()
			i++
			put(s, i, rows[0])
			woken.Wait()
		}
	})
	b.Run("iradix", func(b *testing.B) {
		tree := fillRadix(rows)
		key := []byte(rows[0].key)
		for b.Loop() {
			b.StopTimer()
			var parked, woken sync.WaitGroup
			parked.Add(readers)
			for range readers {
				woken.Go(func() {
					ch, _, _ := tree.Root().GetWatch(key)
					parked.Done()
					select {
					case <-ch:
					case <-b.Context().Done():
					}
				})
			}
			parked.Wait()
			b.StartTimer()
			next := radixPut(tree, key, rows[0])
			woken.Wait()
			b.StopTimer()
			tree = next
			b.StartTimer()
		}
	})
}

// BenchmarkPark is one reader of 200 rows that comes, waits and gives up.
func BenchmarkPark(b *testing.B) {
	rows := benchPairs(benchRows)
	s := fill(b, rows)
	b.ReportAllocs()
	for b.Loop() {
		tx := s.Read()
		for _, r := range rows[:200] {
			pairs.Get(tx, store.Key(r.key))
		}
		tx.Changed()
		tx.Release()
	}
}

func allocated() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkMemory reports bytes a row, keys included and the row itself not,
// and bytes a node for each of 1,000 readers that wait for 200.
func BenchmarkMemory(b *testing.B) {
	rows := benchPairs(benchRows)
	perRow := func(before uint64) float64 { return (float64(allocated()) - float64(before)) / benchRows }
	copies := func() []*pair { // keys of their own, as a tree has them that makes its keys
		out := make([]*pair, len(rows))
		for i, r := range rows {
			out[i] = &pair{key: strings.Clone(r.key)}
		}
		return out
	}
	rowSize := func() float64 {
		before := allocated()
		c := copies()
		n := perRow(before)
		runtime.KeepAlive(c)
		return n - 32 // the key itself counts for the tree
	}()
	b.Run("store", func(b *testing.B) {
		for b.Loop() {
			before := allocated()
			s := fill(b, copies())
			b.ReportMetric(perRow(before)-rowSize, "B/row")
			runtime.KeepAlive(s)
		}
	})
	b.Run("iradix", func(b *testing.B) {
		for b.Loop() {
			before := allocated()
			tree := fillRadix(copies())
			b.ReportMetric(perRow(before)-rowSize, "B/row")
			runtime.KeepAlive(tree)
		}
	})
	b.Run("parked", func(b *testing.B) {
		s := fill(b, rows)
		for b.Loop() {
			before := allocated()
			txs := make([]*store.Tx, 1000)
			for i := range txs {
				txs[i] = s.Read()
				for _, r := range rows[:200] {
					pairs.Get(txs[i], store.Key(r.key))
				}
				txs[i].Changed()
			}
			b.ReportMetric((float64(allocated())-float64(before))/(1000*200), "B/(reader·node)")
			for _, tx := range txs {
				tx.Release()
			}
		}
	})
}

// BenchmarkRestore puts a million rows.
func BenchmarkRestore(b *testing.B) {
	rows := benchPairs(1_000_000)
	b.Run("store", func(b *testing.B) {
		for b.Loop() {
			fill(b, rows)
		}
	})
	b.Run("iradix", func(b *testing.B) {
		for b.Loop() {
			fillRadix(rows)
		}
	})
}
