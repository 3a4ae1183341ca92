package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"isthmus/internal/transport"
)

// grpcTLS is the settings of a server n1 of dc1.
func grpcTLS(t *testing.T) transport.TLSConfig {
	t.Helper()
	ca, caKey, err := transport.NewCA(transport.CAOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := transport.NewCert(ca, caKey, transport.CertOptions{Role: transport.ServerCert, Node: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{"ca.pem": ca, "cert.pem": cert, "key.pem": key} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return transport.TLSConfig{
		CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"),
		VerifyIncoming: true, VerifyOutgoing: true, VerifyServerHostname: true,
		Domain: "consul", Datacenter: "dc1", NodeName: "n1",
	}
}

func loadTLS(t *testing.T, cfg transport.TLSConfig) *transport.TLS {
	t.Helper()
	tls, err := transport.NewTLS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tls
}

// ourGRPC runs a server port of ours and returns its address.
func ourGRPC(t *testing.T, tls *transport.TLS) string {
	t.Helper()
	s := NewGRPCServer()
	mux := &transport.Mux{TLS: tls}
	mux.Handle(transport.GRPC, s.ServeConn)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	go func() { done <- mux.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, <-done); err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// referenceGRPC runs a server of the reference and returns its address.
func referenceGRPC(t *testing.T, tls *transport.TLSConfig) string {
	t.Helper()
	consul := os.Getenv("ISTHMUS_REFERENCE")
	if consul == "" {
		if os.Getenv("ISTHMUS_MUST_INTEROP") != "" {
			t.Fatal("ISTHMUS_REFERENCE does not name the reference's binary")
		}
		t.Skip("skipped: ISTHMUS_REFERENCE does not name the reference's binary")
	}
	ports := map[string]int{"http": -1, "https": -1, "dns": -1, "grpc": -1, "grpc_tls": -1}
	for _, name := range []string{"server", "serf_lan", "serf_wan"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		ports[name] = ln.Addr().(*net.TCPAddr).Port
		ln.Close()
	}
	settings := map[string]any{
		"server": true, "bootstrap_expect": 1, "node_name": "n1", "datacenter": "dc1", "data_dir": t.TempDir(),
		"bind_addr": "127.0.0.1", "ports": ports, "disable_update_check": true,
	}
	if tls != nil {
		settings["connect"] = map[string]any{"enabled": true, "enable_mesh_gateway_wan_federation": true}
		settings["tls"] = map[string]any{
			"defaults": map[string]any{
				"ca_file": tls.CAFile, "cert_file": tls.CertFile, "key_file": tls.KeyFile, "verify_incoming": true, "verify_outgoing": true,
			},
			"internal_rpc": map[string]any{"verify_server_hostname": true},
		}
	}
	data, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "agent.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(consul, "agent", "-config-file", file)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		out.Close()
		if t.Failed() {
			text, _ := os.ReadFile(out.Name())
			t.Logf("%s", text)
		}
	})
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(ports["server"]))
}

// byName goes the way of gateways: TLS from the first byte, and the protocol named
// in the handshake.
type byName struct{ tls *transport.TLS }

func (b byName) Dial(ctx context.Context, to transport.Target, p transport.Proto) (net.Conn, error) {
	return b.tls.Upgrade(ctx, to.Addr, to.ServerName("consul"), p)
}

// overGRPC returns a connection to the one server that an agent knows.
func overGRPC(t *testing.T, dialer transport.Dialer, addr string) *grpc.ClientConn {
	t.Helper()
	r := NewRouter("dc1", nil, quiet)
	r.AddServer(ServerInfo{Datacenter: "dc1", Name: "n1", Addr: addr, Alive: true})
	g := NewGRPC(dialer, r, quiet)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	c, err := g.Conn("dc1")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// invoke calls a method with an empty argument. A server may take a while to start.
func invoke(t *testing.T, c *grpc.ClientConn, method string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var in grpc_health_v1.HealthCheckRequest
	var out grpc_health_v1.HealthCheckResponse
	err := c.Invoke(ctx, method, &in, &out, grpc.WaitForReady(true))
	if err == nil && out.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		err = fmt.Errorf("got %v", out.GetStatus())
	}
	return err
}

func TestGRPCReachesServersByEveryWay(t *testing.T) {
	cfg := grpcTLS(t)
	tls := loadTLS(t, cfg)
	plain, secure := ourGRPC(t, nil), ourGRPC(t, tls)
	for name, way := range map[string]struct {
		dialer transport.Dialer
		addr   string
	}{
		"plain": {&transport.Direct{}, plain},
		"TLS":   {&transport.Direct{TLS: tls}, secure},
		"ALPN":  {byName{tls}, secure},
	} {
		t.Run(name, func(t *testing.T) {
			c := overGRPC(t, way.dialer, way.addr)
			if err := invoke(t, c, grpc_health_v1.Health_Check_FullMethodName); err != nil {
				t.Error(err)
			}
			if err := invoke(t, c, "/no.Service/Method"); fmt.Sprint(err) != noService {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("unencrypted where that is refused", func(t *testing.T) {
		c := overGRPC(t, &transport.Direct{}, secure)
		var in, out grpc_health_v1.HealthCheckRequest
		if err := c.Invoke(t.Context(), grpc_health_v1.Health_Check_FullMethodName, &in, &out); status.Code(err) != codes.Unavailable {
			t.Errorf("got %v", err)
		}
	})
}

// noService is what a server answers to a method it does not have, ours as the
// reference.
const noService = "rpc error: code = Unimplemented desc = unknown service no.Service"

func TestGRPCReachesTheReferenceByEveryWay(t *testing.T) {
	cfg := grpcTLS(t)
	tls := loadTLS(t, cfg)
	plain, secure := referenceGRPC(t, nil), referenceGRPC(t, &cfg)
	for name, way := range map[string]struct {
		dialer transport.Dialer
		addr   string
	}{
		"plain": {&transport.Direct{}, plain},
		"TLS":   {&transport.Direct{TLS: tls}, secure},
		"ALPN":  {byName{tls}, secure},
	} {
		t.Run(name, func(t *testing.T) {
			c := overGRPC(t, way.dialer, way.addr)
			// It has no health service, but one that wants an argument. While it elects
			// itself it holds a call for some seconds, and then says that nobody leads.
			var err error
			for range 5 {
				if err = invoke(t, c, "/subscribe.StateChangeSubscription/Subscribe"); !strings.Contains(fmt.Sprint(err), "No cluster leader") {
					break
				}
			}
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("got %v", err)
			}
			if err := invoke(t, c, "/no.Service/Method"); fmt.Sprint(err) != noService {
				t.Errorf("got %v", err)
			}
		})
	}
}
