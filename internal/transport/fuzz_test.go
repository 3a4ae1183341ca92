package transport_test

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"isthmus/internal/transport"
)

// FuzzFirstBytes proves that no beginning of a connection makes the Mux panic or
// hang, whether or not there is TLS.
func FuzzFirstBytes(f *testing.F) {
	cfg := newAuthority(f).server(f)
	secure := load(f, cfg)
	hello := captureHello(f)
	for _, seed := range [][]byte{{}, {0}, {1, 2}, {3}, {7}, {22, 3, 1, 0, 1, 1}, hello, append([]byte{3}, hello...), {255}} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, encrypted bool) {
		m := &transport.Mux{HandshakeTimeout: 5 * time.Second, Log: slog.New(slog.DiscardHandler)}
		if encrypted {
			m.TLS = secure
		}
		handleAll(m)
		ln := newPipes()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Serve(ctx, ln) }()
		conn := ln.from("127.0.0.1")
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			_, _ = io.Copy(io.Discard, conn)
		}()
		_, _ = conn.Write(data) // Cut short when it is refused.
		_ = conn.Close()
		<-drained
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// captureHello records the first message of a TLS client.
func captureHello(t testing.TB) []byte {
	t.Helper()
	near, far := net.Pipe()
	go func() {
		c := tls.Client(far, &tls.Config{ServerName: "server.dc1.consul", NextProtos: []string{"consul/raft"}})
		_ = c.Handshake() // Ends when the pipe is closed.
	}()
	buf := make([]byte, 4096)
	n, err := near.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}
