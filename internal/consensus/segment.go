package consensus

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
)

// A segment is a preallocated file of records, each appended after the last.
// The records stand at multiples of eight; zeros follow the last one.
//
//	segment  magic 8, number 8, size 8, salt 8, zeros, checksum 4; records
//	record   checksum 4, length 4, body, zeros to a multiple of eight
//	body     kind 1, and for an entry: type 1, zeros 2, length of extensions 4,
//	         index 8, term 8, time 8, extensions, data; for a cut: zeros 7, index 8
//
// A checksum covers the salt of its segment and the place of its record too,
// so a record counts only where it was written. Numbers are little endian.
type segment struct {
	f      file
	path   string
	number uint64
	size   int64
	salt   [8]byte
	live   int // entries of the log that are in it; guarded by logStore.mu
}

const (
	segmentMagic  = "isthlog1"
	segmentHeader = 64
	recordHeader  = 8
	entryHeader   = 32
	markSize      = recordHeader + 8  // of a mark, and of a seal
	cutSize       = recordHeader + 16 // of a cut
)

// The kinds of records.
const (
	kindEntry byte = 1 + iota
	kindCut        // the log ends at this index; what it held after it is gone
	kindMark       // all that stands before this is on disk
	kindSeal       // the same, and a next segment exists
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func segmentPath(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x.log", number))
}

// createSegment makes an empty segment.
func createSegment(d disk, dir string, number uint64, size int64) (*segment, error) {
	s := &segment{path: segmentPath(dir, number), number: number, size: size}
	_, _ = rand.Read(s.salt[:]) // it never fails
	f, err := d.allocate(s.path, size, func(f file) error {
		_, err := f.WriteAt(s.header(), 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("create log segment %s: %w", s.path, err)
	}
	s.f = f
	return s, nil
}

func (s *segment) header() []byte {
	b := make([]byte, segmentHeader)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint64(b[8:], s.number)
	binary.LittleEndian.PutUint64(b[16:], uint64(s.size)) //nolint:gosec // never negative
	copy(b[24:], s.salt[:])
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

// openSegment reads a segment and checks its header and size. A segment is
// given its size before it is given its name, so a shorter one was cut later.
func openSegment(d disk, path string) (*segment, []byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	s := &segment{path: path}
	if err := s.parseHeader(b); err != nil {
		return nil, nil, err
	}
	if s.f, err = d.open(path, os.O_RDWR); err != nil {
		return nil, nil, err
	}
	return s, b, nil
}

func (s *segment) parseHeader(b []byte) error {
	if len(b) < segmentHeader || string(b[:8]) != segmentMagic ||
		binary.LittleEndian.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli) {
		return s.damaged(0, "bad header")
	}
	s.number = binary.LittleEndian.Uint64(b[8:])
	s.size = int64(binary.LittleEndian.Uint64(b[16:])) //nolint:gosec // written by us, checked below
	copy(s.salt[:], b[24:])
	if s.size != int64(len(b)) {
		return s.damaged(int64(len(b)), fmt.Sprintf("the file was cut, its size was %d", s.size))
	}
	return nil
}

func (s *segment) damaged(offset int64, what string) error {
	return fmt.Errorf("log segment %s: damaged at offset %d: %s; %s", s.path, offset, what, cure)
}

// A record is one as it was read; body is a part of what was read.
type record struct {
	kind byte
	body []byte
}

func padded(n int) int { return (n + 7) &^ 7 }

func (s *segment) checksum(offset int64, sized []byte) uint32 {
	var place [16]byte
	copy(place[:], s.salt[:])
	binary.LittleEndian.PutUint64(place[8:], uint64(offset)) //nolint:gosec // never negative
	return crc32.Update(crc32.Checksum(place[:], castagnoli), castagnoli, sized)
}

// recordAt reads the record at an offset of b, which begins at base in the
// segment. It reports whether there is a whole one.
func (s *segment) recordAt(b []byte, base, offset int64) (r record, size int64, ok bool) {
	b = b[offset-base:]
	if len(b) < recordHeader {
		return record{}, 0, false
	}
	n := int64(binary.LittleEndian.Uint32(b[4:]))
	if n == 0 || n > int64(len(b)-recordHeader) {
		return record{}, 0, false
	}
	size = recordHeader + int64(padded(int(n)))
	if size > int64(len(b)) || binary.LittleEndian.Uint32(b) != s.checksum(offset, b[4:size]) {
		return record{}, 0, false
	}
	body := b[recordHeader : recordHeader+n]
	return record{kind: body[0], body: body}, size, true
}

// seal completes the record that begins at start of b: its length, padding and
// checksum. b[0] goes to base in the segment.
func (s *segment) seal(b []byte, start int, base int64) []byte {
	n := len(b) - start - recordHeader
	b = append(b, make([]byte, padded(n)-n)...)
	binary.LittleEndian.PutUint32(b[start+4:], uint32(n)) //nolint:gosec // bounded by entrySize's check
	binary.LittleEndian.PutUint32(b[start:], s.checksum(base+int64(start), b[start+4:]))
	return b
}

func (s *segment) appendKind(b []byte, base int64, kind byte) []byte {
	start := len(b)
	return s.seal(append(b, 0, 0, 0, 0, 0, 0, 0, 0, kind), start, base)
}

func (s *segment) appendCut(b []byte, base int64, last uint64) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, kindCut, 0, 0, 0, 0, 0, 0, 0)
	return s.seal(binary.LittleEndian.AppendUint64(b, last), start, base)
}

func (s *segment) appendEntry(b []byte, base int64, l *raft.Log) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, kindEntry, byte(l.Type), 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(l.Extensions))) //nolint:gosec // bounded by entrySize's check
	b = binary.LittleEndian.AppendUint64(b, l.Index)
	b = binary.LittleEndian.AppendUint64(b, l.Term)
	var at int64
	if !l.AppendedAt.IsZero() {
		at = l.AppendedAt.UnixNano()
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(at))
	b = append(b, l.Extensions...)
	return s.seal(append(b, l.Data...), start, base)
}

func entrySize(l *raft.Log) int64 {
	return recordHeader + int64(padded(entryHeader+len(l.Extensions)+len(l.Data)))
}

func (r record) cut() (last uint64, ok bool) {
	if len(r.body) != 16 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(r.body[8:]), true
}

// entry decodes an entry, which shares the bytes of the record.
func (r record) entry(l *raft.Log) bool {
	if r.kind != kindEntry || len(r.body) < entryHeader {
		return false
	}
	ext := int64(binary.LittleEndian.Uint32(r.body[4:]))
	if ext > int64(len(r.body)-entryHeader) {
		return false
	}
	*l = raft.Log{
		Type:  raft.LogType(r.body[1]),
		Index: binary.LittleEndian.Uint64(r.body[8:]),
		Term:  binary.LittleEndian.Uint64(r.body[16:]),
		Data:  r.body[entryHeader+ext:],
	}
	if ext > 0 {
		l.Extensions = r.body[entryHeader : entryHeader+ext]
	}
	if at := int64(binary.LittleEndian.Uint64(r.body[24:])); at != 0 { //nolint:gosec // the same bits
		l.AppendedAt = time.Unix(0, at)
	}
	return true
}

// A scan is what a segment holds.
type scan struct {
	end    int64 // where the next record goes
	torn   bool  // something that is no record stands there
	marked bool  // the last record says that all of it is on disk
	sealed bool
	empty  bool // nothing was ever written to it
}

// scan hands every record to visit and finds the end. What cannot be read and
// was on disk once, or is followed by something that was, is damage.
func (s *segment) scan(b []byte, visit func(r record, offset, size int64) error) (scan, error) {
	at := int64(segmentHeader)
	var out scan
	for !out.sealed {
		r, size, ok := s.recordAt(b, 0, at)
		if !ok {
			break
		}
		if err := visit(r, at, size); err != nil {
			return scan{}, s.damaged(at, err.Error())
		}
		out.marked, out.sealed = r.kind == kindMark, r.kind == kindSeal
		at += size
	}
	out.end = at
	out.torn = !zeros(b[at:])
	out.empty = at == segmentHeader && !out.torn
	if !out.torn {
		return out, nil
	}
	for o := at + 8; o < s.size; o += 8 {
		if r, _, ok := s.recordAt(b, 0, o); ok && (r.kind == kindMark || r.kind == kindSeal) {
			return scan{}, s.damaged(at, "checksum mismatch")
		}
	}
	if out.sealed {
		return scan{}, s.damaged(at, "data after the end")
	}
	return out, nil
}

var zeroPage [64 << 10]byte

func zeros(b []byte) bool {
	for len(b) > len(zeroPage) {
		if !bytes.Equal(b[:len(zeroPage)], zeroPage[:]) {
			return false
		}
		b = b[len(zeroPage):]
	}
	return bytes.Equal(b, zeroPage[:len(b)])
}

// wipe zeroes what follows the end, which a crash left and nobody was told of.
func (s *segment) wipe(from int64) error {
	for from < s.size {
		n, err := s.f.WriteAt(zeroPage[:min(int64(len(zeroPage)), s.size-from)], from)
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// read reads the record at a place.
func (s *segment) read(offset int64, size int) (record, error) {
	b := make([]byte, size)
	if _, err := s.f.ReadAt(b, offset); err != nil && err != io.EOF { //nolint:errorlint // ReadAt returns it as it is
		return record{}, fmt.Errorf("read log segment %s at offset %d: %w", s.path, offset, err)
	}
	r, _, ok := s.recordAt(b, offset, offset)
	if !ok {
		return record{}, s.damaged(offset, "checksum mismatch")
	}
	return r, nil
}
