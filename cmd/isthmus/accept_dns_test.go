package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// ownResolver makes the test binary start another program that reads a file of the
// test in place of /etc/resolv.conf.
const ownResolver = "ISTHMUS_TEST_RESOLV_CONF"

// execWithResolver becomes the program args[0], in a mount namespace of its own.
func execWithResolver(resolver string, args []string) error {
	runtime.LockOSThread()
	const conf = "/etc/resolv.conf"
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	if err := syscall.Mount(resolver, conf, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", conf, err)
	}
	if err := os.Unsetenv(ownResolver); err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	return fmt.Errorf("start %s: %w", args[0], syscall.Exec(args[0], args, os.Environ()))
}

// names is a name server of one zone of changing addresses.
type names struct {
	mu    sync.Mutex
	addrs []string
	asked int
}

// set changes the addresses that every name has from now on.
func (n *names) set(addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs = addrs
}

// ownNames makes all processes that the fleet starts from now on ask a name server
// of the test. It needs root; without it the test is skipped.
func (f *fleet) ownNames() *names {
	f.t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("ISTHMUS_MUST_INTEROP") != "" {
			f.t.Fatal("a name server of its own needs root")
		}
		f.t.Skip("a name server of its own needs root")
	}
	addr := f.addr(0, 53)
	conn, err := net.ListenPacket("udp", net.JoinHostPort(addr, "53"))
	if err != nil {
		f.t.Fatal(err)
	}
	n := &names{}
	var running sync.WaitGroup
	running.Go(func() {
		buf := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := n.answer(buf[:size]); answer != nil {
				_, _ = conn.WriteTo(answer, from) // who asked may be gone
			}
		}
	})
	f.t.Cleanup(func() {
		conn.Close()
		running.Wait()
	})
	f.resolver = f.write("resolv.conf", []byte("nameserver "+addr+"\noptions timeout:1\n"))
	return n
}

// answer answers one question for the addresses of a name; there are none but A records.
func (n *names) answer(query []byte) []byte {
	const header, typeA = 12, 1
	if len(query) < header {
		return nil
	}
	end := bytes.IndexByte(query[header:], 0) + header + 5 // the name's final zero, type, class
	if end < header+5 || end > len(query) {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var addrs []string
	if binary.BigEndian.Uint16(query[end-4:]) == typeA {
		addrs = n.addrs
		n.asked++
	}
	out := append(bytes.Clone(query[:2]), 0x84, 0, 0, 1, 0, byte(len(addrs)), 0, 0, 0, 0)
	out = append(out, query[header:end]...)
	for _, addr := range addrs {
		ip := netip.MustParseAddr(addr).As4()
		out = append(out, 0xc0, header, 0, typeA, 0, 1, 0, 0, 0, 1, 0, 4) // the name of the question; for one second
		out = append(out, ip[:]...)
	}
	return out
}

func TestNamesAreThoseOfTheTest(t *testing.T) {
	f := newFleet(t)
	n := f.ownNames()
	n.set(f.addr(1, 7))
	p := f.run("resolve", "/usr/bin/getent", "hosts", "gateways.dc1.test")
	<-p.done
	b, err := os.ReadFile(p.log)
	if err != nil || !strings.HasPrefix(string(b), f.addr(1, 7)) {
		t.Errorf("the name is resolved as %q, %v", b, err)
	}
}
