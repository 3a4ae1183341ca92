package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/transport"
	"isthmus/internal/wire"
)

const (
	manyDatacenters = 100 // two of them are real
	manyGateways    = 3   // in each that is not
	manyLimit       = 40 * time.Second

	// Most processor time, in shares of one processor, that a server and an Envoy may
	// use while nothing happens but that 98 datacenters do not answer.
	manyIdle  = 0.15
	manyWatch = 10 * time.Second
	manyLines = 20 // of the log of a server meanwhile

	// Most that an Envoy may be sent of what it has, after its agent was restarted. All
	// of it is over 100 KB.
	manyResent = 10_000
)

// namespaceDialer connects to servers from inside their namespace.
type namespaceDialer struct {
	space *space
	tls   *tls.Config
}

// Dial implements transport.Dialer.
func (d namespaceDialer) Dial(ctx context.Context, to transport.Target, p transport.Proto) (net.Conn, error) {
	raw, err := d.space.dial(ctx, "tcp", to.Addr)
	if err != nil {
		return nil, err
	}
	if _, err := raw.Write([]byte{transport.TLSUpgrade.Byte}); err != nil {
		return nil, err
	}
	conn := tls.Client(raw, d.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	_, err = conn.Write([]byte{p.Byte})
	return conn, err
}

// serverRPC calls a server as another server of its datacenter does.
func (r *isolatedRun) serverRPC(n *demoNode) rpc.Caller {
	r.tb.Helper()
	ca, err := os.ReadFile(filepath.Join(r.dir, "ca.pem"))
	if err != nil {
		r.tb.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(r.processes.file(n, ".pem"), r.processes.file(n, "-key.pem"))
	if err != nil {
		r.tb.Fatal(err)
	}
	to := transport.Target{Datacenter: n.dc, Node: n.name, Addr: n.at(demoServerPort)}
	cfg := &tls.Config{
		RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{cert},
		ServerName: transport.Target{Datacenter: n.dc}.ServerName("consul"),
	}
	cfg.RootCAs.AppendCertsFromPEM(ca)
	return rpc.NewPool(namespaceDialer{r.network.space(n), cfg}, askLimit, slog.New(slog.DiscardHandler)).To(to)
}

func simulatedName(i int) string { return fmt.Sprintf("far%02d", i) }

// simulated is the state of a datacenter that does not exist: nobody listens at its
// gateways, and nobody tells so either.
func simulated(i int, first string) *api.FederationState {
	dc := simulatedName(i)
	state := &api.FederationState{Datacenter: dc, UpdatedAt: time.Now().UTC()}
	for g := 1; g <= manyGateways; g++ {
		addr := netip.AddrFrom4([4]byte{198, 18, byte(i), byte(g)}).String()
		if g == 1 && first != "" {
			addr = first
		}
		state.MeshGateways = append(state.MeshGateways, api.CheckServiceNode{
			Node: &api.Node{Node: fmt.Sprintf("%s-node-%d", dc, g), Address: addr, Datacenter: dc},
			Service: &api.NodeService{
				Kind: api.MeshGateway, ID: "mesh-gateway", Service: "mesh-gateway", Address: addr, Port: 8443,
				Meta:            map[string]string{api.FederationKey: "1"},
				TaggedAddresses: map[string]api.ServiceAddress{"wan": {Address: addr, Port: 8443}},
			},
		})
	}
	return state
}

// envoyConfig is what of the dump of an Envoy's configuration is looked at.
type envoyConfig struct {
	clusters, warming []string
	listeners, chains int
}

func (r *isolatedRun) config(n *demoNode) envoyConfig {
	r.tb.Helper()
	page, err := r.admin(n, "/config_dump")
	if err != nil {
		r.tb.Fatal(err)
	}
	type cluster struct{ Cluster struct{ Name string } }
	var dump struct {
		Configs []struct {
			ActiveClusters   []cluster `json:"dynamic_active_clusters"`
			WarmingClusters  []cluster `json:"dynamic_warming_clusters"`
			DynamicListeners []struct {
				ActiveState struct {
					Listener struct {
						FilterChains []json.RawMessage `json:"filter_chains"`
					}
				} `json:"active_state"`
			} `json:"dynamic_listeners"`
		}
	}
	if err := json.Unmarshal([]byte(page), &dump); err != nil {
		r.tb.Fatal(err)
	}
	var out envoyConfig
	for _, c := range dump.Configs {
		for _, a := range c.ActiveClusters {
			out.clusters = append(out.clusters, a.Cluster.Name)
		}
		for _, w := range c.WarmingClusters {
			out.warming = append(out.warming, w.Cluster.Name)
		}
		for _, l := range c.DynamicListeners {
			out.listeners++
			out.chains += len(l.ActiveState.Listener.FilterChains)
		}
	}
	return out
}

// TestHundredDatacenters lets real agents and Envoys follow a federation of 100
// datacenters, 98 of which exist in the federation states alone.
func TestHundredDatacenters(t *testing.T) {
	r := startIsolated(t, 2, []string{"dc1-server-1", "dc1-gateway-1", "dc2-server-1", "dc2-gateway-1"}, func(n *demoNode, _, newest string) {
		if n.dc == "dc1" {
			n.envoy = newest
			// Envoy labels each of the figures of each cluster, which takes it most of its
			// start with so many. These labels halve that.
			n.flags = []string{"-omit-deprecated-tags"}
		}
	})
	r.within(time.Now(), settleLimit, "all know all gateways", func() bool { return r.settled(t.Context()) })
	for _, g := range r.gateways("") {
		far := netip.MustParsePrefix("198.18.0.0/15")
		if err := r.net.byNode[g.name].route(linkWAN, far, g.wan); err != nil {
			t.Fatal(err)
		}
	}
	primary := r.serverRPC(r.node("dc1-server-1"))
	write := func(state *api.FederationState) time.Time {
		now := time.Now()
		in := wire.FederationRequest{Op: wire.FederationUpsert, State: state}
		if _, _, err := wire.FederationApply.Call(t.Context(), primary, rpc.Header{Datacenter: "dc1"}, in); err != nil {
			t.Fatal(err)
		}
		return now
	}
	begun := time.Now()
	for i := range manyDatacenters - 2 {
		write(simulated(i, ""))
	}
	t.Logf("%d states written in %s", manyDatacenters-2, time.Since(begun).Round(time.Millisecond))
	took := r.within(begun, manyLimit, "the secondary has all states", func() bool {
		return r.view(t.Context(), r.node("dc2-server-1")).gateways[simulatedName(manyDatacenters-3)] == manyGateways
	})
	t.Logf("the secondary has all states %s after the first was written", took.Round(time.Millisecond))
	e := r.node("dc1-gateway-1")
	// Of each other datacenter a cluster for its servers and one for its services, of
	// the own server one, and one for all own servers; and the agent.
	const clusters = 2*(manyDatacenters-1) + 2
	took = r.within(begun, manyLimit, "the Envoy has all clusters", func() bool {
		return r.stat(e, "cluster_manager.active_clusters") == clusters+1 && r.stat(e, "cluster_manager.warming_clusters") == 0
	})
	t.Logf("%s has %d clusters %s after the first state was written", e.name, clusters, took.Round(time.Millisecond))
	took = r.within(begun, manyLimit, "the Envoy is in sync with its agent", func() bool { return r.inSync(t, r.node("dc1-server-1"), e.name) == nil })
	t.Logf("it is in sync with its agent after %s", took.Round(time.Millisecond))
	// A chain for each cluster, and instead of the own servers the last of all.
	if c := r.config(e); len(c.clusters) != clusters || c.listeners != 2 || c.chains != 2*clusters || len(c.warming) != 0 {
		t.Errorf("%s has %d active and %d warming clusters, and %d listeners with %d chains; want %d, 0, 2, %d", e.name, len(c.clusters), len(c.warming), c.listeners, c.chains, clusters, 2*clusters)
	}
	r.changeOne(t, write)
	r.logMemory(t)
	r.idle(t)
	if found, err := checkKeys(t.Context(), r.demoRun); err != nil {
		t.Errorf("%s, %v", found, err)
	}
	r.resumed(t)
	r.nothingStraight()
}

// updates are how often an Envoy has taken endpoints of each cluster.
func (r *isolatedRun) updates(n *demoNode) map[string]string {
	r.tb.Helper()
	page, err := r.admin(n, "/stats?filter=update_success$")
	if err != nil {
		r.tb.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(page) {
		name, count, _ := strings.Cut(strings.TrimSpace(line), ": ")
		out[name] = count
	}
	return out
}

// changeOne changes the address of one gateway of one datacenter: the Envoy must be
// sent the endpoints of that datacenter's two clusters, and nothing else.
func (r *isolatedRun) changeOne(t *testing.T, write func(*api.FederationState) time.Time) {
	t.Helper()
	const changed, addr = 42, "198.18.200.1"
	e := r.node("dc1-gateway-1")
	before := r.updates(e)
	figure := "cluster.server." + simulatedName(changed) + ".consul.update_success"
	at := write(simulated(changed, addr))
	took := r.within(at, manyLimit, "the Envoy has the change", func() bool { return strconv.FormatUint(r.stat(e, figure), 10) != before[figure] })
	t.Logf("%s has the changed address of one of %d gateways %s after it was written", e.name, manyGateways*(manyDatacenters-2), took.Round(time.Millisecond))
	if !r.leads(e, simulatedName(changed), addr+":8443") {
		t.Error("it is another change")
	}
	var updated []string
	for name, count := range r.updates(e) {
		if before[name] != count {
			updated = append(updated, name)
		}
	}
	if len(updated) != 2 || slices.ContainsFunc(updated, func(name string) bool { return !strings.Contains(name, simulatedName(changed)) }) {
		t.Errorf("%s was sent %v", e.name, updated)
	}
}

func (r *isolatedRun) logMemory(t *testing.T) {
	t.Helper()
	for _, n := range r.nodes {
		rss, _, ok := readUsage(r.processes.pid(n))
		if !ok {
			t.Fatalf("%s does not run", n.name)
		}
		t.Logf("%s has %.0f MB resident", n.name, float64(rss)/1e6)
	}
}

// idle fails when a process has much to do, or to say, while nothing happens.
func (r *isolatedRun) idle(t *testing.T) {
	t.Helper()
	ticks, logged := map[*demoNode]uint64{}, map[*demoNode]int{}
	look := func(n *demoNode) (uint64, int) {
		_, used, _ := readUsage(r.processes.pid(n))
		text, err := os.ReadFile(r.processes.log(n))
		if err != nil {
			t.Fatal(err)
		}
		return used, bytes.Count(text, []byte("\n"))
	}
	begun := time.Now()
	for _, n := range r.nodes {
		ticks[n], logged[n] = look(n)
	}
	r.within(begun, 2*manyWatch, "time passes", func() bool { return time.Since(begun) > manyWatch })
	for _, n := range r.nodes {
		used, lines := look(n)
		share := float64(used-ticks[n]) / ticksSecond / time.Since(begun).Seconds()
		lines -= logged[n]
		t.Logf("%s used %.3f of a processor and wrote %d lines in %s of nothing", n.name, share, lines, manyWatch)
		if share > manyIdle || n.server && lines > manyLines {
			t.Errorf("%s is not idle", n.name)
		}
	}
}

// resumed restarts the agent of an Envoy, which has all that it is sent then.
func (r *isolatedRun) resumed(t *testing.T) {
	t.Helper()
	e, s := r.node("dc1-gateway-1"), r.node("dc1-server-1")
	received := func() uint64 { return r.stat(e, "cluster.local_agent.upstream_cx_rx_bytes_total") }
	all, connected := received(), r.stat(e, "cluster.local_agent.upstream_cx_total")
	before := r.updates(e)
	r.end(s, syscall.SIGTERM)
	again := r.begin(s)
	took := r.within(again, manyLimit, "the Envoy has a stream again", func() bool {
		return r.stat(e, "cluster.local_agent.upstream_cx_total") > connected && r.inSync(t, s, e.name) == nil
	})
	updated := 0
	for name, count := range r.updates(e) {
		if before[name] != count {
			updated++
		}
	}
	resent := received() - all
	t.Logf("%s follows its agent %s after that started again: %d of %d bytes sent again, %d resources or types updated", e.name, took.Round(time.Millisecond), resent, all, updated)
	if resent > manyResent {
		t.Errorf("%d bytes were sent again", resent)
	}
}

// inSync tells whether an Envoy has taken all that its agent has for it.
func (r *isolatedRun) inSync(t *testing.T, agent *demoNode, id string) error {
	t.Helper()
	var proxies []struct {
		ID        string
		Resources map[string]int
		Streams   []struct {
			Types []struct {
				Has     int
				Pending bool
				Type    string
			}
		}
	}
	if err := r.ask(t.Context(), agent, "/v1/agent/proxies", &proxies); err != nil {
		return err
	}
	for _, p := range proxies {
		if p.ID != id || len(p.Streams) == 0 || len(p.Resources) == 0 {
			continue
		}
		for _, kind := range p.Streams[len(p.Streams)-1].Types {
			if kind.Pending || kind.Has != p.Resources[kind.Type] {
				return fmt.Errorf("%s: %+v of %v", id, kind, p.Resources)
			}
		}
		return nil
	}
	return errors.New("no stream of " + id)
}
