package consensus

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// The stores side by side: entries of 300 bytes, in batches of 1 and 64.
func BenchmarkStore(b *testing.B) {
	stores := map[string]func(b *testing.B) raft.LogStore{
		"own": func(b *testing.B) raft.LogStore {
			b.Helper()
			return ownStore(b, b.TempDir(), func(c *Config) { c.segment = segmentSize })
		},
		"boltdb":            func(b *testing.B) raft.LogStore { b.Helper(); return bolt(b, false) },
		"boltdb-nofreelist": func(b *testing.B) raft.LogStore { b.Helper(); return bolt(b, true) },
	}
	for _, name := range []string{"own", "boltdb", "boltdb-nofreelist"} {
		for _, size := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/batch=%d", name, size), func(b *testing.B) {
				s := stores[name](b)
				index := uint64(0)
				data := make([]byte, 300)
				for b.Loop() {
					logs := make([]*raft.Log, size)
					for i := range logs {
						index++
						logs[i] = &raft.Log{Index: index, Term: 1, Data: data, AppendedAt: time.Now()}
					}
					if err := s.StoreLogs(logs); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*size), "µs/entry")
			})
		}
	}
}

func bolt(b *testing.B, noFreelistSync bool) *raftboltdb.BoltStore {
	b.Helper()
	s, err := raftboltdb.New(raftboltdb.Options{
		Path: filepath.Join(b.TempDir(), "raft.db"), BoltOptions: &bbolt.Options{NoFreelistSync: noFreelistSync},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

// Append through raft on a lone server, beside the same over boltdb.
func BenchmarkAppend(b *testing.B) {
	for _, name := range []string{"own", "boltdb", "memory"} {
		for _, clients := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/c=%d", name, clients), func(b *testing.B) {
				dir := ""
				if name == "own" {
					dir = b.TempDir()
				}
				cfg := quick(b, newCables(), "s0", dir)
				cfg.FSM = &sink{}
				l, err := Open(cfg)
				if err != nil {
					b.Fatal(err)
				}
				if name == "boltdb" {
					s := bolt(b, true)
					l.stores.logs, l.stores.stable = s, s
				}
				if err := l.Bootstrap(me(l)); err != nil {
					b.Fatal(err)
				}
				n := runOpened(b, l)
				leads(b, n)
				data := make([]byte, 300)
				var wg sync.WaitGroup
				work := make(chan int)
				for range clients {
					wg.Go(func() {
						for range work {
							if _, _, err := n.Append(b.Context(), data); err != nil {
								b.Error(err)
							}
						}
					})
				}
				for b.Loop() {
					work <- 1
				}
				close(work)
				wg.Wait()
			})
		}
	}
}

type sink struct{ list }

func (*sink) Apply(uint64, []byte) any { return nil }

// From Open to the first barrier, of a lone server.
func BenchmarkOpenToLeader(b *testing.B) {
	for name, dir := range map[string]func() string{"disk": b.TempDir, "memory": func() string { return "" }} {
		b.Run(name, func(b *testing.B) {
			cfg := quick(b, newCables(), "s0", "")
			cfg.Heartbeat, cfg.Election, cfg.LeaderLease = time.Second, time.Second, time.Second/2
			for b.Loop() {
				cfg.Dir = dir()
				cfg.FSM = &list{}
				if err := lone(b, cfg).stop(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
