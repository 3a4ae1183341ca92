package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
	"github.com/vishvananda/netlink"

	"isthmus/internal/testkit"
)

// settleLimit is how long the federation may take until all know of all gateways as
// they are: their checks run every 10 s.
const settleLimit = 40 * time.Second

// isolatedRun is a federation of isolated datacenters with real Envoys among its
// gateways.
type isolatedRun struct {
	*demoRun

	tb  testing.TB
	net *isolation

	mu       sync.Mutex
	expected map[*demoNode]chan struct{} // of processes that are meant to end
}

// planned are the nodes whose names are given.
func planned(octet byte, datacenters int, names ...string) []*demoNode {
	return slices.DeleteFunc(demoNodes(datacenters, 2, octet, true), func(n *demoNode) bool {
		return !slices.Contains(names, n.name)
	})
}

// startIsolated starts a federation of the nodes with these names, of which edit
// makes some Envoys. It skips where namespaces are not allowed.
func startIsolated(tb testing.TB, datacenters int, names []string, edit func(n *demoNode, oldest, newest string)) *isolatedRun {
	tb.Helper()
	if testing.Short() {
		tb.Skip("starts real Envoys in network namespaces")
	}
	envoys := testkit.Envoys(tb)
	octet, err := freeOctet(datacenters, 2)
	if err != nil {
		tb.Fatal(err)
	}
	nodes := planned(octet, datacenters, names...)
	for _, n := range nodes {
		if !n.server {
			edit(n, envoys[0], envoys[len(envoys)-1])
		}
	}
	built, err := newIsolation(nodes)
	if errors.Is(err, syscall.EPERM) && os.Getenv("ISTHMUS_MUST_ENVOY") == "" {
		tb.Skip(err)
	} else if err != nil {
		tb.Fatal(err)
	}
	tb.Setenv("TMPDIR", tb.TempDir())
	r := &isolatedRun{
		tb: tb, net: built.(*isolation), expected: map[*demoNode]chan struct{}{},
		demoRun: &demoRun{screen: newScreen(tb.Output(), time.Now()), nodes: nodes, network: built, settings: map[string]any{
			// All clients of a server have one address here.
			"limits": map[string]any{"http_max_conns_per_client": 10_000},
		}},
	}
	tb.Cleanup(r.close)
	binary := cmp.Or(os.Getenv("ISTHMUS_BINARY"), "isthmus")
	if binary, err = exec.LookPath(binary); err != nil {
		tb.Fatal(err)
	}
	if err := r.furnish(binary, true); err != nil {
		tb.Fatal(err)
	}
	if err := r.start(tb.Context()); err != nil {
		tb.Fatalf("%v\n%s", err, r.tails(concerned(err)))
	}
	watching, stop := context.WithCancel(context.WithoutCancel(tb.Context()))
	var watched sync.WaitGroup
	watched.Go(func() { r.watchExits(watching) })
	tb.Cleanup(func() {
		stop()
		watched.Wait()
		if tb.Failed() {
			tb.Log(r.tails(nil))
		}
	})
	return r
}

// watchExits tells the processes that were meant to end from those that were not.
func (r *isolatedRun) watchExits(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-r.processes.exits:
			r.mu.Lock()
			gone := r.expected[e.node]
			delete(r.expected, e.node)
			r.mu.Unlock()
			if gone == nil {
				r.tb.Errorf("%s\n%s", e, r.processes.tail(e.node, tailLines))
				continue
			}
			close(gone)
		}
	}
}

func (r *isolatedRun) node(name string) *demoNode {
	return r.nodes[slices.IndexFunc(r.nodes, func(n *demoNode) bool { return n.name == name })]
}

// end ends a process and returns when it is gone.
func (r *isolatedRun) end(n *demoNode, sig syscall.Signal) {
	r.tb.Helper()
	gone := make(chan struct{})
	r.mu.Lock()
	r.expected[n] = gone
	r.mu.Unlock()
	if err := r.processes.signal(n, sig); err != nil {
		r.tb.Fatal(err)
	}
	select {
	case <-gone:
	case <-time.After(settleLimit):
		r.tb.Fatalf("%s did not end within %s of %s", n.name, settleLimit, sig)
	}
}

// begin starts a process again.
func (r *isolatedRun) begin(n *demoNode) time.Time {
	r.tb.Helper()
	now := time.Now()
	if _, err := r.processes.start(n, r.nodes); err != nil {
		r.tb.Fatal(err)
	}
	return now
}

// within waits until a condition holds and tells how long after since that was.
func (r *isolatedRun) within(since time.Time, limit time.Duration, what string, holds func() bool) time.Duration {
	r.tb.Helper()
	ctx, cancel := context.WithDeadline(r.tb.Context(), since.Add(limit))
	defer cancel()
	if err := eventually(ctx, holds); err != nil {
		r.tb.Fatalf("not within %s: %s", limit, what)
	}
	return time.Since(since)
}

// envoys are the gateways that are Envoys.
func (r *isolatedRun) envoys() []*demoNode {
	return slices.DeleteFunc(r.gateways(""), func(n *demoNode) bool { return n.envoy == "" })
}

// admin reads one of the pages of an Envoy.
func (r *isolatedRun) admin(n *demoNode, page string) (string, error) {
	req, err := http.NewRequestWithContext(r.tb.Context(), http.MethodGet, "http://"+n.at(demoAdminPort)+page, nil)
	if err != nil {
		return "", err
	}
	resp, err := r.plain[n].Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s of %s: %s", page, n.name, resp.Status)
	}
	return string(body), nil
}

// leads tells whether an Envoy was told to lead to the servers of a datacenter
// through an address. Whether it has lately seen connections fail there is its own
// affair.
func (r *isolatedRun) leads(n *demoNode, dc, addr string) bool {
	page, err := r.admin(n, "/clusters")
	if err != nil {
		return false
	}
	_, flags, ok := strings.Cut(page, "\nserver."+dc+".consul::"+addr+"::health_flags::")
	flags, _, _ = strings.Cut(flags, "\n")
	return ok && !strings.Contains(flags, "failed_eds_health")
}

// stat reads a number of an Envoy.
func (r *isolatedRun) stat(n *demoNode, name string) uint64 {
	r.tb.Helper()
	page, err := r.admin(n, "/stats?filter=^"+strings.ReplaceAll(name, ".", "\\.")+"$")
	_, text, _ := strings.Cut(strings.TrimSpace(page), ": ")
	v, unread := strconv.ParseUint(text, 10, 64)
	if err = errors.Join(err, unread); err != nil {
		r.tb.Logf("%s of %s: %v", name, n.name, err) // Envoy may be busy, and is asked again
	}
	return v
}

// settled tells whether all servers know all gateways where they are now, and
// healthy, and all Envoys lead there.
func (r *isolatedRun) settled(ctx context.Context) bool {
	for _, s := range r.servers("") {
		var states map[string][]struct {
			Service struct {
				ID              string
				TaggedAddresses map[string]struct {
					Address string
					Port    int
				}
			}
			Checks []struct{ Status string }
		}
		if err := r.ask(ctx, s, "/v1/internal/federation-states/mesh-gateways", &states); err != nil {
			return false
		}
		known := map[string]string{}
		for _, gateways := range states {
			for _, g := range gateways {
				wan := g.Service.TaggedAddresses["wan"]
				known[g.Service.ID] = net.JoinHostPort(wan.Address, strconv.Itoa(wan.Port))
				for _, check := range g.Checks {
					if check.Status != "passing" {
						return false
					}
				}
			}
		}
		for _, g := range r.gateways("") {
			if known[g.name] != g.outside() {
				return false
			}
		}
	}
	for _, e := range r.envoys() {
		for _, g := range r.gateways("") {
			if g.dc != e.dc && !r.leads(e, g.dc, g.outside()) {
				return false
			}
		}
	}
	return len(r.missing(ctx, r.views(ctx))) == 0
}

// ask reads JSON from a server.
func (r *isolatedRun) ask(ctx context.Context, n *demoNode, path string, out any) error {
	_, err := r.clients[n].Raw().Query(path, out, (&consul.QueryOptions{AllowStale: true}).WithContext(ctx))
	return err
}

// nothingStraight fails when the kernel counted a packet past the gateways.
func (r *isolatedRun) nothingStraight() {
	r.tb.Helper()
	if count, what, err := r.network.straight(); err != nil || count != 0 {
		r.tb.Errorf("%d %s, %v", count, what, err)
	}
}

// readers read between all datacenters until they are stopped, and fail the test
// for each read that fails.
type readers struct {
	load *soakLoad
	stop context.CancelFunc
	all  sync.WaitGroup
}

const readEvery = 50 * time.Millisecond // of each reader, of which there are two a way

func (r *isolatedRun) read() *readers {
	r.tb.Helper()
	ctx, stop := context.WithCancel(r.tb.Context())
	out := &readers{load: newSoakLoad(r.demoRun), stop: stop}
	if err := out.load.seed(ctx); err != nil {
		r.tb.Fatal(err)
	}
	for _, p := range r.probes {
		for _, kind := range []soakKind{staleRead, consistentRead} {
			out.all.Go(func() { out.stream(ctx, kind, way{p.from, p.to}) })
		}
	}
	return out
}

func (l *readers) stream(ctx context.Context, kind soakKind, w way) {
	var under sync.WaitGroup
	defer under.Wait()
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			under.Go(func() { l.load.request(context.WithoutCancel(ctx), kind, w, turn) })
		}
	}
}

// since tells how the reads went that began after a moment, and forgets them.
func (l *readers) since(tb testing.TB, what string) {
	tb.Helper()
	l.load.mu.Lock()
	results := l.load.results
	l.load.results = nil
	l.load.mu.Unlock()
	var slowest soakResult
	failed := 0
	for _, res := range results {
		if res.took > slowest.took {
			slowest = res
		}
		if res.err != "" {
			if failed++; failed <= 5 {
				tb.Errorf("%s: a read %s failed after %s: %s", what, res.way, res.took, res.err)
			}
		}
	}
	tb.Logf("%s: %d reads, %d failed; the slowest took %s (%s)", what, len(results), failed,
		slowest.took.Round(time.Millisecond), slowest.way)
}

// TestIsolatedFederationOfBothKindsOfGateways federates three datacenters: dc1 has
// an Envoy and a built-in gateway, dc2 an Envoy of the oldest version, dc3 a
// built-in gateway.
func TestIsolatedFederationOfBothKindsOfGateways(t *testing.T) {
	r := startIsolated(t, 3, []string{
		"dc1-server-1", "dc1-gateway-1", "dc1-gateway-2", "dc2-server-1", "dc2-gateway-1", "dc3-server-1", "dc3-gateway-1",
	}, func(n *demoNode, oldest, newest string) {
		switch n.name {
		case "dc1-gateway-1":
			n.envoy = newest
		case "dc2-gateway-1":
			n.envoy = oldest
		}
	})
	begun := time.Now()
	t.Logf("settled after %s", r.within(begun, settleLimit, "all know all gateways", func() bool { return r.settled(t.Context()) }))
	for name, run := range map[string]func(context.Context, *demoRun) (string, error){
		"members": checkMembers, "keys": checkKeys, "blocking reads": checkBlocking,
	} {
		found, err := run(t.Context(), r.demoRun)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: %s", name, found)
	}
	r.replaced(t)
	r.moved(t)
	if found, err := checkMembers(t.Context(), r.demoRun); err != nil {
		t.Errorf("%s, %v", found, err)
	}
	r.nothingStraight()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // nobody answers
	defer cancel()
	found, err := r.network.trial(ctx, r.node("dc2-server-1"), r.node("dc3-server-1"))
	if err != nil {
		t.Error(err)
	}
	t.Log(found)
}

// replaced ends each of the two gateways of dc1 in both ways while reads go on,
// and starts it again.
func (r *isolatedRun) replaced(t *testing.T) {
	t.Helper()
	load := r.read()
	defer load.all.Wait()
	defer load.stop()
	for _, c := range []struct {
		gone, stays string
		sig         syscall.Signal
	}{
		{"dc1-gateway-1", "dc1-gateway-2", syscall.SIGKILL},
		{"dc1-gateway-2", "dc1-gateway-1", syscall.SIGTERM},
		{"dc1-gateway-1", "dc1-gateway-2", syscall.SIGTERM},
	} {
		gone, stays := r.node(c.gone), r.node(c.stays)
		what := fmt.Sprintf("%s ends by %s", gone.name, c.sig)
		before, _ := r.network.crossed(stays)
		r.end(gone, c.sig)
		// A gateway that drains moves bytes to its end, so the other may begin only then.
		ended := time.Now()
		const without = time.Second
		r.within(ended, settleLimit, what+": reads go on through "+stays.name, func() bool {
			after, _ := r.network.crossed(stays)
			return after > before && time.Since(ended) > without
		})
		again := r.begin(gone)
		took := r.within(again, settleLimit, gone.name+" is back", func() bool { return r.settled(t.Context()) })
		load.since(t, what)
		t.Logf("whole %s after its start", took.Round(time.Millisecond))
	}
}

// moved moves gateways that are alone in their datacenter to other addresses.
func (r *isolatedRun) moved(t *testing.T) {
	t.Helper()
	for i, name := range []string{"dc2-gateway-1", "dc3-gateway-1"} {
		g := r.node(name)
		r.end(g, syscall.SIGTERM)
		g.wan, g.wanPort = lastByte(g.wan, 240+i), g.wanPort+10
		r.addWAN(g, g.wan)
		begun := r.begin(g)
		for _, e := range r.envoys() {
			if e.dc != g.dc {
				took := r.within(begun, 15*time.Second, e.name+" follows "+g.name, func() bool { return r.leads(e, g.dc, g.outside()) })
				t.Logf("%s has the new address of %s after %s", e.name, g.name, took.Round(time.Millisecond))
			}
		}
		took := r.within(begun, 15*time.Second, "reads from and to "+g.dc, func() bool { return len(r.missing(t.Context(), r.views(t.Context()))) == 0 })
		t.Logf("all reads work %s after the start of %s at its new address", took.Round(time.Millisecond), g.name)
	}
}

// addWAN gives a gateway one more address towards the others.
func (r *isolatedRun) addWAN(n *demoNode, addr netip.Addr) {
	r.tb.Helper()
	ns := r.net.byNode[n.name]
	link, err := ns.handle.LinkByName(linkWAN)
	if err != nil {
		r.tb.Fatal(err)
	}
	if err := ns.handle.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(addr, 24))}); err != nil {
		r.tb.Fatal(err)
	}
}
