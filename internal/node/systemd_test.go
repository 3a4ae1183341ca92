package node

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// manager is a service manager that listens.
func manager(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return conn
}

// hear is the next message, without those that only tell that the process lives.
func hear(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1000)
	for {
		n, err := conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if text := string(b[:n]); text != "WATCHDOG=1" {
			return text
		}
	}
}

func TestServiceManagerIsToldOfAServer(t *testing.T) {
	conn := manager(t)
	r := dev(t, "")
	if got := hear(t, conn); !strings.HasPrefix(got, "READY=1\n") {
		t.Errorf("got %q, want ready", got)
	}
	cfg, err := r.load()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if got := hear(t, conn); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("got %q, want reloading", got)
	}
	if got := hear(t, conn); got != "READY=1" {
		t.Errorf("got %q, want ready", got)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if got := hear(t, conn); got != "STOPPING=1" {
		t.Errorf("got %q, want stopping", got)
	}
}

func TestServiceManagerWaitsForAClientToJoin(t *testing.T) {
	server := dev(t, "")
	conn := manager(t)
	t.Setenv("WATCHDOG_USEC", "40000")
	alone := startNode(t, `retry_join = ["`+loopback()+`"]`, "-data-dir", t.TempDir(), "-node", "alone")
	b := make([]byte, 100)
	for range 3 {
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(b)
		if err != nil || string(b[:n]) != "WATCHDOG=1" {
			t.Fatalf("got %q, %v, want a sign of life", b[:n], err)
		}
	}
	if err := alone.stop(); err != nil {
		t.Error(err)
	}
	if got := hear(t, conn); got != "STOPPING=1" {
		t.Errorf("got %q, want stopping", got)
	}

	joined := startNode(t, `retry_join = ["`+server.addr+`"]`, "-data-dir", t.TempDir(), "-node", "joined")
	if got := hear(t, conn); !strings.HasPrefix(got, "READY=1\n") {
		t.Errorf("got %q, want ready", got)
	}
	if err := joined.stop(); err != nil {
		t.Error(err)
	}
}

func TestWatchdogOfAnotherProcessIsNotOurs(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "1000000")
	for pid, want := range map[string]time.Duration{"": time.Second, "1": 0} {
		t.Setenv("WATCHDOG_PID", pid)
		if got := newSystemd(nil).watchdog; got != want {
			t.Errorf("of process %q: got %s, want %s", pid, got, want)
		}
	}
}
