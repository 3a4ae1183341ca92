package rpc

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// This file walks msgpack without decoding it: to cut one value out of a stream
// under a size limit before anything is allocated for it, and to merge or split
// the flat maps in which the protocol carries header and body side by side.

// Errors of the walk.
var (
	errTruncated = errors.New("msgpack: value is cut short")
	errTooLarge  = errors.New("msgpack: value is over the size limit")
	errNotMap    = errors.New("msgpack: a map is expected")
	errType      = errors.New("msgpack: value has an unexpected type")
)

// shape tells of the value that begins with a tag byte: how many bytes of
// payload follow (for strings and extensions: how many bytes of length, in
// sizeLen), and how many values it contains.
type shape struct {
	fixed   int  // payload bytes that follow the tag
	sizeLen int  // bytes of a length field that follow the tag
	items   int  // values inside, when the tag itself says so
	list    bool // the length field counts values
	double  bool // the length field counts pairs
	ext     bool // one more byte follows the length field
	bad     bool
}

func shapeOf(tag byte) shape { //nolint:cyclop // A table.
	switch {
	case tag <= 0x7f || tag >= 0xe0 || tag == 0xc0 || tag == 0xc2 || tag == 0xc3:
		return shape{}
	case tag <= 0x8f:
		return shape{items: 2 * int(tag&0x0f)}
	case tag <= 0x9f:
		return shape{items: int(tag & 0x0f)}
	case tag <= 0xbf:
		return shape{fixed: int(tag & 0x1f)}
	}
	switch tag {
	case 0xc4, 0xd9:
		return shape{sizeLen: 1}
	case 0xc5, 0xda:
		return shape{sizeLen: 2}
	case 0xc6, 0xdb:
		return shape{sizeLen: 4}
	case 0xc7:
		return shape{sizeLen: 1, ext: true}
	case 0xc8:
		return shape{sizeLen: 2, ext: true}
	case 0xc9:
		return shape{sizeLen: 4, ext: true}
	case 0xcc, 0xd0:
		return shape{fixed: 1}
	case 0xcd, 0xd1:
		return shape{fixed: 2}
	case 0xca, 0xce, 0xd2:
		return shape{fixed: 4}
	case 0xcb, 0xcf, 0xd3:
		return shape{fixed: 8}
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8:
		return shape{fixed: 1 + 1<<(tag-0xd4)}
	case 0xdc:
		return shape{sizeLen: 2, list: true}
	case 0xdd:
		return shape{sizeLen: 4, list: true}
	case 0xde:
		return shape{sizeLen: 2, list: true, double: true}
	case 0xdf:
		return shape{sizeLen: 4, list: true, double: true}
	}
	return shape{bad: true}
}

// length reads a big-endian length field of 1, 2 or 4 bytes.
func length(b []byte) int {
	switch len(b) {
	case 1:
		return int(b[0])
	case 2:
		return int(binary.BigEndian.Uint16(b))
	default:
		return int(binary.BigEndian.Uint32(b))
	}
}

// after says, once the length field is known, how many payload bytes and how
// many values follow.
func (s shape) after(n int) (payload, items int) {
	switch {
	case s.double:
		return 0, 2 * n
	case s.list:
		return 0, n
	case s.ext:
		return n + 1, 0
	}
	return n, 0
}

// ReadValue appends the next whole value of r to buf. It reserves memory only as
// bytes arrive, whatever lengths the value claims, and fails once the value is
// over limit bytes.
func ReadValue(r *bufio.Reader, buf []byte, limit int) ([]byte, error) {
	start := len(buf)
	for todo := 1; todo > 0; todo-- {
		tag, err := r.ReadByte()
		if err != nil {
			if len(buf) > start && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return buf, err //nolint:wrapcheck // io.EOF between values must stay bare
		}
		s := shapeOf(tag)
		if s.bad {
			return buf, fmt.Errorf("%w: tag 0x%02x", errType, tag)
		}
		buf = append(buf, tag)
		payload, items := s.fixed, s.items
		if s.sizeLen > 0 {
			at := len(buf)
			if buf, err = readBytes(r, buf, s.sizeLen); err != nil {
				return buf, err
			}
			payload, items = s.after(length(buf[at:]))
		}
		if items > limit || payload > limit || len(buf)-start+payload > limit || todo+items > limit {
			return buf, errTooLarge
		}
		if buf, err = readBytes(r, buf, payload); err != nil {
			return buf, err
		}
		todo += items
	}
	return buf, nil
}

// readBytes appends n bytes of r to buf, growing it as they arrive.
func readBytes(r *bufio.Reader, buf []byte, n int) ([]byte, error) {
	const step = 64 << 10
	for n > 0 {
		part := min(n, step)
		at := len(buf)
		buf = append(buf, make([]byte, part)...)
		if _, err := io.ReadFull(r, buf[at:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return buf[:at], err //nolint:wrapcheck // read errors are told apart by the caller
		}
		n -= part
	}
	return buf, nil
}

// skip returns what follows the first value of b.
func skip(b []byte) ([]byte, error) {
	for todo := 1; todo > 0; todo-- {
		if len(b) == 0 {
			return nil, errTruncated
		}
		s := shapeOf(b[0])
		if s.bad {
			return nil, fmt.Errorf("%w: tag 0x%02x", errType, b[0])
		}
		b = b[1:]
		payload, items := s.fixed, s.items
		if s.sizeLen > 0 {
			if len(b) < s.sizeLen {
				return nil, errTruncated
			}
			payload, items = s.after(length(b[:s.sizeLen]))
			b = b[s.sizeLen:]
		}
		if payload > len(b) || items > len(b) {
			return nil, errTruncated
		}
		b = b[payload:]
		todo += items
	}
	return b, nil
}

// mapLen reads the head of a map: its number of pairs and what follows. A nil
// counts as an empty map. A number that the bytes cannot hold is refused, so that
// it is safe to reserve memory by it.
func mapLen(b []byte) (n int, rest []byte, err error) {
	if len(b) == 0 {
		return 0, nil, errTruncated
	}
	switch tag := b[0]; {
	case tag == 0xc0:
		rest = b[1:]
	case tag >= 0x80 && tag <= 0x8f:
		n, rest = int(tag&0x0f), b[1:]
	case tag == 0xde && len(b) >= 3:
		n, rest = length(b[1:3]), b[3:]
	case tag == 0xdf && len(b) >= 5:
		n, rest = length(b[1:5]), b[5:]
	default:
		return 0, nil, errNotMap
	}
	if 2*n > len(rest) {
		return 0, nil, errTruncated
	}
	return n, rest, nil
}

// text reads a string or byte value and returns what follows.
func text(b []byte) (string, []byte, error) {
	raw, rest, err := rawText(b)
	return string(raw), rest, err
}

func rawText(b []byte) (raw, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, errTruncated
	}
	tag := b[0]
	s := shapeOf(tag)
	switch {
	case tag == 0xc0:
		return nil, b[1:], nil
	case tag >= 0xa0 && tag <= 0xbf:
		b = b[1:]
		if s.fixed > len(b) {
			return nil, nil, errTruncated
		}
		return b[:s.fixed], b[s.fixed:], nil
	case s.sizeLen > 0 && !s.list && !s.ext:
		if len(b) < 1+s.sizeLen {
			return nil, nil, errTruncated
		}
		n := length(b[1 : 1+s.sizeLen])
		b = b[1+s.sizeLen:]
		if n > len(b) {
			return nil, nil, errTruncated
		}
		return b[:n], b[n:], nil
	}
	return nil, nil, errType
}

// integer reads an integer of any width, signed or not.
func integer(b []byte) (int64, error) {
	if len(b) == 0 {
		return 0, errTruncated
	}
	tag := b[0]
	s := shapeOf(tag)
	b = b[1:]
	if s.fixed > len(b) {
		return 0, errTruncated
	}
	switch {
	case tag <= 0x7f:
		return int64(tag), nil
	case tag >= 0xe0:
		return int64(int8(tag)), nil
	}
	switch tag {
	case 0xc0:
		return 0, nil
	case 0xcc:
		return int64(b[0]), nil
	case 0xcd:
		return int64(binary.BigEndian.Uint16(b)), nil
	case 0xce:
		return int64(binary.BigEndian.Uint32(b)), nil
	case 0xcf:
		n := min(binary.BigEndian.Uint64(b), math.MaxInt64)
		return int64(n), nil
	case 0xd0:
		return int64(int8(b[0])), nil
	case 0xd1:
		return int64(int16(binary.BigEndian.Uint16(b))), nil
	case 0xd2:
		return int64(int32(binary.BigEndian.Uint32(b))), nil
	case 0xd3:
		return int64(binary.BigEndian.Uint64(b)), nil
	}
	return 0, errType
}

// boolean reads a bool.
func boolean(b []byte) (bool, error) {
	if len(b) == 0 {
		return false, errTruncated
	}
	switch b[0] {
	case 0xc2, 0xc0:
		return false, nil
	case 0xc3:
		return true, nil
	}
	return false, errType
}

func appendMapLen(b []byte, n int) []byte {
	if n < 16 {
		return append(b, 0x80|byte(n))
	}
	return append(b, 0xde, byte(n>>8), byte(n))
}

func appendText(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		b = append(b, 0xa0|byte(n))
	case n <= math.MaxUint16:
		b = append(b, 0xda, byte(n>>8), byte(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
	}
	return append(b, s...)
}

func appendInt(b []byte, n int64) []byte {
	if n < 0 {
		return appendNegative(b, n)
	}
	return appendUint(b, uint64(n))
}

func appendUint(b []byte, n uint64) []byte {
	switch {
	case n <= 0x7f:
		return append(b, byte(n))
	case n <= math.MaxUint8:
		return append(b, 0xcc, byte(n))
	case n <= math.MaxUint16:
		return append(b, 0xcd, byte(n>>8), byte(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xcf), n)
}

func appendNegative(b []byte, n int64) []byte {
	switch {
	case n >= -32:
		return append(b, byte(n))
	case n >= math.MinInt8:
		return append(b, 0xd0, byte(n))
	case n >= math.MinInt16:
		return append(b, 0xd1, byte(n>>8), byte(n))
	case n >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(b, 0xd2), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(n))
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0xc3)
	}
	return append(b, 0xc2)
}
