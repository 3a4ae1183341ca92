package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func openStore(t testing.TB, dir string, edit func(*Config)) (*logStore, error) {
	t.Helper()
	cfg := Config{WriteDeadline: time.Minute, Log: testLog(t), segment: 4096}
	if edit != nil {
		edit(&cfg)
	}
	s, err := openLogStore(&cfg, dir, func(error) {}, true)
	if err == nil {
		t.Cleanup(func() { _ = s.close() })
	}
	return s, err
}

func ownStore(t testing.TB, dir string, edit func(*Config)) *logStore {
	t.Helper()
	s, err := openStore(t, dir, edit)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// entry is the entry of an index and a generation, which makes it unlike others.
func entry(index uint64, generation int) *raft.Log {
	l := &raft.Log{
		Index: index, Term: uint64(generation) + 1, Type: raft.LogCommand, AppendedAt: time.Unix(1700000000, int64(index)),
		Data: fmt.Appendf(nil, "%d/%d/%s", index, generation, strings.Repeat("x", int(index*37%150))),
	}
	if index%3 == 0 {
		l.Extensions = []byte("ext")
	}
	return l
}

func entries(first, last uint64, generation int) []*raft.Log {
	var out []*raft.Log
	for i := first; i <= last; i++ {
		out = append(out, entry(i, generation))
	}
	return out
}

func same(a, b *raft.Log) bool {
	return a.Index == b.Index && a.Term == b.Term && a.Type == b.Type && a.AppendedAt.Equal(b.AppendedAt) &&
		bytes.Equal(a.Data, b.Data) && bytes.Equal(a.Extensions, b.Extensions)
}

// holds reports how a store differs from what it should hold.
func holds(s raft.LogStore, want []*raft.Log) error {
	first, _ := s.FirstIndex()
	last, _ := s.LastIndex()
	if len(want) == 0 {
		if last != 0 {
			return fmt.Errorf("holds %d to %d, want nothing", first, last)
		}
		return nil
	}
	if first > want[0].Index || last != want[len(want)-1].Index {
		return fmt.Errorf("holds %d to %d, want %d to %d", first, last, want[0].Index, want[len(want)-1].Index)
	}
	for _, w := range want {
		var got raft.Log
		if err := s.GetLog(w.Index, &got); err != nil {
			return err
		}
		if !same(&got, w) {
			return fmt.Errorf("entry %d is %+v, want %+v", w.Index, got, *w)
		}
	}
	return nil
}

// gate is a disk that can hang, fail, and write a part of what it is given.
type gate struct {
	match string // in the path of the files it is for

	mu      sync.Mutex
	hung    chan struct{} // closed to let go
	partly  int           // bytes of the next write that go to disk before it hangs
	fail    error
	waiting int
}

func (g *gate) wrap(path string, f file) file {
	if !strings.Contains(path, g.match) {
		return f
	}
	return gated{f, g}
}

// hang makes the disk hang from now on.
func (g *gate) hang(partly int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hung, g.partly = make(chan struct{}), partly
}

func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hung != nil {
		close(g.hung)
		g.hung = nil
	}
}

func (g *gate) breakWith(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fail = err
}

// stuck reports whether somebody waits for the disk.
func (g *gate) stuck() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting == 0 {
		return errors.New("nobody waits for the disk")
	}
	return nil
}

func (g *gate) pass() error {
	g.mu.Lock()
	hung := g.hung
	if hung != nil {
		g.waiting++
	}
	g.mu.Unlock()
	if hung != nil {
		<-hung
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if hung != nil {
		g.waiting--
	}
	return g.fail
}

type gated struct {
	file
	g *gate
}

func (f gated) WriteAt(b []byte, at int64) (int, error) {
	f.g.mu.Lock()
	partly := 0
	if f.g.hung != nil {
		partly = min(f.g.partly, len(b))
	}
	f.g.mu.Unlock()
	if partly > 0 {
		if n, err := f.file.WriteAt(b[:partly], at); err != nil {
			return n, err
		}
	}
	if err := f.g.pass(); err != nil {
		return 0, err
	}
	return f.file.WriteAt(b, at)
}

func (f gated) Sync() error {
	if err := f.g.pass(); err != nil {
		return err
	}
	return f.file.Sync()
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// unsynced makes tests that open thousands of logs quick.
type unsynced struct{ file }

func (unsynced) Sync() error { return nil }
