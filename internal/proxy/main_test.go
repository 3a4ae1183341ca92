package proxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(benchRoleEnv) != "" {
		os.Exit(benchRole())
	}
	goleak.VerifyTestMain(m)
}

// deadline bounds everything a test waits for.
const deadline = 10 * time.Second

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(deadline)
	for !holds() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

var testCert = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "test"},
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

func listen(t testing.TB) *net.TCPListener {
	t.Helper()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// backend serves each connection of a new listener until the test ends.
func backend(t testing.TB, serve func(c *net.TCPConn)) string {
	t.Helper()
	ln := listen(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

// named is a TLS server that says its name and then echoes.
func named(t testing.TB, name string) string {
	t.Helper()
	cfg := &tls.Config{Certificates: []tls.Certificate{testCert()}}
	return backend(t, func(c *net.TCPConn) {
		s := tls.Server(c, cfg)
		if _, err := io.WriteString(s, name+"\n"); err != nil {
			return
		}
		if _, err := io.Copy(s, s); err == nil {
			_ = s.CloseWrite()
		}
	})
}

// discard takes everything of a plain connection.
func discard(t testing.TB) string {
	t.Helper()
	return backend(t, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
}

// running is a gateway under test.
type running struct {
	*Gateway

	addr string
	stop context.CancelFunc
	done chan error
}

func start(t testing.TB, cfg Config, routes ...Route) *running {
	t.Helper()
	g := New(cfg)
	g.SetRoutes(table1(t, routes...))
	return serve(t, g)
}

func table1(t testing.TB, routes ...Route) *Routes {
	t.Helper()
	r, err := NewRoutes(routes)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func serve(t testing.TB, g *Gateway) *running {
	t.Helper()
	ln := listen(t)
	ctx, stop := context.WithCancel(context.Background())
	r := &running{Gateway: g, addr: ln.Addr().String(), stop: stop, done: make(chan error, 1)}
	go func() {
		r.done <- g.Serve(ctx, ln)
		close(r.done)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-r.done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return r
}

func (r *running) dial(t testing.TB) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", r.addr, deadline)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(deadline))
	tcp, _ := c.(*net.TCPConn)
	return tcp
}

func (r *running) tls(t testing.TB, name string) *tls.Conn {
	t.Helper()
	return r.tlsVersion(t, name, tls.VersionTLS13)
}

func (r *running) tlsVersion(t testing.TB, name string, version uint16) *tls.Conn {
	t.Helper()
	return tls.Client(r.dial(t), &tls.Config{
		ServerName: name, InsecureSkipVerify: true, MinVersion: version, MaxVersion: version,
	})
}

// greeting is the name of the server a connection ended up at.
func greeting(t testing.TB, c net.Conn) string {
	t.Helper()
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatalf("read greeting: %v", err)
		}
		if b[0] == '\n' {
			return string(line)
		}
		line = append(line, b[0])
	}
}

// refused waits until so many connections have been refused for a reason.
func (r *running) refusedWith(t *testing.T, reason string, n uint64) {
	t.Helper()
	eventually(t, "refused "+reason, func() bool { return r.Stats().Refused[reason] == n })
}

// helloFor is a ClientHello as crypto/tls makes it.
func helloFor(t testing.TB, name string, version uint16) []byte {
	t.Helper()
	client, server := net.Pipe()
	got := make(chan []byte)
	go func() {
		buf := make([]byte, maxHelloLen)
		n, _ := server.Read(buf)
		_ = server.Close()
		got <- buf[:n]
	}()
	err := tls.Client(client, &tls.Config{
		ServerName: name, InsecureSkipVerify: true, MaxVersion: version,
	}).HandshakeContext(t.Context())
	if err == nil {
		t.Fatal("handshake with nobody")
	}
	_ = client.Close()
	return <-got
}
