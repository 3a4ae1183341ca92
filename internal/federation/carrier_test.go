package federation

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/internal/gossip"
	"isthmus/internal/transport"
)

// line is a fake of the way to other datacenters: it keeps what was sent, by
// node, and can be cut.
type line struct {
	mu    sync.Mutex
	got   map[string][][]byte
	down  map[string]error
	dials int
	conns []net.Conn
}

func (l *line) Dial(_ context.Context, to transport.Target, p transport.Proto) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.down[to.Node]; err != nil {
		return nil, err
	}
	if p != transport.WANPacket {
		return nil, fmt.Errorf("unexpected %s", p.Name)
	}
	l.dials++
	a, b := net.Pipe()
	l.conns = append(l.conns, b)
	go l.read(to.Node, b)
	return a, nil
}

func (l *line) read(node string, conn net.Conn) {
	for {
		var head [4]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(conn, b); err != nil {
			return
		}
		l.mu.Lock()
		l.got[node] = append(l.got[node], b)
		l.mu.Unlock()
	}
}

func (l *line) cut(node string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down[node] = err
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.conns = nil
}

func (l *line) received(node string) [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.got[node])
}

// startCarrier runs a carrier of dc1 until the test ends.
func startCarrier(t testing.TB, dialer transport.Dialer) (*Carrier, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := NewCarrier(nil, "dc1", dialer, slog.New(slog.DiscardHandler))
	c.open(ctx) // at once, and not when Run comes to it
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.Run(ctx)
	}()
	return c, func() { cancel(); <-ended }
}

func newLine() *line { return &line{got: map[string][][]byte{}, down: map[string]error{}} }

func send(t testing.TB, c *Carrier, name string, b []byte) {
	t.Helper()
	if err := c.Packet(gossip.Peer{Name: name, Addr: "192.0.2.1:8302"}, b); err != nil {
		t.Fatal(err)
	}
}

func TestPacketsArriveWholeAndInOrderOverOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine()
		c, stop := startCarrier(t, l)
		defer stop()
		var want [][]byte
		for i := range 100 {
			b := bytes.Repeat([]byte{byte(i)}, i*17+1)
			want = append(want, slices.Clone(b))
			send(t, c, "a.b.dc2", b) // a node name may have a dot
			clear(b)                 // the caller's buffer is its own again
			synctest.Wait()
		}
		if got := l.received("a.b"); !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("got %d packets, want %d, as they were sent", len(got), len(want))
		}
		if l.dials != 1 {
			t.Errorf("%d connections were opened, want 1", l.dials)
		}
	})
}

func TestStalledPeerDelaysNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine()
		stalled := dialFunc(func(ctx context.Context, to transport.Target, p transport.Proto) (net.Conn, error) {
			if to.Node == "stuck" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return l.Dial(ctx, to, p)
		})
		c, stop := startCarrier(t, stalled)
		defer stop()
		start := time.Now()
		for range 2 * queueLen {
			send(t, c, "stuck.dc2", []byte("probe"))
		}
		send(t, c, "fine.dc3", []byte("probe"))
		synctest.Wait()
		if got := l.received("fine"); len(got) != 1 || time.Since(start) > 0 {
			t.Errorf("the other peer got %d packets after %s, want 1 at once", len(got), time.Since(start))
		}
		if _, dropped := c.Packets(); dropped == 0 {
			t.Error("packets beyond the queue are not counted as dropped")
		}
	})
}

type dialFunc func(ctx context.Context, to transport.Target, p transport.Proto) (net.Conn, error)

func (f dialFunc) Dial(ctx context.Context, to transport.Target, p transport.Proto) (net.Conn, error) {
	return f(ctx, to, p)
}

func TestNewestPacketsWaitForARoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine()
		l.down["s1"] = errors.New("no mesh gateway is known yet")
		c, stop := startCarrier(t, l)
		defer stop()
		send(t, c, "s1.dc2", []byte("taken"))
		synctest.Wait() // the sender holds this one and dials
		for i := range queueLen + 50 {
			send(t, c, "s1.dc2", []byte{byte(i), byte(i >> 8)})
		}
		time.Sleep(time.Minute)
		l.cut("s1", nil) // there is a route now
		time.Sleep(2 * longestDelay)
		got := l.received("s1")
		if len(got) != queueLen+1 {
			t.Fatalf("got %d packets, want the one under way and the newest %d", len(got), queueLen)
		}
		if first := got[1]; first[0] != 50 {
			t.Errorf("the oldest that was kept is number %d, want 50", first[0])
		}
	})
}

func TestClosedConnectionCostsNoPacket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine()
		c, stop := startCarrier(t, l)
		defer stop()
		send(t, c, "s1.dc2", []byte("1"))
		synctest.Wait()
		l.cut("s1", nil) // the other end closes the idle connection
		send(t, c, "s1.dc2", []byte("2"))
		synctest.Wait()
		if got := l.received("s1"); len(got) != 2 {
			t.Errorf("got %d packets, want 2", len(got))
		}
	})
}

func TestIdlePeerIsForgottenAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine()
		c, stop := startCarrier(t, l)
		defer stop()
		send(t, c, "s1.dc2", []byte("1"))
		time.Sleep(5 * time.Minute)
		c.mu.Lock()
		if len(c.peers) != 0 {
			t.Errorf("%d peers are kept after five quiet minutes", len(c.peers))
		}
		c.mu.Unlock()
		send(t, c, "s1.dc2", []byte("2"))
		synctest.Wait()
		if got := l.received("s1"); len(got) != 2 {
			t.Errorf("got %d packets, want 2", len(got))
		}
	})
}

func TestNamesAreSplitAtTheLastDot(t *testing.T) {
	for name, want := range map[string][2]string{
		"n.dc1": {"n", "dc1"}, "a.b.dc1": {"a.b", "dc1"}, "*.dc1": {"*", "dc1"},
	} {
		if node, dc, ok := SplitName(name); !ok || node != want[0] || dc != want[1] {
			t.Errorf("%s: got %s, %s, %v", name, node, dc, ok)
		}
	}
	for _, name := range []string{"", "n", ".dc1", "n."} {
		if _, _, ok := SplitName(name); ok {
			t.Errorf("%q is taken for a member's name", name)
		}
	}
}

func BenchmarkPacket(b *testing.B) {
	l := dialFunc(func(context.Context, transport.Target, transport.Proto) (net.Conn, error) { return sink{}, nil })
	c, stop := startCarrier(b, l)
	defer stop()
	packet := make([]byte, 1400)
	to := gossip.Peer{Name: "s1.dc2"}
	b.ReportAllocs()
	b.SetBytes(int64(len(packet)))
	for b.Loop() {
		if err := c.Packet(to, packet); err != nil {
			b.Fatal(err)
		}
	}
}

// sink is a connection that takes everything.
type sink struct{ net.Conn }

func (sink) Write(b []byte) (int, error)      { return len(b), nil }
func (sink) SetWriteDeadline(time.Time) error { return nil }
func (sink) Close() error                     { return nil }
