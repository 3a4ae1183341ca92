package gossip

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// MaxPacket is the size in bytes of the largest packet a connection may carry.
const MaxPacket = 4 << 20

// Frame appends packet to dst in the form in which a connection carries it: its length as four bytes, big-endian, then
// its bytes. The packet must hold at least one byte and at most MaxPacket, or the other side drops the connection.
func Frame(dst, packet []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(packet))) //nolint:gosec // Bounded by MaxPacket.
	return append(dst, packet...)
}

// frameReader splits a connection into packets.
type frameReader struct {
	buf *bufio.Reader
	// idle is called before the wait for a frame, and again before its packet is read.
	idle func() error
}

// next yields the next packet, in memory of its own: the library keeps what it is handed. It yields io.EOF at the end
// of the connection between two frames.
func (r *frameReader) next() ([]byte, error) {
	if err := r.idle(); err != nil {
		return nil, err
	}
	header, err := r.buf.Peek(4)
	if err != nil {
		if len(header) > 0 && err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	size := binary.BigEndian.Uint32(header)
	if size == 0 || size > MaxPacket {
		return nil, fmt.Errorf("frame of %d bytes, want 1 to %d", size, MaxPacket)
	}
	if _, err := r.buf.Discard(4); err != nil {
		return nil, err
	}
	if err := r.idle(); err != nil {
		return nil, err
	}
	packet := make([]byte, size)
	if _, err := io.ReadFull(r.buf, packet); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return packet, nil
}
