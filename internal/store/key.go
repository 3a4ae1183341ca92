package store

import (
	"encoding/binary"
	"strings"
)

// Key is what a row is found by. Keys are ordered by byte value.
type Key string

const (
	endByte    = 0x00 // ends a text; stands nowhere else in one
	escapeByte = 0x01 // stands before the stand-in for a byte that has a meaning of its own
)

// Text makes a key of s that delimits itself: none is a proper prefix of
// another, so texts can be concatenated. The order of the strings is kept.
func Text(s string) Key {
	return escape(s) + Key([]byte{endByte})
}

// Uint makes a key of n that keeps the order of numbers: eight bytes, big endian.
func Uint(n uint64) Key {
	return Key(binary.BigEndian.AppendUint64(nil, n))
}

// Join concatenates the [Text] of each part.
func Join(parts ...string) Key {
	size := len(parts)
	for _, p := range parts {
		size += len(p)
	}
	b := make([]byte, 0, size)
	for _, p := range parts {
		b = append(appendEscaped(b, p), endByte)
	}
	return Key(b)
}

func special(s string) bool {
	return strings.IndexByte(s, endByte) >= 0 || strings.IndexByte(s, escapeByte) >= 0
}

// escape rewrites the bytes 0x00 and 0x01, so that 0x00 can end a text. A
// prefix of s becomes a prefix of the result, and the order is kept.
func escape(s string) Key {
	if !special(s) {
		return Key(s)
	}
	return Key(appendEscaped(make([]byte, 0, len(s)+4), s)) // room for a few escapes
}

func appendEscaped(b []byte, s string) []byte {
	if !special(s) {
		return append(b, s...)
	}
	for i := range len(s) {
		if s[i] <= escapeByte {
			b = append(b, escapeByte, s[i]+1)
		} else {
			b = append(b, s[i])
		}
	}
	return b
}

// unescape undoes escape.
func unescape(s string) string {
	if strings.IndexByte(s, escapeByte) < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == escapeByte && i+1 < len(s) {
			i++
			b = append(b, s[i]-1)
		} else {
			b = append(b, s[i])
		}
	}
	return string(b)
}
