package gossip

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// maxDatagram is more than the largest UDP payload.
	maxDatagram = 1 << 16
	// frameIdle is how long a connection of packets may stay silent. Senders give theirs up sooner.
	frameIdle = 2 * time.Minute
	// frameBuffer takes in several packets of the usual size, 1400 bytes, with one read.
	frameBuffer = 16 << 10
	// retryDelay spaces out the attempts to go on after the listener or the socket has failed.
	retryDelay = 100 * time.Millisecond
)

var errStopped = errors.New("gossip: pool is stopped")

// transport lets the library listen on a Net and send through a Carrier.
type transport struct {
	net       *Net
	carrier   Carrier
	advertise netip.AddrPort
	log       *slog.Logger

	packets chan *memberlist.Packet
	streams chan net.Conn

	// streaming ends when no stream may be open any more, done when nothing at all may go in or out.
	streaming context.Context //nolint:containedctx // The library hands over no context.
	stopConns context.CancelFunc
	done      chan struct{}
	shut      sync.Once

	// wg counts the readers and the tracked connections. It grows under mu only, and while open is not nil.
	wg sync.WaitGroup

	mu   sync.Mutex
	open map[*tracked]struct{}
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func newTransport(n *Net, carrier Carrier, advertise netip.AddrPort, log *slog.Logger) *transport {
	t := &transport{
		net:       n,
		carrier:   carrier,
		advertise: advertise,
		log:       log,
		packets:   make(chan *memberlist.Packet),
		streams:   make(chan net.Conn),
		done:      make(chan struct{}),
		open:      make(map[*tracked]struct{}),
	}
	t.streaming, t.stopConns = context.WithCancel(context.Background())
	t.wg.Go(t.readDatagrams)
	t.wg.Go(t.acceptStreams)
	return t
}

// FinalAdvertiseAddr yields what New has worked out from the settings.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.advertise.Addr().AsSlice(), int(t.advertise.Port()), nil
}

// WriteTo sends to a member whose name is not known.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress hands a packet to the carrier. An error of the carrier is a lost packet and no more: the library would
// give up the probe it belongs to, and the member would never be found failed.
func (t *transport) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	select {
	case <-t.done: // What the library still had under way when it was shut down.
		return time.Now(), nil
	default:
	}
	if err := t.carrier.Packet(Peer{Name: to.Name, Addr: to.Addr}, b); err != nil {
		t.log.Debug("gossip packet lost", "peer", to.Name, "addr", to.Addr, "err", err)
	}
	return time.Now(), nil
}

// PacketCh is where the library receives packets.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// DialTimeout opens a stream to a member whose name is not known.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout opens a stream through the carrier.
func (t *transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.streaming, timeout)
	defer cancel()
	conn, err := t.carrier.Stream(ctx, Peer{Name: to.Name, Addr: to.Addr})
	if err != nil {
		return nil, fmt.Errorf("open gossip stream to %s: %w", to.Name, err)
	}
	return t.track(conn)
}

// StreamCh is where the library receives streams.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown closes everything and waits until the library has let go of the streams it was handed.
func (t *transport) Shutdown() error {
	t.closeStreams()
	var err error
	t.shut.Do(func() {
		close(t.done)
		err = t.net.Close()
	})
	t.wg.Wait()
	return err
}

// closeStreams ends the streams that are open and refuses new ones.
func (t *transport) closeStreams() {
	t.stopConns()
	t.mu.Lock()
	open := t.open
	t.open = nil
	t.mu.Unlock()
	for c := range open {
		_ = c.Conn.Close() // Whoever uses it finds out, and releases it.
	}
}

// readDatagrams hands every UDP datagram to the library, in memory of its own, which the library keeps.
func (t *transport) readDatagrams() {
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := t.net.udp.ReadFromUDP(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			t.log.Warn("gossip packet not received", "err", err)
			if !t.pause() {
				return
			}
		case n > 0:
			if !t.deliver(bytes.Clone(buf[:n]), from) {
				return
			}
		}
	}
}

func (t *transport) acceptStreams() {
	for {
		conn, err := t.net.tcp.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			t.log.Warn("gossip stream not accepted", "err", err)
			if !t.pause() {
				return
			}
		default:
			t.serveStream(conn)
		}
	}
}

// pause is false when the transport is shut down meanwhile.
func (t *transport) pause() bool {
	timer := time.NewTimer(retryDelay)
	defer timer.Stop()
	select {
	case <-t.done:
		return false
	case <-timer.C:
		return true
	}
}

// deliver hands a packet to the library, which keeps it. It is false when the transport is shut down.
func (t *transport) deliver(packet []byte, from net.Addr) bool {
	select {
	case t.packets <- &memberlist.Packet{Buf: packet, From: from, Timestamp: time.Now()}:
		return true
	case <-t.done:
		return false
	}
}

// serveStream hands conn to the library, which closes it.
func (t *transport) serveStream(conn net.Conn) {
	stream, err := t.track(conn)
	if err != nil {
		return // Closed by track.
	}
	select {
	case t.streams <- stream:
	case <-t.done:
		_ = stream.Close() // Shut down: there is nobody to tell.
	}
}

// servePackets delivers the packets of conn until it ends, and closes it.
func (t *transport) servePackets(conn net.Conn) {
	stream, err := t.track(conn)
	if err != nil {
		return // Closed by track.
	}
	defer func() { _ = stream.Close() }() // All that was sent has been read.

	from := conn.RemoteAddr()
	frames := frameReader{
		buf:  bufio.NewReaderSize(conn, frameBuffer),
		idle: func() error { return conn.SetReadDeadline(time.Now().Add(frameIdle)) },
	}
	for {
		packet, err := frames.next()
		if err != nil {
			if !errors.Is(err, io.EOF) && t.streaming.Err() == nil {
				t.log.Debug("connection of gossip packets dropped", "from", from.String(), "err", err)
			}
			return
		}
		if !t.deliver(packet, from) {
			return
		}
	}
}

// tracked is a connection that Shutdown closes and waits for.
type tracked struct {
	net.Conn

	release func()
}

// Close may be called again, as by any owner of a connection.
func (c *tracked) Close() error {
	err := c.Conn.Close()
	c.release()
	return err
}

// track closes conn and yields an error when streams are no longer wanted.
func (t *transport) track(conn net.Conn) (net.Conn, error) {
	c := &tracked{Conn: conn}
	c.release = sync.OnceFunc(func() {
		t.mu.Lock()
		delete(t.open, c)
		t.mu.Unlock()
		t.wg.Done()
	})
	if t.add(c) {
		return c, nil
	}
	return nil, errors.Join(errStopped, conn.Close())
}

func (t *transport) add(c *tracked) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		return false
	}
	t.open[c] = struct{}{}
	t.wg.Add(1)
	return true
}
