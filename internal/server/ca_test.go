package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
	"isthmus/internal/ca"
	"isthmus/internal/gossip"
	"isthmus/internal/rpc"
	"isthmus/internal/server"
	"isthmus/internal/state"
	"isthmus/internal/testkit"
	"isthmus/internal/wire"
)

// link leads to the server of the primary datacenter, until it is cut.
type link struct {
	mu      sync.Mutex
	primary *server.Server // nil while it is cut
	severed chan struct{}  // closed with the next cut
}

// Call implements rpc.Caller.
func (l *link) Call(ctx context.Context, r *rpc.Request) (rpc.Meta, error) {
	l.mu.Lock()
	primary, severed := l.primary, l.severed
	l.mu.Unlock()
	if primary == nil {
		return rpc.Meta{}, api.Known(api.NoPath, nil)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		meta rpc.Meta
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		meta, err := primary.Call(ctx, r)
		got <- answer{meta, err}
	}()
	select {
	case a := <-got:
		return a.meta, a.err
	case <-severed:
		cancel()
		<-got
		return rpc.Meta{}, errors.New("the link was cut")
	}
}

func (l *link) cut() { l.join(nil) }

// join lets calls through to another primary.
func (l *link) join(primary *server.Server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.severed)
	l.primary, l.severed = primary, make(chan struct{})
}

// mesh is two datacenters with the service mesh on; dc1 is the primary.
type mesh struct {
	link

	t    *testing.T
	text bytes.Buffer
	log  *slog.Logger
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	m := &mesh{t: t, link: link{severed: make(chan struct{})}}
	m.log = slog.New(slog.NewTextHandler(&m.text, nil))
	t.Cleanup(func() {
		if strings.Contains(m.text.String(), "PRIVATE KEY") {
			t.Errorf("the log holds a key:\n%s", m.text.String())
		}
	})
	return m
}

// short are settings with which an intermediate is half over after 90 minutes.
var short = ca.Settings{LeafTTL: time.Hour, IntermediateTTL: 3 * time.Hour, RootTTL: 87600 * time.Hour}

// server makes the server of a datacenter on a state. It leads until stop.
func (m *mesh) server(datacenter string, st *state.State) (s *server.Server, stop func()) {
	quiet := slog.New(slog.DiscardHandler)
	s = server.New(server.Config{
		Datacenter: datacenter, Primary: "dc1", Node: "s1", ID: "id", Hold: time.Second, Log: m.log, Connect: true, CA: short,
		Members: func() []gossip.Member { return nil },
	}, st, &testkit.FakeLog{State: st}, rpc.NewRouter(datacenter, rpc.NewPool(nil, time.Minute, quiet), quiet), nil)
	s.SetPrimary(m)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Lead(ctx) }()
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			m.t.Errorf("lead: %v", err)
		}
	}
}

// roots are what a server trusts, and the active one of them.
func (m *mesh) roots(s *server.Server) (api.CARoots, *api.CARoot, error) {
	synctest.Wait()
	roots, _, err := wire.CARoots.Call(m.t.Context(), s, rpc.Header{}, wire.DCQuery{})
	if err != nil {
		return roots, nil, err
	}
	i := slices.IndexFunc(roots.Roots, func(r *api.CARoot) bool { return r.ID == roots.ActiveRootID })
	return roots, roots.Roots[i], nil
}

// intermediate is the one of a secondary, which must lead to the root of a primary.
func (m *mesh) intermediate(primary, secondary *server.Server) string {
	m.t.Helper()
	of, root, err := m.roots(primary)
	if err != nil {
		m.t.Fatal(err)
	}
	got, own, err := m.roots(secondary)
	if err != nil {
		m.t.Fatal(err)
	}
	if got.TrustDomain != of.TrustDomain || own.RootCert != root.RootCert || len(own.IntermediateCerts) != 1 {
		m.t.Fatalf("got %+v in %s, want one intermediate under %+v in %s", own, got.TrustDomain, root, of.TrustDomain)
	}
	cert, err := ca.CheckIntermediate(own.IntermediateCerts[0], root.RootCert)
	if err != nil {
		m.t.Fatal(err)
	}
	if id := testkit.Must(ca.KeyID(cert)); id != own.SigningKeyID || id == root.SigningKeyID {
		m.t.Errorf("signing key %s, want that of the intermediate, %s", own.SigningKeyID, id)
	}
	return own.IntermediateCerts[0]
}

func TestPrimaryMakesItsRootOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		st := state.New()
		first, stop := m.server("dc1", st)
		before, root, err := m.roots(first)
		stop()
		if err != nil || len(before.Roots) != 1 || root.SerialNumber != 1 || before.TrustDomain != root.ExternalTrustDomain+".consul" {
			t.Fatalf("got %+v, %v; want one root", before, err)
		}
		index := st.LastIndex()
		second, stop := m.server("dc1", st) // another leader on the same log
		defer stop()
		after, _, err := m.roots(second)
		if err != nil || after.TrustDomain != before.TrustDomain || after.Roots[0].RootCert != root.RootCert || st.LastIndex() != index {
			t.Errorf("the next leader has %+v, %v; want what the first one made, and nothing written", after, err)
		}
		cfg, _, err := wire.CAConfiguration.Call(t.Context(), second, rpc.Header{}, wire.DCQuery{})
		if err != nil || cfg.ClusterID != root.ExternalTrustDomain || cfg.Provider != "consul" || cfg.Config["IntermediateCertTTL"] != "3h" {
			t.Errorf("got the configuration %+v, %v", cfg, err)
		}
	})
}

func TestSecondaryGetsItsIntermediateOnceThePrimaryIsReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		primary, stop := m.server("dc1", state.New())
		defer stop()
		st := state.New()
		secondary, stop := m.server("dc2", st)
		time.Sleep(time.Minute)
		if _, _, err := m.roots(secondary); err == nil || !strings.Contains(err.Error(), "CA has not finished initializing") {
			t.Errorf("without the primary: got %v", err)
		}
		if got := strings.Count(m.text.String(), "is not up to date"); got == 0 || got > 3 {
			t.Errorf("said %d times that it is behind:\n%s", got, m.text.String())
		}
		m.join(primary)
		time.Sleep(time.Minute)
		first := m.intermediate(primary, secondary)
		stop()

		// The next leader takes over what the first one stored, also while the
		// primary is away.
		m.cut()
		index := st.LastIndex()
		secondary, stop = m.server("dc2", st)
		defer stop()
		time.Sleep(time.Minute)
		if got := m.intermediate(primary, secondary); got != first || st.LastIndex() != index {
			t.Error("the next leader has another intermediate, or wrote something")
		}
	})
}

func TestIntermediateIsRenewedAtHalfItsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		primary, stop := m.server("dc1", state.New())
		defer stop()
		m.join(primary)
		secondary, stop := m.server("dc2", state.New())
		defer stop()
		time.Sleep(time.Minute)
		first := m.intermediate(primary, secondary)
		time.Sleep(80 * time.Minute)
		if m.intermediate(primary, secondary) != first {
			t.Error("renewed early")
		}
		time.Sleep(15 * time.Minute)
		second := m.intermediate(primary, secondary)
		if second == first {
			t.Error("not renewed at half its life")
		}

		// Without the primary the old one serves on, and is renewed when it is back.
		m.cut()
		time.Sleep(100 * time.Minute)
		if m.intermediate(primary, secondary) != second {
			t.Error("the old intermediate must serve until there is a new one")
		}
		m.join(primary)
		time.Sleep(2 * time.Minute)
		if m.intermediate(primary, secondary) == second {
			t.Error("not renewed although the primary is back")
		}
	})
}

func TestSecondaryFollowsAPrimaryThatWasBuiltAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		old, stopOld := m.server("dc1", state.New())
		m.join(old)
		secondary, stop := m.server("dc2", state.New())
		defer stop()
		time.Sleep(time.Minute)
		m.intermediate(old, secondary)
		m.cut()
		stopOld()
		anew, stop := m.server("dc1", state.New())
		defer stop()
		m.join(anew)
		time.Sleep(time.Minute)
		m.intermediate(anew, secondary)
	})
}

func TestReaderOfRootsWakesWhenTheyChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		primary, stop := m.server("dc1", state.New())
		defer stop()
		m.join(primary)
		secondary, stop := m.server("dc2", state.New())
		defer stop()
		time.Sleep(time.Minute)
		_, meta, err := wire.CARoots.Call(t.Context(), secondary, rpc.Header{}, wire.DCQuery{})
		if err != nil {
			t.Fatal(err)
		}
		h := rpc.Header{MinIndex: meta.Index, MaxWait: 10 * time.Minute}
		start := time.Now()
		_, again, err := wire.CARoots.Call(t.Context(), secondary, h, wire.DCQuery{})
		if err != nil || again.Index != meta.Index || time.Since(start) < 10*time.Minute {
			t.Errorf("woke after %s at %d, %v; want nothing to happen", time.Since(start), again.Index, err)
		}
		h.MaxWait = 10 * time.Minute
		for range 9 { // until it is renewed
			if _, again, err = wire.CARoots.Call(t.Context(), secondary, h, wire.DCQuery{}); err != nil || again.Index > meta.Index {
				break
			}
		}
		if err != nil || again.Index <= meta.Index {
			t.Errorf("not woken by the new intermediate: index %d, %v", again.Index, err)
		}
	})
}

func TestWhoMaySign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		primary, stop := m.server("dc1", state.New())
		defer stop()
		m.join(primary)
		secondary, stop := m.server("dc2", state.New())
		defer stop()
		time.Sleep(time.Minute)
		sign := func(s *server.Server) error {
			_, _, err := wire.CASignIntermediate.Call(t.Context(), s, rpc.Header{}, wire.SignRequest{CSR: "x"})
			return err
		}
		for want, err := range map[string]error{
			"not the primary datacenter": sign(secondary), "no certificate request": sign(primary),
			"Connect must be enabled in order to use this endpoint": sign(testkit.NewServer(t)),
		} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		}
		off := testkit.NewServer(t)
		_, _, errRoots := wire.CARoots.Call(t.Context(), off, rpc.Header{}, wire.DCQuery{})
		_, _, errConfig := wire.CAConfiguration.Call(t.Context(), off, rpc.Header{}, wire.DCQuery{})
		for _, err := range []error{errRoots, errConfig} {
			if fmt.Sprint(err) != "Connect must be enabled in order to use this endpoint" {
				t.Errorf("with the mesh off: got %v", err)
			}
		}
	})
}
