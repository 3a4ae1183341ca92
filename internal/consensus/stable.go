package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync"
)

// A stableStore keeps the current term and the last vote in one small file,
// which is replaced as a whole.
type stableStore struct {
	disk disk
	path string
	fail func(error) // told when a term cannot be kept

	mu     sync.Mutex
	values map[string][]byte
	broken error
}

// Key of the raft library whose loss it answers with a panic.
const keyTerm = "CurrentTerm"

const stableMagic = "isthter1"

// openStableStore reads the file. There may be none.
func openStableStore(d disk, path string, fail func(error)) (*stableStore, error) {
	s := &stableStore{disk: d, path: path, fail: fail, values: make(map[string][]byte)}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	if s.values, err = decodeStable(b); err != nil {
		return nil, fmt.Errorf("term and vote %s: %w; %s", path, err, cure)
	}
	return s, nil
}

// The file is the magic, then a checksum of the rest: for each value in order
// the lengths of key and value, then both.
func encodeStable(values map[string][]byte) []byte {
	b := append([]byte(stableMagic), 0, 0, 0, 0)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(key)))         //nolint:gosec // small
		b = binary.LittleEndian.AppendUint32(b, uint32(len(values[key]))) //nolint:gosec // small
		b = append(append(b, key...), values[key]...)
	}
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b[12:], castagnoli))
	return b
}

func decodeStable(b []byte) (map[string][]byte, error) {
	if len(b) < 12 || string(b[:8]) != stableMagic {
		return nil, errors.New("damaged at offset 0: bad header")
	}
	if binary.LittleEndian.Uint32(b[8:]) != crc32.Checksum(b[12:], castagnoli) {
		return nil, errors.New("damaged after offset 8: checksum mismatch")
	}
	values := make(map[string][]byte)
	for b = b[12:]; len(b) > 0; {
		if len(b) < 8 {
			return nil, errors.New("damaged: short")
		}
		k, v := uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[4:]))
		b = b[8:]
		if k+v > uint64(len(b)) {
			return nil, errors.New("damaged: short")
		}
		values[string(b[:k])] = slices.Clone(b[k : k+v])
		b = b[k+v:]
	}
	return values, nil
}

func (s *stableStore) Get(key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.values[string(key)], nil
}

// Set keeps a value. A hung disk hangs it, and with it the raft library's main
// loop: a server that cannot keep its term must not take part, and by then it
// does not lead. When the disk fails, the library would panic over a term. This
// ends its main loop instead, whose deferred answers say no, and Run ends.
func (s *stableStore) Set(key, value []byte) error {
	err := s.set(string(key), value)
	if err != nil && string(key) == keyTerm {
		s.fail(err)
		runtime.Goexit()
	}
	return err
}

func (s *stableStore) set(key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	if old, ok := s.values[key]; ok && string(old) == string(value) {
		return nil // the library writes the term it just read when it starts
	}
	values := maps.Clone(s.values)
	values[key] = slices.Clone(value)
	if err := s.disk.replace(s.path, encodeStable(values)); err != nil {
		s.broken = fmt.Errorf("write term and vote %s: %w", s.path, err)
		return s.broken
	}
	s.values = values
	return nil
}

func (s *stableStore) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.LittleEndian.AppendUint64(nil, value))
}

func (s *stableStore) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	if err != nil || len(b) == 0 {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("term and vote %s: %s has %d bytes; %s", s.path, key, len(b), cure)
	}
	return binary.LittleEndian.Uint64(b), nil
}
