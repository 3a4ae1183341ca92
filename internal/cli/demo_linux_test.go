package cli

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// isolated builds the network of two datacenters, or skips where that is not
// allowed.
func isolated(t *testing.T) (*isolation, map[string]*demoNode) {
	t.Helper()
	octet, err := freeOctet(2, 2)
	if err != nil {
		t.Skip(err)
	}
	nodes := demoNodes(2, 2, octet, true)
	built, err := newIsolation(nodes)
	if errors.Is(err, syscall.EPERM) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(built.close)
	byName := map[string]*demoNode{}
	for _, n := range nodes {
		byName[n.name] = n
	}
	return built.(*isolation), byName
}

// listenIn echoes on an address inside the space of a node.
func listenIn(t *testing.T, s *space, addr string) {
	t.Helper()
	var (
		ln  net.Listener
		err error
	)
	if closed := s.do(func() { ln, err = net.Listen("tcp", addr) }); closed != nil || err != nil {
		t.Fatal(closed, err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
}

func dialFrom(t *testing.T, s *space, addr string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	conn, err := s.dial(ctx, "tcp", addr)
	if err == nil {
		_ = conn.Close()
	}
	return err
}

func TestIsolationLeavesOnlyTheWayThroughGateways(t *testing.T) {
	n, nodes := isolated(t)
	for _, node := range nodes {
		if node.server {
			listenIn(t, n.space(node), node.at(demoServerPort))
			continue
		}
		listenIn(t, n.space(node), node.at(demoGatewayPort))
		listenIn(t, n.space(node), node.outside())
	}
	reached := func(from, addr string) bool { return dialFrom(t, n.space(nodes[from]), addr) == nil }
	for _, c := range []struct {
		from, to string
		outside  bool
		want     bool
	}{
		{"dc1-server-1", "dc1-server-2", false, true},
		{"dc1-server-1", "dc1-gateway-1", false, true},
		{"dc1-gateway-1", "dc1-server-1", false, true},
		{"dc1-gateway-1", "dc2-gateway-2", true, true},
		{"dc2-gateway-2", "dc1-gateway-1", true, true},
		{"dc2-server-1", "dc1-gateway-2", true, true}, // the first contact
	} {
		addr := nodes[c.to].at(demoServerPort)
		if !nodes[c.to].server {
			addr = nodes[c.to].at(demoGatewayPort)
		}
		if c.outside {
			addr = nodes[c.to].outside()
		}
		if got := reached(c.from, addr); got != c.want {
			t.Errorf("%s reaches %s at %s: %v", c.from, c.to, addr, got)
		}
	}
	if count, _, err := n.straight(); err != nil || count != 0 {
		t.Fatalf("got %d packets in the traps before any was sent there, %v", count, err)
	}
	var before uint64
	for _, c := range [][2]string{
		{"dc1-server-1", nodes["dc2-server-1"].at(demoServerPort)},
		{"dc2-server-1", nodes["dc1-server-1"].at(demoServerPort)},
		{"dc1-gateway-1", nodes["dc2-server-1"].at(demoServerPort)},
		{"dc1-server-1", nodes["dc2-gateway-1"].outside()},
		{"dc2-server-1", nodes["dc2-gateway-1"].outside()},
	} {
		if reached(c[0], c[1]) {
			t.Errorf("%s reaches %s", c[0], c[1])
		}
		count, _, err := n.straight()
		if err != nil || count <= before {
			t.Errorf("a dial from %s to %s was not counted: %d after %d, %v", c[0], c[1], count, before, err)
		}
		before = count
	}
}

func TestIsolatedServerIsReachedByTheUser(t *testing.T) {
	n, nodes := isolated(t)
	node := nodes["dc2-server-1"]
	listenIn(t, n.space(node), node.at(demoHTTPPort))
	conn, err := net.Dial("tcp", node.shown)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestDemoChecksItself runs what CI runs.
func TestDemoChecksItself(t *testing.T) {
	if testing.Short() {
		t.Skip("starts four processes")
	}
	t.Setenv("TMPDIR", t.TempDir())
	out, err := exec.Command(isthmusBinary(t), "demo", "-exit").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, c := range demoChecks() {
		if !strings.Contains(string(out), "ok    "+c.name) {
			t.Errorf("no word on %s", c.name)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	t.Logf("%s", out)
}

// TestKilledDemoLeavesNoProcess kills the demo itself as soon as its servers run.
func TestKilledDemoLeavesNoProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	cmd := exec.Command(isthmusBinary(t), "demo", "-exit")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	readUntil(t, out, regexp.MustCompile(`dc1 has its gateways`))
	running := processesWith(t, dir)
	if len(running) < 4 {
		t.Errorf("found only %v running", running)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	deadline := time.Now().Add(5 * time.Second)
	for left := running; len(left) > 0; left = processesWith(t, dir) {
		if time.Now().After(deadline) {
			t.Fatalf("still running: %v", left)
		}
	}
}

// readUntil reads until something is told.
func readUntil(t *testing.T, r io.Reader, what *regexp.Regexp) {
	t.Helper()
	var all []byte
	buf := make([]byte, 4096)
	for !what.Match(all) {
		n, err := r.Read(buf)
		all = append(all, buf[:n]...)
		if err != nil {
			t.Fatalf("%v before %s was told:\n%s", err, what, all)
		}
	}
}

// processesWith are the processes that were started with a text in their
// environment.
func processesWith(t *testing.T, text string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		if env, err := os.ReadFile(f); err == nil && strings.Contains(string(env), text) {
			out = append(out, f)
		}
	}
	return out
}

// isthmusBinary is this test's binary under the name by which it is the program.
func isthmusBinary(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("isthmus")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoopbackSeesConnectionsPastTheGateways(t *testing.T) {
	octet, err := freeOctet(2, 1)
	if err != nil {
		t.Skip(err)
	}
	nodes := demoNodes(2, 1, octet, false)
	from, to := nodes[0], nodes[2]
	owner := from
	l, err := newLoopback(nodes, func() map[int]*demoNode { return nil })
	if err != nil {
		t.Fatal(err)
	}
	l.close() // this test looks itself
	l.pids = func() map[int]*demoNode { return map[int]*demoNode{os.Getpid(): owner} }
	ln, err := net.Listen("tcp", to.at(demoServerPort))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if found, err := l.look(); err != nil || len(found) != 1 {
		t.Errorf("from another datacenter: got %v, %v", found, err)
	}
	owner = nodes[3] // the gateway of the same datacenter
	if found, err := l.look(); err != nil || len(found) != 0 {
		t.Errorf("from the same datacenter: got %v, %v", found, err)
	}
}
