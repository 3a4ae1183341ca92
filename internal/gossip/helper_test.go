package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience bounds every wait in these tests. Probes that the library has under way end within it, too.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	deadline := time.Now().Add(patience)
	err := goleak.Find()
	for err != nil && time.Now().Before(deadline) {
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// node is a pool that runs until the test ends, or until stopped.
type node struct {
	*Pool

	net  *Net
	stop func()

	mu     sync.Mutex
	events []string
}

func (n *node) record(e Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.Kind == EventUser {
		n.events = append(n.events, fmt.Sprintf("user %s=%s", e.Name, e.Payload))
	}
	for _, m := range e.Members {
		n.events = append(n.events, e.Kind.String()+" "+m.Name)
	}
}

// seen are the events so far.
func (n *node) seen() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.events)
}

// addr is where to join the node.
func (n *node) addr() string {
	return fmt.Sprintf("%s:%d", n.net.Addr(), n.net.Port())
}

func (n *node) status(name string) Status {
	for _, m := range n.Members() {
		if m.Name == name {
			return m.Status
		}
	}
	return StatusNone
}

func testLog(t testing.TB) *slog.Logger {
	t.Helper()
	if os.Getenv("GOSSIP_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// config has short timers. They are long enough for a busy machine: a member that is only slow has a second to refute.
func config(t testing.TB, name string) Config {
	t.Helper()
	n, err := Listen("127.0.0.1", 0, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Name:              name,
		Net:               n,
		GossipInterval:    20 * time.Millisecond,
		ProbeInterval:     200 * time.Millisecond,
		ProbeTimeout:      150 * time.Millisecond,
		SuspicionMult:     5,
		ReapInterval:      50 * time.Millisecond,
		ReconnectInterval: 100 * time.Millisecond,
		LeaveDelay:        100 * time.Millisecond,
		Log:               testLog(t),
	}
}

func start(t testing.TB, cfg Config) *node {
	t.Helper()
	n := &node{net: cfg.Net}
	if cfg.Events == nil {
		cfg.Events = n.record
	}
	var err error
	if n.Pool, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := n.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	n.stop = func() {
		cancel()
		wg.Wait()
	}
	t.Cleanup(n.stop)
	return n
}

func join(t testing.TB, n, to *node) {
	t.Helper()
	if got, err := n.Join(context.Background(), []string{to.addr()}); got != 1 || err != nil {
		t.Fatalf("join got %d, %v, want 1", got, err)
	}
}

// eventually waits until ok, which it polls.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		<-tick.C
	}
}
