package dns

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/miekg/dns"
)

const (
	maxMessage = 65535
	// maxDatagram is the most that UDP over IPv4 carries.
	maxDatagram = 65507
	maxName     = 255
	maxLabel    = 63
)

// What is wrong with a message that cannot be answered as a question.
var (
	errShort   = errors.New("message is too short or no question")
	errFormat  = errors.New("message is malformed")
	errOpcode  = errors.New("not a question")
	errVersion = errors.New("unknown version of EDNS")
)

// parse reads a question. After an error other than errShort, q holds what an
// answer needs that says so.
func (q *query) parse(b []byte, tcp bool) error {
	*q = query{tcp: tcp, size: plainSize, recursion: q.recursion, compression: q.compression}
	if tcp {
		q.size = maxMessage
	}
	if len(b) < headerLen {
		return errShort
	}
	q.id, q.flags = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	if q.flags&flagQR != 0 {
		return errShort
	}
	if q.flags>>11&0xf != 0 {
		return errOpcode
	}
	if binary.BigEndian.Uint16(b[4:]) != 1 {
		return errFormat
	}
	end := nameEnd(b, headerLen)
	if end < 0 || end+4 > len(b) {
		return errFormat
	}
	q.name, q.question = end-headerLen, b[headerLen:end+4]
	q.qtype = binary.BigEndian.Uint16(b[end:])
	others := int(binary.BigEndian.Uint16(b[6:])) + int(binary.BigEndian.Uint16(b[8:])) + int(binary.BigEndian.Uint16(b[10:]))
	return q.records(b, end+4, others)
}

// records goes through what comes after the question and takes what EDNS says.
func (q *query) records(b []byte, at, n int) error {
	for range n {
		end := skipName(b, at)
		if end < 0 || end+10 > len(b) {
			return errFormat
		}
		length := int(binary.BigEndian.Uint16(b[end+8:]))
		if end+10+length > len(b) {
			return errFormat
		}
		if binary.BigEndian.Uint16(b[end:]) == dns.TypeOPT {
			if q.edns || end != at+1 {
				return errFormat // there is one at most, and it belongs to the root
			}
			q.edns = true
			q.claimed = binary.BigEndian.Uint16(b[end+2:])
			if !q.tcp {
				q.size = min(max(int(q.claimed), plainSize), maxDatagram)
			}
			if b[end+5] != 0 {
				return errVersion
			}
			if !q.options(b[end+10 : end+10+length]) {
				return errFormat
			}
		}
		at = end + 10 + length
	}
	return nil
}

// options takes the client's subnet out of the options of EDNS.
func (q *query) options(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 4 {
			return false
		}
		code, length := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if len(b) < 4+length {
			return false
		}
		if code == dns.EDNS0SUBNET && length >= 4 {
			// The answer has the same one, and holds for every subnet.
			q.subnet = append([]byte(nil), b[4:4+length]...)
			q.subnet[3] = 0
		}
		b = b[4+length:]
	}
	return true
}

// nameEnd returns the index after a name without pointers, or -1.
func nameEnd(b []byte, at int) int {
	begin := at
	for at < len(b) {
		n := int(b[at])
		switch {
		case n == 0:
			return at + 1
		case n > maxLabel, at+1+n-begin >= maxName:
			return -1
		}
		at += 1 + n
	}
	return -1
}

// skipName returns the index after a name that may end in a pointer, or -1.
func skipName(b []byte, at int) int {
	for at < len(b) {
		n := int(b[at])
		switch {
		case n == 0:
			return at + 1
		case n&0xc0 == 0xc0:
			return at + 2
		case n > maxLabel:
			return -1
		}
		at += 1 + n
	}
	return -1
}

// text is the question's name in lower case, with a dot at the end.
func (q *query) text() string {
	if q.lower == "" {
		q.lower = nameText(q.question[:q.name])
	}
	return q.lower
}

// nameText is a name in lower case with a dot at the end. Dots inside labels have
// a backslash before them.
func nameText(wire []byte) string {
	if len(wire) == 1 {
		return "."
	}
	var out strings.Builder
	for i := 0; wire[i] != 0; i += 1 + int(wire[i]) {
		for _, c := range wire[i+1 : i+1+int(wire[i])] {
			if c == '.' || c == '\\' {
				out.WriteByte('\\')
			}
			out.WriteByte(lower(c))
		}
		out.WriteByte('.')
	}
	return out.String()
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// wireName packs a name that ends in a dot. It returns nil for what is none.
func wireName(text string) []byte {
	if text == "." {
		return []byte{0}
	}
	out := make([]byte, 0, len(text)+1)
	for label := range strings.SplitSeq(strings.TrimSuffix(text, "."), ".") {
		if label == "" || len(label) > maxLabel {
			return nil
		}
		out = append(append(out, byte(len(label))), label...) //nolint:gosec // 63 at most
	}
	if out = append(out, 0); len(out) > maxName {
		return nil
	}
	return out
}
