package gossip

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
)

func frames(r io.Reader) *frameReader {
	return &frameReader{buf: bufio.NewReaderSize(r, 64), idle: func() error { return nil }}
}

func TestFramesOfEverySizeAllowed(t *testing.T) {
	for _, size := range []int{1, 2, 63, 64, 65, 1400, MaxPacket} {
		packet := bytes.Repeat([]byte{7}, size)
		r := frames(bytes.NewReader(Frame(Frame(nil, packet), []byte("next"))))
		if got, err := r.next(); err != nil || !bytes.Equal(got, packet) {
			t.Errorf("%d bytes: got %d, %v", size, len(got), err)
		}
		if got, err := r.next(); err != nil || string(got) != "next" {
			t.Errorf("after %d bytes: got %q, %v", size, got, err)
		}
		if _, err := r.next(); err != io.EOF { //nolint:errorlint // It must be io.EOF itself.
			t.Errorf("at the end: got %v", err)
		}
	}
}

func TestPacketsAreNotSharedBetweenFrames(t *testing.T) {
	r := frames(bytes.NewReader(Frame(Frame(nil, []byte("first")), []byte("other"))))
	first, err := r.next()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.next(); err != nil {
		t.Fatal(err)
	}
	if string(first) != "first" {
		t.Errorf("the packet became %q when the next was read", first)
	}
}

func TestMalformedFrames(t *testing.T) {
	whole := Frame(nil, []byte("packet"))
	for name, data := range map[string][]byte{
		"empty":            Frame(nil, nil),
		"too long":         binary.BigEndian.AppendUint32(nil, MaxPacket+1),
		"truncated length": whole[:3],
		"truncated packet": whole[:len(whole)-1],
		"length only":      whole[:4],
	} {
		if got, err := frames(bytes.NewReader(data)).next(); err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

// take is a transport whose packets the test receives in the library's place.
func take(t *testing.T) *transport {
	t.Helper()
	cfg := config(t, "a")
	tr := newTransport(cfg.Net, cfg.Net, netip.AddrPort{}, cfg.Log)
	t.Cleanup(func() {
		if err := tr.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	return tr
}

func TestServePackets(t *testing.T) {
	tr := take(t)
	p := &Pool{transport: tr}
	client, server, err := connect()
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		p.ServePackets(server)
		close(served)
	}()
	big := bytes.Repeat([]byte("x"), MaxPacket)
	go func() {
		_, err := client.Write(Frame(Frame(nil, []byte("small")), big))
		if err != nil {
			t.Error(err)
		}
	}()
	for _, want := range [][]byte{[]byte("small"), big} {
		got := <-tr.PacketCh()
		if !bytes.Equal(got.Buf, want) || got.From.String() != client.LocalAddr().String() || got.Timestamp.IsZero() {
			t.Errorf("got %d bytes from %v at %v", len(got.Buf), got.From, got.Timestamp)
		}
	}
	// One byte too many, and the connection is dropped before that byte is sent.
	if _, err := client.Write(binary.BigEndian.AppendUint32(nil, MaxPacket+1)); err != nil {
		t.Fatal(err)
	}
	<-served
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
	_ = client.Close()
}

func TestStoppingEndsWhatIsServed(t *testing.T) {
	n := start(t, config(t, "a"))
	var clients []net.Conn
	served := make(chan struct{})
	for _, serve := range []func(net.Conn){n.ServePackets, n.ServeStream} {
		client, server, err := connect()
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, client)
		go func() {
			serve(server)
			served <- struct{}{}
		}()
	}
	<-served // The stream, which is handed over.
	n.stop()
	<-served // The packets.
	// What comes later is closed at once.
	client, server, err := connect()
	if err != nil {
		t.Fatal(err)
	}
	n.ServeStream(server)
	clients = append(clients, client)
	for _, c := range clients {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a connection is still open")
		}
		_ = c.Close()
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte{})
	f.Add(Frame(Frame(nil, []byte("one")), []byte("two")))
	f.Add(Frame(nil, nil))
	f.Add([]byte{0, 64, 0, 1, 9})
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := frames(bytes.NewReader(data))
		rest := data
		for {
			got, err := r.next()
			size := MaxPacket + 1
			if len(rest) >= 4 {
				size = int(binary.BigEndian.Uint32(rest))
			}
			if size == 0 || size > MaxPacket || len(rest) < 4+size {
				if err == nil {
					t.Fatalf("took %d bytes from a malformed frame", len(got))
				}
				return
			}
			if err != nil || !bytes.Equal(got, rest[4:4+size]) {
				t.Fatalf("got %d bytes, %v, want %d", len(got), err, size)
			}
			rest = rest[4+size:]
		}
	})
}

func BenchmarkServePackets(b *testing.B) {
	cfg := config(b, "a")
	tr := newTransport(cfg.Net, cfg.Net, netip.AddrPort{}, cfg.Log)
	client, server, err := connect()
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		tr.servePackets(server)
		close(done)
	}()
	frame := Frame(nil, make([]byte, 1400))
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	go func() {
		for {
			if _, err := client.Write(frame); err != nil {
				return
			}
		}
	}()
	for b.Loop() {
		<-tr.packets
	}
	_ = client.Close()
	if err := tr.Shutdown(); err != nil {
		b.Error(err)
	}
	<-done
}

func BenchmarkSendPacket(b *testing.B) {
	cfg := config(b, "a")
	tr := newTransport(cfg.Net, cfg.Net, netip.AddrPort{}, cfg.Log)
	to := (&node{net: cfg.Net}).addr()
	packet := make([]byte, 1400)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tr.WriteTo(packet, to); err != nil {
			b.Fatal(err)
		}
	}
	if err := tr.Shutdown(); err != nil {
		b.Error(err)
	}
}
