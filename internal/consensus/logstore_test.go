package consensus

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func store(t testing.TB, s *logStore, logs []*raft.Log) {
	t.Helper()
	if err := s.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
}

// A log of two segments, all of it acknowledged.
func written(t *testing.T) (dir string, want []*raft.Log) {
	t.Helper()
	dir = t.TempDir()
	s := ownStore(t, dir, nil)
	for i := uint64(1); i <= 30; i += 3 {
		store(t, s, entries(i, i+2, 0))
	}
	if got := len(s.segments); got != 2 {
		t.Fatalf("got %d segments", got)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	return dir, entries(1, 30, 0)
}

// faithful opens a directory and fails unless all that was acknowledged is
// there or the directory is refused in words that help.
func faithful(t *testing.T, dir, name string, want []*raft.Log) (refused bool) {
	t.Helper()
	s, err := openStore(t, dir, func(c *Config) { c.wrap = func(_ string, f file) file { return unsynced{f} } })
	if err != nil {
		if !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "rejoin with an empty data directory") {
			t.Fatalf("refused without naming file and cure: %v", err)
		}
		return true
	}
	if err := holds(s, want); err != nil {
		t.Fatalf("opened, but %v", err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	return false
}

func TestNoFlippedBitGoesUnnoticed(t *testing.T) {
	dir, want := written(t)
	for _, number := range []uint64{1, 2} {
		path := segmentPath(dir, number)
		whole := readFile(t, path)
		refused := 0
		flips := 0
		for i := range whole {
			if whole[i] == 0 && i%4096 > 3400 && i%37 != 0 {
				continue // a sample of the empty end
			}
			b := slices.Clone(whole)
			b[i] ^= 1 << (i % 8)
			writeFile(t, path, b)
			flips++
			if faithful(t, dir, path, want) {
				refused++
			}
			writeFile(t, path, whole)
		}
		t.Logf("segment %d: %d of %d flips refused", number, refused, flips)
		if refused < flips/8 {
			t.Errorf("segment %d: only %d flips refused", number, refused)
		}
	}
}

func TestNoCutGoesUnnoticed(t *testing.T) {
	dir, want := written(t)
	for _, number := range []uint64{1, 2} {
		path := segmentPath(dir, number)
		whole := readFile(t, path)
		for n := 0; n < len(whole); n += 1 + n%3 {
			writeFile(t, path, whole[:n])
			if !faithful(t, dir, path, want) {
				t.Fatalf("segment %d was cut to %d bytes and opened", number, n)
			}
		}
		writeFile(t, path, whole)
	}
}

func TestMissingSegmentIsRefused(t *testing.T) {
	for _, number := range []uint64{1, 2} {
		dir, _ := written(t)
		if err := os.Remove(segmentPath(dir, number)); err != nil {
			t.Fatal(err)
		}
		s, err := openStore(t, dir, nil)
		if number == 2 && err == nil {
			t.Error("the last segment is missing, and the log opened")
		}
		if number == 1 && err == nil { // Open compares with the snapshot
			if first, _ := s.FirstIndex(); first == 1 {
				t.Error("the first segment is missing, and the log begins at 1")
			}
		}
	}
}

// The last write of a crash may be there in any part, in any order of its
// pages. Nobody was told of it, so the log opens without what is not whole.
func TestTornLastWriteIsDropped(t *testing.T) {
	dir := t.TempDir()
	g := &gate{match: ".log"}
	s := ownStore(t, dir, func(c *Config) { c.wrap = g.wrap })
	store(t, s, entries(1, 5, 0))
	path := segmentPath(dir, 1)
	before := readFile(t, path)
	last := entries(6, 9, 0)
	store(t, s, last)
	after := readFile(t, path)
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	// Take away the mark of the last write: it was not acknowledged.
	end := len(after)
	for end > 0 && after[end-1] == 0 {
		end--
	}
	clear(after[(end-9)&^7 : end])

	begin := 0
	for before[begin] == after[begin] {
		begin++
	}
	end = (end - 9) &^ 7
	for cut := begin; cut <= end; cut++ {
		for _, variant := range []string{"front", "back"} {
			b := slices.Clone(before)
			if variant == "front" {
				copy(b[begin:cut], after[begin:cut])
			} else {
				copy(b[cut:end], after[cut:end])
			}
			writeFile(t, path, b)
			s, err := openStore(t, dir, nil)
			if err != nil {
				t.Fatalf("%s at %d: %v", variant, cut, err)
			}
			got, _ := s.LastIndex()
			if got < 5 || got > 9 {
				t.Fatalf("%s at %d: the log ends at %d", variant, cut, got)
			}
			// Whatever was dropped must not come back.
			more := entries(got+1, got+2, 1)
			store(t, s, more)
			if err := s.close(); err != nil {
				t.Fatal(err)
			}
			s = ownStore(t, dir, nil)
			if err := holds(s, append(entries(1, got, 0), more...)); err != nil {
				t.Fatalf("%s at %d: %v", variant, cut, err)
			}
			if err := s.close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestRestartsDoNotFillTheSegment(t *testing.T) {
	dir := t.TempDir()
	for range 300 {
		s := ownStore(t, dir, nil)
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
	s := ownStore(t, dir, nil)
	if s.end > segmentHeader+2*markSize || len(s.segments) != 1 {
		t.Errorf("300 restarts left the end at %d in segment %d", s.end, s.active.number)
	}
}

// Random operations, crashes included, against a plain slice.
func TestStoreBehavesLikeASlice(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			dir := t.TempDir()
			s := ownStore(t, dir, nil)
			var want []*raft.Log
			next := uint64(1)
			for step := range 120 {
				switch op := rnd.IntN(10); {
				case op < 6:
					logs := entries(next, next+rnd.Uint64N(12), step)
					store(t, s, logs)
					want = append(want, logs...)
				case op < 7 && len(want) > 1: // compaction
					n := rnd.IntN(len(want)-1) + 1
					low, _ := s.FirstIndex()
					if err := s.DeleteRange(low, want[n-1].Index); err != nil {
						t.Fatal(err)
					}
					want = want[n:]
					if first, _ := s.FirstIndex(); first != want[0].Index {
						t.Fatalf("begins at %d, want %d", first, want[0].Index)
					}
				case op < 8 && len(want) > 0: // conflict
					n := rnd.IntN(len(want))
					low := want[n].Index
					if n == 0 {
						low, _ = s.FirstIndex()
					}
					if err := s.DeleteRange(low, want[len(want)-1].Index); err != nil {
						t.Fatal(err)
					}
					next, want = want[n].Index, slices.Clip(want[:n])
				case op < 9: // a kill, or an orderly end
					if rnd.IntN(2) == 0 {
						dir = copyOf(t, dir)
					} else if err := s.close(); err != nil {
						t.Fatal(err)
					}
					s = ownStore(t, dir, nil)
				case rnd.IntN(4) == 0 && len(want) > 0: // a snapshot came
					low, _ := s.FirstIndex()
					if err := s.DeleteRange(low, want[len(want)-1].Index); err != nil {
						t.Fatal(err)
					}
					next, want = next+1000, nil
				}
				if len(want) > 0 {
					next = want[len(want)-1].Index + 1
				}
				if err := holds(s, want); err != nil {
					t.Fatalf("step %d: %v", step, err)
				}
			}
			if len(s.segments) > 2+len(want)/8 {
				t.Errorf("%d segments hold %d entries", len(s.segments), len(want))
			}
		})
	}
}

func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestEntryLargerThanASegment(t *testing.T) {
	dir := t.TempDir()
	s := ownStore(t, dir, nil)
	big := entry(2, 0)
	big.Data = make([]byte, 50_000)
	want := []*raft.Log{entry(1, 0), big, entry(3, 0)}
	for _, l := range want {
		store(t, s, []*raft.Log{l})
	}
	s = ownStore(t, copyOf(t, dir), nil)
	if err := holds(s, want); err != nil {
		t.Error(err)
	}
}

func TestGapsAreRefused(t *testing.T) {
	s := ownStore(t, t.TempDir(), nil)
	store(t, s, entries(1, 5, 0))
	if err := s.StoreLogs(entries(7, 8, 0)); err == nil {
		t.Error("entry 7 was stored after entry 5")
	}
	if err := s.StoreLogs([]*raft.Log{entry(6, 0), entry(8, 0)}); err == nil {
		t.Error("entry 8 was stored after entry 6")
	}
	if err := s.DeleteRange(2, 3); err == nil {
		t.Error("a hole was made")
	}
	var l raft.Log
	if err := s.GetLog(6, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestLateWriteIsUndone(t *testing.T) {
	for _, partly := range []int{0, 20} {
		dir := t.TempDir()
		g := &gate{match: ".log"}
		s := ownStore(t, dir, func(c *Config) { c.wrap, c.WriteDeadline = g.wrap, 20*time.Millisecond })
		store(t, s, entries(1, 5, 0))
		g.hang(partly)
		if err := s.StoreLogs(entries(6, 9, 0)); !errors.Is(err, ErrDeadline) {
			t.Fatalf("got %v", err)
		}
		if err := s.StoreLogs(entries(6, 9, 0)); !errors.Is(err, ErrDeadline) {
			t.Fatalf("while the first hangs: got %v", err)
		}
		if err := holds(s, entries(1, 5, 0)); err != nil {
			t.Fatal(err)
		}
		faithful(t, copyOf(t, dir), "", entries(1, 5, 0))
		g.release()
		want := append(entries(1, 5, 0), entries(6, 7, 1)...)
		eventually(t, 5*time.Second, func() error { return s.StoreLogs(entries(6, 7, 1)) })
		if err := holds(s, want); err != nil {
			t.Fatal(err)
		}
		if err := holds(ownStore(t, copyOf(t, dir), nil), want); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFailedFlushStopsTheStoreForGood(t *testing.T) {
	dir := t.TempDir()
	g := &gate{match: ".log"}
	s := ownStore(t, dir, func(c *Config) { c.wrap = g.wrap })
	told := make(chan error, 9)
	s.fail = func(err error) { told <- err }
	store(t, s, entries(1, 5, 0))
	broken := errors.New("input/output error")
	g.breakWith(broken)
	if err := s.StoreLogs(entries(6, 6, 0)); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	g.breakWith(nil)
	if err := s.StoreLogs(entries(6, 6, 0)); !errors.Is(err, broken) {
		t.Fatalf("after the failure: got %v", err)
	}
	if err := <-told; !errors.Is(err, broken) {
		t.Errorf("told %v", err)
	}
	if err := holds(ownStore(t, copyOf(t, dir), nil), entries(1, 5, 0)); err != nil {
		t.Error(err)
	}
}

func TestCrashBetweenNewSegmentAndSeal(t *testing.T) {
	dir := t.TempDir()
	s := ownStore(t, dir, nil)
	store(t, s, entries(1, 5, 0))
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	seg, err := createSegment(disk{}, dir, 2, 4096)
	if err != nil {
		t.Fatal(err)
	}
	_ = seg.f.Close()
	writeFile(t, filepath.Join(dir, "0000000000000003.log.tmp"), []byte("half"))
	s = ownStore(t, dir, nil)
	store(t, s, entries(6, 40, 0))
	if err := holds(ownStore(t, copyOf(t, dir), nil), entries(1, 40, 0)); err != nil {
		t.Error(err)
	}
}

func TestBitRotShowsInReading(t *testing.T) {
	dir := t.TempDir()
	s := ownStore(t, dir, nil)
	store(t, s, entries(1, 3, 0))
	s.recent = [recentSize]*raft.Log{}
	path := segmentPath(dir, 1)
	b := readFile(t, path)
	b[s.places[1].offset+20] ^= 1
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	var l raft.Log
	if err := s.GetLog(2, &l); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

func FuzzSegment(f *testing.F) {
	s := &segment{path: "x", size: 512}
	b := s.header()
	b = s.appendEntry(b, 0, entry(1, 0))
	b = s.appendKind(b, 0, kindMark)
	b = s.appendCut(b, 0, 0)
	f.Add(append(b, make([]byte, 512-len(b))...))
	f.Fuzz(func(_ *testing.T, b []byte) {
		s := &segment{path: "x"}
		if s.parseHeader(b) != nil {
			return
		}
		l := &logStore{}
		_, _ = s.scan(b, func(r record, offset, size int64) error { return l.replay(s, r, offset, size) })
	})
}

func FuzzRecord(f *testing.F) {
	s := &segment{path: "x", size: 1 << 16}
	whole := s.appendEntry(nil, segmentHeader, entry(3, 0))
	f.Add(whole[recordHeader:])
	f.Add([]byte{kindCut, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) == 0 || len(body) > 1<<15 {
			return
		}
		b := s.seal(append(s.header()[:segmentHeader:segmentHeader], append(make([]byte, recordHeader), body...)...), segmentHeader, 0)
		b = append(b, make([]byte, int(s.size)-len(b))...)
		l := &logStore{}
		_, _ = s.scan(b, func(r record, offset, size int64) error { return l.replay(s, r, offset, size) })
		for i := range l.places {
			var got raft.Log
			r, _, ok := s.recordAt(b, 0, int64(l.places[i].offset))
			if !ok || !r.entry(&got) || got.Index != l.first {
				t.Fatalf("got %+v", got)
			}
		}
	})
}
