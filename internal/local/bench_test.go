package local

import (
	"fmt"
	"testing"
	"time"

	"isthmus/api"
)

// BenchmarkAddService registers a service with a check beside 5,000 others, on an
// agent that keeps nothing.
func BenchmarkAddService(b *testing.B) {
	a := full(b, 5000)
	for b.Loop() {
		def := web()
		def.Port = b.N
		if err := a.AddService(def, false); err != nil {
			b.Fatal(err)
		}
		if err := a.RemoveService(def.ID); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCompare compares 5,000 services and their checks with the catalog when
// nothing differs.
func BenchmarkCompare(b *testing.B) {
	a := full(b, 5000)
	if _, err := a.syncOnce(b.Context(), true); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := a.syncOnce(b.Context(), true); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRepeatedUpdateTTL updates a check with what it has already, as most
// heartbeats do.
func BenchmarkRepeatedUpdateTTL(b *testing.B) {
	a := full(b, 5000)
	for b.Loop() {
		if err := a.UpdateTTL("service:s7", api.Passing, "fine"); err != nil {
			b.Fatal(err)
		}
	}
}

func full(b *testing.B, n int) *Agent {
	b.Helper()
	a := newAgent(b, newCatalog())
	for i := range n {
		def := web()
		def.ID = fmt.Sprint("s", i)
		def.Check.TTL = api.Duration(time.Hour)
		if err := a.AddService(def, false); err != nil {
			b.Fatal(err)
		}
	}
	return a
}
