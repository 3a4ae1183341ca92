package consensus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
)

// stores are where a Log keeps its data. On disk that is
//
//	lock           held while the directory is in use
//	term           current term and last vote
//	log/*.log      the segments
//	snapshots/*.snap
type stores struct {
	logs      raft.LogStore
	stable    raft.StableStore
	snapshots raft.SnapshotStore
	close     func() error
}

func memoryStores() stores {
	m := raft.NewInmemStore()
	return stores{
		logs: m, stable: m, snapshots: memorySnapshots{raft.NewInmemSnapshotStore()},
		close: func() error { return nil },
	}
}

// openStores opens what is in a directory. It is refused as a whole when any
// of it cannot be trusted: a server that forgot an entry or a vote it gave
// does more harm than one that is away.
func openStores(cfg *Config, fail func(error)) (stores, error) {
	if cfg.Dir == "" {
		return memoryStores(), nil
	}
	if err := refuseForeign(cfg.Dir); err != nil {
		return stores{}, err
	}
	if err := makeDir(cfg.Dir); err != nil {
		return stores{}, err
	}
	unlock, err := lockDir(cfg.Dir)
	if err != nil {
		return stores{}, err
	}
	st, err := openLocked(cfg, fail)
	if err != nil {
		return stores{}, errors.Join(err, unlock())
	}
	closeLog := st.close
	st.close = func() error { return errors.Join(closeLog(), unlock()) }
	return st, nil
}

func openLocked(cfg *Config, fail func(error)) (stores, error) {
	if err := sweep(cfg.Dir); err != nil {
		return stores{}, err
	}
	snapshots, err := openSnapshotStore(filepath.Join(cfg.Dir, "snapshots"))
	if err != nil {
		return stores{}, err
	}
	newest, err := snapshots.check()
	if err != nil {
		return stores{}, err
	}
	term := filepath.Join(cfg.Dir, "term")
	stable, err := openStableStore(disk{cfg.wrap}, term, fail)
	if err != nil {
		return stores{}, err
	}
	hasTerm := len(stable.values) > 0
	logs, err := openLogStore(cfg, filepath.Join(cfg.Dir, "log"), fail, !hasTerm && newest == nil)
	if err != nil {
		return stores{}, err
	}
	if err := agree(logs, stable, newest, hasTerm); err != nil {
		return stores{}, errors.Join(fmt.Errorf("log in %s: %w; %s", cfg.Dir, err, cure), logs.close())
	}
	// There is a file from the first moment on, so that its absence means loss.
	if !hasTerm {
		if err := stable.set(keyTerm, make([]byte, 8)); err != nil {
			return stores{}, errors.Join(err, logs.close())
		}
	}
	return stores{logs: logs, stable: stable, snapshots: snapshots, close: logs.close}, nil
}

// agree checks log, term and snapshot against each other: each of them may be
// whole and yet be an older copy, or missing.
func agree(logs *logStore, stable *stableStore, snapshot *raft.SnapshotMeta, hasTerm bool) error {
	first, last := logs.first, logs.last()
	if !hasTerm && (last > 0 || snapshot != nil) {
		return errors.New("the file term is missing")
	}
	var reach uint64 // what the snapshot holds
	if snapshot != nil {
		reach = snapshot.Index
	}
	if last == 0 {
		return nil
	}
	if first > reach+1 {
		return fmt.Errorf("entries are missing: it begins at %d, the snapshot ends at %d", first, reach)
	}
	var l raft.Log
	if err := logs.GetLog(last, &l); err != nil {
		return err
	}
	term, err := stable.GetUint64([]byte(keyTerm))
	if err != nil {
		return err
	}
	if term < l.Term {
		return fmt.Errorf("its last entry is of term %d, the file term says %d", l.Term, term)
	}
	if snapshot == nil {
		return nil
	}
	// A crash came between the arrival of a snapshot from the leader and the
	// removal of the log it replaces.
	stale := last < reach
	if !stale && first <= reach {
		if err := logs.GetLog(reach, &l); err != nil {
			return err
		}
		stale = l.Term != snapshot.Term
	}
	if stale {
		return logs.DeleteRange(first, last)
	}
	return nil
}

// refuseForeign refuses a directory Consul wrote to, be it the data directory
// or the one of raft in it. Its log would be there and ours empty.
func refuseForeign(dir string) error {
	for _, base := range []string{dir, filepath.Join(dir, "raft")} {
		for _, name := range []string{"raft.db", "wal", "mdb", "peers.info", "peers.json"} {
			if path := filepath.Join(base, name); exists(path) {
				return foreign(path)
			}
		}
		names, err := os.ReadDir(filepath.Join(base, "snapshots"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, name := range names {
			if name.IsDir() {
				return foreign(filepath.Join(base, "snapshots", name.Name()))
			}
		}
	}
	return nil
}

func foreign(path string) error {
	return fmt.Errorf("%s was written by Consul, whose log cannot be read here: start this server with another, "+
		"empty data directory and let it join, or move the data over with a snapshot (snapshot save, snapshot restore)", path)
}
