package proxy

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// bulkAfter is how many bytes a direction moves before it may splice.
	bulkAfter = 128 << 10
	// bulkRead is how much one read must yield for the next to be a splice:
	// for small messages copying costs no more, and needs no pipe.
	bulkRead = relayBufLen / 2
	// spliceLen is the most one splice is asked to move.
	spliceLen = 1 << 20
	pipeLen   = 1 << 20
	// maxPipes bounds the file descriptors and kernel memory of readers that do
	// not read; beyond it streams go on copying. A process without privileges
	// may have 64 MiB of pipes.
	maxPipes = 64
	// sparePipes are kept for the next stream.
	sparePipes = 16
)

// flow is one direction of a stream. While it waits for its source it holds
// neither buffer nor pipe.
type flow struct {
	relay   *relay
	count   *atomic.Uint64
	moved   uint64
	lastLen int

	// What fill has taken from the source and drain has yet to pass on: the
	// first n bytes of either.
	buf   *[relayBufLen]byte
	pipe  *pipe
	start int
	n     int
	err   error
}

// copy relays until the source has ended.
func (r *relay) copy(dst, src conn, count *atomic.Uint64) error {
	in, err := rawConn(src)
	if err != nil {
		return err
	}
	out, err := rawConn(dst)
	if err != nil {
		return err
	}
	f := &flow{relay: r, count: count}
	defer f.release()
	fill, drain := f.fill, f.drain
	for {
		if err := in.Read(fill); err != nil {
			return err //nolint:wrapcheck // only its presence counts
		}
		if f.err != nil || f.n == 0 {
			return f.err
		}
		size := f.n
		if err := out.Write(drain); err != nil {
			return err //nolint:wrapcheck // only its presence counts
		}
		if f.err != nil {
			return f.err
		}
		f.moved += uint64(size) //nolint:gosec // never negative
		f.lastLen = size
		f.release()
	}
}

func rawConn(c conn) (syscall.RawConn, error) {
	x, ok := c.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("connection of type %T has no file descriptor", c)
	}
	return x.SyscallConn() //nolint:wrapcheck // only its presence counts
}

// fill takes what the source has; it is called again whenever that may be more
// than nothing.
func (f *flow) fill(fd uintptr) (done bool) {
	if f.moved >= bulkAfter && f.lastLen >= bulkRead {
		if f.pipe = f.relay.pipes.get(); f.pipe != nil {
			f.n, f.err = rawSplice(fd, uintptr(f.pipe.write), spliceLen)
			return f.filled()
		}
	}
	f.buf = f.relay.buffer()
	f.n, f.err = rawRead(fd, f.buf[:])
	return f.filled()
}

func (f *flow) filled() bool {
	f.start = 0
	if f.err == unix.EAGAIN { //nolint:errorlint // straight from the system call
		f.err = nil
		f.release()
		return false
	}
	return true
}

// drain passes on what fill took, as far as the destination takes it.
func (f *flow) drain(fd uintptr) (done bool) {
	for f.n > 0 {
		var n int
		var err error
		if f.pipe != nil {
			n, err = rawSplice(uintptr(f.pipe.read), fd, f.n)
		} else {
			n, err = rawWrite(fd, f.buf[f.start:f.start+f.n])
		}
		if err == unix.EAGAIN { //nolint:errorlint // straight from the system call
			return false
		}
		if err != nil {
			f.err = err
			return true
		}
		f.start += n
		f.n -= n
		f.count.Add(uint64(n)) //nolint:gosec // never negative
	}
	return true
}

// release gives buffer and pipe back.
func (f *flow) release() {
	if f.buf != nil {
		f.relay.buffers.Put(f.buf)
		f.buf = nil
	}
	if f.pipe != nil {
		f.relay.pipes.put(f.pipe, f.n == 0)
		f.pipe = nil
	}
}

// pipe is where spliced bytes stay in the kernel on their way.
type pipe struct{ read, write int }

func (p *pipe) close() {
	_ = unix.Close(p.read)
	_ = unix.Close(p.write)
}

// pipes lends pipes, which are empty.
type pipes struct {
	mu    sync.Mutex
	spare []*pipe
	lent  int
}

// get yields nil when too many are lent or none can be made.
func (p *pipes) get() *pipe {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.spare); n > 0 {
		x := p.spare[n-1]
		p.spare = p.spare[:n-1]
		p.lent++
		return x
	}
	if p.lent >= maxPipes {
		return nil
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil
	}
	// A pipe that stays at its default size moves less at a time, and works.
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeLen)
	p.lent++
	return &pipe{read: fds[0], write: fds[1]}
}

// put takes a pipe back; one that is not empty is of no more use.
func (p *pipes) put(x *pipe, empty bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lent--
	if empty && len(p.spare) < sparePipes {
		p.spare = append(p.spare, x)
		return
	}
	x.close()
}

func (p *pipes) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.spare {
		x.close()
	}
	p.spare = nil
}
