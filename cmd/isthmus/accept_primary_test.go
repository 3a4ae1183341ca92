package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"isthmus/internal/testkit"
	"isthmus/internal/wire"
)

// mixed is a federation of three datacenters, some of the reference and some of
// ours; dc1 is the primary. The servers of the secondaries know the primary's
// gateways by a name. Recorders stand in front of each gateway where servers of its
// own datacenter dial it, and where those of secondaries dial the primary's.
type mixed struct {
	*fleet
	ref         string
	old, latest string // Envoys
	names       *names
	sites       map[int]site
	servers     map[int]*process
	guard       *guard
	gateways    map[int]*process
	recorders   map[int]*recorder
	direct      map[int]*recorder // what the servers of a secondary ask of the primary's gateways
	primaryAt   int               // number of the primary's gateway
}

// site says what a datacenter is made of.
type site struct {
	ref         string // the reference's binary, or empty for our servers
	envoy       string // its gateway's Envoy, or empty for the built-in data plane
	gatewayFrom string // the reference's binary when that starts the Envoy
}

// primaryGateways is what the servers of a secondary are told: each secondary has a
// port of its own, so that the recorders can tell them apart.
func primaryGateways(dc int) string { return fmt.Sprintf("gateways.dc1.test:%d", 9000+dc) }

// name leads the name of the primary's gateways to its gateway number n.
func (m *mixed) name(n int) {
	for dc := 2; dc <= 3; dc++ {
		m.direct[dc] = record(m.t, fmt.Sprintf("%s:%d", m.addr(1, 100+n), 9000+dc), m.gatewayAddr(1, n))
	}
	m.names.set(m.addr(1, 100+n))
	m.primaryAt = n
}

func newMixed(t *testing.T, sites func(*mixed) map[int]site) *mixed {
	t.Helper()
	m := &mixed{
		fleet: newFleet(t), ref: reference(t), servers: map[int]*process{}, gateways: map[int]*process{},
		recorders: map[int]*recorder{}, direct: map[int]*recorder{},
	}
	envoys := testkit.Envoys(t)
	m.old, m.latest = envoys[0], envoys[len(envoys)-1]
	m.sites = sites(m)
	m.names = m.ownNames()
	m.name(1)
	for dc := 1; dc <= 3; dc++ {
		m.recorders[dc] = record(t, m.gatewayAddr(dc, 91), m.gatewayAddr(dc, 1))
	}
	start := time.Now()
	m.servers[1] = m.lone(1, m.sites[1].ref)
	testkit.Eventually(t, func() error { return m.put(1, 1, 1, "k", "v") })
	m.gateways[1] = m.mesh(m.gatewayOf(1, 1))
	for dc := 2; dc <= 3; dc++ {
		m.servers[dc] = m.lone(dc, m.sites[dc].ref, primaryGateways(dc))
	}
	for dc := 2; dc <= 3; dc++ {
		m.gateways[dc] = m.mesh(m.gatewayOf(dc, 1))
	}
	m.guard = m.watchSockets(m.servers)
	within(t, latched, func() error { return m.across(1, 2, 3) })
	t.Logf("federated after %s", time.Since(start))
	return m
}

// gatewayOf is the first gateway of a datacenter, at the address of number n.
func (m *mixed) gatewayOf(dc, n int) gateway {
	g := gateway{dc: dc, n: n, id: "gw1", envoy: m.sites[dc].envoy, ref: m.sites[dc].gatewayFrom}
	if n == 1 {
		g.lan = m.gatewayAddr(dc, 91)
	}
	return g
}

type step struct {
	name string
	run  func(*mixed, *testing.T)
}

// steps runs one after the other, for as long as the federation works.
func (m *mixed) steps(t *testing.T, steps ...step) {
	t.Helper()
	for _, s := range steps {
		if !t.Run(s.name, func(t *testing.T) { s.run(m, t) }) {
			return
		}
	}
}

func TestAcceptReferencePrimary(t *testing.T) {
	m := newMixed(t, func(m *mixed) map[int]site {
		return map[int]site{
			1: {ref: m.ref, envoy: m.latest, gatewayFrom: m.ref},
			2: {},
			3: {ref: m.ref, envoy: m.old}, // our command beside the reference's agent
		}
	})
	m.steps(t,
		step{"names and protocols in clear", (*mixed).hellos},
		step{"a moved gateway is followed", (*mixed).moved},
		step{"gateways of two kinds replace each other", (*mixed).replaced},
		step{"without own gateways the primary is dialled", (*mixed).ownGone},
		step{"all gateways of the primary move to other addresses of their name", (*mixed).primaryMoves},
		step{"a secondary changes from the reference to ours", (*mixed).changes})
}

func TestAcceptOurPrimary(t *testing.T) {
	m := newMixed(t, func(m *mixed) map[int]site {
		return map[int]site{
			1: {},
			2: {ref: m.ref, envoy: m.latest, gatewayFrom: m.ref},
			3: {envoy: m.old, gatewayFrom: m.ref}, // the reference's command beside our agent
		}
	})
	m.steps(t,
		step{"names and protocols in clear", (*mixed).hellos},
		step{"one certificate authority for all", (*mixed).authority},
		step{"a stalled gateway delays no probe of another datacenter", (*mixed).stalled},
		step{"a moved gateway is followed", (*mixed).moved},
		step{"gateways of two kinds replace each other", (*mixed).replaced},
		step{"without own gateways the primary is dialled", (*mixed).ownGone},
		step{"all gateways of the primary move to other addresses of their name", (*mixed).primaryMoves})
}

// common is what servers speak through gateways in any federation; the rest is
// spoken when it is asked for.
var common = []string{"consul/rpc-multi", "consul/wan-gossip/packet", "consul/wan-gossip/stream"}

func (m *mixed) hellos(t *testing.T) { //nolint:thelper // a step is a test: its lines are told
	for dc := 2; dc <= 3; dc++ {
		if m.sites[dc].ref == "" {
			continue
		}
		for _, path := range []string{
			"/v1/snapshot?dc=dc1", // the reference alone has snapshots of another datacenter,
			"/v1/health/service/consul?dc=dc1&cached&stale&index=1&wait=1s", // and streams what changes elsewhere
		} {
			// Its snapshots over TLS fail now and then, between datacenters of its own too.
			within(t, 30*time.Second, func() error {
				b, err := m.do(http.MethodGet, dc, 1, path, nil)
				t.Logf("the reference's GET %s: %d bytes, %v", path, len(b), err)
				if m.sites[1].ref == "" {
					return nil // we have neither; it need only ask
				}
				return err
			})
		}
	}
	within(t, 30*time.Second, m.hellosAreThose)
	for dc := 1; dc <= 3; dc++ {
		t.Logf("dc%d: %v, directly %v", dc, m.recorders[dc].hellos(), m.direct[dc].hellos())
	}
}

// hellosAreThose compares what gateways could read with the table of the protocol.
func (m *mixed) hellosAreThose() error {
	onDemand := append([]string{"consul/rpc-grpc", "consul/rpc-snapshot"}, common...)
	slices.Sort(onDemand)
	for dc := 1; dc <= 3; dc++ {
		own, direct := m.recorders[dc].hellos(), m.direct[dc].hellos()
		found := map[string]bool{}
		for h := range own {
			if of := strings.TrimPrefix(h.Name, "s1."); !slices.Contains(m.others(dc), of) {
				return fmt.Errorf("dc%d's server asked its gateway for %q", dc, h.Name)
			}
			found[h.Protocol] = true
		}
		for h := range direct {
			if strings.TrimPrefix(h.Name, "s1.") != "server.dc1.consul" {
				return fmt.Errorf("dc%d's server asked the primary's gateway for %q", dc, h.Name)
			}
			found[h.Protocol] = true
		}
		for _, name := range m.others(dc) {
			if call := (hello{Name: "s1." + name, Protocol: common[0]}); !own[call] && !direct[call] {
				return fmt.Errorf("dc%d's server was never seen to call %s", dc, name)
			}
		}
		switch got := slices.Sorted(maps.Keys(found)); {
		case dc == 1 && slices.ContainsFunc(got, func(p string) bool { return !slices.Contains(common, p) }):
			return fmt.Errorf("the primary speaks %q through gateways", got)
		case dc > 1 && m.sites[dc].ref == "" && !slices.Equal(got, common):
			return fmt.Errorf("our secondary speaks %q through gateways, want %q", got, common)
		case dc > 1 && m.sites[dc].ref != "" && !slices.Equal(got, onDemand):
			return fmt.Errorf("the reference's secondary speaks %q through gateways, want %q", got, onDemand)
		}
	}
	return nil
}

// others are the names that stand for any server of the other datacenters.
func (m *mixed) others(dc int) []string {
	var out []string
	for other := range m.sites {
		if other != dc {
			out = append(out, fmt.Sprintf("server.dc%d.consul", other))
		}
	}
	return out
}

func (m *mixed) stalled(t *testing.T) { //nolint:thelper // a step is a test: its lines are told
	// suspicions counts how often a server began to doubt another one.
	suspicions := func(by, of int) int {
		t.Helper()
		b, err := os.ReadFile(m.servers[by].log)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(b), fmt.Sprintf("Suspect s1.dc%d has failed", of))
	}
	one, three, stalled := suspicions(1, 3), suspicions(3, 1), suspicions(1, 2)
	m.gateways[2].signal(syscall.SIGSTOP)
	reads := m.reading(3, 1, "k")
	within(t, 30*time.Second, func() error {
		if suspicions(1, 2) == stalled { // one is enough: whoever is held for dead is not probed again
			return errors.New("no probe of dc2 failed yet")
		}
		return nil
	})
	reads.endWithout(t)
	m.gateways[2].signal(syscall.SIGCONT)
	if n := suspicions(1, 3) - one + suspicions(3, 1) - three; n > 0 {
		t.Errorf("our servers began to doubt each other %d times while dc2's gateway stalled", n)
	}
	t.Logf("all federated again after %s", within(t, latched, func() error { return m.across(1, 2, 3) }))
}

func (m *mixed) authority(t *testing.T) { //nolint:thelper // a step is a test: its lines are told
	type roots struct {
		ActiveRootID, TrustDomain string
		Roots                     []struct{ ID, RootCert string }
	}
	var primary roots
	if err := m.get(1, 1, "/v1/connect/ca/roots", &primary); err != nil {
		t.Fatal(err)
	}
	for dc := 2; dc <= 3; dc++ {
		took := within(t, 30*time.Second, func() error {
			var got roots
			if err := m.get(dc, 1, "/v1/connect/ca/roots", &got); err != nil {
				return err
			}
			if got.ActiveRootID == "" || got.ActiveRootID != primary.ActiveRootID || got.TrustDomain != primary.TrustDomain {
				return fmt.Errorf("dc%d has the root %q of %q, the primary %q of %q", dc, got.ActiveRootID, got.TrustDomain, primary.ActiveRootID, primary.TrustDomain)
			}
			return nil
		})
		t.Logf("dc%d has the primary's roots (after another %s)", dc, took)
	}
	// The reference signs leaves with an intermediate that our primary signed.
	var leaf struct{ CertPEM string }
	within(t, 30*time.Second, func() error { return m.get(2, 1, "/v1/agent/connect/ca/leaf/web", &leaf) })
	pool, between := x509.NewCertPool(), x509.NewCertPool()
	for _, root := range primary.Roots {
		pool.AppendCertsFromPEM([]byte(root.RootCert))
	}
	block, rest := pem.Decode([]byte(leaf.CertPEM))
	if block == nil {
		t.Fatalf("no certificate: %s", leaf.CertPEM)
	}
	between.AppendCertsFromPEM(rest)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Errorf("the reference's leaf: %v", err)
	}
	t.Logf("the reference's leaf is for %v", cert.URIs)
}

// clusters is what a gateway's Envoy tells of where it leads.
func (m *mixed) clusters(g gateway) (string, error) {
	resp, err := m.client.Get("http://" + m.admin(g) + "/clusters")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// endpoints are the addresses at which a gateway's Envoy reaches a cluster.
func (m *mixed) endpoints(g gateway, cluster string) ([]string, error) {
	clusters, err := m.clusters(g)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for line := range strings.Lines(clusters) {
		if rest, ok := strings.CutPrefix(line, cluster+"::"); ok {
			if addr, _, _ := strings.Cut(rest, "::"); strings.Contains(addr, ":") {
				found[addr] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

func (m *mixed) moved(t *testing.T) { //nolint:thelper // a step is a test: its lines are told
	for _, dc := range []int{2, 3} {
		m.recorders[dc].stop()
		m.gateways[dc].signal(syscall.SIGKILL)
		m.gateways[dc] = m.mesh(m.gatewayOf(dc, 2))
		start := time.Now()
		for _, viewer := range []int{1, 5 - dc} {
			within(t, 30*time.Second, func() error {
				if m.sites[viewer].envoy == "" { // the built-in gateway has no table to ask for
					_, err := m.read(viewer, 1, dc, "from-dc1")
					return err
				}
				at := m.gatewayOf(viewer, 1)
				if viewer < dc && viewer > 1 {
					at = m.gatewayOf(viewer, 2) // it has moved itself
				}
				got, err := m.endpoints(at, fmt.Sprintf("server.dc%d.consul", dc))
				if err == nil && !slices.Equal(got, []string{m.gatewayAddr(dc, 2)}) {
					err = fmt.Errorf("dc%d's Envoy leads to %v", viewer, got)
				}
				return err
			})
			took := time.Since(start).Round(time.Millisecond)
			t.Logf("dc%d's gateway moved: dc%d's gateway follows after %s", dc, viewer, took)
			if limit := 15 * time.Second; took > limit {
				t.Errorf("that is more than %s", limit)
			}
		}
		t.Logf("all federated again after another %s", within(t, latched, func() error { return m.across(1, 2, 3) }))
	}
}

// status is what our server of a datacenter tells of federation.
func (m *mixed) status(dc int) (wire.ServerView, error) {
	var status struct{ Servers []wire.ServerView }
	if err := m.get(dc, 1, "/v1/federation/status", &status); err != nil {
		return wire.ServerView{}, err
	}
	return status.Servers[0], nil
}

func (m *mixed) replaced(t *testing.T) { //nolint:thelper // a step is a test: its lines are told
	ours, theirs := 2, 3
	if m.sites[ours].ref != "" {
		ours, theirs = theirs, ours
	}
	first, second := "Envoy", "built-in"
	g := gateway{dc: 1, n: 5, id: "other"}
	if m.sites[1].envoy == "" {
		first, second = second, first
		g.envoy = m.latest
	}
	other := m.mesh(g)
	knows := func(want ...string) {
		t.Helper()
		slices.Sort(want)
		within(t, time.Minute, func() error {
			var states map[string][]struct {
				Service struct {
					TaggedAddresses map[string]struct {
						Address string
						Port    int
					}
				}
				Checks []struct{ Status string }
			}
			if err := m.get(ours, 1, "/v1/internal/federation-states/mesh-gateways", &states); err != nil {
				return err
			}
			var got []string
			for _, g := range states["dc1"] {
				wan := g.Service.TaggedAddresses["wan"]
				if !slices.ContainsFunc(g.Checks, func(c struct{ Status string }) bool { return c.Status == "critical" }) {
					got = append(got, net.JoinHostPort(wan.Address, fmt.Sprint(wan.Port)))
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				return fmt.Errorf("dc%d knows the gateways %v of dc1, want %v", ours, got, want)
			}
			return nil
		})
	}
	knows(m.gatewayAddr(1, 1), m.gatewayAddr(1, 5))
	for name, p := range map[string]*process{first: m.gateways[1], second: other} {
		own, reference := m.reading(ours, 1, "k"), m.reading(theirs, 1, "k")
		p.signal(syscall.SIGKILL)
		took := within(t, latched, func() error { return m.across(1, 2, 3) })
		t.Logf("%s killed: all works again after %s", name, took)
		own.endWithout(t)
		reference.end(t)
		p.start()
		within(t, 30*time.Second, func() error { return m.leads(1, 1) })
		within(t, 30*time.Second, func() error { return m.leads(1, 5) })
		knows(m.gatewayAddr(1, 1), m.gatewayAddr(1, 5))
		within(t, latched, func() error { return m.across(1, 2, 3) })
	}
	other.signal(syscall.SIGTERM)
}

func (m *mixed) ownGone(t *testing.T) { //nolint:thelper // a step is a test: its lines are told
	for _, dc := range []int{2, 3} {
		m.gateways[dc].signal(syscall.SIGKILL)
		took := within(t, time.Minute, func() error {
			_, err := m.read(dc, 1, 1, "k")
			return err
		})
		t.Logf("own gateway of dc%d down: reads of the primary work after %s", dc, took)
		if m.sites[dc].ref != "" {
			took := within(t, time.Minute, func() error {
				b, err := os.ReadFile(m.servers[dc].log)
				if err == nil && !strings.Contains(string(b), "will dial the primary datacenter through its mesh gateways") {
					err = fmt.Errorf("dc%d does not dial the primary's gateways", dc)
				}
				return err
			})
			t.Logf("the reference says so after another %s", took)
		}
		m.gateways[dc] = m.mesh(m.gatewayOf(dc, 2))
		took = within(t, time.Minute, func() error {
			if m.sites[dc].ref == "" {
				view, err := m.status(dc)
				for _, d := range view.Datacenters {
					if d.Name == "dc1" && d.Route != "own gateway" {
						err = fmt.Errorf("the route is %q", d.Route)
					}
				}
				return err
			}
			return m.across(1, 2, 3)
		})
		t.Logf("own gateway of dc%d back: used again after %s", dc, took)
		within(t, latched, func() error { return m.across(1, 2, 3) })
	}
}

func (m *mixed) primaryMoves(t *testing.T) { //nolint:thelper // a step is a test: its lines are told
	for _, r := range []*recorder{m.recorders[1], m.direct[2], m.direct[3]} {
		r.stop()
	}
	m.gateways[1].signal(syscall.SIGKILL)
	g := m.gatewayOf(1, 7)
	g.envoy = m.latest // in place of a built-in one, too
	g.id = "moved"
	m.name(7)
	m.gateways[1] = m.mesh(g)
	start := time.Now()
	for dc := 2; dc <= 3; dc++ {
		within(t, 2*time.Minute, func() error {
			_, err := m.read(dc, 1, 1, "k")
			return err
		})
		t.Logf("reads from dc%d work after %s", dc, time.Since(start))
	}
	within(t, latched, func() error { return m.across(1, 2, 3) })
	t.Logf("all federated after %s", time.Since(start))
}
