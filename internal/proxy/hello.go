package proxy

import "encoding/binary"

// refusal is why a connection was not routed.
type refusal uint8

const (
	errUnknownName refusal = iota
	errNoName
	errNotTLS
	errMalformed
	errTimeout
	errTooMany
	errClosed // by the client: a port check does no more than that
	refusals  // how many there are
)

// Error is also the label of the reason in metrics.
func (r refusal) Error() string {
	return [refusals]string{
		"unknown_name", "no_name", "not_tls", "malformed", "timeout", "too_many", "closed",
	}[r]
}

// Sizes and numbers of the TLS record and handshake protocols (RFC 8446).
const (
	recordHeaderLen    = 5
	maxRecordLen       = 1 << 14
	typeAlert          = 21
	typeHandshake      = 22
	handshakeHeaderLen = 4
	typeClientHello    = 1
	helloFixedLen      = 2 + 32 // legacy version, random
	extensionSNI       = 0
	nameTypeHost       = 0
	alertFatal         = 2
	alertDecodeError   = 50
	alertUnrecognized  = 112

	// maxHelloLen bounds the bytes taken from a client before it is routed.
	maxHelloLen = 64 << 10
)

// helloScanner tells when all of a ClientHello has arrived. It looks at each
// record once, however slowly they come in and however small they are.
type helloScanner struct {
	next    int // where the next record starts
	records int
	got     int // bytes of the handshake message in the records before next
	header  [handshakeHeaderLen]byte
}

// scan is called with all bytes so far whenever there are more of them. An
// error is always a refusal.
func (s *helloScanner) scan(raw []byte) (done bool, err error) {
	for {
		body, err := s.record(raw[s.next:])
		if err != nil || body == nil {
			return false, err
		}
		if s.got < handshakeHeaderLen {
			copy(s.header[s.got:], body)
		}
		s.got += len(body)
		s.next += recordHeaderLen + len(body)
		s.records++
		switch {
		case s.header[0] != typeClientHello:
			return false, errMalformed
		case s.got < handshakeHeaderLen:
		case s.size() > maxHelloLen:
			return false, errMalformed
		case s.got >= s.size():
			return true, nil
		}
	}
}

// record yields the body of the record that raw starts with, or nil when it is
// not complete. What cannot become one is refused at its first wrong byte.
func (s *helloScanner) record(raw []byte) ([]byte, error) {
	if len(raw) > 0 && raw[0] != typeHandshake || len(raw) > 1 && raw[1] != 3 {
		if s.records == 0 {
			return nil, errNotTLS
		}
		return nil, errMalformed
	}
	if len(raw) < recordHeaderLen {
		return nil, nil
	}
	size := int(binary.BigEndian.Uint16(raw[3:]))
	if size == 0 || size > maxRecordLen {
		return nil, errMalformed
	}
	if len(raw) < recordHeaderLen+size {
		return nil, nil
	}
	return raw[recordHeaderLen : recordHeaderLen+size], nil
}

// size is the length of the handshake message with its header.
func (s *helloScanner) size() int {
	return handshakeHeaderLen + int(binary.BigEndian.Uint32(s.header[:])&0xffffff)
}

// message yields the handshake message once scan has said that it is complete.
// The common one, in one record, is not copied.
func (s *helloScanner) message(raw []byte) []byte {
	if s.records == 1 {
		return raw[recordHeaderLen:][:s.size()]
	}
	whole := make([]byte, 0, s.got)
	for at := 0; at < s.next; {
		size := int(binary.BigEndian.Uint16(raw[at+3:]))
		at += recordHeaderLen
		whole = append(whole, raw[at:at+size]...)
		at += size
	}
	return whole[:s.size()]
}

// serverName appends the server name of a ClientHello, in the form in which
// names are compared. An error is always a refusal.
func serverName(dst, message []byte) ([]byte, error) {
	rest := reader{data: message}
	rest.skip(handshakeHeaderLen + helloFixedLen)
	rest.skipVector8() // session ID
	rest.vector16()    // cipher suites
	rest.skipVector8() // compression methods
	if rest.failed {
		return dst, errMalformed
	}
	if len(rest.data) == 0 {
		return dst, errNoName // extensions may be absent altogether
	}
	extensions := reader{data: rest.vector16()}
	if rest.failed || len(rest.data) != 0 {
		return dst, errMalformed
	}
	var sni []byte
	for len(extensions.data) > 0 {
		kind, body := extensions.uint16(), extensions.vector16()
		if extensions.failed || kind == extensionSNI && sni != nil {
			return dst, errMalformed
		}
		if kind == extensionSNI {
			sni = body
		}
	}
	if sni == nil {
		return dst, errNoName
	}
	return hostName(dst, sni)
}

// hostName appends the one host name in the body of a server_name extension.
func hostName(dst, sni []byte) ([]byte, error) {
	outer := reader{data: sni}
	list := reader{data: outer.vector16()}
	if outer.failed || len(outer.data) != 0 || len(list.data) == 0 {
		return dst, errMalformed
	}
	var host []byte
	for len(list.data) > 0 {
		kind, body := list.uint8(), list.vector16()
		if list.failed || kind == nameTypeHost && (host != nil || len(body) == 0) {
			return dst, errMalformed
		}
		if kind == nameTypeHost {
			host = body
		}
	}
	if host == nil {
		return dst, errNoName
	}
	dst, ok := appendName(dst, host)
	if !ok {
		return dst, errMalformed
	}
	return dst, nil
}

// reader takes integers and vectors off the front of a message. Once a message
// has proved too short it is failed and yields zeros.
type reader struct {
	data   []byte
	failed bool
}

func (r *reader) skip(n int) []byte {
	if n > len(r.data) {
		r.data, r.failed = nil, true
		return nil
	}
	head := r.data[:n:n]
	r.data = r.data[n:]
	return head
}

func (r *reader) uint8() int {
	if b := r.skip(1); b != nil {
		return int(b[0])
	}
	return 0
}

func (r *reader) uint16() int {
	if b := r.skip(2); b != nil {
		return int(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) skipVector8()     { r.skip(r.uint8()) }
func (r *reader) vector16() []byte { return r.skip(r.uint16()) }
