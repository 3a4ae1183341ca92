package local

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

const (
	// smallJournal is the size up to which a journal is never written anew.
	smallJournal = 64 << 10

	newEnd       = ".new"        // of the name of a file that is to replace another
	damagedStart = "damaged at " // of the keys of lines that say nothing
)

// journal keeps values by key in one file, to which every change appends a line:
// a checksum, a space and JSON. The last line of a key holds. When most of the
// file is of no use any more it is written anew.
//
// One file for each value would cost more: to make a file takes the system a
// hundred times as long as to append a line, and appended lines of many callers
// reach the disk together.
type journal struct {
	path string

	// flushing is held while the disk is waited for. It is taken before mu.
	flushing sync.Mutex

	mu       sync.Mutex
	file     *os.File // nil until something is written
	size     int64    // of the whole lines in the file
	useful   int64    // of it, what live holds
	limit    int64    // the size above which the file is written anew
	live     map[string]span
	appended uint64 // how often there was something to write
	durable  uint64 // appended, as of the last time that the disk had all
}

// span is where a line stands.
type span struct{ start, length int64 }

// line is what a line of a journal says: that Key has Value, or has none any more.
type line struct {
	Key   string
	Value json.RawMessage
}

// entry is one change: of a key to a value, or its end if that is nil.
type entry struct {
	key   string
	value any
}

// openJournal reads a journal, which need not be there. It changes nothing. A line
// that says nothing becomes a value that cannot be read, so that it stays. The end
// of the last line may be missing: then a crash came while it was written, nobody
// was told that it was, and it does not count.
func openJournal(path string) (*journal, error) {
	j := &journal{path: path, live: map[string]span{}, limit: smallJournal}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	for r := bufio.NewReader(file); ; {
		text, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			j.limit = j.enough()
			return j, nil
		}
		if err != nil {
			return nil, err
		}
		at := span{j.size, int64(len(text))}
		if said, ok := parseLine(text); ok {
			j.note(said.Key, at, said.Value != nil)
		} else {
			j.note(fmt.Sprint(damagedStart, at.start), at, true)
		}
	}
}

// enough is the size above which it pays to write the file anew: most of it is
// of no use then. The caller holds mu, if others know j.
func (j *journal) enough() int64 { return smallJournal + 4*j.useful }

// parseLine takes a line apart, and tells whether it is whole.
func parseLine(text []byte) (said line, ok bool) {
	sum, body, ok := bytes.Cut(bytes.TrimSuffix(text, []byte("\n")), []byte(" "))
	if !ok || string(sum) != checksum(body) {
		return said, false
	}
	return said, json.Unmarshal(body, &said) == nil
}

func checksum(b []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// note takes in what the next line says. The caller holds mu, if others know j.
func (j *journal) note(key string, at span, has bool) {
	j.useful -= j.live[key].length
	delete(j.live, key)
	if has {
		j.live[key] = at
		j.useful += at.length
	}
	j.size = at.start + at.length
}

// keys are the keys that have a value, in the order in which they came to it.
func (j *journal) keys() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.ordered()
}

func (j *journal) ordered() []string {
	return slices.SortedFunc(maps.Keys(j.live), func(x, y string) int { return cmp.Compare(j.live[x].start, j.live[y].start) })
}

// get reads the value of a key into out, and tells whether there is one.
func (j *journal) get(key string, out any) (bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	at, ok := j.live[key]
	if !ok {
		return false, nil
	}
	text, err := j.read(at)
	if err != nil {
		return true, err
	}
	said, ok := parseLine(text)
	if !ok {
		return true, fmt.Errorf("%s: the line at %d is damaged", j.path, at.start)
	}
	if err := json.Unmarshal(said.Value, out); err != nil {
		return true, fmt.Errorf("%s: the line at %d: %w", j.path, at.start, err)
	}
	return true, nil
}

// read returns a line. The caller holds mu.
func (j *journal) read(at span) (text []byte, err error) {
	file := j.file
	if file == nil {
		if file, err = os.Open(j.path); err != nil {
			return nil, err
		}
		defer file.Close() //nolint:errcheck // it was only read
	}
	text = make([]byte, at.length)
	_, err = file.ReadAt(text, at.start)
	return text, err
}

// forget lets a key have no value for as long as the journal is open, without a
// line that says so.
func (j *journal) forget(key string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.useful -= j.live[key].length
	delete(j.live, key)
}

// put writes changes, all or none unless the system ends meanwhile. The disk has
// them after the next flush. An end of what had no value before is no change.
func (j *journal) put(entries ...entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	entries = slices.DeleteFunc(entries, func(e entry) bool { return e.value == nil && j.live[e.key] == span{} })
	if len(entries) == 0 {
		return nil
	}
	var text bytes.Buffer
	ends := make([]int64, len(entries))
	for i, e := range entries {
		if err := appendLine(&text, e); err != nil {
			return fmt.Errorf("keep %s: %w", e.key, err)
		}
		ends[i] = j.size + int64(text.Len())
	}
	if err := j.open(); err != nil {
		return err
	}
	if _, err := j.file.WriteAt(text.Bytes(), j.size); err != nil {
		return errors.Join(err, j.file.Truncate(j.size))
	}
	j.appended++
	for i, e := range entries {
		j.note(e.key, span{j.size, ends[i] - j.size}, e.value != nil)
	}
	if j.size > j.limit {
		j.limit = 2 * j.size // unless it succeeds: the lines are there, so this is not the caller's trouble
		if j.rewrite() == nil {
			j.limit = j.enough()
		}
	}
	return nil
}

func appendLine(text *bytes.Buffer, e entry) error {
	body, err := json.Marshal(struct {
		Key   string
		Value any `json:",omitempty"`
	}{e.key, e.value})
	if err != nil {
		return err
	}
	text.WriteString(checksum(body))
	text.WriteByte(' ')
	text.Write(body)
	text.WriteByte('\n')
	return nil
}

// open readies the file to be written. The caller holds mu.
func (j *journal) open() error {
	if j.file != nil {
		return nil
	}
	file, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(file.Truncate(j.size), syncFolder(j.path)); err != nil {
		return errors.Join(err, file.Close())
	}
	j.file = file
	return nil
}

// flush waits until the disk has all that was written before. Those who wait at
// the same time share one wait.
func (j *journal) flush() error {
	j.mu.Lock()
	want := j.appended
	j.mu.Unlock()
	j.flushing.Lock()
	defer j.flushing.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.durable >= want {
		return nil
	}
	if err := j.open(); err != nil {
		return err
	}
	file, now := j.file, j.appended
	j.mu.Unlock()
	err := file.Sync()
	j.mu.Lock()
	if j.durable >= want { // it was written anew meanwhile
		return nil
	}
	if err != nil {
		// A second attempt could succeed without the lines: what the system had of
		// them may be lost.
		if again := j.rewrite(); again != nil {
			return errors.Join(err, again)
		}
		return nil
	}
	j.durable = now
	return nil
}

// rewrite replaces the file by one that holds only what is of use. The caller
// holds mu.
func (j *journal) rewrite() error {
	file, err := os.OpenFile(j.path+newEnd, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	live, err := j.copyUseful(file)
	if err == nil {
		err = os.Rename(file.Name(), j.path)
	}
	if err != nil {
		return errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	old := j.file
	j.file, j.live, j.size = file, live, j.useful
	if err := errors.Join(old.Close(), syncFolder(j.path)); err != nil {
		return err
	}
	j.durable = j.appended
	return nil
}

// copyUseful writes what is of use to a file, and returns where it stands there.
func (j *journal) copyUseful(file *os.File) (map[string]span, error) {
	live := make(map[string]span, len(j.live))
	var size int64
	w := bufio.NewWriter(file)
	for _, key := range j.ordered() {
		text, err := j.read(j.live[key])
		if err != nil {
			return nil, err
		}
		live[key] = span{size, int64(len(text))}
		size += int64(len(text))
		if _, err := w.Write(text); err != nil {
			return nil, err
		}
	}
	return live, errors.Join(w.Flush(), file.Sync())
}

// close lets go of the file. What is put later opens it again.
func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}

// syncFolder waits until the disk has the name of a file.
func syncFolder(path string) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
