package testkit

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"isthmus/internal/consensus"
	"isthmus/internal/gossip"
	"isthmus/internal/rpc"
	"isthmus/internal/server"
	"isthmus/internal/state"
)

// FakeLog is a log of one server that leads at once and applies what is appended
// without a disk.
type FakeLog struct {
	State *state.State

	mu    sync.Mutex
	index uint64
}

// Append implements server.Log.
func (l *FakeLog) Append(_ context.Context, entry []byte) (any, uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.index++
	return l.State.Apply(l.index, entry), l.index, nil
}

// Verify implements server.Log.
func (l *FakeLog) Verify(context.Context) error { return nil }

// Barrier implements server.Log.
func (l *FakeLog) Barrier(context.Context) error { return nil }

// IsLeader implements server.Log.
func (l *FakeLog) IsLeader() bool { return true }

// Leader implements server.Log.
func (l *FakeLog) Leader() (address, id string) { return "192.0.2.1:8300", "id" }

// LastContact implements server.Log.
func (l *FakeLog) LastContact() time.Duration { return 0 }

// HasState implements server.Log.
func (l *FakeLog) HasState() bool { return true }

// Bootstrap implements server.Log.
func (l *FakeLog) Bootstrap([]consensus.Server) error { return nil }

// Servers implements server.Log.
func (l *FakeLog) Servers() ([]consensus.Server, error) {
	return []consensus.Server{{ID: "id", Address: "192.0.2.1:8300", Voter: true}}, nil
}

// AddVoter implements server.Log.
func (l *FakeLog) AddVoter(context.Context, string, string) error { return nil }

// RemoveServer implements server.Log.
func (l *FakeLog) RemoveServer(context.Context, string) error { return nil }

// Stats implements server.Log.
func (l *FakeLog) Stats() map[string]string {
	return map[string]string{"last_contact": "0", "last_log_index": "7", "last_log_term": "2"}
}

// NewServer returns the one server of datacenter dc1, which leads until the test
// ends. It opens no socket, so it runs in a bubble of testing/synctest too.
func NewServer(t testing.TB) *server.Server {
	t.Helper()
	st := state.New()
	log := slog.New(slog.DiscardHandler)
	router := rpc.NewRouter("dc1", rpc.NewPool(nil, time.Minute, log), log)
	router.AddServer(rpc.ServerInfo{Datacenter: "dc1", Name: "s1", ID: "id", Addr: "192.0.2.1:8300", FedStates: true, Alive: true})
	s := server.New(server.Config{
		Datacenter: "dc1", Primary: "dc1", Node: "s1", ID: "id", Hold: time.Second, Log: log,
		Members: func() []gossip.Member { return nil },
	}, st, &FakeLog{State: st, index: 10}, router, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() {
		close(ready)
		done <- s.Lead(ctx)
	}()
	<-ready
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("lead: %v", err)
		}
	})
	return s
}

// Must returns v, or panics.
func Must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Eventually calls try until it returns nil, and fails the test when that takes
// longer than 30 s.
func Eventually(t testing.TB, try func() error) {
	t.Helper()
	const limit, pause = 30 * time.Second, 20 * time.Millisecond
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %v", limit, err)
		}
		select {
		case <-time.After(pause):
		case <-t.Context().Done():
			t.Fatal(err)
		}
	}
}
