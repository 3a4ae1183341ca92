package proxy

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below are made without telling the scheduler, which is sound as
// none of them can block: all descriptors are non-blocking. Told, it takes a
// call that lasts 20 µs, as any does that hands packets to a local peer, for one
// that blocks, and moves the other goroutines to another thread.
//
// A pointer becomes a number in the argument list of RawSyscall itself, and
// nowhere else: only there the compiler keeps what it points to where it is.

// result is what a system call yields, as Go has it.
func result(n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func rawRead(fd uintptr, buf []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_READ,
			fd, uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf))) //nolint:gosec // see above
		if errno != unix.EINTR {
			return result(n, errno)
		}
	}
}

func rawWrite(fd uintptr, buf []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_WRITE,
			fd, uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf))) //nolint:gosec // see above
		if errno != unix.EINTR {
			return result(n, errno)
		}
	}
}

func rawSplice(from, to uintptr, size int) (int, error) {
	const flags = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SPLICE, from, 0, to, 0, uintptr(size), flags)
		if errno != unix.EINTR {
			return result(n, errno)
		}
	}
}

func rawShutdown(fd uintptr, how int) error {
	n, _, errno := syscall.RawSyscall(unix.SYS_SHUTDOWN, fd, uintptr(how), 0)
	_, err := result(n, errno)
	return err
}

func rawConnect(fd uintptr, to *unix.RawSockaddrInet6, size uintptr) error {
	n, _, errno := syscall.RawSyscall(unix.SYS_CONNECT,
		fd, uintptr(unsafe.Pointer(to)), size) //nolint:gosec // see above
	_, err := result(n, errno)
	return err
}

func rawAccept(fd uintptr, from *unix.RawSockaddrInet6) (int, error) {
	const flags = unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	size := uint32(unix.SizeofSockaddrInet6)
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4,
			fd, uintptr(unsafe.Pointer(from)), uintptr(unsafe.Pointer(&size)), flags, 0, 0) //nolint:gosec // see above
		if errno != unix.EINTR {
			return result(n, errno)
		}
	}
}
