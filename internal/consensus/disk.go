package consensus

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// The step an operator takes when a server's data cannot be trusted.
const cure = "remove this server from the cluster and let it rejoin with an empty data directory"

// A file is what the stores need of one, small enough that tests can hang it.
type file interface {
	io.ReaderAt
	io.WriterAt
	Sync() error // data and what is needed to read it back
	Close() error
}

// A disk opens the files of the stores.
type disk struct {
	wrap func(path string, f file) file
}

// plainFile flushes data only: the size of our files never changes after they
// were made, and times do not matter.
type plainFile struct{ *os.File }

func (f plainFile) Sync() error { return fdatasync(f.File) }

func (d disk) open(path string, flag int) (file, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	if d.wrap != nil {
		return d.wrap(path, plainFile{f}), nil
	}
	return plainFile{f}, nil
}

// allocate makes a file of a size that reads as zeros, then calls fill with it,
// and gives it its name when all of it is on disk: a file that has the name is
// whole, whatever happens in between. The file stays open.
func (d disk) allocate(path string, size int64, fill func(file) error) (file, error) {
	tmp := path + tmpSuffix
	plain, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	var f file = plainFile{plain}
	if d.wrap != nil {
		f = d.wrap(path, f)
	}
	err = preallocate(plain, size)
	if err == nil {
		err = fill(f)
	}
	if err == nil {
		err = plain.Sync() // the size too
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), removeIfThere(tmp))
	}
	return f, nil
}

// replace puts a small file in place of another, or of none, at once.
func (d disk) replace(path string, content []byte) error {
	f, err := d.allocate(path, int64(len(content)), func(f file) error {
		_, err := f.WriteAt(content, 0)
		return err
	})
	if err != nil {
		return err
	}
	return f.Close()
}

const tmpSuffix = ".tmp"

// sweep removes the files a crash left half made.
func sweep(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "*"+tmpSuffix))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// removeDurably removes a file for good: it does not come back after a crash.
func removeDurably(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeDir makes a directory below one that exists, durably.
func makeDir(path string) error {
	if exists(path) {
		return nil
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// lockDir makes sure that no second process uses the directory.
func lockDir(dir string) (unlock func() error, err error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: is another process using the data directory? %w", path, err), f.Close())
	}
	return f.Close, nil
}
