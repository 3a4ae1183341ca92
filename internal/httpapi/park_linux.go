package httpapi

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// poller tells of descriptors on which something has happened. It is an epoll
// instance that itself is watched by the runtime's, so that waiting for it takes
// a goroutine but no thread.
type poller struct {
	fd     int
	file   *os.File // owns fd
	raw    syscall.RawConn
	events [256]unix.EpollEvent
	out    [256]happening
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll instance: %w", err)
	}
	// The runtime only watches files that do not block.
	if err = unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("create epoll instance: %w", err)
	}
	file := os.NewFile(uintptr(fd), "epoll")
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("create epoll instance: %w", err)
	}
	return &poller{fd: fd, file: file, raw: raw}, nil
}

// watch has a descriptor watched until it is forgotten or closed: whenever bytes
// have come, and when its peer is gone.
func (p *poller) watch(fd int32, id uint64) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(id), Pad: int32(id >> 32)} //nolint:gosec // halves of an id
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, int(fd), &event); err != nil {
		return fmt.Errorf("watch descriptor: %w", err)
	}
	return nil
}

func (p *poller) forget(fd int32) {
	_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, int(fd), nil) // it is watched
}

// wait returns what has happened since. It is valid until wait is called again,
// which fails once the poller is closed.
func (p *poller) wait() ([]happening, error) {
	var n int
	var failed error
	err := p.raw.Read(func(fd uintptr) bool {
		n, failed = unix.EpollWait(int(fd), p.events[:], 0)
		return n > 0 || failed != nil && !errors.Is(failed, unix.EINTR)
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("wait for events: %w", err)
	}
	for i, e := range p.events[:n] {
		p.out[i] = happening{
			id:     uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32, //nolint:gosec // halves of an id
			hungUp: e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0,
		}
	}
	return p.out[:n], nil
}

func (p *poller) close() { _ = p.file.Close() } // nothing is written to it

// sendNow writes as much as the socket takes without blocking.
func sendNow(fd int32, head, body []byte) (int, error) {
	for {
		n, err := unix.SendmsgBuffers(int(fd), [][]byte{head, body}, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, unix.EAGAIN):
			return 0, nil
		case !errors.Is(err, unix.EINTR):
			return 0, fmt.Errorf("send: %w", err)
		}
	}
}

// receiveNow reads what has come. It returns 0 at the end of the connection, and
// -1 when nothing has come.
func receiveNow(fd int32, p []byte) (int, error) {
	for {
		n, _, err := unix.Recvfrom(int(fd), p, unix.MSG_DONTWAIT)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, unix.EAGAIN):
			return -1, nil
		case !errors.Is(err, unix.EINTR):
			return 0, fmt.Errorf("receive: %w", err)
		}
	}
}
