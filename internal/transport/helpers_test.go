package transport_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"isthmus/internal/transport"
)

// authority is a CA of one test.
type authority struct{ cert, key []byte }

func newAuthority(t testing.TB) authority {
	t.Helper()
	cert, key, err := transport.NewCA(transport.CAOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

// config makes a certificate and gives the settings of its owner, who trusts the
// authority that made it.
func (a authority) config(t testing.TB, opts transport.CertOptions) transport.TLSConfig {
	t.Helper()
	cert, key, err := transport.NewCert(a.cert, a.key, opts)
	if err != nil {
		t.Fatal(err)
	}
	return transport.TLSConfig{
		CAFile:   write(t, "ca.pem", a.cert),
		CertFile: write(t, "cert.pem", cert),
		KeyFile:  write(t, "key.pem", key),
		Domain:   "consul", Datacenter: "dc1", NodeName: opts.Node,
	}
}

func (a authority) server(t testing.TB) transport.TLSConfig {
	t.Helper()
	return a.config(t, transport.CertOptions{Role: transport.ServerCert, Node: "n1"})
}

func (a authority) client(t testing.TB) transport.TLSConfig {
	t.Helper()
	return a.config(t, transport.CertOptions{Role: transport.ClientCert})
}

func write(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t testing.TB, cfg transport.TLSConfig) *transport.TLS {
	t.Helper()
	s, err := transport.NewTLS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// logged keeps what was logged.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logged) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, nil))
}

// handleAll registers for every protocol that has a handler of its own, the
// enterprise one excepted: each answers with its name and all it was sent.
func handleAll(m *transport.Mux) {
	for _, p := range transport.Protos() {
		switch p {
		case transport.TLSUpgrade, transport.InsecureTLS, transport.Gossip:
			continue
		}
		m.Handle(p, func(_ context.Context, conn net.Conn) {
			data, err := io.ReadAll(conn)
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(p.Name + ":" + string(data))) // The test reads it, or fails.
		})
	}
}

// serve runs m on a loopback port until the test ends.
func serve(t testing.TB, m *transport.Mux) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1) // Holds the one result if nobody waits any more.
	go func() { done <- m.Serve(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return ln.Addr().String()
}

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// ask sends data, says that this is all, and gives the whole answer. A refused
// connection gives "".
func ask(t testing.TB, conn net.Conn, data string) string {
	t.Helper()
	if _, err := conn.Write([]byte(data)); err != nil {
		return ""
	}
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		t.Fatalf("%T cannot close its writing half", conn)
	}
	if err := half.CloseWrite(); err != nil {
		return ""
	}
	answer, err := io.ReadAll(conn)
	if nerr, ok := errors.AsType[net.Error](err); ok && nerr.Timeout() {
		t.Fatal("neither answered nor closed")
	}
	if err != nil {
		return ""
	}
	return string(answer)
}

// within makes a TLS connection inside conn, as a peer without checks of its own
// would.
func within(t testing.TB, conn net.Conn, cfg transport.TLSConfig, alpn ...string) (*tls.Conn, error) {
	t.Helper()
	c := &tls.Config{InsecureSkipVerify: true, NextProtos: alpn}
	if cfg.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	secure := tls.Client(conn, c)
	return secure, secure.Handshake()
}

// eventually calls check until it is content.
func eventually(t testing.TB, what string, check func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !check(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}
