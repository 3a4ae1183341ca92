package server_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
	"isthmus/internal/gossip"
	"isthmus/internal/rpc"
	"isthmus/internal/server"
	"isthmus/internal/state"
	"isthmus/internal/testkit"
	"isthmus/internal/wire"
)

// roster is a LAN pool whose members a test sets.
type roster struct {
	mu      sync.Mutex
	members []gossip.Member
}

func (r *roster) set(members ...gossip.Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members = members
}

func (r *roster) list() []gossip.Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.members)
}

// overtaken is a log into which others write just before a server does.
type overtaken struct {
	*testkit.FakeLog

	first func()
}

func (o *overtaken) Append(ctx context.Context, entry []byte) (any, uint64, error) {
	if first := o.first; first != nil {
		o.first = nil
		first()
	}
	return o.FakeLog.Append(ctx, entry) //nolint:wrapcheck // a fake
}

// TestLeaderLeavesANodeAsItsAgentRegisteredIt has the agent's registration come
// between the leader's look at the catalog and its own.
func TestLeaderLeavesANodeAsItsAgentRegisteredIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lan roster
		st, log := state.New(), slog.New(slog.DiscardHandler)
		router := rpc.NewRouter("dc1", rpc.NewPool(nil, time.Minute, log), log)
		raft := &overtaken{FakeLog: &testkit.FakeLog{State: st}}
		s := server.New(server.Config{
			Datacenter: "dc1", Primary: "dc1", Node: "s1", ID: "id", Hold: time.Second, Log: log, Members: lan.list,
		}, st, raft, router, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Lead(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait() // it leads
		raft.first = func() {
			entry, err := state.Register.Entry("dc1", &api.Registration{
				Datacenter: "dc1", ID: "idc", Node: "c1", Address: "192.0.2.8",
				TaggedAddresses: map[string]string{"wan": "198.51.100.8"}, NodeMeta: map[string]string{"rack": "a"},
			})
			if err != nil {
				t.Error(err)
			}
			if _, _, err := raft.FakeLog.Append(t.Context(), entry); err != nil {
				t.Error(err)
			}
		}
		lan.set(gossip.Member{
			Name: "c1", Addr: netip.MustParseAddr("192.0.2.8"), Tags: map[string]string{"role": "node", "id": "idc"}, Status: gossip.StatusAlive,
		})
		s.LANChanged()
		synctest.Wait()
		tx := st.View()
		if n := state.Node(tx, "c1"); n == nil || n.TaggedAddresses["wan"] != "198.51.100.8" || n.Meta["rack"] != "a" {
			t.Errorf("the leader made the node %+v", n)
		}
		if c := state.Check(tx, "c1", api.SerfHealth); c == nil || c.Status != api.Passing {
			t.Errorf("got the check %+v", c)
		}
	})
}

// TestCatalogFollowsMembersUntilTheyAreReaped takes a client through its life. That gossip forgets
// a failed member after 72 hours is the pool's own setting.
func TestCatalogFollowsMembersUntilTheyAreReaped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lan roster
		st, log := state.New(), slog.New(slog.DiscardHandler)
		router := rpc.NewRouter("dc1", rpc.NewPool(nil, time.Minute, log), log)
		s := server.New(server.Config{
			Datacenter: "dc1", Primary: "dc1", Node: "s1", ID: "id", Hold: time.Second, Log: log, Members: lan.list,
		}, st, &testkit.FakeLog{State: st}, router, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Lead(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		member := gossip.Member{
			Name: "c1", Addr: netip.MustParseAddr("192.0.2.8"), Tags: map[string]string{"role": "node", "id": "idc"}, Status: gossip.StatusAlive,
		}
		changed := func(status gossip.Status, there bool) {
			t.Helper()
			lan.set()
			if there {
				member.Status = status
				lan.set(member)
			}
			s.LANChanged()
			synctest.Wait()
		}
		health := func() string {
			t.Helper()
			checks, _, err := wire.HealthNodeChecks.Call(t.Context(), s, rpc.Header{}, wire.NodeQuery{Node: "c1"})
			if err != nil {
				t.Fatal(err)
			}
			out := ""
			for _, c := range checks {
				out += fmt.Sprintf("%s=%s ", c.CheckID, c.Status)
			}
			return out
		}
		synctest.Wait() // it leads
		changed(gossip.StatusAlive, true)
		if got := health(); got != "serfHealth=passing " {
			t.Fatalf("alive: %q", got)
		}
		register(t, s, "c1", "web", 80)
		register(t, s, "external", "db", 5432) // no agent, so gossip never knew it
		changed(gossip.StatusFailed, true)
		if got := health(); got != "serfHealth=critical web-alive=passing " {
			t.Errorf("failed: %q", got)
		}
		changed(gossip.StatusFailed, false)
		nodes, _, err := wire.CatalogNodes.Call(t.Context(), s, rpc.Header{}, wire.DCQuery{})
		if got := nodesOf(nodes, func(n *api.Node) string { return n.Node }); got != "external" || err != nil {
			t.Errorf("reaped: got nodes %q, %v", got, err)
		}
		if got, _, err := wire.HealthServiceNodes.Call(t.Context(), s, rpc.Header{}, wire.ServiceQuery{ServiceName: "web"}); len(got) > 0 || err != nil {
			t.Errorf("reaped: got %+v, %v", got, err)
		}
	})
}
