package dns

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const insideEnv = "ISTHMUS_DNS_INSIDE"

// unpacked is where make unpacks systemd-resolved, which takes over the names of the
// machine it is installed on.
const unpacked = "../../build/resolved"

// resolved finds systemd-resolved, installed or unpacked, and its libraries.
func resolved() (path, libraries string, ok bool) {
	for _, root := range []string{"", unpacked} {
		path = root + "/lib/systemd/systemd-resolved"
		if _, err := os.Stat(path); err == nil {
			path, err = filepath.Abs(path)
			return path, filepath.Join(filepath.Dir(path), "../../usr/lib/x86_64-linux-gnu/systemd"), err == nil
		}
	}
	return "", "", false
}

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
for kind in passwd group; do
	grep -q '^systemd-resolve:' /etc/$kind && continue
	cp /etc/$kind /run/$kind
	[ $kind = group ] && echo systemd-resolve:x:996: >> /run/group || echo systemd-resolve:x:996:996::/:/usr/sbin/nologin >> /run/passwd
	mount --bind /run/$kind /etc/$kind
done
mkdir -p /run/systemd/resolve /run/systemd/resolved.conf.d /run/dbus
chown systemd-resolve:systemd-resolve /run/systemd/resolve
printf '%s' "$GUIDE" > /run/systemd/resolved.conf.d/consul.conf
exec "$0" -test.run '^TestInsideNamespaces$' -test.v`

// TestResolvedForwardsAsTheGuideSays runs systemd-resolved, without systemd, in
// namespaces of its own, since it has an address and files that are fixed.
func TestResolvedForwardsAsTheGuideSays(t *testing.T) {
	if _, _, ok := resolved(); !ok || os.Getuid() != 0 {
		t.Skip("skipped: this is not root, or systemd-resolved is neither installed nor unpacked (make resolved)")
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
	path, libraries, _ := resolved()
	cmd := exec.CommandContext(t.Context(), path)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+libraries)
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
