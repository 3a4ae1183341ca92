package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestNodeIDIsKept(t *testing.T) {
	dir := t.TempDir()
	first, err := nodeID("", dir)
	if err != nil || !uuid.MatchString(first) {
		t.Fatalf("got %q, %v", first, err)
	}
	if again, err := nodeID("", dir); err != nil || again != first {
		t.Errorf("after a restart: got %q, %v, want %q", again, err, first)
	}
	const set = "AAAAAAAA-0000-0000-0000-000000000000"
	if got, err := nodeID(set, dir); err != nil || got != strings.ToLower(set) {
		t.Errorf("with an id that is set: got %q, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "node-id"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := nodeID("", dir); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "node-id")) {
		t.Errorf("a torn file gave %v, want an error that names it", err)
	}
}

func TestDataDirectoryHasOneUser(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	lock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := lockDir(dir); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second user got %v, %v", second, err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := lockDir(dir)
	if err != nil {
		t.Fatalf("after the first one ended: %v", err)
	}
	_ = again.Close()
}

func TestServerThatWasDownForLongDoesNotStart(t *testing.T) {
	dir := t.TempDir()
	if err := checkAge(dir, time.Hour); err != nil {
		t.Errorf("a first start: %v", err)
	}
	if err := noteAge(dir); err != nil {
		t.Fatal(err)
	}
	if err := checkAge(dir, time.Hour); err != nil {
		t.Errorf("a restart: %v", err)
	}
	err := checkAge(dir, -time.Hour)
	for _, want := range []string{"server_rejoin_age_max", metadataFile(dir)} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
	if err := os.WriteFile(metadataFile(dir), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkAge(dir, time.Hour); err == nil {
		t.Error("a torn file was taken for a fresh one")
	}
}
