package testkit

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// OpenTUN makes a TUN device, which yields and takes one IP packet a call, in the
// network namespace of the thread that calls it. Closing it removes it.
func OpenTUN(name string) (io.ReadWriteCloser, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open the TUN driver: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("name device %s: %w", name, err)
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make device %s: %w", name, err)
	}
	// Only now: the poller must not see the file before it has a device.
	return os.NewFile(uintptr(fd), name), nil
}
