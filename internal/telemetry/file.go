package telemetry

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// File is a log file that is replaced by a new one when it is large or old. Its
// name carries the time at which it was begun.
type File struct {
	dir, base, ext string
	size           int64
	age            time.Duration
	keep           int

	mu    sync.Mutex
	f     *os.File
	wrote int64
	born  time.Time
}

// OpenFile begins a log file. A path that ends with a slash is a directory. size 0
// is no limit; keep 0 keeps all old files, -1 none.
func OpenFile(path string, size int64, age time.Duration, keep int) (*File, error) {
	dir, base := filepath.Split(path)
	if base == "" {
		base = "consul.log"
	}
	ext := filepath.Ext(base)
	l := &File{dir: dir, base: strings.TrimSuffix(base, ext), ext: ext, size: size, age: age, keep: keep}
	if l.ext == "" {
		l.ext = ".log"
	}
	return l, l.begin()
}

func (l *File) begin() error {
	l.born, l.wrote = time.Now(), 0
	name := fmt.Sprintf("%s-%d%s", l.base, l.born.UnixNano(), l.ext)
	f, err := os.OpenFile(filepath.Join(l.dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640) //nolint:gosec // readable by the group, for log shippers
	if err != nil {
		return fmt.Errorf("begin log file: %w", err)
	}
	l.f = f
	return l.prune()
}

// prune removes the oldest files over the limit.
func (l *File) prune() error {
	if l.keep == 0 {
		return nil
	}
	old, err := filepath.Glob(filepath.Join(l.dir, l.base+"-*"+l.ext))
	if err != nil {
		return fmt.Errorf("list log files: %w", err)
	}
	slices.Sort(old)
	for len(old) > max(l.keep, 0)+1 {
		if err := os.Remove(old[0]); err != nil {
			return fmt.Errorf("remove old log file: %w", err)
		}
		old = old[1:]
	}
	return nil
}

// Write implements io.Writer.
func (l *File) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > 0 && l.wrote+int64(len(b)) > l.size && l.wrote > 0 || l.age > 0 && time.Since(l.born) > l.age {
		if err := l.f.Close(); err != nil {
			return 0, fmt.Errorf("end log file: %w", err)
		}
		if err := l.begin(); err != nil {
			return 0, err
		}
	}
	n, err := l.f.Write(b)
	l.wrote += int64(n)
	if err != nil {
		return n, fmt.Errorf("write log file: %w", err)
	}
	return n, nil
}

// Close ends the file.
func (l *File) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.f.Close(); err != nil {
		return fmt.Errorf("end log file: %w", err)
	}
	return nil
}
