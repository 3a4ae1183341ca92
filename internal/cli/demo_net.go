package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"time"
)

// Ports of the nodes of a demo. Every node has addresses of its own, so all use
// the usual numbers.
const (
	demoServerPort  = 8300
	demoLANPort     = 8301
	demoWANPort     = 8302
	demoHTTPPort    = 8500
	demoGRPCPort    = 8502
	demoGatewayPort = 8443
	demoAdminPort   = 19000
)

// Where the last byte of an address of each kind starts.
const (
	demoGatewayLAN = 100 // of a gateway inside its datacenter
	demoGatewayWAN = 200 // of a gateway towards the others, on loopback
)

// demoNode is a server or a gateway and where it stands.
type demoNode struct {
	name   string
	dc     string
	number int // of the datacenter; 1 is the primary
	server bool

	lan netip.Addr // inside its datacenter
	wan netip.Addr // towards the others; servers of the primary have none

	wanPort int // of a gateway, where other datacenters reach it

	envoy string   // of a gateway that is an Envoy: its binary
	flags []string // of a gateway beside the usual ones

	// shown is the host:port by which the user reaches the HTTP API of a server.
	shown string
}

// at is a port of the node inside its datacenter.
func (n *demoNode) at(port int) string {
	return net.JoinHostPort(n.lan.String(), strconv.Itoa(port))
}

// outside is where other datacenters reach a gateway.
func (n *demoNode) outside() string {
	return net.JoinHostPort(n.wan.String(), strconv.Itoa(n.wanPort))
}

// demoDatacenter is the name of a datacenter by its number.
func demoDatacenter(number int) string { return "dc" + strconv.Itoa(number) }

// demoNodes plans the nodes of a demo: in each datacenter its servers, and a
// gateway beside each of the first two of them, so that with more than one server
// nothing hangs on one process. On loopback all addresses begin with 127 and the
// octet, isolated only those that are shown to the user do.
func demoNodes(datacenters, servers int, octet byte, isolated bool) []*demoNode {
	var nodes []*demoNode
	for dc := 1; dc <= datacenters; dc++ {
		network, outside, first := netip.AddrFrom4([4]byte{127, octet, byte(dc), 0}), netip.AddrFrom4([4]byte{127, octet, byte(dc), 0}), demoGatewayWAN
		if isolated {
			// Addresses of the second kind are reserved for documentation.
			network, outside, first = netip.AddrFrom4([4]byte{10, 77, byte(dc), 0}), netip.AddrFrom4([4]byte{198, 51, 100, 0}), 10*dc
		}
		for i := 1; i <= servers; i++ {
			n := &demoNode{
				name: fmt.Sprintf("%s-server-%d", demoDatacenter(dc), i), dc: demoDatacenter(dc), number: dc, server: true,
				lan: lastByte(network, i),
			}
			if isolated && dc > 1 {
				n.wan = lastByte(outside, demoGatewayLAN+10*dc+i)
			}
			shown := netip.AddrFrom4([4]byte{127, octet, byte(dc), byte(i)})
			n.shown = net.JoinHostPort(shown.String(), strconv.Itoa(demoHTTPPort))
			nodes = append(nodes, n)
		}
		for i := 1; i <= min(servers, 2); i++ {
			nodes = append(nodes, &demoNode{
				name: fmt.Sprintf("%s-gateway-%d", demoDatacenter(dc), i), dc: demoDatacenter(dc), number: dc,
				lan: lastByte(network, demoGatewayLAN+i), wan: lastByte(outside, first+i), wanPort: demoGatewayPort,
			})
		}
	}
	return nodes
}

func lastByte(a netip.Addr, last int) netip.Addr {
	b := a.As4()
	b[3] = byte(last) //nolint:gosec // at most 255 by the limits on nodes
	return netip.AddrFrom4(b)
}

// freeOctet finds the second byte of loopback addresses on which nobody listens,
// so that two demos can run beside each other.
func freeOctet(datacenters, servers int) (byte, error) {
	var err error
	for octet := byte(77); octet < 100; octet++ {
		if err = allFree(demoNodes(datacenters, servers, octet, false)); err == nil {
			return octet, nil
		}
	}
	return 0, fmt.Errorf("no free loopback addresses, 127.77.0.0 to 127.99.255.255: %w", err)
}

func allFree(nodes []*demoNode) error {
	for _, n := range nodes {
		addrs := []string{n.at(demoServerPort), n.at(demoLANPort), n.at(demoWANPort), n.shown}
		if !n.server {
			addrs = []string{n.at(demoGatewayPort), n.outside(), n.at(demoAdminPort)}
		}
		for _, addr := range addrs {
			ln, err := net.Listen("tcp", addr) //nolint:noctx // closed at once
			if err != nil {
				return err
			}
			_ = ln.Close()
		}
	}
	return nil
}

// space is an operating system thread that makes sockets and starts processes,
// and so decides in which network they are. The thread lives until close: the
// kernel ends the processes that a thread started when it goes away, which is how
// nothing is left even of a demo that is killed.
type space struct {
	jobs    chan func()
	closed  chan struct{}
	running sync.WaitGroup
}

// newSpace starts a thread and runs enter on it.
func newSpace(enter func() error) (*space, error) {
	s := &space{jobs: make(chan func()), closed: make(chan struct{})}
	entered := make(chan error)
	s.running.Go(func() {
		// Never unlocked: a thread that has entered a network of its own must not
		// be used for anything else, and ends with its goroutine.
		runtime.LockOSThread()
		entered <- enter()
		for {
			select {
			case job := <-s.jobs:
				job()
			case <-s.closed:
				return
			}
		}
	})
	if err := <-entered; err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// do runs a job on the thread, unless the space is closed.
func (s *space) do(job func()) error {
	done := make(chan struct{})
	run := func() {
		defer close(done)
		job()
	}
	select {
	case s.jobs <- run:
		<-done
		return nil
	case <-s.closed:
		return net.ErrClosed
	}
}

func (s *space) close() {
	close(s.closed)
	s.running.Wait()
}

// start starts a process inside the space.
func (s *space) start(cmd *exec.Cmd) error {
	var err error
	if closed := s.do(func() { err = cmd.Start() }); closed != nil {
		return closed
	}
	return err
}

// dial connects from inside the space. The address must not be a name.
func (s *space) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var (
		conn net.Conn
		err  error
	)
	if closed := s.do(func() { conn, err = new(net.Dialer).DialContext(ctx, network, addr) }); closed != nil {
		return nil, closed
	}
	return conn, err
}

// demoNetwork is what the nodes of a demo talk over.
type demoNetwork interface {
	// space is where a node runs.
	space(n *demoNode) *space

	// straight counts what servers sent straight to another datacenter, which must
	// stay zero. It says what it counted.
	straight() (uint64, string, error)

	// crossed counts the bytes that the kernel moved between a gateway and other
	// datacenters. It is false where the kernel does not tell them apart.
	crossed(n *demoNode) (uint64, bool)

	// trial sends something straight from one server to another one and tells
	// whether it was caught.
	trial(ctx context.Context, from, to *demoNode) (string, error)

	// close lets go of everything. The processes must have ended.
	close()
}

// forwarder makes the HTTP API of an isolated server reachable for the user.
type forwarder struct {
	listeners []net.Listener
	running   sync.WaitGroup
}

// forward listens where the user looks for the node.
func (f *forwarder) forward(n *demoNode, s *space) error {
	ln, err := net.Listen("tcp", n.shown) //nolint:noctx // bound to the demo
	if err != nil {
		return fmt.Errorf("listen for the commands to %s: %w", n.name, err)
	}
	f.listeners = append(f.listeners, ln)
	f.running.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go relay(conn, s, n.at(demoHTTPPort))
		}
	})
	return nil
}

// relay copies both ways until either side ends. It lives as long as the
// connection of the user, and nobody waits for it.
func relay(conn net.Conn, s *space, addr string) {
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	inner, err := s.dial(ctx, "tcp", addr)
	if err != nil {
		return // the node is down: so it looks from outside, too
	}
	defer func() { _ = inner.Close() }()
	ended := make(chan struct{}, 2) // both directions end, one is waited for
	for _, pair := range [][2]net.Conn{{conn, inner}, {inner, conn}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			ended <- struct{}{}
		}()
	}
	<-ended
}

func (f *forwarder) close() {
	for _, ln := range f.listeners {
		_ = ln.Close()
	}
	f.running.Wait()
}

var errNoNamespaces = errors.New("no network namespaces")
