package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"isthmus/internal/testkit"
)

// gateway says which mesh gateway to run, and where.
type gateway struct {
	dc, n int
	id    string // under which it is registered; gw and its number when empty
	envoy string // path of an Envoy, or empty for the built-in data plane
	ref   string // the reference's binary when that starts the Envoy, or empty
	lan   string // address that is told inside the datacenter, when it isn't its own
	agent int    // node whose agent it stands beside; the first server when 0
}

// mesh starts a gateway, once its agent answers: the reference's command gives up
// on one that doesn't.
func (f *fleet) mesh(g gateway) *process {
	f.t.Helper()
	agent := cmp.Or(g.agent, 1)
	testkit.Eventually(f.t, func() error { return f.get(g.dc, agent, "/v1/agent/self", new(any)) })
	own := f.gatewayAddr(g.dc, g.n)
	id, lan, beside := cmp.Or(g.id, "gw"+strconv.Itoa(g.n)), cmp.Or(g.lan, own), f.addr(g.dc, agent)
	kind := []string{"gateway"}
	if g.envoy != "" {
		kind = []string{
			"envoy", "-gateway=mesh", "-envoy-binary", g.envoy, "-ignore-envoy-compatibility",
			"-grpc-addr", net.JoinHostPort(beside, "8502"),
		}
	}
	args := append(append([]string{"connect"}, kind...), "-register", "-expose-servers", "-service", "mesh-gateway", "-proxy-id", id,
		"-address", lan, "-wan-address", own, "-bind-address", "default="+own,
		"-admin-bind", f.admin(g), "-http-addr", "http://"+net.JoinHostPort(beside, "8500"))
	if g.envoy != "" {
		args = append(args, "--", "--concurrency", "1")
	} else {
		args = append(args, "-drain-time", "1s")
	}
	return f.run(fmt.Sprintf("dc%d-gw%d-%s", g.dc, g.n, id), g.ref, args...)
}

// admin is where a gateway tells about itself.
func (f *fleet) admin(g gateway) string { return net.JoinHostPort(f.addr(g.dc, 100+g.n), "19000") }

// leads checks that a gateway leads to the first server of its datacenter.
func (f *fleet) leads(dc, n int) error {
	dialer := &net.Dialer{Timeout: time.Second}
	conn, err := tls.DialWithDialer(dialer, "tcp", f.gatewayAddr(dc, n), &tls.Config{
		ServerName: fmt.Sprintf("s1.server.dc%d.consul", dc), NextProtos: []string{"consul/rpc-multi"},
		InsecureSkipVerify: true, // who answers is not the point
	})
	if err == nil {
		err = conn.Close()
	}
	return err
}

// within calls try until it works, and returns how long that took. What takes long
// is logged with the last that kept it from working.
func within(t testing.TB, limit time.Duration, try func() error) time.Duration {
	t.Helper()
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	pause := time.NewTicker(50 * time.Millisecond)
	defer pause.Stop()
	var last error
	for {
		err := try()
		if err == nil {
			took := time.Since(start).Round(10 * time.Millisecond)
			if took > 5*time.Second {
				t.Logf("%s passed, until now: %v", took, last)
			}
			return took
		}
		last = err
		select {
		case <-pause.C:
		case <-ctx.Done():
			t.Fatalf("not within %s: %v", limit, err)
		}
	}
}

// latched is how long a datacenter of the reference may need to reach another one
// again: when its look at that one's servers, every two or three minutes, falls
// into an outage, it does not try before the next.
const latched = 4 * time.Minute

// across checks that each of the datacenters, which have one server each, sees all
// of them alive, knows the gateways of all, and writes, reads and looks up in all.
func (f *fleet) across(dcs ...int) error {
	for _, dc := range dcs {
		if err := f.alive(dc, 1, len(dcs)); err != nil {
			return err
		}
		if err := f.published(dc, 1, len(dcs)); err != nil {
			return err
		}
		for _, to := range dcs {
			key, value := fmt.Sprintf("from-dc%d", dc), strconv.FormatInt(time.Now().UnixNano(), 10)
			if err := f.put(dc, 1, to, key, value); err != nil {
				return fmt.Errorf("write from dc%d: %w", dc, err)
			}
			if got, err := f.read(dc, 1, to, key); err != nil || got != value {
				return fmt.Errorf("read %s of dc%d from dc%d: got %q, %w", key, to, dc, got, err)
			}
			var servers []struct{ Node, Datacenter string }
			if err := f.get(dc, 1, fmt.Sprintf("/v1/catalog/service/consul?dc=dc%d", to), &servers); err != nil {
				return err
			}
			if len(servers) != 1 || servers[0].Datacenter != fmt.Sprintf("dc%d", to) {
				return fmt.Errorf("servers of dc%d as dc%d sees them: %v", to, dc, servers)
			}
		}
	}
	return nil
}

// guard watches the sockets of servers: a server may hold connections to its own
// datacenter, and to gateways of its own or of the primary, and to nothing else.
type guard struct {
	f *fleet

	mu       sync.Mutex
	servers  map[int]*process // by datacenter
	wrong    map[string]bool
	gateways map[int]map[string]bool // addresses of gateways that servers of a datacenter used
}

// watchSockets begins; the test fails at its end when anything else was seen.
func (f *fleet) watchSockets(servers map[int]*process) *guard {
	f.t.Helper()
	g := &guard{f: f, servers: maps.Clone(servers), wrong: map[string]bool{}, gateways: map[int]map[string]bool{}}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				g.look()
			case <-ctx.Done():
				return
			}
		}
	})
	f.t.Cleanup(func() {
		cancel()
		running.Wait()
		for what := range g.wrong {
			f.t.Error(what)
		}
		for dc := range servers {
			if len(g.gateways[dc]) == 0 {
				f.t.Errorf("no connection of dc%d to a gateway was seen, so that nothing is shown", dc)
			}
			f.t.Logf("dc%d's server used the gateways %v", dc, g.used(dc))
		}
	})
	return g
}

// used are the gateways that the servers of a datacenter were seen to use.
func (g *guard) used(dc int) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []string
	for addr := range g.gateways[dc] {
		out = append(out, addr)
	}
	slices.Sort(out)
	return out
}

// replace watches another server of a datacenter from now on.
func (g *guard) replace(dc int, p *process) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.servers[dc] = p
}

func (g *guard) look() {
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return
	}
	remotes := tcpRemotes(table)
	g.mu.Lock()
	defer g.mu.Unlock()
	for dc, p := range g.servers {
		for _, inode := range socketsOf(p.cmd.Process.Pid) {
			addr, ok := remotes[inode]
			if !ok {
				continue
			}
			rest, ours := strings.CutPrefix(addr.Addr().String(), g.f.net+".")
			to, node, _ := strings.Cut(rest, ".")
			n, err := strconv.Atoi(node)
			switch {
			case !ours || err != nil || to == strconv.Itoa(dc) && n < 100: // a client's port, or its own datacenter
			case n > 100 && (to == "1" || to == strconv.Itoa(dc)):
				if g.gateways[dc] == nil {
					g.gateways[dc] = map[string]bool{}
				}
				g.gateways[dc][addr.String()] = true
			default:
				g.wrong[fmt.Sprintf("%s holds a connection to %s", p.name, addr)] = true
			}
		}
	}
}

// tcpRemotes reads /proc/net/tcp: the remote address of each established socket, by
// inode.
func tcpRemotes(table []byte) map[string]netip.AddrPort {
	const established = "01"
	out := map[string]netip.AddrPort{}
	for lines := bufio.NewScanner(bytes.NewReader(table)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != established {
			continue
		}
		host, port, _ := strings.Cut(fields[2], ":")
		ip, err := hex.DecodeString(host)
		n, err2 := strconv.ParseUint(port, 16, 16)
		if err != nil || err2 != nil || len(ip) != 4 {
			continue
		}
		slices.Reverse(ip) // the kernel prints it as a number of this machine
		out[fields[9]] = netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip)), uint16(n))
	}
	return out
}

// socketsOf are the inodes of a process's sockets.
func socketsOf(pid int) []string {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil // it was just killed
	}
	var out []string
	for _, file := range files {
		target, err := os.Readlink(filepath.Join(dir, file.Name()))
		if err != nil {
			continue
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			out = append(out, strings.TrimSuffix(inode, "]"))
		}
	}
	return out
}

func TestGuardSeesConnectionsPastTheGateways(t *testing.T) {
	f := newFleet(t)
	self := testkit.Must(os.FindProcess(os.Getpid()))
	g := &guard{f: f, servers: map[int]*process{3: {name: "dc3-s1", cmd: &exec.Cmd{Process: self}}}, wrong: map[string]bool{}, gateways: map[int]map[string]bool{}}
	for addr, wrong := range map[string]bool{
		f.gatewayAddr(1, 1): false, f.gatewayAddr(3, 1): false, f.gatewayAddr(2, 1): true,
		f.addr(3, 2) + ":8300": false, f.addr(1, 1) + ":8300": true, f.addr(2, 1) + ":8300": true,
	} {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		g.look()
		if got := g.wrong["dc3-s1 holds a connection to "+addr]; got != wrong {
			t.Errorf("a connection of dc3 to %s: wrong is %t", addr, got)
		}
		conn.Close()
		ln.Close()
	}
	if got, want := g.used(3), []string{f.gatewayAddr(1, 1), f.gatewayAddr(3, 1)}; !slices.Equal(got, want) {
		t.Errorf("used %v, want %v", got, want)
	}
}

// lone starts the one server of a datacenter. It is known elsewhere at an address
// that leads nowhere, and by the same name and address as those of the others. Its
// data are its own, also when another one stood there before.
func (f *fleet) lone(dc int, ref string, gateways ...string) *process {
	f.t.Helper()
	return f.agent(fmt.Sprintf("dc%d-s1", dc), ref, f.loneSettings(dc, gateways...))
}

func (f *fleet) loneSettings(dc int, gateways ...string) map[string]any {
	f.t.Helper()
	settings := f.settings(dc, 1, 1)
	settings["data_dir"] = filepath.Join(f.dir, fmt.Sprintf("data-%d", len(f.all)))
	settings["advertise_addr_wan"] = "198.51.100.1"
	settings["ports"] = map[string]any{"dns": -1, "grpc": 8502, "grpc_tls": -1}
	if dc > 1 {
		settings["primary_gateways"] = gateways
	}
	return settings
}

// clientNode is the number of a client agent, where a datacenter has one.
const clientNode = 9
