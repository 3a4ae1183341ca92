package testkit

import (
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Impairment is what happens to the packets from one region to another one.
type Impairment struct {
	Cut    bool          // nothing arrives
	Delay  time.Duration // of each packet
	Jitter time.Duration // at most so much more, drawn for each packet
	Loss   float64       // share of the packets that do not arrive, 0 to 1
}

// Traffic counts what came from one region for another one.
type Traffic struct {
	Packets, Bytes uint64 // that were passed on
	Lost           uint64 // packets that were not
}

// Relay is a network between regions in this process: it passes IPv4 packets from
// the device of one host to that of another one, and can delay, lose and cut them
// by pair of regions and direction, where the kernel has nothing for that. Packets
// of one direction keep their order.
type Relay struct {
	rand    *rand.Rand
	done    chan struct{}
	running sync.WaitGroup

	mu      sync.Mutex
	devices []io.Closer
	hosts   map[netip.Addr]*host
	paths   map[[2]string]*path
}

type host struct {
	region string
	device io.Writer
}

// NewRelay returns a relay without hosts. The same seed draws the same losses and
// jitter for the same packets.
func NewRelay(seed uint64) *Relay {
	return &Relay{
		rand: rand.New(rand.NewPCG(seed, seed)), //nolint:gosec // repeatable by design
		done: make(chan struct{}), hosts: map[netip.Addr]*host{}, paths: map[[2]string]*path{},
	}
}

// Attach adds a host of a region: device yields one packet a Read, and takes one a
// Write. It is closed with the relay.
func (r *Relay) Attach(region string, device io.ReadWriteCloser, addrs ...netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.devices = append(r.devices, device)
	for _, addr := range addrs {
		r.hosts[addr] = &host{region: region, device: device}
	}
	r.running.Go(func() { r.read(region, device) })
}

// Set impairs the packets from one region to another one, from now on.
func (r *Relay) Set(from, to string, i Impairment) {
	p := r.path(from, to)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.impairment = i
}

// Traffic tells what went from one region to another one so far.
func (r *Relay) Traffic(from, to string) Traffic {
	p := r.path(from, to)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.traffic
}

// Close closes all devices and waits until nothing is passed on any more.
func (r *Relay) Close() {
	close(r.done)
	r.mu.Lock()
	devices := slices.Clone(r.devices)
	r.mu.Unlock()
	for _, d := range devices {
		_ = d.Close() // its reader ends
	}
	r.running.Wait()
}

// read passes on what a host sends until its device is closed.
func (r *Relay) read(region string, device io.Reader) {
	buf := make([]byte, 1<<16)
	for {
		n, err := device.Read(buf)
		if err != nil {
			return
		}
		to := r.destination(buf[:n])
		if to == nil {
			continue
		}
		r.path(region, to.region).pass(to.device, buf[:n])
	}
}

// destination is the host that an IPv4 packet is for, or nil.
func (r *Relay) destination(packet []byte) *host {
	const header, version, at = 20, 4, 16
	if len(packet) < header || packet[0]>>4 != version {
		return nil
	}
	addr := netip.AddrFrom4([4]byte(packet[at:header]))
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hosts[addr]
}

// path is the way from one region to another one, made when it is first used.
func (r *Relay) path(from, to string) *path {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.paths[[2]string{from, to}]
	if p == nil {
		p = &path{rand: rand.New(rand.NewPCG(r.rand.Uint64(), r.rand.Uint64())), wake: make(chan struct{}, 1)} //nolint:gosec // repeatable by design
		r.paths[[2]string{from, to}] = p
		r.running.Go(func() { p.run(r.done) })
	}
	return p
}

// path is one direction between two regions.
type path struct {
	wake chan struct{} // holds an element when the queue is no longer empty

	mu         sync.Mutex
	rand       *rand.Rand
	impairment Impairment
	traffic    Traffic
	last       time.Time // when the packet that was admitted last is due
	queue      []packet  // in the order in which they are due
	free       [][]byte
}

type packet struct {
	due     time.Time
	device  io.Writer
	content []byte
}

// admit tells whether a packet arrives and, if so, when. The caller holds p.mu.
func (p *path) admit(now time.Time) (due time.Time, ok bool) {
	i := p.impairment
	if i.Cut || i.Loss > 0 && p.rand.Float64() < i.Loss {
		return time.Time{}, false
	}
	due = now.Add(i.Delay)
	if i.Jitter > 0 {
		due = due.Add(time.Duration(p.rand.Int64N(int64(i.Jitter))))
	}
	if due.Before(p.last) {
		due = p.last // it would overtake
	}
	p.last = due
	return due, true
}

// pass writes a packet to a device at once when nothing delays it, and else
// leaves a copy to run.
func (p *path) pass(device io.Writer, content []byte) {
	now := time.Now()
	p.mu.Lock()
	due, ok := p.admit(now)
	switch {
	case !ok:
		p.traffic.Lost++
		p.mu.Unlock()
		return
	case !due.After(now) && len(p.queue) == 0:
		p.count(content)
		p.mu.Unlock()
		_, _ = device.Write(content) // a host that is gone receives nothing
		return
	}
	var buf []byte
	if n := len(p.free); n > 0 {
		buf, p.free = p.free[n-1], p.free[:n-1]
	}
	p.queue = append(p.queue, packet{due: due, device: device, content: append(buf[:0], content...)})
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default: // it is told already
	}
}

func (p *path) count(content []byte) {
	p.traffic.Packets++
	p.traffic.Bytes += uint64(len(content))
}

// run writes packets when they are due, until done.
func (p *path) run(done <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-done:
			return
		case <-p.wake:
		case <-timer.C:
		}
		for next, ok := p.head(timer); ok; next, ok = p.head(timer) {
			_, _ = next.device.Write(next.content) // a host that is gone receives nothing
			p.took(next)
		}
	}
}

// head is the first packet of the queue if it is due; otherwise the timer is set
// for it.
func (p *path) head(timer *time.Timer) (packet, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		return packet{}, false
	}
	next := p.queue[0]
	if wait := time.Until(next.due); wait > 0 {
		timer.Reset(wait)
		return packet{}, false
	}
	return next, true
}

// took removes the first packet, which was written. It stood in the queue until
// then so that none overtook it.
func (p *path) took(first packet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count(first.content)
	p.queue = slices.Delete(p.queue, 0, 1)
	p.free = append(p.free, first.content)
}
