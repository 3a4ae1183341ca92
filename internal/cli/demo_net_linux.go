package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// isolation is a network of namespaces, one for each node:
//
//	dc1-server-1 ─lan─┐                             ┌─lan─ dc2-server-1 ─up─┐
//	dc1-server-2 ─lan─┼─ switch of dc1   switch of ─┼─lan─ dc2-server-2 ─up─┤
//	dc1-gateway-1 ─lan┘                     dc2     └lan─ dc2-gateway-1     │
//	      └──────wan──────────── switch of the WAN ───────────wan┘──────────┘
//
// Only gateways are on the WAN, with one exception that federation needs: to
// enter it for the first time, servers of a secondary dial the gateways of the
// primary. Their link up has an address on which nothing listens, and routes to
// those gateways alone.
//
// Everything else leaves a node through the link trap, which leads nowhere: it
// has the default route. The kernel counts what enters it, so a packet that was
// meant for a node of another datacenter past the gateways is counted and lost.
type isolation struct {
	forwarder

	spaces   []*namespace
	byNode   map[string]*namespace
	switches map[string]*namespace // by datacenter; the empty name is the WAN
	toWAN    attach
}

// attach connects a node to the WAN by a link with a name and an address.
type attach func(ns *namespace, node *demoNode, link string, addr netip.Prefix) error

// namespace is a network namespace, the thread in it and what edits it.
type namespace struct {
	*space

	fd     int
	handle *netlink.Handle
}

// Links of the nodes, and the bridge in the namespace of a switch.
const (
	linkLAN    = "lan"
	linkWAN    = "wan"
	linkUp     = "up"
	linkTrap   = "trap"
	linkSwitch = "switch"
)

// newIsolation builds the network of the nodes, whose WAN is a switch.
func newIsolation(nodes []*demoNode) (demoNetwork, error) {
	n := &isolation{}
	n.toWAN = func(ns *namespace, node *demoNode, link string, addr netip.Prefix) error {
		return ns.plug(link, n.switches[""], node.name, addr)
	}
	return n.built(nodes)
}

// built builds the network, or nothing.
func (n *isolation) built(nodes []*demoNode) (demoNetwork, error) {
	n.byNode, n.switches = map[string]*namespace{}, map[string]*namespace{}
	if err := n.build(nodes); err != nil {
		n.close()
		return nil, fmt.Errorf("%w: %w", errNoNamespaces, err)
	}
	return n, nil
}

func (n *isolation) build(nodes []*demoNode) error {
	if err := n.addSwitch(""); err != nil {
		return err
	}
	for _, node := range nodes {
		if n.switches[node.dc] == nil {
			if err := n.addSwitch(node.dc); err != nil {
				return err
			}
		}
		if err := n.addNode(node, nodes); err != nil {
			return fmt.Errorf("%s: %w", node.name, err)
		}
	}
	return nil
}

func (n *isolation) addNamespace() (*namespace, error) {
	ns := &namespace{fd: -1}
	var err error
	ns.space, err = newSpace(func() error { return ns.enter() })
	if err != nil {
		return nil, err
	}
	n.spaces = append(n.spaces, ns)
	lo, err := ns.handle.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find the loopback link: %w", err)
	}
	if err := ns.handle.LinkSetUp(lo); err != nil {
		return nil, fmt.Errorf("set the loopback link up: %w", err)
	}
	return ns, nil
}

// enter moves the thread that calls it into a new namespace.
func (ns *namespace) enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	var err error
	if ns.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open the network namespace: %w", err)
	}
	if ns.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	return nil
}

func (n *isolation) addSwitch(name string) error {
	ns, err := n.addNamespace()
	if err != nil {
		return err
	}
	n.switches[name] = ns
	attrs := netlink.NewLinkAttrs()
	attrs.Name = linkSwitch
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := ns.handle.LinkAdd(bridge); err != nil {
		return fmt.Errorf("make a bridge: %w", err)
	}
	if err := ns.handle.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("set the bridge up: %w", err)
	}
	return nil
}

func (n *isolation) addNode(node *demoNode, all []*demoNode) error {
	ns, err := n.addNamespace()
	if err != nil {
		return err
	}
	n.byNode[node.name] = ns
	lan := n.switches[node.dc]
	if err := ns.plug(linkLAN, lan, node.name, netip.PrefixFrom(node.lan, 24)); err != nil {
		return err
	}
	switch {
	case !node.server:
		if err := n.toWAN(ns, node, linkWAN, netip.PrefixFrom(node.wan, 24)); err != nil {
			return err
		}
	case node.wan.IsValid():
		if err := n.toWAN(ns, node, linkUp, netip.PrefixFrom(node.wan, 32)); err != nil {
			return err
		}
		for _, gateway := range all {
			if gateway.server || gateway.number != 1 {
				continue
			}
			if err := ns.route(linkUp, netip.PrefixFrom(gateway.wan, 32), node.wan); err != nil {
				return err
			}
		}
	}
	if err := ns.wire(linkTrap, lan, "x-"+node.name, false); err != nil {
		return err
	}
	if node.server {
		if err := n.forward(node, ns.space); err != nil {
			return err
		}
	}
	return ns.route(linkTrap, netip.PrefixFrom(netip.IPv4Unspecified(), 0), node.lan)
}

// plug connects a namespace to a switch and gives its end an address.
func (ns *namespace) plug(name string, to *namespace, port string, addr netip.Prefix) error {
	if err := ns.wire(name, to, port, true); err != nil {
		return err
	}
	link, err := ns.handle.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := ns.handle.AddrAdd(link, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
		return fmt.Errorf("give link %s the address %s: %w", name, addr, err)
	}
	peer, err := to.handle.LinkByName(port)
	if err != nil {
		return fmt.Errorf("find port %s: %w", port, err)
	}
	bridge, err := to.handle.LinkByName(linkSwitch)
	if err != nil {
		return fmt.Errorf("find the switch: %w", err)
	}
	if err := to.handle.LinkSetMaster(peer, bridge); err != nil {
		return fmt.Errorf("plug %s into the switch: %w", port, err)
	}
	return nil
}

// wire lays a pair of links between two namespaces. Without neighbours, packets
// enter it without asking for anybody's address first, and so are counted one by
// one.
func (ns *namespace) wire(name string, to *namespace, port string, neighbours bool) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: port, PeerNamespace: netlink.NsFd(to.fd)}
	if err := ns.handle.LinkAdd(pair); err != nil {
		return fmt.Errorf("make link %s: %w", name, err)
	}
	for _, end := range []struct {
		*namespace

		name string
	}{{ns, name}, {to, port}} {
		link, err := end.handle.LinkByName(end.name)
		if err != nil {
			return fmt.Errorf("find link %s: %w", end.name, err)
		}
		if !neighbours {
			// What the kernel itself says to its neighbours is not to be counted.
			if err := quiet(end.handle, link); err != nil {
				return fmt.Errorf("make link %s quiet: %w", end.name, err)
			}
		}
		if err := end.handle.LinkSetUp(link); err != nil {
			return fmt.Errorf("set link %s up: %w", end.name, err)
		}
	}
	return nil
}

func quiet(handle *netlink.Handle, link netlink.Link) error {
	if err := handle.LinkSetARPOff(link); err != nil {
		return err
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		return nil //nolint:nilerr // the kernel has no IPv6 to say anything with
	}
	const none = 1 // no address of its own, and so nothing to tell
	return handle.LinkSetIP6AddrGenMode(link, none)
}

func (ns *namespace) route(name string, to netip.Prefix, from netip.Addr) error {
	link, err := ns.handle.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	err = ns.handle.RouteAdd(&netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: ipNet(to), Src: from.AsSlice(), Scope: netlink.SCOPE_LINK,
	})
	if err != nil {
		return fmt.Errorf("route %s through link %s: %w", to, name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (n *isolation) space(node *demoNode) *space { return n.byNode[node.name].space }

// straight is what went into the traps.
func (n *isolation) straight() (uint64, string, error) {
	var packets uint64
	for name, ns := range n.byNode {
		link, err := ns.handle.LinkByName(linkTrap)
		if err != nil {
			return 0, "", fmt.Errorf("counters of %s: %w", name, err)
		}
		packets += link.Attrs().Statistics.TxPackets
	}
	return packets, "packets sent straight to other datacenters, by the kernel's counters", nil
}

func (n *isolation) crossed(node *demoNode) (uint64, bool) {
	link, err := n.byNode[node.name].handle.LinkByName(linkWAN)
	if err != nil {
		return 0, false
	}
	s := link.Attrs().Statistics
	return s.RxBytes + s.TxBytes, true
}

func (n *isolation) trial(ctx context.Context, from, to *demoNode) (string, error) {
	before, _, err := n.straight()
	if err != nil {
		return "", err
	}
	conn, err := n.space(from).dial(ctx, "tcp", to.at(demoServerPort))
	if err == nil {
		_ = conn.Close()
		return "", fmt.Errorf("%s reached %s past the gateways", from.name, to.name)
	}
	after, _, err := n.straight()
	if err != nil {
		return "", err
	}
	if after == before {
		return "", fmt.Errorf("a dial from %s to %s was not counted", from.name, to.name)
	}
	return fmt.Sprintf("a dial of our own from %s to %s got nowhere and was counted", from.name, to.name), nil
}

func (n *isolation) close() {
	n.forwarder.close()
	for _, ns := range n.spaces {
		ns.close()
		ns.handle.Close()
		_ = unix.Close(ns.fd)
	}
}

// bindToParent lets a process end with the thread that starts it, and keeps the
// signals of the terminal from it: the demo ends its children in order.
func bindToParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// enterUserNamespace lets a process start in a user namespace in which it may
// make network namespaces. It stays in the network of its parent.
func enterUserNamespace(cmd *exec.Cmd) {
	one := func(id int) []syscall.SysProcIDMap { return []syscall.SysProcIDMap{{HostID: id, Size: 1}} }
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, Pdeathsig: syscall.SIGKILL,
		UidMappings: one(os.Getuid()), GidMappings: one(os.Getgid()),
	}
}

// terminalSize is the size of a terminal, or an error when the file is none.
func terminalSize(f *os.File) (width, height int, err error) {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0, fmt.Errorf("size of the terminal: %w", err)
	}
	if size.Col == 0 {
		return 0, 0, errors.New("the terminal has no size")
	}
	return int(size.Col), int(size.Row), nil
}
