package federation

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"isthmus/internal/gossip"
	"isthmus/internal/telemetry"
	"isthmus/internal/transport"
)

// Limits of the packet channel.
const (
	queueLen     = 128              // packets kept for a peer while there is no way to it
	batchBytes   = 16 << 10         // frames written at once
	writeLimit   = 5 * time.Second  // for one write
	idlePackets  = 90 * time.Second // shorter than the receiver's 2 min, so that the sender closes first
	firstRedial  = 100 * time.Millisecond
	longestDelay = 2 * time.Second
)

// Carrier takes gossip to other datacenters through gateways, and to the own one
// directly. Packets wait in a bounded queue for their peer's sender, so that the
// gossip loop never does.
type Carrier struct {
	direct     gossip.Carrier
	datacenter string
	dialer     transport.Dialer
	log        *slog.Logger

	sent, dropped atomic.Uint64

	mu      sync.Mutex
	ctx     context.Context //nolint:containedctx // that of Run, which owns the senders
	peers   map[string]*peer
	senders sync.WaitGroup
}

// NewCarrier returns a carrier. Packets to other datacenters leave while Run runs.
func NewCarrier(direct gossip.Carrier, datacenter string, dialer transport.Dialer, log *slog.Logger) *Carrier {
	return &Carrier{direct: direct, datacenter: datacenter, dialer: dialer, log: log, peers: map[string]*peer{}}
}

// SplitName splits the name of a WAN member at its last dot: datacenters have no
// dot in their names, nodes may.
func SplitName(member string) (node, datacenter string, ok bool) {
	at := strings.LastIndexByte(member, '.')
	if at <= 0 || at == len(member)-1 {
		return "", "", false
	}
	return member[:at], member[at+1:], true
}

// Stream implements gossip.Carrier.
func (c *Carrier) Stream(ctx context.Context, to gossip.Peer) (net.Conn, error) {
	node, dc, ok := SplitName(to.Name)
	if !ok {
		return nil, fmt.Errorf("gossip stream to %q at %s: the name is not <node>.<datacenter>", to.Name, to.Addr)
	}
	if dc == c.datacenter {
		return c.direct.Stream(ctx, to) //nolint:wrapcheck // says whom it dialled
	}
	return c.dialer.Dial(ctx, transport.Target{Datacenter: dc, Node: node}, transport.WANStream) //nolint:wrapcheck // says whom it dialled
}

// Packet implements gossip.Carrier. It copies b and returns at once.
func (c *Carrier) Packet(to gossip.Peer, b []byte) error {
	_, dc, ok := SplitName(to.Name)
	if !ok {
		return fmt.Errorf("gossip packet to %q at %s: the name is not <node>.<datacenter>", to.Name, to.Addr)
	}
	if dc == c.datacenter {
		return c.direct.Packet(to, b) //nolint:wrapcheck // says whom it sent to
	}
	if len(b) > gossip.MaxPacket {
		return fmt.Errorf("gossip packet to %s is %d bytes long, the limit is %d", to.Name, len(b), gossip.MaxPacket)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx == nil || c.ctx.Err() != nil {
		c.dropped.Add(1)
		return net.ErrClosed
	}
	p := c.peers[to.Name]
	if p == nil {
		p = &peer{name: to.Name, carrier: c, wake: make(chan struct{}, 1)}
		c.peers[to.Name] = p
		ctx := c.ctx
		c.senders.Go(func() { p.run(ctx) })
	}
	p.put(b)
	return nil
}

// Run lets packets leave until ctx is done, and then ends every sender.
func (c *Carrier) Run(ctx context.Context) error {
	c.open(ctx)
	<-ctx.Done()
	c.mu.Lock()
	c.ctx = nil // no sender starts from here on
	c.mu.Unlock()
	c.senders.Wait()
	return nil
}

// open lets packets in, whose senders run until ctx is done.
func (c *Carrier) open(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ctx = ctx
}

// Packets returns how many packets were sent to other datacenters, and how many
// were dropped because their queue was full or closed.
func (c *Carrier) Packets() (sent, dropped uint64) { return c.sent.Load(), c.dropped.Load() }

// peer is the queue to one member and its sender.
type peer struct {
	name    string
	carrier *Carrier
	wake    chan struct{}

	// Guarded by carrier.mu. The ring keeps its buffers, so that a packet costs no
	// allocation once they have grown.
	ring       [queueLen][]byte // frames: length and packet
	head, size int
}

// put queues a frame; the oldest makes room. The caller holds carrier.mu.
func (p *peer) put(b []byte) {
	at := (p.head + p.size) % queueLen
	if p.size == queueLen {
		p.head = (p.head + 1) % queueLen
		p.carrier.dropped.Add(1)
		telemetry.FederationDropped.Count()
	} else {
		p.size++
	}
	p.ring[at] = append(binary.BigEndian.AppendUint32(p.ring[at][:0], uint32(len(b))), b...) //nolint:gosec // at most gossip.MaxPacket
	select {
	case p.wake <- struct{}{}:
	default: // it is told already
	}
}

// take moves queued frames to buf, up to a batch, and returns their number.
func (p *peer) take(buf []byte) ([]byte, uint64) {
	p.carrier.mu.Lock()
	defer p.carrier.mu.Unlock()
	n := uint64(0)
	for p.size > 0 && (n == 0 || len(buf)+len(p.ring[p.head]) <= batchBytes) {
		buf = append(buf, p.ring[p.head]...)
		p.head = (p.head + 1) % queueLen
		p.size--
		n++
	}
	return buf, n
}

// leave ends the peer unless something came meanwhile.
func (p *peer) leave() bool {
	p.carrier.mu.Lock()
	defer p.carrier.mu.Unlock()
	if p.size > 0 {
		return false
	}
	delete(p.carrier.peers, p.name)
	return true
}

// run sends what is queued, over one connection for as long as it works, and
// ends when nothing came for a while.
func (p *peer) run(ctx context.Context) {
	s := &sender{peer: p, log: p.carrier.log.With("peer", p.name)}
	defer s.hangUp()
	idle := time.NewTimer(idlePackets)
	defer idle.Stop()
	var buf []byte
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-s.superseded():
			s.hangUp()
			continue
		case <-idle.C:
			if p.leave() {
				return
			}
		}
		for ctx.Err() == nil {
			var n uint64
			if buf, n = p.take(buf[:0]); n == 0 {
				break
			}
			if !s.send(ctx, buf) {
				return
			}
			p.carrier.sent.Add(n)
			telemetry.FederationSent.Add(float64(n))
			if cap(buf) > 2*batchBytes {
				buf = nil
			}
		}
		idle.Reset(idlePackets)
	}
}

// sender is the connection to a peer.
type sender struct {
	peer *peer
	log  *slog.Logger
	conn net.Conn
}

func (s *sender) superseded() <-chan struct{} {
	if r, ok := s.conn.(*routed); ok {
		return r.superseded
	}
	return nil
}

func (s *sender) hangUp() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}

// send writes frames, over a new connection when there is none or the old one
// does not work any more. It tries until ctx is done, which alone makes it false:
// what waits behind it is bounded by the queue, which drops the oldest.
func (s *sender) send(ctx context.Context, frames []byte) bool {
	delay := firstRedial
	for {
		err := s.dial(ctx)
		if err == nil {
			if err = s.write(frames); err == nil {
				return true
			}
			s.hangUp()
			if delay == firstRedial {
				delay *= 2 // the other end may have closed an idle connection: try anew at once
				continue
			}
		}
		if ctx.Err() != nil {
			return false
		}
		s.log.Debug("gossip packets wait", "err", err)
		t := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			t.Stop()
			return false
		case <-t.C:
		}
		delay = min(2*delay, longestDelay)
	}
}

func (s *sender) dial(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	node, dc, ok := SplitName(s.peer.name)
	if !ok {
		return errors.New("the name is not <node>.<datacenter>")
	}
	conn, err := s.peer.carrier.dialer.Dial(ctx, transport.Target{Datacenter: dc, Node: node}, transport.WANPacket)
	if err != nil {
		return err //nolint:wrapcheck // says whom it dialled
	}
	s.conn = conn
	return nil
}

func (s *sender) write(frames []byte) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	if _, err := s.conn.Write(frames); err != nil {
		return fmt.Errorf("write packets: %w", err)
	}
	return nil
}
