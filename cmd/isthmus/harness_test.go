package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"isthmus/internal/cli"
	"isthmus/internal/gossip"
	"isthmus/internal/testkit"
	"isthmus/internal/transport"
)

// asProgram makes the test binary run as the program, so that tests start real
// processes of what they were built from.
const asProgram = "ISTHMUS_TEST_RUN_AS_PROGRAM"

func TestMain(m *testing.M) {
	if resolver := os.Getenv(ownResolver); resolver != "" {
		fmt.Fprintln(os.Stderr, execWithResolver(resolver, os.Args[1:]))
		os.Exit(1)
	}
	if os.Getenv(asProgram) != "" {
		os.Exit(cli.Run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// process is a child: a server, a client agent or a gateway.
type process struct {
	t        testing.TB
	name     string
	args     []string
	ref      string // path of the reference's binary, or empty for ours
	resolver string // file that says which name servers to ask, or empty for those of the machine
	cmd      *exec.Cmd
	log      string
	done     chan struct{}
}

// start starts the process, or starts it again.
func (p *process) start() {
	p.t.Helper()
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	own, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	program, args := cmp.Or(p.ref, own), p.args
	env := append(os.Environ(), asProgram+"=1")
	if p.resolver != "" {
		program, args = own, append([]string{program}, args...)
		env = append(env, ownResolver+"="+p.resolver)
	}
	p.cmd = exec.Command(program, args...)
	p.cmd.Env = env
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait()
		_ = out.Close()
		close(done)
	}(p.cmd, p.done)
}

// signal sends a signal; with SIGKILL and SIGTERM it waits for the end.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
	if s == syscall.SIGKILL || s == syscall.SIGTERM {
		<-p.done
	}
}

// fleet is the datacenters of one test, on loopback addresses of its own.
type fleet struct {
	t        testing.TB
	dir      string
	net      string // first two numbers of its addresses
	ca       []byte
	caKey    []byte
	key      string
	resolver string // what its processes read in place of /etc/resolv.conf, or empty
	all      []*process
	client   *http.Client
}

var fleets atomic.Uint32

func newFleet(t testing.TB) *fleet {
	t.Helper()
	ca, caKey, err := transport.NewCA(transport.CAOptions{Domain: "consul", Days: 1})
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{
		t: t, dir: t.TempDir(), ca: ca, caKey: caKey, key: testkit.Must(gossip.NewKey()),
		net:    reserveNet(t),
		client: &http.Client{Timeout: 30 * time.Second},
	}
	f.write("ca.pem", ca)
	t.Cleanup(f.stop)
	return f
}

// reserveNet returns the first two numbers of loopback addresses that no other
// test uses, in this process or another, until the test ends.
func reserveNet(t testing.TB) string {
	t.Helper()
	for range 100 {
		prefix := fmt.Sprintf("127.%d", 100+(uint32(os.Getpid())*7+fleets.Add(1))%100)
		reserved, err := net.Listen("tcp", prefix+".0.1:8300") // there is no datacenter 0
		if err != nil {
			continue
		}
		// Others who know nothing of reservations would be at a server's address.
		probe, err := net.Listen("tcp", prefix+".1.1:8300")
		if err != nil {
			_ = reserved.Close()
			continue
		}
		_ = probe.Close()
		t.Cleanup(func() { _ = reserved.Close() })
		return prefix
	}
	t.Fatal("no loopback addresses are free")
	return ""
}

func (f *fleet) write(name string, b []byte) string {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// stop ends every process and, when the test failed, shows the ends of the logs.
func (f *fleet) stop() {
	for _, p := range f.all {
		_ = p.cmd.Process.Kill()
	}
	for _, p := range f.all {
		<-p.done
		if f.t.Failed() {
			b, _ := os.ReadFile(p.log)
			if at := len(b) - 3000; at > 0 {
				b = b[at:]
			}
			f.t.Logf("--- %s\n%s", p.name, b)
		}
	}
}

func (f *fleet) run(name, ref string, args ...string) *process {
	f.t.Helper()
	p := &process{t: f.t, name: name, args: args, ref: ref, resolver: f.resolver, log: filepath.Join(f.dir, name+".log")}
	p.start()
	f.all = append(f.all, p)
	return p
}

// addr is the address of a node: servers and clients of datacenter n are 1, 2, …,
// gateways 101, 102, ….
func (f *fleet) addr(dc, node int) string { return fmt.Sprintf("%s.%d.%d", f.net, dc, node) }

func (f *fleet) gatewayAddr(dc, n int) string { return net.JoinHostPort(f.addr(dc, 100+n), "8443") }

// settings are those of a server of datacenter dc, node n of size servers.
func (f *fleet) settings(dc, n, size int) map[string]any {
	f.t.Helper()
	return f.named(fmt.Sprintf("s%d", n), dc, n, size)
}

// named are the settings of a server with a name of its own.
func (f *fleet) named(name string, dc, n, size int) map[string]any {
	f.t.Helper()
	datacenter := fmt.Sprintf("dc%d", dc)
	cert, key, err := transport.NewCert(f.ca, f.caKey, transport.CertOptions{
		Role: transport.ServerCert, Datacenter: datacenter, Domain: "consul", Node: name, Days: 1,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	id := datacenter + name
	s := map[string]any{
		"datacenter": datacenter, "primary_datacenter": "dc1", "node_name": name, "data_dir": filepath.Join(f.dir, id),
		"server": true, "bootstrap_expect": size, "bind_addr": f.addr(dc, n), "client_addr": f.addr(dc, n),
		"ports":   map[string]any{"dns": -1, "grpc": -1, "grpc_tls": -1},
		"connect": map[string]any{"enabled": true, "enable_mesh_gateway_wan_federation": true},
		"encrypt": f.key, "performance": map[string]any{"raft_multiplier": 1, "leave_drain_time": "100ms"}, "log_level": "debug",
		"gossip_lan":     fastLAN(),
		"retry_interval": "1s", "retry_interval_wan": "1s", "disable_update_check": true,
		"gossip_wan": map[string]any{"probe_interval": "1s", "probe_timeout": "500ms", "gossip_interval": "200ms"},
		"tls": map[string]any{
			"defaults": map[string]any{
				"ca_file": filepath.Join(f.dir, "ca.pem"), "cert_file": f.write(id+".pem", cert), "key_file": f.write(id+"-key.pem", key),
				"verify_incoming": true, "verify_outgoing": true,
			},
			"internal_rpc": map[string]any{"verify_server_hostname": true},
		},
	}
	if n > 1 {
		s["retry_join"] = []string{f.addr(dc, 1)}
	}
	if dc > 1 {
		s["primary_gateways"] = []string{f.gatewayAddr(1, 1), f.gatewayAddr(1, 2), f.gatewayAddr(1, 3)}
	}
	return s
}

// fastLAN finds a dead member within a moment.
func fastLAN() map[string]any {
	return map[string]any{"probe_interval": "300ms", "probe_timeout": "200ms", "gossip_interval": "50ms"}
}

// agent starts an agent with settings.
func (f *fleet) agent(name, ref string, settings map[string]any) *process {
	f.t.Helper()
	b, err := json.Marshal(settings)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.run(name, ref, "agent", "-config-file", f.write(name+".json", b))
}

// servers starts the servers of a datacenter.
func (f *fleet) servers(dc, size int, ref string) []*process {
	f.t.Helper()
	var out []*process
	for n := 1; n <= size; n++ {
		settings := f.settings(dc, n, size)
		if ref != "" && dc > 1 {
			// The reference picks one at random and does not try another.
			settings["primary_gateways"] = []string{f.gatewayAddr(1, 1)}
		}
		out = append(out, f.agent(fmt.Sprintf("dc%d-s%d", dc, n), ref, settings))
	}
	return out
}

// gateway starts our gateway number n of a datacenter, beside its first server.
func (f *fleet) gateway(dc, n int) *process {
	f.t.Helper()
	addr := f.gatewayAddr(dc, n)
	return f.run(fmt.Sprintf("dc%d-gw%d", dc, n), "", "connect", "gateway", "-register", "-expose-servers",
		"-service", "mesh-gateway", "-proxy-id", "gw"+strconv.Itoa(n), "-address", addr, "-wan-address", addr,
		"-admin-bind", net.JoinHostPort(f.addr(dc, 100+n), "19000"), "-http-addr", "http://"+net.JoinHostPort(f.addr(dc, 1), "8500"))
}

// do makes a request to a node and returns the body of a 200.
func (f *fleet) do(method string, dc, node int, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(f.t.Context(), method, "http://"+net.JoinHostPort(f.addr(dc, node), "8500")+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
	}
	return b, err
}

func (f *fleet) get(dc, node int, path string, out any) error {
	b, err := f.do(http.MethodGet, dc, node, path, nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, out)
}

// put writes a key through a node, into the datacenter to.
func (f *fleet) put(dc, node, to int, key, value string) error {
	b, err := f.do(http.MethodPut, dc, node, fmt.Sprintf("/v1/kv/%s?dc=dc%d", key, to), []byte(value))
	if err == nil && strings.TrimSpace(string(b)) != "true" {
		err = fmt.Errorf("write of %s answered %s", key, b)
	}
	return err
}

// read reads a key through a node, from the datacenter from.
func (f *fleet) read(dc, node, from int, key string) (string, error) {
	b, err := f.do(http.MethodGet, dc, node, fmt.Sprintf("/v1/kv/%s?raw&dc=dc%d", key, from), nil)
	return string(b), err
}

// alive checks that a server sees want members alive in its WAN pool.
func (f *fleet) alive(dc, node, want int) error {
	var members []struct {
		Name   string
		Status int
	}
	if err := f.get(dc, node, "/v1/agent/members?wan=1", &members); err != nil {
		return err
	}
	alive := 0
	for _, m := range members {
		if m.Status == int(gossip.StatusAlive) {
			alive++
		}
	}
	if alive != want {
		return fmt.Errorf("dc%d s%d sees %d members alive in the WAN, want %d: %v", dc, node, alive, want, members)
	}
	return nil
}

// published checks that a server knows gateways of as many datacenters.
func (f *fleet) published(dc, node, datacenters int) error {
	var states map[string][]any
	if err := f.get(dc, node, "/v1/internal/federation-states/mesh-gateways", &states); err != nil {
		return err
	}
	if len(states) != datacenters {
		return fmt.Errorf("dc%d s%d knows gateways of %d datacenters, want %d", dc, node, len(states), datacenters)
	}
	return nil
}

// federated waits until every server of the two datacenters sees all, and reads
// and writes go both ways.
func (f *fleet) federated(size int) {
	f.t.Helper()
	const dcs = 2
	testkit.Eventually(f.t, func() error {
		for dc := 1; dc <= dcs; dc++ {
			for node := 1; node <= size; node++ {
				if err := f.alive(dc, node, dcs*size); err != nil {
					return err
				}
				if err := f.published(dc, node, dcs); err != nil {
					return err
				}
			}
			for to := 1; to <= dcs; to++ {
				key, value := fmt.Sprintf("from-dc%d", dc), time.Now().String()
				if err := f.put(dc, 1, to, key, value); err != nil {
					return err
				}
				if got, err := f.read(dc, 1, to, key); err != nil || got != value {
					return fmt.Errorf("read %s of dc%d from dc%d: got %q, %w", key, to, dc, got, err)
				}
			}
		}
		return nil
	})
}

// reference returns the path of the reference's binary, or skips the test.
func reference(t testing.TB) string {
	t.Helper()
	path := os.Getenv("ISTHMUS_REFERENCE")
	if path == "" {
		if os.Getenv("ISTHMUS_MUST_INTEROP") != "" {
			t.Fatal("ISTHMUS_REFERENCE does not name the reference's binary")
		}
		t.Skip("skipped: ISTHMUS_REFERENCE does not name the reference's binary")
	}
	return path
}
