package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"isthmus/internal/gossip"
	"isthmus/internal/transport"
)

// stopLimit is how long the children may take to end in order.
const stopLimit = 3 * time.Second

// demoProcesses are the nodes of a demo as processes of this binary.
type demoProcesses struct {
	binary string
	dir    string
	space  func(*demoNode) *space
	more   map[string]any // settings of servers beside the usual ones

	// exits tells of each process that ended, unless all were stopped. Who starts
	// processes receives from it.
	exits   chan demoExit
	stopped chan struct{}
	waits   sync.WaitGroup

	mu      sync.Mutex
	running map[*demoNode]*exec.Cmd
}

// demoExit says that the process of a node ended by itself, or was killed.
type demoExit struct {
	node  *demoNode
	pid   int
	cause string
	at    time.Time
	after time.Duration // from its start
}

func newDemoProcesses(binary, dir string) *demoProcesses {
	return &demoProcesses{
		binary: binary, dir: dir,
		exits: make(chan demoExit), stopped: make(chan struct{}), running: map[*demoNode]*exec.Cmd{},
	}
}

// demoDir makes the directory of a demo. Its name tells the process that removes
// it, so that what a killed demo left behind is removed by the next one.
func demoDir(keep bool) (string, error) {
	const prefix = "isthmus-demo-"
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"[0-9]*-*")) // the pattern is well-formed
	for _, dir := range left {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix), "-")
		id, err := strconv.Atoi(pid)
		if err != nil || processExists(id) {
			continue
		}
		_ = os.RemoveAll(dir) // it may belong to another user
	}
	name := prefix + strconv.Itoa(os.Getpid()) + "-"
	if keep {
		name = prefix + "kept-"
	}
	dir, err := os.MkdirTemp("", name)
	if err != nil {
		return "", fmt.Errorf("make a directory: %w", err)
	}
	return dir, nil
}

func processExists(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	return !errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone)
}

// start starts the process of a node.
func (p *demoProcesses) start(n *demoNode, all []*demoNode) (pid int, err error) {
	log, err := os.OpenFile(p.log(n), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, fmt.Errorf("log of %s: %w", n.name, err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.CommandContext(context.Background(), p.binary, p.arguments(n, all)...) //nolint:gosec // this program itself
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, envPrefix) || strings.HasPrefix(v, aliasPrefix)
	})
	bindToParent(cmd)
	begun := time.Now()
	if err := p.space(n).start(cmd); err != nil {
		return 0, fmt.Errorf("start %s: %w", n.name, err)
	}
	p.mu.Lock()
	p.running[n] = cmd
	p.mu.Unlock()
	p.waits.Go(func() { p.wait(n, cmd, begun) })
	return cmd.Process.Pid, nil
}

func (p *demoProcesses) wait(n *demoNode, cmd *exec.Cmd, begun time.Time) {
	err := cmd.Wait()
	p.mu.Lock()
	delete(p.running, n)
	p.mu.Unlock()
	e := demoExit{node: n, pid: cmd.Process.Pid, at: time.Now(), cause: "it stopped by itself", after: time.Since(begun)}
	if err != nil {
		e.cause = err.Error()
	}
	select {
	case p.exits <- e:
	case <-p.stopped:
	}
}

// arguments are what a node is started with. A gateway belongs to the server
// with its number.
func (p *demoProcesses) arguments(n *demoNode, all []*demoNode) []string {
	if n.server {
		return []string{"agent", "-config-file", p.file(n, ".json")}
	}
	agent := beside(n, all)
	flags := append([]string{
		"-register", "-expose-servers", "-service", "mesh-gateway", "-proxy-id", n.name,
		"-address", n.at(demoGatewayPort), "-wan-address", n.outside(),
		"-admin-bind", n.at(demoAdminPort), "-http-addr", "http://" + agent.at(demoHTTPPort),
	}, n.flags...)
	if n.envoy == "" {
		return append([]string{"connect", "gateway", "-drain-time", "1s"}, flags...)
	}
	kind := []string{"connect", "envoy", "-gateway", "mesh", "-envoy-binary", n.envoy, "-grpc-addr", agent.at(demoGRPCPort)}
	return append(kind, flags...)
}

// beside is the server that a gateway is registered with: the one with its number,
// or the first of its datacenter.
func beside(gateway *demoNode, all []*demoNode) *demoNode {
	name := strings.Replace(gateway.name, "gateway", "server", 1)
	at := slices.IndexFunc(all, func(n *demoNode) bool { return n.name == name })
	if at < 0 {
		at = slices.IndexFunc(all, func(n *demoNode) bool { return n.server && n.dc == gateway.dc })
	}
	return all[at]
}

func (p *demoProcesses) file(n *demoNode, suffix string) string {
	return filepath.Join(p.dir, n.name+suffix)
}

func (p *demoProcesses) log(n *demoNode) string { return p.file(n, ".log") }

// pids are the processes that run now.
func (p *demoProcesses) pids() map[int]*demoNode {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[int]*demoNode{}
	for n, cmd := range p.running {
		out[cmd.Process.Pid] = n
	}
	return out
}

// pid is the process of a node, or 0 when it is down.
func (p *demoProcesses) pid(n *demoNode) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cmd := p.running[n]; cmd != nil {
		return cmd.Process.Pid
	}
	return 0
}

// signal sends a signal to the process of a node. It goes to the process that was
// started, never to another one with the same id.
func (p *demoProcesses) signal(n *demoNode, sig os.Signal) error {
	p.mu.Lock()
	cmd := p.running[n]
	p.mu.Unlock()
	if cmd == nil {
		return fmt.Errorf("%s does not run", n.name)
	}
	if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", n.name, err)
	}
	return nil
}

// stop ends all processes: in order, or by force when that takes too long. None
// may be started any more.
func (p *demoProcesses) stop() {
	close(p.stopped)
	all := p.pids()
	for _, n := range all {
		_ = p.signal(n, syscall.SIGTERM) // it may have ended already
	}
	force := time.AfterFunc(stopLimit, func() {
		for _, n := range p.pids() {
			_ = p.signal(n, syscall.SIGKILL)
		}
	})
	defer force.Stop()
	p.waits.Wait()
}

// tail is the end of the log of a node.
func (p *demoProcesses) tail(n *demoNode, lines int) string {
	text, err := os.ReadFile(p.log(n))
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	} else if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}

// prepare writes what the servers need: a CA for the whole federation, a
// certificate for each server, one gossip key, and the settings.
func (p *demoProcesses) prepare(nodes []*demoNode) error {
	ca, caKey, err := transport.NewCA(transport.CAOptions{})
	if err != nil {
		return err //nolint:wrapcheck // says what it made
	}
	key, err := gossip.NewKey()
	if err != nil {
		return err //nolint:wrapcheck // says what it made
	}
	files := map[string][]byte{"ca.pem": ca}
	for _, n := range nodes {
		if !n.server {
			continue
		}
		cert, certKey, err := transport.NewCert(ca, caKey, transport.CertOptions{
			Role: transport.ServerCert, Datacenter: n.dc, Node: n.name,
		})
		if err != nil {
			return err //nolint:wrapcheck // says what it made
		}
		settings, err := json.MarshalIndent(p.settings(n, nodes, key), "", "  ")
		if err != nil {
			return fmt.Errorf("settings of %s: %w", n.name, err)
		}
		files[n.name+".pem"], files[n.name+"-key.pem"], files[n.name+".json"] = cert, certKey, settings
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(p.dir, name), content, 0o600); err != nil {
			return fmt.Errorf("prepare the servers: %w", err)
		}
	}
	return nil
}

// settings are what an operator would write for the server.
func (p *demoProcesses) settings(n *demoNode, nodes []*demoNode, key string) map[string]any {
	type object = map[string]any
	var peers, gateways []string
	grpc := -1
	for _, other := range nodes {
		if other.envoy != "" && beside(other, nodes) == n {
			grpc = demoGRPCPort
		}
		switch {
		case other.server && other.dc == n.dc && other != n:
			peers = append(peers, other.at(demoLANPort))
		case !other.server && other.number == 1 && n.number != 1:
			gateways = append(gateways, other.outside())
		}
	}
	out := object{
		"server": true, "datacenter": n.dc, "primary_datacenter": demoDatacenter(1), "node_name": n.name,
		"data_dir": p.file(n, ""), "bind_addr": n.lan.String(), "advertise_addr": n.lan.String(), "client_addr": n.lan.String(),
		"bootstrap_expect": len(peers) + 1, "encrypt": key, "log_level": "info",
		"ports": object{
			"server": demoServerPort, "serf_lan": demoLANPort, "serf_wan": demoWANPort, "http": demoHTTPPort, "dns": -1, "grpc": grpc, "grpc_tls": -1,
		},
		"connect":     object{"enabled": true, "enable_mesh_gateway_wan_federation": true},
		"performance": object{"raft_multiplier": 1},
		"tls": object{
			"defaults": object{
				"ca_file": filepath.Join(p.dir, "ca.pem"), "cert_file": p.file(n, ".pem"), "key_file": p.file(n, "-key.pem"),
				"verify_incoming": true, "verify_outgoing": true,
			},
			"internal_rpc": object{"verify_server_hostname": true},
		},
	}
	if len(peers) > 0 {
		out["retry_join"], out["retry_interval"] = peers, "200ms"
	}
	if len(gateways) > 0 {
		out["primary_gateways"] = gateways
	}
	maps.Copy(out, p.more)
	return out
}

// killed is how the end of a process by a signal reads.
func (e demoExit) String() string {
	return e.node.name + " (pid " + strconv.Itoa(e.pid) + ") ended: " + e.cause
}
