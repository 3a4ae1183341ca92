package transport_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"isthmus/internal/transport"
)

// reference gives the path of the reference program, to compare with.
func reference(t *testing.T) string {
	t.Helper()
	path := os.Getenv("ISTHMUS_REFERENCE")
	if path == "" {
		t.Skip("ISTHMUS_REFERENCE names no reference program")
	}
	return path
}

func run(t *testing.T, dir, program string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

func read(t *testing.T, elem ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestReferenceAndWeSignForEachOther(t *testing.T) {
	consul := reference(t)

	// Their CA, our certificate, and theirs beside it.
	dir := t.TempDir()
	run(t, dir, consul, "tls", "ca", "create")
	run(t, dir, consul, "tls", "cert", "create", "-server", "-node", "n1", "-additional-dnsname", "x.y")
	theirs := authority{read(t, dir, "consul-agent-ca.pem"), read(t, dir, "consul-agent-ca-key.pem")}
	opts := transport.CertOptions{Role: transport.ServerCert, Node: "n1", AdditionalDNS: []string{"x.y"}}
	cfg := theirs.config(t, opts)
	if err := load(t, cfg).CheckServerNames(); err != nil {
		t.Error(err)
	}
	ours, want := parse(t, read(t, cfg.CertFile)), parse(t, read(t, dir, "dc1-server-consul-0.pem"))
	if ours.Subject.String() != want.Subject.String() || ours.KeyUsage != want.KeyUsage ||
		strings.Join(ours.DNSNames, " ") != strings.Join(want.DNSNames, " ") ||
		!bytes.Equal(ours.AuthorityKeyId, want.AuthorityKeyId) || len(ours.SubjectKeyId) != len(want.SubjectKeyId) ||
		ours.NotAfter.Sub(ours.NotBefore) != want.NotAfter.Sub(want.NotBefore) {
		t.Errorf("got %+v, want %+v", ours, want)
	}

	// Our CA, their certificate.
	own := newAuthority(t)
	dir = t.TempDir()
	for name, data := range map[string][]byte{"ca.pem": own.cert, "key.pem": own.key} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, dir, consul, "tls", "cert", "create", "-server", "-node", "n1", "-ca", "ca.pem", "-key", "key.pem")
	cfg = transport.TLSConfig{
		CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "dc1-server-consul-0.pem"),
		KeyFile: filepath.Join(dir, "dc1-server-consul-0-key.pem"), Datacenter: "dc1", NodeName: "n1",
	}
	if err := load(t, cfg).CheckServerNames(); err != nil {
		t.Error(err)
	}
}

// TestReferenceServerAnswersOurDialers runs a server of the reference with our
// certificates and with federation through gateways on.
func TestReferenceServerAnswersOurDialers(t *testing.T) {
	consul := reference(t)
	ca := newAuthority(t)
	cfg := ca.server(t)
	addr := startReference(t, consul, cfg)

	cfg.VerifyOutgoing, cfg.VerifyServerHostname = true, true
	s := load(t, cfg)
	to := transport.Target{Datacenter: "dc1", Node: "n1", Addr: addr}
	direct := &transport.Direct{TLS: s}
	eventually(t, "the server answers", func() bool {
		conn, err := direct.Dial(t.Context(), to, transport.RPCMulti)
		return err == nil && pinged(conn) == nil
	})
	for _, name := range []string{"n1.server.dc1.consul", "server.dc1.consul"} {
		conn, err := s.Upgrade(t.Context(), addr, name, transport.RPCMulti)
		if err != nil {
			t.Fatal(err)
		}
		if err := pinged(conn); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, p := range transport.Protos() {
		if p.ALPN == "" {
			continue
		}
		conn, err := s.Upgrade(t.Context(), addr, "server.dc1.consul", p)
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
			continue
		}
		_ = conn.Close()
	}
	if _, err := s.Upgrade(t.Context(), addr, "n2.server.dc1.consul", transport.RPCMulti); err == nil {
		t.Error("the name of another node is accepted")
	}
	plain, err := (&transport.Direct{}).Dial(t.Context(), to, transport.RPCMulti)
	if err != nil {
		t.Fatal(err)
	}
	if pinged(plain) == nil {
		t.Error("an unencrypted connection is answered")
	}
}

// pinged asks for a sign of life in the multiplexing protocol and closes conn.
func pinged(conn net.Conn) error {
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 42}); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 12))
	return err
}

func startReference(t *testing.T, consul string, cfg transport.TLSConfig) string {
	t.Helper()
	ports := map[string]int{"http": -1, "https": -1, "dns": -1, "grpc": -1, "grpc_tls": -1}
	for _, name := range []string{"server", "serf_lan", "serf_wan"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ln.Close() }()
		addr, ok := ln.Addr().(*net.TCPAddr)
		if !ok {
			t.Fatalf("got a %T", ln.Addr())
		}
		ports[name] = addr.Port
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
	}
	settings, err := json.Marshal(map[string]any{
		"server": true, "bootstrap_expect": 1, "node_name": "n1", "datacenter": "dc1", "data_dir": t.TempDir(),
		"bind_addr": "127.0.0.1", "ports": ports, "disable_update_check": true,
		"connect": map[string]any{"enabled": true, "enable_mesh_gateway_wan_federation": true},
		"tls": map[string]any{
			"defaults": map[string]any{
				"ca_file": cfg.CAFile, "cert_file": cfg.CertFile, "key_file": cfg.KeyFile,
				"verify_incoming": true, "verify_outgoing": true,
			},
			"internal_rpc": map[string]any{"verify_server_hostname": true},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, consul, "agent", "-config-file", write(t, "agent.json", settings))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	var out logged
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait() // It was told to stop.
		if t.Failed() {
			t.Log(out.String())
		}
	})
	return (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: ports["server"]}).String()
}
