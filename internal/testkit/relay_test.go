package testkit

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// wire is a device in memory.
type wire struct {
	sends  chan []byte
	closed chan struct{}
	begin  time.Time
	got    []string // payload and time of arrival
}

func newWire() *wire {
	return &wire{sends: make(chan []byte), closed: make(chan struct{}), begin: time.Now()}
}

func (w *wire) Read(b []byte) (int, error) {
	select {
	case p := <-w.sends:
		return copy(b, p), nil
	case <-w.closed:
		return 0, io.EOF
	}
}

func (w *wire) Write(b []byte) (int, error) {
	w.got = append(w.got, fmt.Sprintf("%s@%s", b[20:], time.Since(w.begin)))
	return len(b), nil
}

func (w *wire) Close() error {
	close(w.closed)
	return nil
}

// datagram is an IPv4 packet as far as a relay looks at it.
func datagram(to netip.Addr, payload string) []byte {
	b := make([]byte, 20, 20+len(payload))
	b[0] = 0x45
	copy(b[16:], to.AsSlice())
	return append(b, payload...)
}

var (
	hostA = netip.MustParseAddr("198.51.100.1")
	hostB = netip.MustParseAddr("198.51.100.2")
)

// between runs a test with two hosts in regions a and b.
func between(t *testing.T, test func(r *Relay, a, b *wire)) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		r, a, b := NewRelay(1), newWire(), newWire()
		r.Attach("a", a, hostA)
		r.Attach("b", b, hostB)
		test(r, a, b)
		synctest.Wait()
		r.Close()
	})
}

func TestRelayPassesPacketsOn(t *testing.T) {
	between(t, func(r *Relay, a, b *wire) {
		a.sends <- datagram(hostB, "one")
		a.sends <- []byte("no packet")
		a.sends <- datagram(netip.MustParseAddr("198.51.100.3"), "nobody")
		b.sends <- datagram(hostA, "two")
		synctest.Wait()
		if !slices.Equal(b.got, []string{"one@0s"}) || !slices.Equal(a.got, []string{"two@0s"}) {
			t.Errorf("got %v and %v", a.got, b.got)
		}
		if got, want := r.Traffic("a", "b"), (Traffic{Packets: 1, Bytes: 23}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

func TestRelayDelaysOneDirectionAndKeepsItsOrder(t *testing.T) {
	between(t, func(r *Relay, a, b *wire) {
		r.Set("a", "b", Impairment{Delay: 50 * time.Millisecond})
		a.sends <- datagram(hostB, "slow")
		b.sends <- datagram(hostA, "fast")
		synctest.Wait()
		time.Sleep(20 * time.Millisecond)
		r.Set("a", "b", Impairment{})
		a.sends <- datagram(hostB, "behind")
		time.Sleep(time.Second)
		a.sends <- datagram(hostB, "later")
		synctest.Wait()
		if want := []string{"slow@50ms", "behind@50ms", "later@1.02s"}; !slices.Equal(b.got, want) {
			t.Errorf("got %v, want %v", b.got, want)
		}
		if !slices.Equal(a.got, []string{"fast@0s"}) {
			t.Errorf("got %v", a.got)
		}
	})
}

func TestRelayCutsOneDirection(t *testing.T) {
	between(t, func(r *Relay, a, b *wire) {
		r.Set("a", "b", Impairment{Cut: true})
		a.sends <- datagram(hostB, "gone")
		b.sends <- datagram(hostA, "arrives")
		synctest.Wait()
		r.Set("a", "b", Impairment{})
		a.sends <- datagram(hostB, "healed")
		synctest.Wait()
		if !slices.Equal(b.got, []string{"healed@0s"}) || len(a.got) != 1 {
			t.Errorf("got %v and %v", a.got, b.got)
		}
		if lost := r.Traffic("a", "b").Lost; lost != 1 {
			t.Errorf("lost %d", lost)
		}
	})
}

func TestRelayLosesItsShareAndVariesDelay(t *testing.T) {
	run := func() (got []string) {
		between(t, func(r *Relay, a, b *wire) {
			r.Set("a", "b", Impairment{Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.2})
			for range 1000 {
				a.sends <- datagram(hostB, "x")
				time.Sleep(time.Millisecond)
			}
			time.Sleep(time.Second)
			if lost := r.Traffic("a", "b").Lost; lost < 150 || lost > 250 || int(lost)+len(b.got) != 1000 {
				t.Errorf("%d lost, %d arrived", lost, len(b.got))
			}
			got = b.got
		})
		return got
	}
	first := run()
	if second := run(); !slices.Equal(first, second) {
		t.Error("the same seed draws something else")
	}
}

func FuzzDestination(f *testing.F) {
	f.Add(datagram(hostB, "x"))
	f.Add(bytes.Repeat([]byte{0x60}, 40))
	f.Fuzz(func(_ *testing.T, b []byte) { NewRelay(1).destination(b) })
}
