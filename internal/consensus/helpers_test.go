package consensus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// list is an FSM that remembers every entry and its index.
type list struct {
	mu      sync.Mutex
	entries []string
	indexes []uint64
	from    uint64        // index of the snapshot it was restored from
	stall   chan struct{} // Apply waits for it when there is one
}

func (l *list) Apply(index uint64, entry []byte) any {
	if l.stall != nil {
		<-l.stall
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, string(entry))
	l.indexes = append(l.indexes, index)
	if string(entry) == "bad" {
		return errors.New("refused")
	}
	return len(l.entries)
}

func (l *list) Snapshot() (func(io.Writer) error, error) {
	entries := l.all()
	return func(w io.Writer) error {
		for _, e := range entries {
			if _, err := w.Write(append(binary.AppendUvarint(nil, uint64(len(e))), e...)); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func (l *list) Restore(index uint64, r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries, l.indexes, l.from = nil, nil, index
	for in := bytes.NewReader(b); in.Len() > 0; {
		n, err := binary.ReadUvarint(in)
		if err != nil {
			return err
		}
		e := make([]byte, n)
		if _, err := io.ReadFull(in, e); err != nil {
			return err
		}
		l.entries = append(l.entries, string(e))
	}
	return nil
}

func (l *list) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.entries...)
}

func (l *list) restoredFrom() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.from
}

// cables is a network of loopback listeners that can be cut.
type cables struct {
	mu  sync.Mutex
	cut map[string]bool
	all map[string][]net.Conn
}

func newCables() *cables {
	return &cables{cut: make(map[string]bool), all: make(map[string][]net.Conn)}
}

func (c *cables) dial(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, to string) (net.Conn, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.cut[from] || c.cut[to] {
			return nil, errors.New("cable cut")
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
		if err == nil {
			c.all[from] = append(c.all[from], conn)
			c.all[to] = append(c.all[to], conn)
		}
		return conn, err
	}
}

func (c *cables) set(address string, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut[address] = cut
	if cut {
		for _, conn := range c.all[address] {
			_ = conn.Close()
		}
		c.all[address] = nil
	}
}

// listen accepts on loopback until the test ends.
func listen(t testing.TB) (string, <-chan net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns, done := make(chan net.Conn), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			select {
			case conns <- conn:
			case <-done:
				_ = conn.Close()
			}
		}
	})
	t.Cleanup(func() { close(done); _ = ln.Close(); wg.Wait() })
	return ln.Addr().String(), conns
}

// quick are settings with short timers.
func quick(t testing.TB, c *cables, id, dir string) Config {
	t.Helper()
	address, conns := listen(t)
	return Config{
		Dir: dir, ID: id, Address: address, Listen: conns, Dial: c.dial(address),
		Heartbeat: 150 * time.Millisecond, Election: 150 * time.Millisecond, LeaderLease: 100 * time.Millisecond,
		CommitTimeout: 5 * time.Millisecond, FSM: &list{}, Log: testLog(t),
		Lead: func(ctx context.Context) error { <-ctx.Done(); return nil },
	}
}

func testLog(t testing.TB) *slog.Logger {
	t.Helper()
	if os.Getenv("RAFT_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// node is a Log that runs.
type node struct {
	*Log
	fsm  *list
	stop func() error // ends Run and yields its error
}

func run(t testing.TB, cfg Config) *node {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return runOpened(t, l)
}

func runOpened(t testing.TB, l *Log) *node {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	stop := sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = stop() })
	return &node{Log: l, fsm: fsmOf(l), stop: stop}
}

func me(l *Log) []Server { return []Server{{ID: l.cfg.ID, Address: l.cfg.Address, Voter: true}} }

// eventually polls until f yields nil.
func eventually(t testing.TB, within time.Duration, f func() error) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(within)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-tick.C
	}
}

func mustAppend(t testing.TB, l *Log, entry string) uint64 {
	t.Helper()
	_, index, err := l.Append(t.Context(), []byte(entry))
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// lone starts a server that is its own cluster, and waits until it leads.
func lone(t testing.TB, cfg Config) *node {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !l.HasState() {
		if err := l.Bootstrap(me(l)); err != nil {
			t.Fatal(err)
		}
	}
	n := runOpened(t, l)
	leads(t, n)
	return n
}

func leads(t testing.TB, n *node) {
	t.Helper()
	<-n.LeaderKnown()
	eventually(t, 10*time.Second, func() error { return n.Barrier(t.Context()) })
}

// three starts a cluster of three and yields the leader and the others.
func three(t testing.TB, edit func(i int, cfg *Config)) (nodes []*node, c *cables) {
	t.Helper()
	c = newCables()
	var servers []Server
	for i := range 3 {
		cfg := quick(t, c, fmt.Sprintf("s%d", i), t.TempDir())
		if edit != nil {
			edit(i, &cfg)
		}
		nodes = append(nodes, run(t, cfg))
		servers = append(servers, Server{cfg.ID, cfg.Address, true})
	}
	eventually(t, 5*time.Second, func() error { return nodes[0].Bootstrap(servers) })
	return nodes, c
}

// leader waits until one of the nodes leads.
func leader(t testing.TB, nodes ...*node) (lead *node, rest []*node) {
	t.Helper()
	eventually(t, 15*time.Second, func() error {
		lead, rest = nil, nil
		for _, n := range nodes {
			if lead == nil && n.IsLeader() && n.Verify(t.Context()) == nil {
				lead = n
			} else {
				rest = append(rest, n)
			}
		}
		if lead == nil {
			return errors.New("nobody leads")
		}
		return nil
	})
	return lead, rest
}

// image copies a directory as a kill or a crash would leave it.
func image(t testing.TB, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(to, "lock")); err != nil {
		t.Fatal(err)
	}
	return to
}

func fsmOf(l *Log) *list { f, _ := l.cfg.FSM.(*list); return f }
