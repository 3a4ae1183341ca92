package local

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"isthmus/api"
)

func reopen(t *testing.T, path string) *journal {
	t.Helper()
	j, err := openJournal(path)
	must(t, err)
	return j
}

// content reads all that a journal has.
func content(t *testing.T, j *journal) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, key := range j.keys() {
		var value string
		has, err := j.get(key, &value)
		must(t, err)
		if !has {
			t.Errorf("%s is a key without a value", key)
		}
		all[key] = value
	}
	return all
}

func TestJournalHasWhatWasPutLast(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	j := reopen(t, filepath.Join(t.TempDir(), "j"))
	want := map[string]string{}
	rewritten := 0
	for i := range 4000 {
		var entries []entry
		for range 1 + r.IntN(3) {
			key, value := fmt.Sprint("k", r.IntN(20)), strings.Repeat(fmt.Sprint(i, "\n"), r.IntN(30))
			if r.IntN(4) == 0 {
				entries = append(entries, entry{key: key})
				delete(want, key)
			} else {
				entries = append(entries, entry{key, value})
				want[key] = value
			}
		}
		before := j.size
		must(t, j.put(lastOfEach(entries)...))
		if j.size < before {
			rewritten++
		}
		switch r.IntN(200) {
		case 0:
			must(t, j.flush())
		case 1:
			must(t, j.close())
			must(t, j.flush())
		case 2:
			j = reopen(t, j.path)
		}
		if i%100 == 0 {
			if got := content(t, reopen(t, j.path)); !maps.Equal(got, want) {
				t.Fatalf("after %d changes there are %v, want %v", i, got, want)
			}
		}
	}
	if rewritten == 0 {
		t.Error("the file was never written anew")
	}
	if _, err := os.Stat(j.path + newEnd); err == nil {
		t.Error("the file that was to replace it is still there")
	}
}

// lastOfEach leaves the last entry of each key.
func lastOfEach(entries []entry) (last []entry) {
	for i, e := range entries {
		again := false
		for _, later := range entries[i+1:] {
			again = again || later.key == e.key
		}
		if !again {
			last = append(last, e)
		}
	}
	return last
}

// TestJournalOutlivesACrashInAWrite cuts the file anywhere within the last change.
func TestJournalOutlivesACrashInAWrite(t *testing.T) {
	j := reopen(t, filepath.Join(t.TempDir(), "j"))
	must(t, j.put(entry{"a", "1"}, entry{"b", "1"}))
	before := j.size
	must(t, j.put(entry{"a", "2"}))
	whole, err := os.ReadFile(j.path)
	must(t, err)
	for n := before; n < j.size; n++ {
		must(t, os.WriteFile(j.path, whole[:n], 0o600))
		again := reopen(t, j.path)
		if got := content(t, again); got["a"] != "1" || got["b"] != "1" {
			t.Errorf("after %d of %d bytes there are %v", n, j.size, got)
		}
		must(t, again.put(entry{"c", "3"}))
		if got := content(t, reopen(t, j.path)); len(got) != 3 || got["a"] != "1" || got["c"] != "3" {
			t.Errorf("and after another change %v", got)
		}
	}
}

func TestJournalThatCannotBeWritten(t *testing.T) {
	j := reopen(t, filepath.Join(t.TempDir(), "j"))
	must(t, j.put(entry{"a", "1"}))
	whole := j.file
	read, err := os.Open(j.path)
	must(t, err)
	j.file = read
	if err := j.put(entry{"a", "2"}, entry{"b", "1"}); err == nil {
		t.Error("a write into what cannot be written succeeds")
	}
	j.file = whole
	must(t, read.Close())
	if got := content(t, j); len(got) != 1 || got["a"] != "1" {
		t.Errorf("after a write that failed there are %v", got)
	}

	// What may have been lost by a flush that failed is written anew.
	must(t, j.put(entry{"b", "1"}))
	must(t, j.file.Close())
	if err := j.flush(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err) // here neither can be read
	}
	if j.durable == j.appended {
		t.Error("a flush that failed counts")
	}
}

func TestRegistrationsAtTheSameTimeAreAllKept(t *testing.T) {
	dir := t.TempDir()
	keep := func(cfg *Config) { cfg.Dir = dir }
	a := newAgent(t, newCatalog(), keep)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for k := range 20 {
				name := fmt.Sprint("s", i, "-", k)
				if err := a.AddService(api.ServiceDefinition{Name: name, Check: ttlCheck()}, false); err != nil {
					t.Error(err)
				}
				if err := a.UpdateTTL("service:"+name, api.Warning, "slow"); err != nil {
					t.Error(err)
				}
				if k%2 == 0 {
					if err := a.RemoveService(name); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	if a.disk.kept.durable != a.disk.kept.appended {
		t.Error("the disk does not have all that was answered for")
	}
	again := newAgent(t, newCatalog(), keep)
	if len(again.Services()) != 160 || !jsonEqual(t, again.Services(), a.Services()) || !jsonEqual(t, again.Checks(), a.Checks()) {
		t.Errorf("got %d services and %d checks, want %d and %d", len(again.Services()), len(again.Checks()), len(a.Services()), len(a.Checks()))
	}
}

func TestStoppedAgentLetsGoOfItsFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent(t, newCatalog(), func(cfg *Config) { cfg.Dir = t.TempDir() })
		stop := start(t, a)
		must(t, a.AddService(web(), false))
		must(t, a.UpdateTTL("service:web1", api.Warning, ""))
		stop()
		if a.disk.kept.file != nil || a.disk.states.file != nil {
			t.Error("files are open")
		}
	})
}
