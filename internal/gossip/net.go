package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"syscall"
)

// Peer is whom a packet or a stream is for.
type Peer struct {
	// Name is the member's name in the pool. To join a pool one may know no member's name: then it is empty, or
	// whatever stood before the slash of the address to join, such as "*.dc1".
	Name string
	// Addr is the member's IP address and port, as advertised by it.
	Addr string
}

// Carrier is the only way gossip leaves the process.
type Carrier interface {
	// Packet sends b, at best effort. It is called from the gossip library's own loop and must never wait. It copies
	// b if it keeps it. An error counts as a lost packet.
	Packet(to Peer, b []byte) error
	// Stream opens a connection. ctx bounds the opening only.
	Stream(ctx context.Context, to Peer) (net.Conn, error)
}

const (
	// receiveBuffer is the size asked for the kernel's queue of received packets, in bytes. Bursts come when many
	// nodes join or fail at once.
	receiveBuffer = 2 << 20
	// bindAttempts limits the search for a port that is free for both TCP and UDP.
	bindAttempts = 10
)

// Net is the UDP socket and the TCP listener of a pool, and the Carrier that sends directly. New hands it to the pool,
// which closes it.
type Net struct {
	udp *net.UDPConn
	tcp *net.TCPListener
}

var _ Carrier = (*Net)(nil)

// Listen binds the same port for UDP and TCP on an IP address. Port 0 picks one that is free for both. The log hears of
// the address.
func Listen(bindAddr string, port int, log *slog.Logger) (*Net, error) {
	ip, err := netip.ParseAddr(bindAddr)
	if err != nil {
		return nil, fmt.Errorf("gossip: bind address: %w", err)
	}
	if port < 0 || port > 65535 {
		return nil, fmt.Errorf("gossip: bind port %d is out of range", port)
	}
	for attempt := 1; ; attempt++ {
		n, err := bind(netip.AddrPortFrom(ip, uint16(port)))
		if err == nil {
			log.Debug("listening for gossip", "addr", n.Addr().String(), "port", n.Port())
			return n, nil
		}
		// The port that was free for TCP can be taken for UDP.
		if port != 0 || !errors.Is(err, syscall.EADDRINUSE) || attempt == bindAttempts {
			return nil, fmt.Errorf("gossip: listen on %s: %w", net.JoinHostPort(bindAddr, strconv.Itoa(port)), err)
		}
	}
}

func bind(at netip.AddrPort) (*Net, error) {
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), portOf(tcp))))
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	// The kernel grants less than asked for without an error; any size works.
	if err := udp.SetReadBuffer(receiveBuffer); err != nil {
		return nil, errors.Join(err, udp.Close(), tcp.Close())
	}
	return &Net{udp: udp, tcp: tcp}, nil
}

func portOf(l *net.TCPListener) uint16 {
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0
	}
	return addr.AddrPort().Port()
}

// Packet sends b as a UDP datagram.
func (n *Net) Packet(to Peer, b []byte) error {
	addr, err := netip.ParseAddrPort(to.Addr)
	if err != nil {
		return fmt.Errorf("send packet to %s: %w", to.Name, err)
	}
	if _, err := n.udp.WriteToUDPAddrPort(b, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())); err != nil {
		return fmt.Errorf("send packet to %s: %w", to.Name, err)
	}
	return nil
}

// Stream opens a TCP connection.
func (n *Net) Stream(ctx context.Context, to Peer) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", to.Addr)
}

// Addr is the IP address listened on.
func (n *Net) Addr() netip.Addr {
	addr, ok := n.tcp.Addr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return addr.AddrPort().Addr().Unmap()
}

// Port is the port listened on, for UDP and TCP alike.
func (n *Net) Port() int { return int(portOf(n.tcp)) }

// Close stops listening. It is for a Net that no pool took over.
func (n *Net) Close() error {
	return errors.Join(n.tcp.Close(), n.udp.Close())
}
