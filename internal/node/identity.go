package node

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// nodeID returns the id of this node: the one that is set, or the one that was
// made at the first start and is kept in the data directory.
func nodeID(set, dir string) (string, error) {
	if set != "" {
		return strings.ToLower(set), nil
	}
	if dir == "" {
		return newUUID(), nil
	}
	path := filepath.Join(dir, "node-id")
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		id := newUUID()
		return id, writeFile(path, []byte(id))
	case err != nil:
		return "", fmt.Errorf("read node id: %w", err)
	}
	id := strings.ToLower(string(bytes.TrimSpace(b)))
	if !uuid.MatchString(id) {
		return "", fmt.Errorf("%s: %q is not a node id: remove the file to get a new one", path, id)
	}
	return id, nil
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// writeFile replaces a file as a whole or not at all.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// lockDir keeps a second process out of the data directory for as long as the
// returned file is open.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("data_dir %s is in use by another process: %w", dir, err)
	}
	return f, nil
}

// metadata is what a server leaves behind to tell when it last ran.
type metadata struct {
	LastSeenUnix int64 `json:"last_seen_unix"`
}

func metadataFile(dir string) string { return filepath.Join(dir, "server_metadata.json") }

// checkAge refuses to start a server that was down for longer than limit: its
// peers may have forgotten it, and it what they did.
func checkAge(dir string, limit time.Duration) error {
	b, err := os.ReadFile(metadataFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("read when this server last ran: %w", err)
	}
	var m metadata
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("%s: %w: remove the file if this server ran lately", metadataFile(dir), err)
	}
	if down := time.Since(time.Unix(m.LastSeenUnix, 0)); down > limit {
		return fmt.Errorf("this server was down for %s, more than server_rejoin_age_max (%s): "+
			"empty data_dir to join anew, or remove %s to start all the same", down.Round(time.Second), limit, metadataFile(dir))
	}
	return nil
}

// noteAge leaves behind that this server runs now.
func noteAge(dir string) error {
	b, err := json.Marshal(metadata{time.Now().Unix()})
	if err != nil {
		return fmt.Errorf("note when this server last ran: %w", err)
	}
	return writeFile(metadataFile(dir), b)
}
