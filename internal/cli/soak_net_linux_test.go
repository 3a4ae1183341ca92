package cli

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"isthmus/internal/testkit"
)

const (
	soakMoves = 3 // WAN addresses of a gateway, between which it moves

	// mustSoak in the environment makes a failure of what is skipped elsewhere.
	mustSoak = "ISTHMUS_MUST_SOAK"
)

// soakAddresses are the WAN addresses of a gateway.
func soakAddresses(n *demoNode) []netip.Addr {
	first := int(n.wan.As4()[3])
	var out []netip.Addr
	for i := range soakMoves {
		out = append(out, lastByte(n.wan, first+2*i)) // the gateways of a datacenter have every other one
	}
	return out
}

// newSoakNetwork builds isolated datacenters whose WAN is a relay in this process.
func newSoakNetwork(nodes []*demoNode, seed uint64) (*isolation, *testkit.Relay, error) {
	relay := testkit.NewRelay(seed)
	n := &isolation{toWAN: func(ns *namespace, node *demoNode, link string, addr netip.Prefix) error {
		return attachToRelay(relay, ns, node, link, addr)
	}}
	if _, err := n.built(nodes); err != nil {
		relay.Close()
		return nil, nil, err
	}
	// Servers of a secondary must find a gateway of the primary that moved.
	for _, node := range nodes {
		for _, gateway := range nodes {
			if !node.server || !node.wan.IsValid() || gateway.server || gateway.number != 1 {
				continue
			}
			for _, addr := range soakAddresses(gateway)[1:] {
				if err := n.byNode[node.name].route(linkUp, netip.PrefixFrom(addr, 32), node.wan); err != nil {
					n.close()
					relay.Close()
					return nil, nil, err
				}
			}
		}
	}
	return n, relay, nil
}

// attachToRelay connects a node to the relay by a TUN device.
func attachToRelay(relay *testkit.Relay, ns *namespace, node *demoNode, name string, addr netip.Prefix) error {
	var (
		device io.ReadWriteCloser
		err    error
	)
	if closed := ns.do(func() { device, err = testkit.OpenTUN(name) }); closed != nil || err != nil {
		return errors.Join(closed, err)
	}
	addrs := []netip.Addr{addr.Addr()}
	if !node.server {
		addrs = soakAddresses(node)
	}
	relay.Attach(node.dc, device, addrs...)
	link, err := ns.handle.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find device %s: %w", name, err)
	}
	for _, a := range addrs {
		if err := ns.handle.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, addr.Bits()))}); err != nil {
			return fmt.Errorf("give device %s the address %s: %w", name, a, err)
		}
	}
	if err := ns.handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("set device %s up: %w", name, err)
	}
	return nil
}

// soakNetwork builds the network, or skips where that is not allowed.
func soakNetwork(t *testing.T, nodes []*demoNode, seed uint64) (*isolation, *testkit.Relay) {
	t.Helper()
	n, relay, err := newSoakNetwork(nodes, seed)
	denied := errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENODEV)
	switch {
	case err == nil:
		return n, relay
	case denied && os.Getenv(mustSoak) == "":
		t.Skip(err)
	default:
		t.Fatal(err)
	}
	return nil, nil
}

// soakNodes are three datacenters of two gateways each: dc3 has one server, the
// others have three.
func soakNodes(octet byte) []*demoNode {
	var out []*demoNode
	for _, n := range demoNodes(3, 3, octet, true) {
		if n.dc != "dc3" || !n.server || strings.HasSuffix(n.name, "-1") {
			out = append(out, n)
		}
	}
	return out
}

func TestRelayIsTheWANOfGatewaysInNamespaces(t *testing.T) {
	octet, err := freeOctet(2, 1)
	if err != nil {
		t.Skip(err)
	}
	nodes := demoNodes(2, 1, octet, true)
	n, relay := soakNetwork(t, nodes, 1)
	defer relay.Close()
	defer n.close()
	server, a, b := nodes[2], nodes[1], nodes[3]
	for _, addr := range soakAddresses(a) {
		listenIn(t, n.space(a), net.JoinHostPort(addr.String(), "8443"))
	}
	for _, from := range []*demoNode{b, server} {
		for _, addr := range soakAddresses(a) {
			if err := dialFrom(t, n.space(from), net.JoinHostPort(addr.String(), "8443")); err != nil {
				t.Errorf("from %s: %v", from.name, err)
			}
		}
	}
	conn, err := n.space(b).dial(t.Context(), "tcp", a.outside())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	const bulk = 4 << 20
	echo := func(size int) time.Duration {
		begun := time.Now()
		go func() { _, _ = conn.Write(make([]byte, size)) }()
		if _, err := io.ReadFull(conn, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		return time.Since(begun)
	}
	t.Logf("%d bytes there and back in %s", bulk, echo(bulk))
	relay.Set("dc2", "dc1", testkit.Impairment{Delay: 30 * time.Millisecond})
	if took := echo(1); took < 30*time.Millisecond || took > time.Second {
		t.Errorf("with a delay of 30 ms: %s", took)
	}
	relay.Set("dc1", "dc2", testkit.Impairment{Delay: time.Millisecond, Loss: 0.02})
	t.Logf("%d bytes there and back in %s with loss", bulk/8, echo(bulk/8))
	if lost := relay.Traffic("dc1", "dc2").Lost; lost == 0 {
		t.Error("nothing was lost")
	}
	relay.Set("dc1", "dc2", testkit.Impairment{Cut: true})
	if err := dialFrom(t, n.space(b), a.outside()); err == nil {
		t.Error("a connection although answers are cut")
	}
	if count, what, err := n.straight(); err != nil || count != 0 {
		t.Errorf("%d %s, %v", count, what, err)
	}
}
