package local

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"isthmus/api"
)

// BenchmarkRegister registers services, each with a check, until the catalog has
// them, on an agent that keeps them on disk. What one costs must not grow with
// their number.
func BenchmarkRegister(b *testing.B) {
	for _, n := range []int{500, 2000, 8000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				a := newAgent(b, newCatalog(), func(cfg *Config) { cfg.Dir = b.TempDir() })
				stop := runs(b, a)
				for i := range n {
					def := web()
					def.ID = fmt.Sprint("s", i)
					if err := a.addService(def, false); err != nil { // how long the disk takes is not at issue
						b.Fatal(err)
					}
				}
				for len(a.unsynced()) > 0 {
					runtime.Gosched()
				}
				stop()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "us/service")
		})
	}
}

// runs lets an agent run until stop is called.
func runs(b *testing.B, a *Agent) (stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}

// BenchmarkPush pushes the change of one check beside many others.
func BenchmarkPush(b *testing.B) {
	for _, n := range []int{500, 8000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			a := full(b, n)
			if _, err := a.syncOnce(b.Context(), true); err != nil {
				b.Fatal(err)
			}
			status := map[bool]string{true: api.Passing, false: api.Warning}
			for turn := true; b.Loop(); turn = !turn {
				if err := a.UpdateTTL("service:s7", status[turn], ""); err != nil {
					b.Fatal(err)
				}
				if _, err := a.syncOnce(b.Context(), false); err != nil {
					b.Fatal(err)
				}
				a.nextDue(time.Now())
			}
		})
	}
}

// BenchmarkKeptHeartbeat updates checks with what they have already, on an agent
// that keeps their states.
func BenchmarkKeptHeartbeat(b *testing.B) {
	a := newAgent(b, newCatalog(), func(cfg *Config) { cfg.Dir = b.TempDir() })
	for i := range 500 {
		def := web()
		def.ID = fmt.Sprint("s", i)
		if err := a.addService(def, false); err != nil {
			b.Fatal(err)
		}
	}
	for i := 0; b.Loop(); i++ {
		if err := a.UpdateTTL(fmt.Sprint("service:s", i%500), api.Passing, "fine"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHeldService tells how much memory a service with a TTL check takes.
func BenchmarkHeldService(b *testing.B) {
	const n = 5000
	var held uint64
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		a := full(b, n)
		stop := runs(b, a)
		runtime.GC()
		runtime.ReadMemStats(&after)
		held = after.HeapAlloc + after.StackInuse - before.HeapAlloc - before.StackInuse
		stop()
	}
	b.ReportMetric(float64(held)/n, "B/service")
}
