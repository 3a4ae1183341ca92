// Package hostname holds a small set of certificates, of the kind operators keep
// for years, and checks with them who is accepted under which name, across nodes
// and datacenters. It has tests only; make certs makes the set anew.
package hostname

import (
	"context"
	"flag"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"isthmus/internal/transport"
)

var update = flag.Bool("update", false, "make the certificates anew")

const (
	days   = 3650 // how long new certificates are valid
	notice = 90 * 24 * time.Hour
	domain = "consul"
)

// server is the owner of one certificate. The node "*" stands for every server of
// the datacenter.
type server struct{ file, node, dc string }

// servers lists the set: two nodes of the same names in each of two datacenters,
// and a certificate that all servers of the first may share.
func servers() []server {
	return []server{
		{"alice-dc1", "alice", "dc1"},
		{"bob-dc1", "bob", "dc1"},
		{"alice-dc2", "alice", "dc2"},
		{"bob-dc2", "bob", "dc2"},
		{"any-dc1", "*", "dc1"},
	}
}

// config is how the owner uses its certificate.
func (s server) config() transport.TLSConfig {
	return transport.TLSConfig{
		CAFile: "ca.pem", CertFile: s.file + ".pem", KeyFile: s.file + "-key.pem",
		VerifyIncoming: true, VerifyServerHostname: true,
		Domain: domain, Datacenter: s.dc, NodeName: s.node,
	}
}

// serve answers on loopback as s until the test ends, and returns the address.
func (s server) serve(t *testing.T) string {
	t.Helper()
	mux := &transport.Mux{TLS: load(t, s)}
	answer := func(_ context.Context, conn net.Conn) { _, _ = conn.Write([]byte{1}) } // the peer reads it, or fails
	mux.Handle(transport.RPCMulti, answer)
	mux.Handle(transport.Raft, answer)
	var listen net.ListenConfig
	ln, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- mux.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

func load(t *testing.T, s server) *transport.TLS {
	t.Helper()
	material, err := transport.NewTLS(s.config())
	if err != nil {
		t.Fatal(err)
	}
	return material
}

// answered tells whether the server at the other end took the connection.
func answered(conn net.Conn, err error) bool {
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err == nil
}

// TestFixtures makes the set with -update; otherwise it checks that every
// certificate is valid, names its owner, and warns when it ends soon.
func TestFixtures(t *testing.T) {
	if *update {
		if err := makeAll(); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range servers() {
		material := load(t, s)
		if err := material.CheckServerNames(); err != nil {
			t.Errorf("%s: %v", s.file, err)
		}
		if left := time.Until(material.NotAfter()); left < notice {
			t.Logf("WARNING: %s ends in %d days: run make certs", s.file, int(left.Hours()/24))
		}
	}
}

// TestGatewaysLeadToTheNamedServerOnly dials as servers do through gateways, where
// whoever answers must be the server that was named.
func TestGatewaysLeadToTheNamedServerOnly(t *testing.T) {
	dialer := load(t, servers()[0])
	for _, s := range servers() {
		addr := s.serve(t)
		for _, to := range []transport.Target{
			{Node: "alice", Datacenter: "dc1"},
			{Node: "bob", Datacenter: "dc1"},
			{Datacenter: "dc1"},
			{Node: "alice", Datacenter: "dc2"},
			{Node: "bob", Datacenter: "dc2"},
			{Datacenter: "dc2"},
		} {
			want := to.Datacenter == s.dc && (to.Node == "" || to.Node == s.node || s.node == "*")
			conn, err := dialer.Upgrade(t.Context(), addr, to.ServerName(domain), transport.RPCMulti)
			if got := answered(conn, err); got != want {
				t.Errorf("%s dialled as %s: accepted is %v, want %v (%v)", s.file, to.ServerName(domain), got, want, err)
			}
		}
	}
}

// TestServersOfADatacenterTrustEachOther dials as servers of one datacenter do,
// where any server of it may answer, and none of another.
func TestServersOfADatacenterTrustEachOther(t *testing.T) {
	for _, s := range servers() {
		addr := s.serve(t)
		for _, from := range servers() {
			dialer := &transport.Direct{TLS: load(t, from)}
			for _, p := range []transport.Proto{transport.RPCMulti, transport.Raft} {
				want := from.dc == s.dc
				conn, err := dialer.Dial(t.Context(), transport.Target{Addr: addr, Datacenter: from.dc}, p)
				if got := answered(conn, err); got != want {
					t.Errorf("%s dials %s for %s: accepted is %v, want %v (%v)", from.file, s.file, p.Name, got, want, err)
				}
			}
		}
	}
}

// TestRaftStaysInsideItsDatacenter: a server of another datacenter has a name
// that the answering one trusts, but may not take part in its log.
func TestRaftStaysInsideItsDatacenter(t *testing.T) {
	to := servers()[0]
	addr := to.serve(t)
	name := transport.Target{Node: to.node, Datacenter: to.dc}.ServerName(domain)
	for _, from := range servers() {
		conn, err := load(t, from).Upgrade(t.Context(), addr, name, transport.Raft)
		if got, want := answered(conn, err), from.dc == to.dc; got != want {
			t.Errorf("%s dials %s for raft: accepted is %v, want %v (%v)", from.file, to.file, got, want, err)
		}
	}
}

// makeAll makes a CA and the whole set with it. The CA's key is not kept: the set
// is made as a whole or not at all.
func makeAll() error {
	ca, caKey, err := transport.NewCA(transport.CAOptions{CommonName: "Isthmus hostname fixtures", Days: days})
	if err != nil {
		return err //nolint:wrapcheck // says what it made
	}
	made := map[string][]byte{"ca.pem": ca}
	for _, s := range servers() {
		opts := transport.CertOptions{Role: transport.ServerCert, Node: s.node, Datacenter: s.dc, Days: days}
		made[s.file+".pem"], made[s.file+"-key.pem"], err = transport.NewCert(ca, caKey, opts)
		if err != nil {
			return err //nolint:wrapcheck // says what it made
		}
	}
	for name, data := range made {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return err //nolint:wrapcheck // names the file
		}
	}
	return nil
}
