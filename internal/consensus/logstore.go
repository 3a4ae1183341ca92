package consensus

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

const (
	segmentSize = 8 << 20
	recentSize  = 128 // entries kept in memory: two batches of the raft library
	maxBatch    = 1 << 30
)

// A logStore keeps the log in segments. It costs one flush a batch.
//
// The raft library writes from one goroutine. It must not be held up by a disk
// that hangs, so each write runs on a goroutine of its own and StoreLogs gives
// up on it at the deadline. Until that write is over, whoever holds the token
// owns the end of the log and nothing else is written. What it wrote after all
// is cut off again by the next write: raft was told that it failed.
type logStore struct {
	disk     disk
	dir      string
	segment  int64 // size of a new one
	deadline time.Duration
	log      *slog.Logger
	fail     func(error)   // told when the log can no longer be written
	flushes  atomic.Uint64 // of batches

	token chan struct{} // holds one value while nobody writes
	// The holder of the token owns these.
	active *segment
	end    int64 // where the next record goes in active
	undo   bool  // active holds entries that raft was told were not written
	broken error // set for good: what is on disk is not known
	buf    []byte

	mu       sync.RWMutex
	segments []*segment // oldest first, active last
	first    uint64     // index of places[0]
	places   []place
	recent   [recentSize]*raft.Log
}

// A place is where an entry stands.
type place struct {
	seg    *segment
	offset uint32
	size   uint32
}

// openLogStore opens the log in a directory. It makes one if fresh is true and
// there is none.
func openLogStore(cfg *Config, dir string, fail func(error), fresh bool) (*logStore, error) {
	s := &logStore{
		disk: disk{cfg.wrap}, dir: dir, segment: cfg.segment, deadline: cfg.WriteDeadline, log: cfg.Log, fail: fail,
		token: make(chan struct{}, 1),
	}
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	if err := sweep(dir); err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return nil, err
	}
	if err := s.load(paths, fresh); err != nil {
		return nil, errors.Join(err, s.closeFiles())
	}
	s.token <- struct{}{}
	return s, nil
}

// begin makes the first segment of a new log.
func (s *logStore) begin(fresh bool) error {
	if !fresh {
		return fmt.Errorf("log %s: there are a term or snapshots, but no log segments; %s", s.dir, cure)
	}
	seg, err := createSegment(s.disk, s.dir, 1, s.segment)
	if err != nil {
		return err
	}
	s.segments, s.active, s.end = []*segment{seg}, seg, segmentHeader
	return nil
}

func (s *logStore) load(paths []string, fresh bool) error {
	if len(paths) == 0 {
		return s.begin(fresh)
	}
	var before scan
	for i, path := range paths {
		seg, content, err := openSegment(s.disk, path)
		if err != nil {
			return err
		}
		s.segments = append(s.segments, seg)
		if path != segmentPath(s.dir, seg.number) || (i > 0 && seg.number != s.active.number+1) {
			return fmt.Errorf("log %s: the segment before %s is missing; %s", s.dir, path, cure)
		}
		found, err := seg.scan(content, func(r record, offset, size int64) error {
			return s.replay(seg, r, offset, size)
		})
		if err != nil {
			return err
		}
		if i > 0 && !before.sealed {
			// A crash came between the making of a segment and the seal of the
			// one before, which goes on; nothing was written to the new one.
			if i != len(paths)-1 || !found.empty {
				return s.active.damaged(before.end, "it was never sealed, and yet a later segment exists")
			}
			s.segments = s.segments[:i]
			if err := errors.Join(seg.f.Close(), removeDurably(path)); err != nil {
				return err
			}
			break
		}
		s.active, before = seg, found
	}
	if before.sealed {
		return fmt.Errorf("log %s: the segment after %s is missing; %s", s.dir, s.active.path, cure)
	}
	return s.settle(before)
}

// settle makes durable what a crash left at the end: whole records nobody was
// told of are kept, the rest of a write is dropped.
func (s *logStore) settle(found scan) error {
	s.end = found.end
	if found.torn {
		s.log.Warn("dropped the unfinished last write", "file", s.active.path, "offset", found.end)
		if err := s.active.wipe(found.end); err != nil {
			return err
		}
	}
	if found.marked && !found.torn {
		return nil
	}
	if err := s.active.f.Sync(); err != nil {
		return err
	}
	if s.end+2*markSize > s.active.size {
		return nil // the next write makes a segment, and the seal needs room
	}
	_, err := s.active.f.WriteAt(s.active.appendKind(nil, s.end, kindMark), s.end)
	s.end += markSize
	return err
}

// replay takes a record into the index of the log.
func (s *logStore) replay(seg *segment, r record, offset, size int64) error {
	switch r.kind {
	case kindMark, kindSeal:
	case kindCut:
		last, ok := r.cut()
		if !ok {
			return errors.New("bad cut")
		}
		s.trimTail(last)
	case kindEntry:
		var l raft.Log
		if !r.entry(&l) {
			return errors.New("bad entry")
		}
		if len(s.places) > 0 && l.Index != s.last()+1 {
			return fmt.Errorf("entry %d follows entry %d", l.Index, s.last())
		}
		s.add(l.Index, place{seg, uint32(offset), uint32(size)}) //nolint:gosec // a segment is smaller
	default:
		return fmt.Errorf("unknown record %d", r.kind)
	}
	return nil
}

func (s *logStore) last() uint64 {
	if len(s.places) == 0 {
		return 0
	}
	return s.first + uint64(len(s.places)) - 1
}

func (s *logStore) add(index uint64, p place) {
	if len(s.places) == 0 {
		s.first = index
	}
	s.places = append(s.places, p)
	p.seg.live++
}

// trimTail forgets the entries after last.
func (s *logStore) trimTail(last uint64) {
	for len(s.places) > 0 && s.last() > last {
		n := len(s.places) - 1
		s.places[n].seg.live--
		s.places = s.places[:n]
	}
}

// IsMonotonic tells the raft library that the log has no gaps.
func (s *logStore) IsMonotonic() bool { return true }

func (s *logStore) FirstIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.places) == 0 {
		return 0, nil
	}
	return s.first, nil
}

func (s *logStore) LastIndex() (uint64, error) {
	return s.lastIndex(), nil
}

func (s *logStore) lastIndex() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.last()
}

func (s *logStore) GetLog(index uint64, l *raft.Log) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.places) == 0 || index < s.first || index > s.last() {
		return raft.ErrLogNotFound
	}
	if r := s.recent[index%recentSize]; r != nil && r.Index == index {
		*l = *r
		return nil
	}
	p := s.places[index-s.first]
	r, err := p.seg.read(int64(p.offset), int(p.size))
	if err != nil {
		return err
	}
	if !r.entry(l) || l.Index != index {
		return p.seg.damaged(int64(p.offset), "another entry stands there")
	}
	return nil
}

func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs appends entries and returns when they are on disk, or at the
// deadline.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	var size int64
	for i, l := range logs {
		if l.Index != logs[0].Index+uint64(i) {
			return fmt.Errorf("store entry %d: it follows entry %d", l.Index, logs[i-1].Index)
		}
		size += entrySize(l)
	}
	if size > maxBatch {
		return fmt.Errorf("store entries from %d: %d bytes in one write", logs[0].Index, size)
	}
	if last := s.lastIndex(); last > 0 && logs[0].Index != last+1 {
		return fmt.Errorf("store entry %d: the log ends at %d", logs[0].Index, last)
	}
	places := make([]place, len(logs))
	err := s.write(size, func(b []byte) []byte {
		for i, l := range logs {
			start := len(b)
			b = s.active.appendEntry(b, s.end, l)
			places[i] = place{s.active, uint32(s.end) + uint32(start), uint32(len(b) - start)} //nolint:gosec // bounded by maxBatch
		}
		return b
	})
	if err != nil {
		return fmt.Errorf("store entries from %d: %w", logs[0].Index, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, l := range logs {
		s.add(l.Index, places[i])
		s.recent[l.Index%recentSize] = l
	}
	return nil
}

// DeleteRange removes entries from either end.
func (s *logStore) DeleteRange(low, high uint64) error {
	s.mu.RLock()
	first, last := s.first, s.last()
	s.mu.RUnlock()
	if last == 0 || high < first || low > last {
		return nil
	}
	if high < last {
		if low > first {
			return fmt.Errorf("delete entries %d to %d: in the middle of %d to %d", low, high, first, last)
		}
		return s.dropFront(high)
	}
	keep := low - 1
	if low <= first {
		keep = 0
	}
	err := s.write(0, func(b []byte) []byte { return s.active.appendCut(b, s.end, keep) })
	if err != nil {
		return fmt.Errorf("delete entries from %d: %w", low, err)
	}
	s.mu.Lock()
	s.trimTail(keep)
	s.mu.Unlock()
	return s.dropSegments()
}

// dropFront forgets the entries up to high. Those of them that share a segment
// with later ones come back when the log is opened again, which does no harm.
func (s *logStore) dropFront(high uint64) error {
	s.mu.Lock()
	n := high + 1 - s.first
	for _, p := range s.places[:n] {
		p.seg.live--
	}
	s.places = slices.Clone(s.places[n:])
	s.first = high + 1
	s.mu.Unlock()
	return s.dropSegments()
}

// dropSegments removes the oldest segments as long as no entry is in them.
func (s *logStore) dropSegments() error {
	for {
		s.mu.Lock()
		if len(s.segments) == 1 || s.segments[0].live > 0 {
			s.mu.Unlock()
			return nil
		}
		seg := s.segments[0]
		s.segments = s.segments[1:]
		s.mu.Unlock()
		if err := errors.Join(seg.f.Close(), removeDurably(seg.path)); err != nil {
			return fmt.Errorf("remove log segment %s: %w", seg.path, err)
		}
	}
}

// write appends the records that encode yields, of at most size bytes and one
// cut, flushes them and marks them. It returns at the deadline even if the
// disk does not.
func (s *logStore) write(size int64, encode func([]byte) []byte) error {
	select {
	case <-s.token:
	default:
		return fmt.Errorf("a write before this one is still pending: %w", ErrDeadline)
	}
	if s.broken != nil {
		s.token <- struct{}{}
		return s.broken
	}
	if s.undo { // what the last write left is cut off in the same flush
		entries := encode
		last := s.lastIndex()
		encode = func(b []byte) []byte { return entries(s.active.appendCut(b, s.end, last)) }
	}
	done := make(chan error, 1)
	go func() { done <- s.flush(size, encode) }()
	timer := time.NewTimer(s.deadline)
	defer timer.Stop()
	select {
	case err := <-done:
		s.written(err, false)
		return err
	case <-timer.C:
	}
	select {
	case err := <-done: // the whole process was paused, not the disk
		s.written(err, false)
		return err
	default:
	}
	s.log.Error("the disk does not finish a write", "dir", s.dir, "deadline", s.deadline)
	go func() { s.written(<-done, true) }()
	return ErrDeadline
}

// written ends a write, late or not, and gives the token back.
func (s *logStore) written(err error, late bool) {
	if late && err == nil {
		s.log.Warn("the disk finished a write after the deadline", "dir", s.dir)
	}
	if err == nil {
		s.undo = late
	}
	s.token <- struct{}{}
}

// flush runs on a goroutine of its own and owns the end of the log.
func (s *logStore) flush(size int64, encode func([]byte) []byte) error {
	// With the records go at most two cuts, a mark and the seal.
	if need := size + 2*cutSize + 2*markSize; s.end+need > s.active.size {
		if err := s.rotate(need); err != nil {
			return err
		}
	}
	b := encode(s.buf[:0])
	if cap(b) <= 1<<20 {
		s.buf = b
	}
	if _, err := s.active.f.WriteAt(b, s.end); err != nil {
		return s.breakDown(err)
	}
	if err := s.active.f.Sync(); err != nil {
		return s.breakDown(err)
	}
	s.flushes.Add(1)
	s.end += int64(len(b))
	// The mark says that the records before it are on disk. It need not be on
	// disk itself: it goes there with the next flush, or when the system likes.
	mark := s.active.appendKind(b[:0], s.end, kindMark)
	if _, err := s.active.f.WriteAt(mark, s.end); err != nil {
		return s.breakDown(err)
	}
	s.end += int64(len(mark))
	return nil
}

// breakDown is for errors after which nobody knows what is on disk: a system
// that could not flush forgets what it had to.
func (s *logStore) breakDown(err error) error {
	s.broken = fmt.Errorf("write log segment %s: %w", s.active.path, err)
	s.fail(s.broken)
	return s.broken
}

// rotate makes a segment with room for a batch and seals the one before. The
// seal comes last: a crash in between leaves an empty segment, which is removed.
func (s *logStore) rotate(need int64) error {
	seg, err := createSegment(s.disk, s.dir, s.active.number+1, max(s.segment, int64(segmentHeader)+need))
	if err != nil {
		return err
	}
	seal := s.active.appendKind(nil, s.end, kindSeal)
	_, err = s.active.f.WriteAt(seal, s.end)
	if err == nil {
		err = s.active.f.Sync()
	}
	if err != nil {
		return errors.Join(s.breakDown(err), seg.f.Close())
	}
	s.active, s.end = seg, segmentHeader
	s.mu.Lock()
	s.segments = append(s.segments, seg)
	s.mu.Unlock()
	return nil
}

// close closes the files. A write that still hangs keeps them open.
func (s *logStore) close() error {
	timer := time.NewTimer(s.deadline)
	defer timer.Stop()
	select {
	case <-s.token:
		s.broken = fmt.Errorf("log %s: %w", s.dir, os.ErrClosed)
		s.token <- struct{}{}
		return s.closeFiles()
	case <-timer.C:
		return fmt.Errorf("close log %s: a write is still pending: %w", s.dir, ErrDeadline)
	}
}

func (s *logStore) closeFiles() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, seg := range s.segments {
		if seg.f != nil {
			errs = append(errs, seg.f.Close())
		}
	}
	s.segments = nil
	return errors.Join(errs...)
}

var _ raft.MonotonicLogStore = (*logStore)(nil)
