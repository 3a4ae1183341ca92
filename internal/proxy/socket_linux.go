package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is a TCP connection made by system calls of our own: the standard
// library makes some fifteen more for each connection relayed, for addresses
// and options that are not needed or that sockets inherit from their listener.
type socket struct {
	*os.File

	raw syscall.RawConn
}

// newSocket takes over a file descriptor, which does not block.
func newSocket(fd int) (*socket, error) {
	f := os.NewFile(uintptr(fd), "")
	raw, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("new socket: %w", err)
	}
	return &socket{File: f, raw: raw}, nil
}

func (s *socket) SyscallConn() (syscall.RawConn, error) { return s.raw, nil }

func (s *socket) Read(buf []byte) (n int, err error) {
	closed := s.raw.Read(func(fd uintptr) bool {
		n, err = rawRead(fd, buf)
		return !errors.Is(err, unix.EAGAIN)
	})
	if err == nil && n == 0 {
		err = io.EOF
	}
	if closed != nil {
		err = closed
	}
	return n, err
}

func (s *socket) Write(buf []byte) (n int, err error) {
	closed := s.raw.Write(func(fd uintptr) bool {
		for err = nil; n < len(buf) && err == nil; {
			var more int
			more, err = rawWrite(fd, buf[n:])
			n += more
		}
		return !errors.Is(err, unix.EAGAIN)
	})
	if closed != nil {
		err = closed
	}
	return n, err
}

func (s *socket) CloseWrite() error {
	return s.control(func(fd int) error { return rawShutdown(uintptr(fd), unix.SHUT_WR) })
}

func (s *socket) SetLinger(sec int) error {
	return s.control(func(fd int) error {
		return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: int32(sec)}) //nolint:gosec // seconds
	})
}

func (s *socket) control(call func(fd int) error) error {
	var err error
	if closed := s.raw.Control(func(fd uintptr) { err = call(int(fd)) }); closed != nil {
		return closed //nolint:wrapcheck // only its presence counts
	}
	return err
}

// setOptions sets what every connection wants, and what those accepted inherit.
func setOptions(fd int) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepAlive.Idle/time.Second)),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepAlive.Interval/time.Second)),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
	)
}

// socketListener accepts on a duplicate of a listener's socket: the listener
// itself lends its own only to look at.
type socketListener struct {
	*socket

	origin net.Listener
}

func newListener(ln net.Listener) (listener, error) {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return plainListener{ln}, nil
	}
	f, err := tcp.File()
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller names the listener
	}
	raw, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return nil, err //nolint:wrapcheck // the caller names the listener
	}
	l := &socketListener{&socket{f, raw}, ln}
	if err := l.control(setOptions); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("set options: %w", err)
	}
	return l, nil
}

// Close closes the listener and its duplicate, as only both end the listening.
func (l *socketListener) Close() error {
	return errors.Join(l.socket.Close(), l.origin.Close())
}

func (l *socketListener) Accept() (conn, netip.Addr, error) {
	var fd int
	var from unix.RawSockaddrInet6 // has room for either family
	var err error
	closed := l.raw.Read(func(ln uintptr) bool {
		fd, err = rawAccept(ln, &from)
		return !errors.Is(err, unix.EAGAIN)
	})
	if err = errors.Join(closed, err); err != nil {
		return nil, netip.Addr{}, err
	}
	s, err := newSocket(fd)
	return s, fromSockaddr(&from), err
}

// fromSockaddr yields the IP address of a client.
func fromSockaddr(from *unix.RawSockaddrInet6) netip.Addr {
	if from.Family == unix.AF_INET {
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(from)).Addr) //nolint:gosec // both forms of a sockaddr
	}
	return netip.AddrFrom16(from.Addr).Unmap()
}

// toSockaddr yields the form of an address for connect, and its length.
func toSockaddr(ip netip.AddrPort) (*unix.RawSockaddrInet6, uintptr) {
	to := &unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: ip.Addr().As16()}
	size := uintptr(unix.SizeofSockaddrInet6)
	if addr := ip.Addr().Unmap(); addr.Is4() {
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(to)) = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: addr.As4()} //nolint:gosec // both forms of a sockaddr
		size = unix.SizeofSockaddrInet4
	}
	// The port stands at the same place in both, in network order.
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&to.Port))[:], ip.Port()) //nolint:gosec // both forms of a sockaddr
	return to, size
}

// dialTCP dials an IP address without the detours of the standard library. Host
// names, and addresses with a zone, go there.
func dialTCP(ctx context.Context, addr string, timeout time.Duration) (conn, error) {
	ip, err := netip.ParseAddrPort(addr)
	if err != nil || ip.Addr().Zone() != "" {
		return dialPlain(ctx, addr, timeout)
	}
	to, size := toSockaddr(ip)
	fd, err := unix.Socket(int(to.Family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := setOptions(fd); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("set options: %w", err)
	}
	connect := func(fd uintptr) error { return rawConnect(fd, to, size) }
	if err := connect(uintptr(fd)); err != nil && !inProgress(err) {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	s, err := newSocket(fd)
	if err != nil {
		return nil, err
	}
	if err := s.waitConnected(ctx, connect, timeout); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func inProgress(err error) bool {
	return errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.EALREADY) || errors.Is(err, unix.EINTR)
}

// waitConnected asks by a second connect, which tells how the first one ended.
func (s *socket) waitConnected(ctx context.Context, connect func(fd uintptr) error, timeout time.Duration) error {
	var err error
	ask := func(fd uintptr) { err = connect(fd) }
	if closed := s.raw.Control(ask); closed != nil {
		return closed //nolint:wrapcheck // the caller names the address
	}
	if inProgress(err) {
		if err := s.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return err //nolint:wrapcheck // the caller names the address
		}
		stop := context.AfterFunc(ctx, func() { _ = s.SetWriteDeadline(time.Unix(1, 0)) })
		late := s.raw.Write(func(fd uintptr) bool {
			ask(fd)
			return !inProgress(err)
		})
		if !stop() {
			return ctx.Err() //nolint:wrapcheck // the caller names the address
		}
		if late != nil {
			return late //nolint:wrapcheck // the caller names the address
		}
		if err := s.SetWriteDeadline(time.Time{}); err != nil {
			return err //nolint:wrapcheck // the caller names the address
		}
	}
	if err != nil && !errors.Is(err, unix.EISCONN) {
		return os.NewSyscallError("connect", err)
	}
	return nil
}
