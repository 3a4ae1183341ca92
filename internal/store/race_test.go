package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"isthmus/internal/store"
)

// TestEveryReaderLearnsOfTheLastWrite lets readers wait, give up and wait again
// while rows change under them. A wake that got lost would leave one waiting
// for ever, and a torn view would show rows that do not add up.
func TestEveryReaderLearnsOfTheLastWrite(t *testing.T) {
	const keys, readers, writes, total = 8, 16, 3000, 1000
	s := store.New(pairs)
	key := func(i int) string { return fmt.Sprintf("account/%d", i) }
	w := s.Write(1)
	for i := range keys {
		n := 0
		if i == 0 {
			n = total
		}
		pairs.Put(w, &pair{key: key(i), n: n, tags: []string{"open"}})
	}
	w.Commit()

	var wg sync.WaitGroup
	for seed := range uint64(readers) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 5))
			var last uint64
			for {
				tx := s.Read()
				sum := 0
				for row := range byTag.Get(tx, "open") {
					sum += row.n
				}
				if seed%2 == 0 {
					pairs.Get(tx, store.Key(key(r.IntN(keys))))
				}
				if sum != total || tx.Index() < last {
					t.Errorf("the rows add up to %d, at %d after %d", sum, tx.Index(), last)
					return
				}
				last = tx.Index()
				if pairs.Get(tx, "end") != nil {
					return
				}
				ctx, cancel := context.WithCancel(t.Context())
				if r.IntN(3) == 0 {
					cancel()
				}
				if err := tx.Wait(ctx); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	r := rand.New(rand.NewPCG(1, 2))
	for index := range uint64(writes) {
		w := s.Write(index + 2)
		from, to := key(r.IntN(keys)), key(r.IntN(keys))
		a := *pairs.Get(w, store.Key(from))
		a.n -= 5
		pairs.Put(w, &a)
		b := *pairs.Get(w, store.Key(to))
		b.n += 5
		pairs.Put(w, &b)
		if r.IntN(4) == 0 { // the tree changes its shape as well
			pairs.Put(w, &pair{key: fmt.Sprintf("acc%d", r.IntN(20))})
			pairs.DeletePrefix(w, store.Key(fmt.Sprintf("acc%d", r.IntN(10))))
		}
		w.Commit()
	}
	put(s, writes+2, &pair{key: "end"})
	wg.Wait()
}
