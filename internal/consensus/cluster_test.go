package consensus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// agreed waits until all have applied the same, and yields it.
func agreed(t *testing.T, nodes ...*node) (got []string) {
	t.Helper()
	eventually(t, 15*time.Second, func() error {
		got = nodes[0].fsm.all()
		for _, n := range nodes[1:] {
			if other := n.fsm.all(); !slices.Equal(got, other) {
				return fmt.Errorf("%s applied %d entries, %s %d", nodes[0].cfg.ID, len(got), n.cfg.ID, len(other))
			}
		}
		return nil
	})
	return got
}

func TestLeaderWithHungDiskGivesWay(t *testing.T) {
	gates := make([]*gate, 3)
	nodes, _ := three(t, func(i int, cfg *Config) {
		gates[i] = &gate{}
		cfg.wrap, cfg.WriteDeadline = gates[i].wrap, 200*time.Millisecond
	})
	old, rest := leader(t, nodes...)
	mustAppend(t, old.Log, "before")
	g := gates[slices.Index(nodes, old)]
	t.Cleanup(g.release)
	g.hang(0)
	start := time.Now()
	if _, _, err := old.Append(t.Context(), []byte("hung")); !errors.Is(err, ErrDeadline) {
		t.Errorf("append on the hung disk: got %v", err)
	}
	lead, _ := leader(t, rest...)
	t.Logf("another server led after %v", time.Since(start))
	if old.IsLeader() {
		t.Error("the server with the hung disk still leads")
	}
	mustAppend(t, lead.Log, "after")
	g.release()
	mustAppend(t, lead.Log, "healed")
	if got := agreed(t, nodes...); !slices.Equal(got, []string{"before", "after", "healed"}) {
		t.Errorf("applied %q", got)
	}
}

func TestStallingFollowerDisturbsNobody(t *testing.T) {
	var slow atomic.Int32
	slow.Store(-1)
	nodes, _ := three(t, func(i int, cfg *Config) {
		cfg.wrap = func(_ string, f file) file { return slowFile{f, func() bool { return slow.Load() == int32(i) }} }
	})
	lead, rest := leader(t, nodes...)
	term := lead.Stats()["term"]
	slow.Store(int32(slices.Index(nodes, rest[0])))
	for i := range 300 {
		mustAppend(t, lead.Log, fmt.Sprint(i))
	}
	if got := lead.Stats()["term"]; got != term || !lead.IsLeader() {
		t.Errorf("a slow follower took the term from %s to %s", term, got)
	}
	slow.Store(-1)
	if got := agreed(t, nodes...); len(got) != 300 {
		t.Errorf("applied %d entries", len(got))
	}
}

// slowFile takes longer than a heartbeat for each flush.
type slowFile struct {
	file
	slow func() bool
}

func (f slowFile) Sync() error {
	if f.slow() {
		<-time.After(300 * time.Millisecond)
	}
	return f.file.Sync()
}

func TestHeartbeatsPassThroughTheMainLoop(t *testing.T) {
	c := newCables()
	from, to := quick(t, c, "a", ""), quick(t, c, "b", "")
	var ends [2]transport
	for i, cfg := range []*Config{&from, &to} {
		s := newStreams(cfg)
		ends[i] = transport{raft.NewNetworkTransport(s, 1, time.Second, t.Output())}
		l := &Log{trans: ends[i], streams: s}
		t.Cleanup(l.closeTransport)
	}
	ends[1].SetHeartbeatHandler(func(raft.RPC) { t.Error("the fast path was taken") })
	go func() {
		rpc := <-ends[1].Consumer()
		rpc.Respond(&raft.AppendEntriesResponse{Term: 7}, nil)
	}()
	var resp raft.AppendEntriesResponse
	heartbeat := &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: 3, Addr: []byte(from.Address)}, Term: 7}
	if err := ends[0].AppendEntries("b", raft.ServerAddress(to.Address), heartbeat, &resp); err != nil || resp.Term != 7 {
		t.Errorf("got %+v, %v", resp, err)
	}
	if _, ok := any(ends[0]).(raft.WithPreVote); !ok {
		t.Error("the wrapper hides pre-votes")
	}
}

func TestCutOffLeaderGivesWayAndCatchesUp(t *testing.T) {
	nodes, c := three(t, nil)
	old, rest := leader(t, nodes...)
	mustAppend(t, old.Log, "before")
	c.set(old.cfg.Address, true)
	_, _, err := old.Append(t.Context(), []byte("lost"))
	if !errors.Is(err, ErrLeadershipLost) && !errors.Is(err, ErrNotLeader) {
		t.Errorf("append while cut off: got %v", err)
	}
	lead, _ := leader(t, rest...)
	mustAppend(t, lead.Log, "after")
	c.set(old.cfg.Address, false)
	if got := agreed(t, nodes...); !slices.Equal(got, []string{"before", "after"}) {
		t.Errorf("applied %q", got)
	}
}

// A copy of the directory while a write is on its way to disk is what kill -9
// leaves.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	for _, partly := range []int{0, 1, 30, 100, 1 << 20} {
		g := &gate{match: ".log"}
		cfg := quick(t, newCables(), "s0", t.TempDir())
		cfg.wrap, cfg.WriteDeadline = g.wrap, time.Minute
		t.Cleanup(g.release)
		n := lone(t, cfg)
		var mu sync.Mutex
		acked := make(map[string]bool)
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for c := range 8 {
			wg.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					e := fmt.Sprintf("%d-%d", c, i)
					if _, _, err := n.Append(ctx, []byte(e)); err == nil {
						mu.Lock()
						acked[e] = true
						mu.Unlock()
					}
				}
			})
		}
		eventually(t, 10*time.Second, func() error {
			if n.LastIndex() < 200 {
				return errors.New("few entries")
			}
			return nil
		})
		g.hang(partly)
		eventually(t, 10*time.Second, g.stuck)
		killed := image(t, cfg.Dir)
		cancel()
		wg.Wait()
		g.release()

		next := cfg
		next.Dir, next.wrap, next.FSM = killed, nil, &list{}
		n2 := lone(t, next)
		got := make(map[string]bool)
		for _, e := range n2.fsm.all() {
			got[e] = true
		}
		for e := range acked {
			if !got[e] {
				t.Errorf("partly %d: %s was acknowledged and is gone", partly, e)
			}
		}
		for _, n := range []*node{n, n2} {
			if err := n.stop(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestSnapshotRestoreAndTruncation(t *testing.T) {
	c := newCables()
	cfg := quick(t, c, "a", t.TempDir())
	cfg.SnapshotInterval, cfg.SnapshotThreshold, cfg.TrailingLogs, cfg.segment = 5*time.Millisecond, 100, 10, 4096
	n := lone(t, cfg)
	for i := range 500 {
		mustAppend(t, n.Log, fmt.Sprint(i))
	}
	logs := n.stores.logs.(*logStore)
	eventually(t, 10*time.Second, func() error {
		if first, _ := logs.FirstIndex(); first < 300 {
			return fmt.Errorf("the log begins at %d", first)
		}
		return nil
	})
	if files, _ := filepath.Glob(filepath.Join(cfg.Dir, "log", "*")); len(files) > 8 {
		t.Errorf("%d segments are left", len(files))
	}
	// A new server gets the snapshot, and what came after it.
	b := run(t, quick(t, c, "b", t.TempDir()))
	if err := n.AddVoter(t.Context(), "b", b.cfg.Address); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, n.Log, "last")
	if got := agreed(t, n, b); len(got) != 501 || b.fsm.restoredFrom() == 0 {
		t.Errorf("the new server applied %d entries, restored from %d", len(got), b.fsm.restoredFrom())
	}
	if err := n.RemoveServer(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	want := n.fsm.all()
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	cfg.FSM = &list{}
	n = lone(t, cfg)
	if got := n.fsm.all(); !slices.Equal(got, want) || n.fsm.restoredFrom() < 300 {
		t.Errorf("after restart %d entries, restored from %d", len(got), n.fsm.restoredFrom())
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}

	snaps, _ := filepath.Glob(filepath.Join(cfg.Dir, "snapshots", "*.snap"))
	if len(snaps) == 0 || len(snaps) > snapshotsKept {
		t.Fatalf("%d snapshots", len(snaps))
	}
	for _, path := range snaps[len(snaps)-1:] {
		whole := readFile(t, path)
		for i := 0; i < len(whole); i += 1 + len(whole)/200 {
			b := slices.Clone(whole)
			b[i] ^= 4
			writeFile(t, path, b)
			refusedNaming(t, cfg, path)
			writeFile(t, path, whole[:i])
			refusedNaming(t, cfg, path)
			writeFile(t, path, whole)
		}
	}
	for _, path := range snaps {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	refusedNaming(t, cfg, "entries are missing")
}

func refusedNaming(t *testing.T, cfg Config, what string) {
	t.Helper()
	l, err := Open(cfg)
	if err == nil {
		_ = l.stores.close()
		t.Fatalf("opened, want an error with %q", what)
	}
	if !strings.Contains(err.Error(), what) {
		t.Fatalf("got %v, want it to name %q", err, what)
	}
}

func TestLostOrDamagedTermIsRefused(t *testing.T) {
	cfg := quick(t, newCables(), "a", t.TempDir())
	n := lone(t, cfg)
	mustAppend(t, n.Log, "1")
	refusedNaming(t, cfg, "another process")
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cfg.Dir, "term")
	whole := readFile(t, path)
	for i := range whole {
		b := slices.Clone(whole)
		b[i] ^= 1
		writeFile(t, path, b)
		refusedNaming(t, cfg, path)
		writeFile(t, path, whole[:i])
		refusedNaming(t, cfg, path)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	refusedNaming(t, cfg, "term is missing")
	writeFile(t, path, encodeStable(map[string][]byte{keyTerm: make([]byte, 8)}))
	refusedNaming(t, cfg, "the file term says 0")
	writeFile(t, path, whole)
	if err := os.RemoveAll(filepath.Join(cfg.Dir, "log")); err != nil {
		t.Fatal(err)
	}
	refusedNaming(t, cfg, "no log segments")
}

func TestDirectoryOfConsulIsRefused(t *testing.T) {
	for _, name := range []string{
		"raft/raft.db", "raft/wal/wal-meta.db", "raft/snapshots/2-12-1700000000000/meta.json", "raft/peers.info",
		"raft.db", "wal/wal-meta.db", "snapshots/2-12-1700000000000/meta.json",
	} {
		cfg := quick(t, newCables(), "a", t.TempDir())
		path := filepath.Join(cfg.Dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, []byte("x"))
		refusedNaming(t, cfg, "written by Consul")
		if names, _ := os.ReadDir(cfg.Dir); len(names) != 1 {
			t.Errorf("%s: something was made beside it", name)
		}
	}
}

func TestFailingTermFileEndsRun(t *testing.T) {
	nodes := make([]*gate, 3)
	all, _ := three(t, func(i int, cfg *Config) {
		nodes[i] = &gate{match: "term"}
		cfg.wrap = nodes[i].wrap
	})
	lead, rest := leader(t, all...)
	broken := errors.New("input/output error")
	nodes[slices.Index(all, rest[0])].breakWith(broken)
	if err := lead.stop(); err != nil { // the others move to a new term
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error {
		select {
		case <-rest[0].over:
			return nil
		default:
			return errors.New("it still runs")
		}
	})
	if err := rest[0].stop(); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestRunLeavesNoConnectionOpen(t *testing.T) {
	nodes, c := three(t, nil)
	leader(t, nodes...)
	for _, n := range nodes {
		if err := n.stop(); err != nil {
			t.Error(err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conns := range c.all {
		for _, conn := range conns {
			if err := conn.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
				t.Errorf("a connection is open: %v", err)
			}
		}
	}
}
