package dns

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const (
	resolvedPath = "/lib/systemd/systemd-resolved"
	insideEnv    = "ISTHMUS_DNS_INSIDE"
)

// insideSetup makes in new namespaces what systemd-resolved needs: a network that is
// up, without which it asks nobody, and a place for its files.
const insideSetup = `set -e
ip link set lo up
ip link add d0 type veth peer name d1
ip link set d1 up
ip addr add 192.0.2.1/24 dev d0
ip link set d0 up
ip route add default via 192.0.2.2
mount -t tmpfs none /run
mkdir -p /run/systemd/resolve /run/systemd/resolved.conf.d /run/dbus
chown systemd-resolve:systemd-resolve /run/systemd/resolve
printf '%s' "$GUIDE" > /run/systemd/resolved.conf.d/consul.conf
exec "$0" -test.run '^TestInsideNamespaces$' -test.v`

// TestResolvedForwardsAsTheGuideSays runs systemd-resolved, without systemd, in
// namespaces of its own, since it has an address and files that are fixed.
func TestResolvedForwardsAsTheGuideSays(t *testing.T) {
	if _, err := os.Stat(resolvedPath); err != nil || os.Getuid() != 0 {
		t.Skipf("skipped: this is not root, or %s is not installed", resolvedPath)
	}
	if out, err := exec.CommandContext(t.Context(), "unshare", "-mn", "ip", "link", "add", "d0", "type", "veth", "peer", "name", "d1").CombinedOutput(); err != nil {
		t.Skipf("skipped: there are no network namespaces here: %v: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "-mn", "--propagation", "private", "sh", "-c", insideSetup, os.Args[0])
	cmd.Env = append(os.Environ(), insideEnv+"=1", "GUIDE="+guideBlock(t, "ini"))
	cmd.WaitDelay = time.Second // a program that was left behind must not hold the pipe
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestInsideNamespaces") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestInsideNamespaces is the part of the test above that runs inside them.
func TestInsideNamespaces(t *testing.T) {
	if os.Getenv(insideEnv) == "" {
		t.Skip("skipped: a part of TestResolvedForwardsAsTheGuideSays")
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8600})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- New(config(newServers(t))).ServeUDP(ctx, conn) }()
	cmd := exec.CommandContext(t.Context(), resolvedPath)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	askResolver(t, "127.0.0.53:53")
}
