//go:build !linux

package proxy

import (
	"errors"
	"io"
	"sync/atomic"
)

// pipes are used on Linux only.
type pipes struct{}

func (pipes) close() {}

// copy relays until the source has ended.
func (r *relay) copy(dst, src conn, count *atomic.Uint64) error {
	buf := r.buffer()
	defer r.buffers.Put(buf)
	for {
		n, err := src.Read(buf[:])
		if n > 0 {
			written, err := dst.Write(buf[:n])
			count.Add(uint64(written)) //nolint:gosec // never negative
			if err != nil {
				return err //nolint:wrapcheck // only its presence counts
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err //nolint:wrapcheck // only its presence counts
		}
	}
}
