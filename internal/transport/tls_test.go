package transport_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"isthmus/internal/transport"
)

func TestLoadingSaysWhatIsWrong(t *testing.T) {
	ca := newAuthority(t)
	good := ca.server(t)
	empty, junk := t.TempDir(), write(t, "junk.pem", []byte("no certificate"))
	for name, c := range map[string]struct {
		edit func(*transport.TLSConfig)
		want string
	}{
		"no CA file":        {func(c *transport.TLSConfig) { c.CAFile = empty + "/none" }, empty + "/none"},
		"junk CA":           {func(c *transport.TLSConfig) { c.CAFile = junk }, junk},
		"empty CA path":     {func(c *transport.TLSConfig) { c.CAFile, c.CAPath = "", empty }, empty},
		"no CA path":        {func(c *transport.TLSConfig) { c.CAFile, c.CAPath = "", empty+"/none" }, empty + "/none"},
		"no certificate":    {func(c *transport.TLSConfig) { c.CertFile = empty + "/c" }, empty + "/c"},
		"no key":            {func(c *transport.TLSConfig) { c.KeyFile = empty + "/k" }, empty + "/k"},
		"junk certificate":  {func(c *transport.TLSConfig) { c.CertFile = junk }, junk},
		"junk key":          {func(c *transport.TLSConfig) { c.KeyFile = junk }, junk},
		"another's key":     {func(c *transport.TLSConfig) { c.KeyFile = ca.server(t).KeyFile }, "does not match"},
		"key alone":         {func(c *transport.TLSConfig) { c.CertFile = "" }, "needed together"},
		"certificate alone": {func(c *transport.TLSConfig) { c.KeyFile = "" }, "needed together"},
		"old version":       {func(c *transport.TLSConfig) { c.MinVersion = "tls10" }, `"tls10"`},
		"unknown suite":     {func(c *transport.TLSConfig) { c.CipherSuites = []string{"ROT13"} }, `"ROT13"`},
		"suite of TLS 1.3": {func(c *transport.TLSConfig) {
			c.CipherSuites = []string{"TLS_AES_128_GCM_SHA256"}
		}, "TLS_AES_128_GCM_SHA256"},
		"incoming without CA": {func(c *transport.TLSConfig) { c.CAFile, c.VerifyIncoming = "", true }, "needs a CA"},
		"names without CA":    {func(c *transport.TLSConfig) { c.CAFile, c.VerifyServerHostname = "", true }, "needs a CA"},
	} {
		cfg := good
		c.edit(&cfg)
		if _, err := transport.NewTLS(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.want)
		}
		s := load(t, good)
		if err := s.Reload(cfg); err == nil || !s.MutualCapable() {
			t.Errorf("%s: reload gave %v, want an error and the old material kept", name, err)
		}
	}
}

func TestEmptySettingsMeanTLSIsOff(t *testing.T) {
	for name, s := range map[string]*transport.TLS{"nil": nil, "empty": load(t, transport.TLSConfig{})} {
		if s.MutualCapable() || !s.NotAfter().IsZero() || s.CheckServerNames() == nil || s.CheckServerPeer(nil) != nil {
			t.Errorf("%s: is not off", name)
		}
	}
}

func TestCAPathIsADirectoryOfCertificates(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"a.pem": ca.cert, "b.pem": append(bytes.Clone(other.cert), other.key...), ".old": []byte("junk"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, a := range []authority{ca, other} {
		cfg := a.server(t)
		cfg.CAFile, cfg.CAPath = "", dir
		if err := load(t, cfg).CheckServerNames(); err != nil {
			t.Error(err)
		}
	}
	cfg := ca.server(t)
	cfg.CAFile, cfg.CAPath = write(t, "other.pem", other.cert), dir
	if err := load(t, cfg).CheckServerNames(); err == nil {
		t.Error("the CA path counts although there is a CA file")
	}
}

func TestOwnCertificateIsChecked(t *testing.T) {
	ca := newAuthority(t)
	for name, c := range map[string]struct {
		cfg  transport.TLSConfig
		edit func(*transport.TLSConfig)
		want []string
	}{
		"right":    {cfg: ca.server(t)},
		"wildcard": {cfg: ca.config(t, transport.CertOptions{Role: transport.ServerCert, Node: "*"}), edit: node("n7")},
		"any node": {cfg: ca.config(t, transport.CertOptions{Role: transport.ServerCert}), edit: node("")},
		"no name of the node": {
			cfg: ca.config(t, transport.CertOptions{Role: transport.ServerCert}), edit: node("n1"),
			want: []string{"lacks the name n1.server.dc1.consul", "isthmus tls cert create -server -dc dc1 -node n1"},
		},
		"dotted node under a wildcard": {
			cfg:  ca.config(t, transport.CertOptions{Role: transport.ServerCert, Node: "*"}),
			edit: node("a.b"), want: []string{"lacks the name a.b.server.dc1.consul", "-node a.b"},
		},
		"client": {
			cfg: ca.client(t), edit: node("n1"),
			want: []string{"lacks the name server.dc1.consul", "lacks the name n1.server.dc1.consul"},
		},
		"other domain": {
			cfg: ca.server(t), edit: func(c *transport.TLSConfig) { c.Domain = "example.org." },
			want: []string{"lacks the name n1.server.dc1.example.org", "-node n1 -domain example.org"},
		},
		"expired": {cfg: expiredConfig(t, ca), want: []string{"expired at 2000-12-31"}},
		"other CA": {
			cfg:  ca.server(t),
			edit: func(c *transport.TLSConfig) { c.CAFile = newAuthority(t).server(t).CAFile },
			want: []string{"is no server certificate of the CA", "is no client certificate of the CA"},
		},
	} {
		if c.edit != nil {
			c.edit(&c.cfg)
		}
		err := load(t, c.cfg).CheckServerNames()
		if (err == nil) != (c.want == nil) {
			t.Errorf("%s: got %v", name, err)
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q in it", name, err, want)
			}
		}
	}
}

func node(name string) func(*transport.TLSConfig) {
	return func(c *transport.TLSConfig) { c.NodeName = name }
}

func TestExpiryIsThatOfTheOwnCertificate(t *testing.T) {
	ca := newAuthority(t)
	s := load(t, ca.config(t, transport.CertOptions{Role: transport.ServerCert, Days: 10}))
	if left := time.Until(s.NotAfter()); left < 9*24*time.Hour || left > 10*24*time.Hour {
		t.Errorf("got %v left, want 10 days", left)
	}
}

// upgraded dials and exchanges a byte, since with TLS 1.3 a client learns only
// then that its certificate was refused.
func upgraded(t *testing.T, s *transport.TLS, addr string) (resumed bool, err error) {
	t.Helper()
	conn, err := s.Upgrade(t.Context(), addr, "n1.server.dc1.consul", transport.RPCMulti)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("x")); err != nil {
		return false, err
	}
	secure, ok := conn.(*tls.Conn)
	if !ok {
		t.Fatalf("got a %T", conn)
	}
	if err := secure.CloseWrite(); err != nil {
		return false, err
	}
	if _, err := io.ReadAll(conn); err != nil {
		return false, err
	}
	return secure.ConnectionState().DidResume, nil
}

func TestReloadIsHonouredByTheNextHandshake(t *testing.T) {
	old, next := newAuthority(t), newAuthority(t)
	server, client := load(t, old.server(t)), load(t, old.client(t))
	m := &transport.Mux{TLS: server}
	handleAll(m)
	addr := serve(t, m)
	if _, err := upgraded(t, client, addr); err != nil {
		t.Fatal(err)
	}
	if resumed, err := upgraded(t, client, addr); err != nil || !resumed {
		t.Fatalf("second dial: resumed %t, %v; want a resumed session", resumed, err)
	}
	kept, err := client.Upgrade(t.Context(), addr, "server.dc1.consul", transport.RPCMulti)
	if err != nil {
		t.Fatal(err)
	}

	// The server trusts another CA, while its own certificate is still that of the
	// old one: the client would be content, and its session could be resumed.
	cfg := old.server(t)
	cfg.CAFile = next.server(t).CAFile
	if err := server.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := upgraded(t, client, addr); err == nil {
		t.Error("a client of the old CA is still served")
	}
	if got := ask(t, kept, "x"); got != "rpc-multi:x" {
		t.Errorf("got %q on a connection made before", got)
	}

	// Now the same the other way round.
	if err := server.Reload(old.server(t)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // The second resumes what the first began.
		if _, err := upgraded(t, client, addr); err != nil {
			t.Fatal(err)
		}
	}
	cfg = old.client(t)
	cfg.CAFile = next.server(t).CAFile
	if err := client.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := upgraded(t, client, addr); err == nil {
		t.Error("a server of the old CA is still believed")
	}

	// Both move on.
	if err := server.Reload(next.server(t)); err != nil {
		t.Fatal(err)
	}
	if err := client.Reload(next.client(t)); err != nil {
		t.Fatal(err)
	}
	if resumed, err := upgraded(t, client, addr); err != nil || resumed {
		t.Errorf("resumed %t, %v; want a new session under the new CA", resumed, err)
	}
}

func TestResumedSessionStillTellsServersFromClients(t *testing.T) {
	ca := newAuthority(t)
	m := &transport.Mux{TLS: load(t, ca.server(t))}
	handleAll(m)
	addr := serve(t, m)
	for name, want := range map[string]string{"server": "raft:x", "client": ""} {
		cfg := ca.server(t)
		if name == "client" {
			cfg = ca.client(t)
		}
		s := load(t, cfg)
		if _, err := upgraded(t, s, addr); err != nil {
			t.Fatal(err)
		}
		conn, err := s.Upgrade(t.Context(), addr, "n1.server.dc1.consul", transport.Raft)
		if err != nil {
			t.Fatal(err)
		}
		if secure, ok := conn.(*tls.Conn); !ok || !secure.ConnectionState().DidResume {
			t.Errorf("%s: the session was not resumed", name)
		}
		if got := ask(t, conn, "x"); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// TestSessionWithoutClientCertificateIsNotResumedThroughGateways begins a
// session where no client certificate is asked for.
func TestSessionWithoutClientCertificateIsNotResumedThroughGateways(t *testing.T) {
	m := &transport.Mux{TLS: load(t, newAuthority(t).server(t))}
	handleAll(m)
	addr := serve(t, m)
	sessions := tls.NewLRUClientSessionCache(1)
	connect := func(raw net.Conn, alpn ...string) *tls.Conn {
		return tls.Client(raw, &tls.Config{
			ServerName: "x", ClientSessionCache: sessions, NextProtos: alpn,
			InsecureSkipVerify: true,
		})
	}
	raw := dial(t, addr)
	if _, err := raw.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, connect(raw), "\x04ping"); got != "rpc-multi:ping" {
		t.Fatalf("got %q", got)
	}
	if _, ok := sessions.Get("x"); !ok {
		t.Fatal("there is no session to resume")
	}
	if got := ask(t, connect(dial(t, addr), "consul/rpc-multi"), "ping"); got != "" {
		t.Errorf("got %q without a client certificate", got)
	}
}

func TestHTTPSFollowsReloads(t *testing.T) {
	old, next := newAuthority(t), newAuthority(t)
	s := load(t, old.server(t))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		TLSConfig: s.HTTPS(), ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Proto", r.Proto) }),
	}
	done := make(chan error)
	go func() { done <- server.ServeTLS(ln, "", "") }()
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	get := func(ca, owner authority, withCert bool) (string, error) {
		cfg := &tls.Config{RootCAs: pool(t, ca), ServerName: "server.dc1.consul"}
		if withCert {
			own := owner.client(t)
			pair, err := tls.LoadX509KeyPair(own.CertFile, own.KeyFile)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Certificates = []tls.Certificate{pair}
		}
		tr := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}
		defer tr.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+ln.Addr().String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: tr}).Do(req)
		if err != nil {
			return "", err
		}
		return resp.Header.Get("Proto"), resp.Body.Close()
	}
	if got, err := get(old, old, false); got != "HTTP/2.0" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	strict := next.server(t)
	strict.VerifyIncoming = true
	if err := s.Reload(strict); err != nil {
		t.Fatal(err)
	}
	if _, err := get(next, next, false); err == nil {
		t.Error("served without a client certificate after it was demanded")
	}
	if _, err := get(next, old, true); err == nil {
		t.Error("served a client of the old CA")
	}
	if got, err := get(next, next, true); got != "HTTP/2.0" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestMinimumVersionAndSuites(t *testing.T) {
	ca := newAuthority(t)
	try := func(cfg transport.TLSConfig, version uint16, suite uint16) error {
		m := &transport.Mux{TLS: load(t, cfg)}
		handleAll(m)
		raw := dial(t, serve(t, m))
		if _, err := raw.Write([]byte{3}); err != nil {
			t.Fatal(err)
		}
		return tls.Client(raw, &tls.Config{
			RootCAs: pool(t, ca), ServerName: "server.dc1.consul",
			MinVersion: tls.VersionTLS10, MaxVersion: version, CipherSuites: []uint16{suite},
		}).Handshake()
	}
	const a, b = tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
	cfg := ca.server(t)
	if err := try(cfg, tls.VersionTLS12, a); err != nil {
		t.Error(err)
	}
	if try(cfg, tls.VersionTLS11, a) == nil {
		t.Error("TLS 1.1 is spoken")
	}
	cfg.CipherSuites = []string{"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"}
	if err := try(cfg, tls.VersionTLS12, b); err != nil {
		t.Error(err)
	}
	if try(cfg, tls.VersionTLS12, a) == nil {
		t.Error("a suite that is not listed is spoken")
	}
	cfg.MinVersion = "TLSv1_3"
	if try(cfg, tls.VersionTLS12, b) == nil {
		t.Error("TLS 1.2 is spoken")
	}
	if err := try(cfg, tls.VersionTLS13, b); err != nil {
		t.Error(err)
	}
}
