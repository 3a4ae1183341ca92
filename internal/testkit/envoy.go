package testkit

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Envoys returns the paths of the Envoys that make envoy installed, the oldest
// version first. Without any it skips the test, or fails it where
// ISTHMUS_MUST_ENVOY is set.
func Envoys(tb testing.TB) []string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "build", "bin", "envoy-*"))
	if err != nil {
		tb.Fatal(err)
	}
	switch {
	case len(found) > 0:
	case os.Getenv("ISTHMUS_MUST_ENVOY") != "":
		tb.Fatal("there is no Envoy: run make envoy")
	default:
		tb.Skip("there is no Envoy: run make envoy")
	}
	slices.Sort(found)
	return found
}

// Envoy returns the newest of them.
func Envoy(tb testing.TB) string {
	tb.Helper()
	all := Envoys(tb)
	return all[len(all)-1]
}
