package consensus

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// A snapshotStore keeps snapshots, one file each:
//
//	magic 8, length of the head 4, checksum of it 4
//	head: index 8, term 8, index of the configuration 8, configuration
//	content
//	length of the content 8, checksum of it 4, checksum of these two 4
//
// A file has its name when all of it is on disk. A damaged one is reported and
// never passed over for an older one: the log no longer reaches back to that.
type snapshotStore struct{ dir string }

const (
	snapshotMagic   = "isthsnp1"
	snapshotExt     = ".snap"
	snapshotPrefix  = 16
	snapshotHead    = 24
	snapshotTrailer = 16
	snapshotsKept   = 2
	maxHead         = 16 << 20
)

func openSnapshotStore(dir string) (*snapshotStore, error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	return &snapshotStore{dir}, sweep(dir)
}

func (s *snapshotStore) path(id string) string { return filepath.Join(s.dir, id+snapshotExt) }

// Create begins a snapshot.
func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64,
	configuration raft.Configuration, configurationIndex uint64, _ raft.Transport,
) (raft.SnapshotSink, error) {
	if version != 1 {
		return nil, fmt.Errorf("create snapshot: version %d is not known", version)
	}
	id := fmt.Sprintf("%d-%d-%d", term, index, time.Now().UnixMilli())
	f, err := os.OpenFile(s.path(id)+tmpSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create snapshot: %w", err)
	}
	sink := &snapshotSink{store: s, id: id, f: f, sum: crc32.New(castagnoli)}
	sink.out = bufio.NewWriterSize(io.MultiWriter(f, sink.sum), 64<<10)
	if _, err := f.Write(encodeSnapshotHead(index, term, configuration, configurationIndex)); err != nil {
		return nil, errors.Join(fmt.Errorf("create snapshot: %w", err), sink.Cancel())
	}
	return sink, nil
}

func encodeSnapshotHead(index, term uint64, c raft.Configuration, at uint64) []byte {
	var head []byte
	head = binary.LittleEndian.AppendUint64(head, index)
	head = binary.LittleEndian.AppendUint64(head, term)
	head = binary.LittleEndian.AppendUint64(head, at)
	head = append(head, raft.EncodeConfiguration(c)...)
	b := binary.LittleEndian.AppendUint32([]byte(snapshotMagic), uint32(len(head))) //nolint:gosec // small
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(head, castagnoli))
	return append(b, head...)
}

// readSnapshotHead reads all that stands before the content.
func readSnapshotHead(r io.Reader) (meta raft.SnapshotMeta, length int64, err error) {
	var prefix [snapshotPrefix]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return meta, 0, fmt.Errorf("damaged at offset 0: %w", err)
	}
	n := binary.LittleEndian.Uint32(prefix[8:])
	if string(prefix[:8]) != snapshotMagic || n < snapshotHead || n > maxHead {
		return meta, 0, errors.New("damaged at offset 0: bad header")
	}
	head, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil {
		return meta, 0, err
	}
	if len(head) != int(n) || crc32.Checksum(head, castagnoli) != binary.LittleEndian.Uint32(prefix[12:]) {
		return meta, 0, fmt.Errorf("damaged at offset %d: checksum mismatch", snapshotPrefix)
	}
	return raft.SnapshotMeta{
		Version:            1,
		Index:              binary.LittleEndian.Uint64(head),
		Term:               binary.LittleEndian.Uint64(head[8:]),
		ConfigurationIndex: binary.LittleEndian.Uint64(head[16:]),
		Configuration:      raft.DecodeConfiguration(head[snapshotHead:]),
	}, snapshotPrefix + int64(n), nil
}

// List yields the newest snapshot alone, as no other may be used.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	all, err := s.all()
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all[:1], nil
}

// all yields the snapshots, newest first.
func (s *snapshotStore) all() ([]*raft.SnapshotMeta, error) {
	paths, err := filepath.Glob(filepath.Join(s.dir, "*"+snapshotExt))
	if err != nil {
		return nil, err
	}
	metas := make([]*raft.SnapshotMeta, 0, len(paths))
	for _, path := range paths {
		base := filepath.Base(path)
		meta, f, _, err := s.open(base[:len(base)-len(snapshotExt)])
		if err != nil {
			return nil, err
		}
		metas = append(metas, meta)
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(metas, func(a, b *raft.SnapshotMeta) int {
		return -cmp.Or(cmp.Compare(a.Term, b.Term), cmp.Compare(a.Index, b.Index), cmp.Compare(a.ID, b.ID))
	})
	return metas, nil
}

// open reads the head of a snapshot and checks its length.
func (s *snapshotStore) open(id string) (*raft.SnapshotMeta, *os.File, uint32, error) {
	path := s.path(id)
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, 0, err
	}
	meta, sum, err := readSnapshotFrame(f)
	if err != nil {
		return nil, nil, 0, errors.Join(fmt.Errorf("snapshot %s: %w; %s", path, err, cure), f.Close())
	}
	meta.ID = id
	return meta, f, sum, nil
}

// readSnapshotFrame reads head and trailer and leaves f at the content, whose
// checksum it yields.
func readSnapshotFrame(f *os.File) (*raft.SnapshotMeta, uint32, error) {
	meta, begin, err := readSnapshotHead(f)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	meta.Size = info.Size() - begin - snapshotTrailer
	var t [snapshotTrailer]byte
	if meta.Size < 0 {
		return nil, 0, fmt.Errorf("damaged at offset %d: the file was cut", info.Size())
	}
	if _, err := f.ReadAt(t[:], begin+meta.Size); err != nil {
		return nil, 0, err
	}
	if crc32.Checksum(t[:12], castagnoli) != binary.LittleEndian.Uint32(t[12:]) ||
		binary.LittleEndian.Uint64(t[:]) != uint64(meta.Size) {
		return nil, 0, fmt.Errorf("damaged at offset %d: bad trailer", begin+meta.Size)
	}
	return &meta, binary.LittleEndian.Uint32(t[8:]), nil
}

// Open opens a snapshot for reading, after all of it was checked.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, f, want, err := s.open(id)
	if err != nil {
		return nil, nil, err
	}
	begin, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	content := io.NewSectionReader(f, begin, meta.Size)
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, content); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("snapshot %s: %w", s.path(id), err), f.Close())
	}
	if sum.Sum32() != want {
		err := fmt.Errorf("snapshot %s: damaged after offset %d: checksum mismatch; %s", s.path(id), begin, cure)
		return nil, nil, errors.Join(err, f.Close())
	}
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return meta, &snapshotReader{bufio.NewReaderSize(content, 64<<10), f, meta.Index}, nil
}

// check reads the newest snapshot and yields what it is, or nil without one.
func (s *snapshotStore) check() (*raft.SnapshotMeta, error) {
	metas, err := s.List()
	if err != nil || len(metas) == 0 {
		return nil, err
	}
	meta, r, err := s.Open(metas[0].ID)
	if err != nil {
		return nil, err
	}
	return meta, r.Close()
}

// reap removes all but the newest snapshots.
func (s *snapshotStore) reap() error {
	all, err := s.all()
	if err != nil {
		return err
	}
	for _, meta := range all[min(len(all), snapshotsKept):] {
		if err := removeIfThere(s.path(meta.ID)); err != nil {
			return err
		}
	}
	return nil
}

// A snapshotReader is content that knows its index, for FSM.Restore.
type snapshotReader struct {
	io.Reader
	io.Closer
	index uint64
}

// A snapshotSink is a snapshot being written.
type snapshotSink struct {
	store *snapshotStore
	id    string
	f     *os.File
	out   *bufio.Writer
	sum   hash.Hash32
	size  uint64
	done  bool
}

func (s *snapshotSink) ID() string { return s.id }

func (s *snapshotSink) Write(b []byte) (int, error) {
	n, err := s.out.Write(b)
	s.size += uint64(n) //nolint:gosec // not negative
	return n, err
}

// Close puts the snapshot in its place.
func (s *snapshotSink) Close() error {
	if s.done {
		return nil
	}
	path := s.store.path(s.id)
	err := s.out.Flush()
	if err == nil {
		t := binary.LittleEndian.AppendUint64(nil, s.size)
		t = binary.LittleEndian.AppendUint32(t, s.sum.Sum32())
		_, err = s.f.Write(binary.LittleEndian.AppendUint32(t, crc32.Checksum(t, castagnoli)))
	}
	if err == nil {
		err = s.f.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write snapshot %s: %w", path, err), s.Cancel())
	}
	s.done = true
	if err := errors.Join(s.f.Close(), os.Rename(path+tmpSuffix, path), syncDir(s.store.dir)); err != nil {
		return fmt.Errorf("write snapshot %s: %w", path, err)
	}
	return s.store.reap()
}

// Cancel drops what was written.
func (s *snapshotSink) Cancel() error {
	if s.done {
		return nil
	}
	s.done = true
	err := os.Remove(s.store.path(s.id) + tmpSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(s.f.Close(), err)
}

// memorySnapshots are the raft library's, with readers that know their index.
type memorySnapshots struct{ *raft.InmemSnapshotStore }

func (s memorySnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, r, err := s.InmemSnapshotStore.Open(id)
	if err != nil {
		return nil, nil, err
	}
	return meta, &snapshotReader{r, r, meta.Index}, nil
}
