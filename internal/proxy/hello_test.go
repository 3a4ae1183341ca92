package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// inRecords cuts the handshake message in raw, which is one record, into
// records of so many bytes.
func inRecords(raw []byte, size int) []byte {
	var out []byte
	for body := message(raw); len(body) > 0; {
		n := min(size, len(body))
		out = append(out, typeHandshake, 3, 1)
		out = binary.BigEndian.AppendUint16(out, uint16(n))
		out = append(out, body[:n]...)
		body = body[n:]
	}
	return out
}

// message joins the bodies of all records.
func message(raw []byte) []byte {
	var out []byte
	for len(raw) >= recordHeaderLen {
		n := min(recordHeaderLen+int(binary.BigEndian.Uint16(raw[3:])), len(raw))
		out = append(out, raw[recordHeaderLen:n]...)
		raw = raw[n:]
	}
	return out
}

// padded is a hello with a padding extension that makes its message longer by
// so many bytes, in records of the largest size.
func padded(t testing.TB, name string, n int) []byte {
	t.Helper()
	return inRecords(pad(message(helloFor(t, name, tls.VersionTLS13)), n), maxRecordLen)
}

// pad returns one oversized record, of which only inRecords makes sense.
func pad(m []byte, n int) []byte {
	m = bytes.Clone(m)
	at := handshakeHeaderLen + helloFixedLen
	at += 1 + int(m[at])                                // session ID
	at += 2 + int(binary.BigEndian.Uint16(m[at:]))      // cipher suites
	at += 1 + int(m[at])                                // compression methods
	size := binary.BigEndian.Uint16(m[at:]) + uint16(n) // extensions
	binary.BigEndian.PutUint16(m[at:], size)
	m = binary.BigEndian.AppendUint16(m, 21)
	m = binary.BigEndian.AppendUint16(m, uint16(n-4))
	m = append(m, make([]byte, n-4)...)
	binary.BigEndian.PutUint32(m, typeClientHello<<24|uint32(len(m)-handshakeHeaderLen))
	var out []byte
	for len(m) > 0 {
		k := min(len(m), maxRecordLen)
		out = append(out, typeHandshake, 3, 1)
		out = binary.BigEndian.AppendUint16(out, uint16(k))
		out = append(out, m[:k]...)
		m = m[k:]
	}
	return out
}

// parse feeds raw to the parser in pieces of so many bytes.
func parse(raw []byte, step int) (string, error) {
	var s helloScanner
	for n := 0; n < len(raw); {
		n = min(n+step, len(raw))
		done, err := s.scan(raw[:n])
		if err != nil {
			return "", err
		}
		if done {
			name, err := serverName(nil, s.message(raw[:n]))
			return string(name), err
		}
	}
	return "", errUnfinished
}

var errUnfinished = errors.New("unfinished")

func TestServerNameIsFound(t *testing.T) {
	hello := helloFor(t, "Node-1.server.dc1.consul", tls.VersionTLS13)
	old := helloFor(t, "Node-1.server.dc1.consul", tls.VersionTLS12)
	for name, raw := range map[string][]byte{
		"one record":           hello,
		"TLS 1.2":              old,
		"early data behind it": append(bytes.Clone(hello), "\x14\x03\x03\x00\x01\x01\x17\x03\x03..."...),
		"records of 1":         inRecords(hello, 1),
		"records of 3":         inRecords(hello, 3),
		"records of 500":       inRecords(hello, 500),
		"20 KiB":               padded(t, "Node-1.server.dc1.consul", 20<<10),
		"GREASE extension":     withExtension(hello, 0x2a2a, []byte{0}),
	} {
		for _, step := range []int{1, 7, 1460, len(raw)} {
			got, err := parse(raw, step)
			if want := "node-1.server.dc1.consul"; got != want || err != nil {
				t.Errorf("%s, %d at a time: got %q, %v, want %q", name, step, got, err, want)
			}
		}
	}
}

// withExtension puts one more extension behind the others.
func withExtension(raw []byte, kind uint16, body []byte) []byte {
	m := message(raw)
	at := handshakeHeaderLen + helloFixedLen
	at += 1 + int(m[at])
	at += 2 + int(binary.BigEndian.Uint16(m[at:]))
	at += 1 + int(m[at])
	binary.BigEndian.PutUint16(m[at:], binary.BigEndian.Uint16(m[at:])+uint16(4+len(body)))
	m = binary.BigEndian.AppendUint16(m, kind)
	m = binary.BigEndian.AppendUint16(m, uint16(len(body)))
	m = append(m, body...)
	binary.BigEndian.PutUint32(m, typeClientHello<<24|uint32(len(m)-handshakeHeaderLen))
	out := binary.BigEndian.AppendUint16([]byte{typeHandshake, 3, 1}, uint16(len(m)))
	return append(out, m...)
}

// sni is the body of a server_name extension with these names.
func sni(names ...string) []byte {
	var list []byte
	for _, name := range names {
		list = append(list, nameTypeHost)
		list = binary.BigEndian.AppendUint16(list, uint16(len(name)))
		list = append(list, name...)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(list))), list...)
}

func TestBadHellosAreRefused(t *testing.T) {
	named := helloFor(t, "a.consul", tls.VersionTLS13)
	bare := helloFor(t, "127.0.0.1", tls.VersionTLS13)
	for name, c := range map[string]struct {
		raw  []byte
		want refusal
	}{
		"no name":             {bare, errNoName},
		"no extensions":       {withoutExtensions(bare), errNoName},
		"only another type":   {withExtension(bare, extensionSNI, []byte{0, 4, 9, 0, 1, 'a'}), errNoName},
		"name twice":          {withExtension(named, extensionSNI, sni("a.consul")), errMalformed},
		"two names":           {withExtension(bare, extensionSNI, sni("a.consul", "b.consul")), errMalformed},
		"empty name":          {withExtension(bare, extensionSNI, sni("")), errMalformed},
		"only a dot":          {withExtension(bare, extensionSNI, sni(".")), errMalformed},
		"empty list":          {withExtension(bare, extensionSNI, sni()), errMalformed},
		"bytes behind list":   {withExtension(bare, extensionSNI, append(sni("a"), 0)), errMalformed},
		"space":               {withExtension(bare, extensionSNI, sni("a b")), errMalformed},
		"NUL":                 {withExtension(bare, extensionSNI, sni("a\x00.consul")), errMalformed},
		"wildcard":            {withExtension(bare, extensionSNI, sni("*.consul")), errMalformed},
		"IPv6 address":        {withExtension(bare, extensionSNI, sni("::1")), errMalformed},
		"long name":           {withExtension(bare, extensionSNI, sni(strings.Repeat("a.", 130))), errMalformed},
		"another message":     {[]byte("\x16\x03\x01\x00\x04\x02\x00\x00\x00"), errMalformed},
		"empty record":        {[]byte("\x16\x03\x01\x00\x00"), errMalformed},
		"record too long":     {[]byte("\x16\x03\x01\x40\x01"), errMalformed},
		"message too long":    {[]byte("\x16\x03\x01\x00\x04\x01\x01\x00\x00"), errMalformed},
		"alert in the middle": {append(inRecords(named, 100)[:105], "\x15\x03\x01\x00\x02\x01\x00"...), errMalformed},
		"HTTP":                {[]byte("GET / HTTP/1.1\r\n"), errNotTLS},
		"SSL 2":               {[]byte{0x80, 0x2e, 1, 0, 2}, errNotTLS},
	} {
		for _, step := range []int{1, len(c.raw)} {
			if got, err := parse(c.raw, step); !errors.Is(err, c.want) {
				t.Errorf("%s, %d at a time: got %q, %v, want %v", name, step, got, err, c.want)
			}
		}
	}
}

func withoutExtensions(raw []byte) []byte {
	m := message(raw)
	at := handshakeHeaderLen + helloFixedLen
	at += 1 + int(m[at])
	at += 2 + int(binary.BigEndian.Uint16(m[at:]))
	at += 1 + int(m[at])
	m = m[:at]
	binary.BigEndian.PutUint32(m, typeClientHello<<24|uint32(len(m)-handshakeHeaderLen))
	out := binary.BigEndian.AppendUint16([]byte{typeHandshake, 3, 1}, uint16(len(m)))
	return append(out, m...)
}

func TestParsingAllocatesNothing(t *testing.T) {
	raw := helloFor(t, "a.server.dc1.consul", tls.VersionTLS13)
	routes := table1(t, Route{Name: "a", Match: "*.dc1.consul"})
	if n := testing.AllocsPerRun(100, func() {
		var s helloScanner
		if done, err := s.scan(raw); !done || err != nil {
			t.Fatal(done, err)
		}
		var space [maxNameLen]byte
		name, err := serverName(space[:0], s.message(raw))
		if _, ok := routes.find(name); !ok || err != nil {
			t.Fatal(string(name), err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// bytesConn yields bytes and swallows what is written.
type bytesConn struct {
	net.Conn

	in *bytes.Reader
}

func (c bytesConn) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c bytesConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c bytesConn) Close() error                     { return nil }
func (c bytesConn) SetDeadline(time.Time) error      { return nil }
func (c bytesConn) SetWriteDeadline(time.Time) error { return nil }

// viaStandardLibrary is the server name crypto/tls finds, if it takes the hello
// at all.
func viaStandardLibrary(raw []byte) (name string, ok bool) {
	stop := errors.New("enough")
	_ = tls.Server(bytesConn{in: bytes.NewReader(raw)}, &tls.Config{
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			name, ok = h.ServerName, true
			return nil, stop
		},
	}).HandshakeContext(context.Background())
	return name, ok
}

// otherVersion tells of records that do not say version 3.x, which crypto/tls
// takes and this parser does not.
func otherVersion(raw []byte) bool {
	for len(raw) >= recordHeaderLen {
		if raw[1] != 3 {
			return true
		}
		raw = raw[min(recordHeaderLen+int(binary.BigEndian.Uint16(raw[3:])), len(raw)):]
	}
	return false
}

func FuzzClientHello(f *testing.F) {
	for _, name := range []string{"a.server.dc1.consul", "localhost", "127.0.0.1"} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			raw := helloFor(f, name, version)
			f.Add(raw, uint16(0), uint16(7))
			f.Add(raw, uint16(100), uint16(1460))
		}
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint16(0), uint16(1))
	f.Fuzz(func(t *testing.T, raw []byte, cut, step uint16) {
		if len(raw) > 8<<10 {
			return
		}
		if cut > 0 {
			raw = inRecords(raw, int(cut))
		}
		got, err := parse(raw, int(step)+1)
		if again, errAgain := parse(raw, max(len(raw), 1)); again != got || !errors.Is(errAgain, err) {
			t.Fatalf("in pieces %q, %v; at once %q, %v", got, err, again, errAgain)
		}
		want, ok := viaStandardLibrary(raw)
		if !ok || otherVersion(raw) {
			return // either side checks some things that the other does not
		}
		if canonical, isName := appendName(nil, []byte(want)); want != "" && !isName {
			if !errors.Is(err, errMalformed) {
				t.Fatalf("got %q, %v for %q", got, err, want)
			}
		} else if want == "" && !errors.Is(err, errNoName) || got != string(canonical) {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	})
}
