package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// pendingFactor times the limit is how many connections of one address may be
	// in their handshake at a time. It is higher than one because a gateway may
	// bring a whole datacenter back at once.
	pendingFactor = 4

	// gatewayFactor times the limit is how many connections one address may hold
	// when they were told apart by ALPN and so may have come through a gateway,
	// whose address stands for all servers behind it.
	gatewayFactor = 50
)

// standing is how far a connection has come: it decides what it counts against.
type standing int

const (
	pending standing = iota
	direct
	gateway
	standings
)

func (s standing) limit(perClient int) int {
	switch s {
	case pending:
		return pendingFactor * perClient
	case gateway:
		return gatewayFactor * perClient
	default:
		return perClient
	}
}

// connCounts counts connections by address and standing.
type connCounts struct {
	mu     sync.Mutex
	byAddr map[netip.Addr]*[standings]int
}

// ticket is the place one connection takes in the counts. A nil ticket takes none.
type ticket struct {
	counts    *connCounts
	addr      netip.Addr
	perClient int
	at        standing
}

// enter counts a connection that was just accepted. Connections without an IP
// address are not of the network and have no limit.
func (c *connCounts) enter(conn net.Conn, perClient int) (*ticket, error) {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok || perClient <= 0 {
		return nil, nil //nolint:nilnil // No ticket is what an uncounted connection has.
	}
	t := &ticket{counts: c, addr: tcp.AddrPort().Addr().Unmap(), perClient: perClient, at: pending}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.byAddr[t.addr]
	if n == nil {
		n = new([standings]int)
		if c.byAddr == nil {
			c.byAddr = map[netip.Addr]*[standings]int{}
		}
		c.byAddr[t.addr] = n
	}
	if limit := pending.limit(perClient); n[pending] >= limit {
		return nil, refused(reasonLimit, fmt.Errorf("%d connections in their handshake", limit))
	}
	n[pending]++
	return t, nil
}

// settle counts the connection as what it turned out to be.
func (t *ticket) settle(to standing) error {
	if t == nil {
		return nil
	}
	t.counts.mu.Lock()
	defer t.counts.mu.Unlock()
	n := t.counts.byAddr[t.addr]
	if limit := to.limit(t.perClient); n[to] >= limit {
		return refused(reasonLimit, fmt.Errorf("%d connections", limit))
	}
	n[t.at]--
	n[to]++
	t.at = to
	return nil
}

// leave gives the place back.
func (t *ticket) leave() {
	if t == nil {
		return
	}
	t.counts.mu.Lock()
	defer t.counts.mu.Unlock()
	n := t.counts.byAddr[t.addr]
	n[t.at]--
	if *n == ([standings]int{}) {
		delete(t.counts.byAddr, t.addr)
	}
}

// errLeft says that the peer went away before it asked for anything.
var errLeft = errors.New("the peer left")

// reason is why a connection was refused, for the log: there are few, and each
// has its own rate.
type reason string

const (
	reasonFirstByte reason = "no first byte"
	reasonUnknown   reason = "unknown protocol"
	reasonPlaintext reason = "not encrypted"
	reasonHandshake reason = "handshake failed"
	reasonNested    reason = "TLS in TLS"
	reasonALPN      reason = "no ALPN id that is served"
	reasonNoServer  reason = "reserved to servers"
	reasonLimit     reason = "too many connections of one address"
)

// refusal is an error with a reason.
type refusal struct {
	reason reason
	err    error
}

func refused(r reason, err error) error { return &refusal{r, err} }

func (r *refusal) Error() string { return string(r.reason) + ": " + r.err.Error() }

func (r *refusal) Unwrap() error { return r.err }

// refusalPause is the time between two log lines of the same reason.
const refusalPause = 10 * time.Second

// refusalLog writes what was refused, at most one line a reason in a while, so
// that a peer that keeps trying can neither fill the log nor hide another's
// refusal behind its own.
type refusalLog struct {
	mu   sync.Mutex
	last map[reason]refusalWindow
}

type refusalWindow struct {
	start      time.Time
	suppressed int
}

func (l *refusalLog) write(ctx context.Context, log *slog.Logger, peer net.Addr, err error) {
	kind := reasonFirstByte
	if r, ok := errors.AsType[*refusal](err); ok {
		kind, err = r.reason, r.err
	}
	suppressed, now := l.admit(kind, time.Now())
	level := slog.LevelWarn
	if !now {
		level = slog.LevelDebug
	}
	log.Log(ctx, level, "connection refused",
		"peer", peer.String(), "reason", string(kind), "err", err, "suppressed", suppressed)
}

// admit says whether a line may be written now, and how many were not since the
// last one.
func (l *refusalLog) admit(kind reason, now time.Time) (int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w, seen := l.last[kind]
	if seen && now.Sub(w.start) < refusalPause {
		w.suppressed++
		l.last[kind] = w
		return w.suppressed, false
	}
	if l.last == nil {
		l.last = map[reason]refusalWindow{}
	}
	l.last[kind] = refusalWindow{start: now}
	return w.suppressed, true
}
