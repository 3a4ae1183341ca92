package local

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"isthmus/api"
)

// The folders of a data directory that belong to this package.
const (
	servicesDir = "services"
	checksDir   = "checks"
	statesDir   = "checks/state"
)

const (
	fileEnd   = ".json"
	tempStart = ".tmp-"
)

// disk keeps services and checks in a directory, one file each. Without a
// directory it keeps nothing.
type disk struct{ dir string }

// keptCheck is the content of a check's file.
type keptCheck struct {
	ServiceID   string
	Single      bool // defined outside of its service
	Maintenance bool `json:",omitempty"` // stands for the maintenance of its service or the node
	Definition  api.CheckType
}

// keptService is the content of a service's file.
type keptService struct {
	api.ServiceDefinition

	Sidecar bool `json:",omitempty"` // defined by its service
}

// checkState is the content of the file with the last state of a TTL check. It
// stands beside the definition because it changes all the time, and because
// checks of the configuration have a state but no definition here.
type checkState struct {
	CheckID string
	Status  string
	Output  string
	Expires time.Time
}

func (d disk) keepService(s keptService) error {
	return d.keep(servicesDir, serviceID(&s.ServiceDefinition), s, true)
}

func (d disk) keepCheck(c keptCheck) error { return d.keep(checksDir, c.Definition.CheckID, c, true) }

// keepState writes without waiting for the disk: a state lost with the power
// expires as it would have without the file.
func (d disk) keepState(s checkState) error { return d.keep(statesDir, s.CheckID, s, false) }

func (d disk) dropService(id string) error { return d.drop(servicesDir, id) }

func (d disk) dropDefinition(id string) error { return d.drop(checksDir, id) }

func (d disk) dropCheck(id string) error {
	return errors.Join(d.drop(checksDir, id), d.drop(statesDir, id))
}

// state returns what was kept of a TTL check; it is zero when nothing was.
func (d disk) state(id string) (s checkState, err error) {
	if d.dir == "" {
		return s, nil
	}
	err = read(d.file(statesDir, id), &s)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	return s, err
}

// file names the file of an id, which may hold any character and be of any
// length.
func (d disk) file(folder, id string) string {
	sum := sha256.Sum256([]byte(id))
	return filepath.Join(d.dir, folder, hex.EncodeToString(sum[:])+fileEnd)
}

// keep replaces the file of id as a whole. With flush it is there after a power
// cut.
func (d disk) keep(folder, id string, v any, flush bool) error {
	if d.dir == "" {
		return nil
	}
	b, err := json.Marshal(v)
	if err == nil {
		err = replace(d.file(folder, id), b, flush)
	}
	if err != nil {
		return fmt.Errorf("keep %s %q: %w", folder, id, err)
	}
	return nil
}

func (d disk) drop(folder, id string) error {
	if d.dir == "" {
		return nil
	}
	if err := os.Remove(d.file(folder, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drop %s %q: %w", folder, id, err)
	}
	return nil
}

func replace(name string, b []byte, flush bool) error {
	folder := filepath.Dir(name)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(folder, tempStart+"*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && flush {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if !flush {
		return nil
	}
	dir, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func read(name string, v any) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// files returns the files of a folder, and removes those that a crash left half
// written.
func (d disk) files(folder string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(d.dir, folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name := filepath.Join(d.dir, folder, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), tempStart):
			if err := os.Remove(name); err != nil {
				return nil, err
			}
		case !e.IsDir() && strings.HasSuffix(name, fileEnd):
			names = append(names, name)
		}
	}
	return names, nil
}
