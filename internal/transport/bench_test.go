package transport_test

import (
	"context"
	"io"
	"net"
	"testing"

	"isthmus/internal/transport"
)

// BenchmarkUpgrade measures what both sides of a dial spend on this machine,
// with a new session each time and with a resumed one.
func BenchmarkUpgrade(b *testing.B) {
	ca := newAuthority(b)
	cfg := ca.server(b)
	m := &transport.Mux{TLS: load(b, cfg)}
	m.Handle(transport.RPCMulti, func(_ context.Context, conn net.Conn) {
		_, _ = io.Copy(conn, conn) // Ends when the client closes.
	})
	addr := serve(b, m)
	buf := make([]byte, 1)
	for _, mode := range []string{"new", "resumed"} {
		b.Run(mode, func(b *testing.B) {
			client := load(b, cfg)
			b.ReportAllocs()
			for b.Loop() {
				if mode == "new" {
					b.StopTimer()
					if err := client.Reload(cfg); err != nil { // Forgets the session.
						b.Fatal(err)
					}
					b.StartTimer()
				}
				conn, err := client.Upgrade(b.Context(), addr, "n1.server.dc1.consul", transport.RPCMulti)
				if err != nil {
					b.Fatal(err)
				}
				// The session ticket comes with the first answer.
				if _, err := conn.Write(buf); err != nil {
					b.Fatal(err)
				}
				if _, err := conn.Read(buf); err != nil {
					b.Fatal(err)
				}
				if err := conn.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkIdentify measures telling an unencrypted connection apart, connecting
// included.
func BenchmarkIdentify(b *testing.B) {
	m := &transport.Mux{MaxConnsPerClient: 100}
	m.Handle(transport.RPCSingle, func(_ context.Context, conn net.Conn) {
		_, _ = conn.Write([]byte{1}) // The client reads it, or fails.
	})
	addr := serve(b, m)
	buf := make([]byte, 1)
	d := &transport.Direct{}
	b.ReportAllocs()
	for b.Loop() {
		conn, err := d.Dial(b.Context(), transport.Target{Addr: addr}, transport.RPCSingle)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Read(buf); err != nil {
			b.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
