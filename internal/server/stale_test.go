package server_test

import (
	"log/slog"
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

// following is a log whose leader is another server.
type following struct{ *testkit.FakeLog }

func (following) IsLeader() bool { return false }

// TestRestartedServerDoesNotAnswerBeforeItsLogIsApplied has a follower that heard
// of its leader already, and knows nothing yet.
func TestRestartedServerDoesNotAnswerBeforeItsLogIsApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := state.New()
		log := slog.New(slog.DiscardHandler)
		router := rpc.NewRouter("dc1", rpc.NewPool(nil, time.Minute, log), log)
		s := server.New(server.Config{
			Datacenter: "dc1", Primary: "dc1", Node: "s2", ID: "id2", Hold: time.Second, Log: log,
			Members: func() []gossip.Member { return nil },
		}, st, following{&testkit.FakeLog{State: st}}, router, nil)
		read := func() ([]*api.Node, error) {
			out, _, err := wire.CatalogNodes.Call(t.Context(), s, rpc.Header{AllowStale: true}, wire.DCQuery{})
			return out, err
		}
		if out, err := read(); err == nil {
			t.Errorf("answered %v from an empty state", out)
		}
		entry, err := state.Register.Entry("dc1", &api.Registration{Node: "n1", Address: "192.0.2.7"})
		if err != nil {
			t.Fatal(err)
		}
		st.Apply(11, entry)
		if out, err := read(); err != nil || len(out) != 1 {
			t.Errorf("got %v, %v", out, err)
		}
	})
}
