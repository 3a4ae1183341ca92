package proxy

import (
	"sync"
	"sync/atomic"
)

// relayBufLen is the size of the buffers of the copying relay.
const relayBufLen = 16 << 10

// relay moves bytes between two connections. Its buffers and pipes are shared
// by all streams of a server.
type relay struct {
	buffers sync.Pool
	pipes   pipes
}

func newRelay() *relay {
	return &relay{buffers: sync.Pool{New: func() any { return new([relayBufLen]byte) }}}
}

func (r *relay) buffer() *[relayBufLen]byte {
	b, _ := r.buffers.Get().(*[relayBufLen]byte)
	return b
}

// close lets go of the pipes once no stream is left.
func (r *relay) close() { r.pipes.close() }

// run relays in both directions until both have ended.
func (r *relay) run(client, backend conn, c *counters) {
	var wg sync.WaitGroup
	wg.Go(func() { r.direct(client, backend, &c.bytesOut) })
	r.direct(backend, client, &c.bytesIn)
	wg.Wait()
}

// direct relays one direction. Its end is passed on and leaves the other
// direction alone; an error ends both, as a reset, so that neither side takes
// what it has for the whole.
func (r *relay) direct(dst, src conn, count *atomic.Uint64) {
	err := r.copy(dst, src, count)
	if err == nil {
		err = dst.CloseWrite()
	}
	if err != nil {
		reset(dst)
		reset(src)
	}
}

// reset closes a connection with a TCP reset where it can.
func reset(c conn) {
	if x, ok := c.(interface{ SetLinger(sec int) error }); ok {
		_ = x.SetLinger(0)
	}
	_ = c.Close()
}
