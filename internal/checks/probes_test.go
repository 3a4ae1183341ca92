package checks

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"isthmus/api"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// mute accepts connections and says nothing.
func mute(t *testing.T) (address string) {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				_, _ = io.Copy(io.Discard, conn)
			}()
		}
	}()
	return l.Addr().String()
}

func expectFails(t *testing.T, def api.CheckType, env Env, part string) {
	t.Helper()
	status, output := first(t, def, env)
	if status != api.Critical || !strings.Contains(output, part) {
		t.Errorf("got %s %q, want one that fails with %q", status, output, part)
	}
}

func TestTCPWithTLS(t *testing.T) {
	s := serveTLS(t, http.NotFoundHandler())
	address := s.Listener.Addr().String()
	success := "TCP+TLS connect " + address + ": Success"
	expectFirst(t, api.CheckType{TCP: address, TCPUseTLS: true}, trusting(t, s), api.Passing, success)
	expectFirst(t, api.CheckType{TCP: address, TCPUseTLS: true, TLSSkipVerify: true}, quiet, api.Passing, success)
	expectFails(t, api.CheckType{TCP: address, TCPUseTLS: true}, quiet, "x509: certificate signed by unknown authority")
	expectFails(t, api.CheckType{TCP: mute(t), TCPUseTLS: true, Timeout: seconds(0.2)}, quiet, "context deadline exceeded")
}

func TestUDP(t *testing.T) {
	for name, answers := range map[string]bool{"answers": true, "is silent": false} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			sizes := make(chan int, 1)
			go func() {
				n, from, err := conn.ReadFrom(make([]byte, 100))
				if err != nil {
					return
				}
				sizes <- n
				if answers {
					_, _ = conn.WriteTo([]byte("any answer that is longer"), from)
				}
			}()
			def := api.CheckType{UDP: conn.LocalAddr().String(), Timeout: seconds(0.5)}
			if answers {
				def.Timeout = seconds(10)
				expectFirst(t, def, quiet, api.Passing, "UDP connect "+def.UDP+": Success")
			} else {
				expectFails(t, def, quiet, "->"+def.UDP+": i/o timeout")
			}
			if n := <-sizes; n != 0 {
				t.Errorf("%d bytes were sent", n)
			}
		})
	}
	expectFails(t, api.CheckType{UDP: "127.0.0.1:1"}, quiet, "->127.0.0.1:1: read: connection refused")
	expectFirst(t, api.CheckType{UDP: "127.0.0.1"}, quiet, api.Critical, "dial udp: address 127.0.0.1: missing port in address")
}

// serveHealth serves the health of services with the options.
func serveHealth(t *testing.T, opts ...grpc.ServerOption) (address string) {
	t.Helper()
	h := health.NewServer()
	h.SetServingStatus("good", grpc_health_v1.HealthCheckResponse_SERVING)
	h.SetServingStatus("a/b", grpc_health_v1.HealthCheckResponse_SERVING)
	h.SetServingStatus("bad", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	s := grpc.NewServer(opts...)
	grpc_health_v1.RegisterHealthServer(s, h)
	return serveGRPC(t, s)
}

func serveGRPC(t *testing.T, s *grpc.Server) (address string) {
	t.Helper()
	l := listen(t)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

func TestGRPC(t *testing.T) {
	plain, other := serveHealth(t), serveGRPC(t, grpc.NewServer())
	for _, c := range []struct{ target, status, output string }{
		{plain, api.Passing, "gRPC check " + plain + ": success"},
		{plain + "/good", api.Passing, "gRPC check " + plain + "/good: success"},
		{plain + "/a/b", api.Passing, "gRPC check " + plain + "/a/b: success"},
		{plain + "/bad", api.Critical, "gRPC " + plain + "/bad serving status: NOT_SERVING"},
		{plain + "/unknown", api.Critical, "rpc error: code = NotFound desc = unknown service"},
		{other, api.Critical, "rpc error: code = Unimplemented desc = unknown service grpc.health.v1.Health"},
		{
			"127.0.0.1:1/x", api.Critical, `rpc error: code = Unavailable desc = connection error: ` +
				`desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`,
		},
		{
			"127.0.0.1/x", api.Critical, `rpc error: code = Unavailable desc = connection error: ` +
				`desc = "transport: Error while dialing: dial tcp: address 127.0.0.1: missing port in address"`,
		},
	} {
		t.Run(c.target, func(t *testing.T) { expectFirst(t, api.CheckType{GRPC: c.target}, quiet, c.status, c.output) })
	}
	expectFirst(t, api.CheckType{GRPC: mute(t), Timeout: seconds(0.3)}, quiet, api.Critical,
		"rpc error: code = DeadlineExceeded desc = context deadline exceeded")
}

func TestGRPCWithTLS(t *testing.T) {
	s := serveTLS(t, http.NotFoundHandler())
	target := serveHealth(t, grpc.Creds(credentials.NewServerTLSFromCert(&s.TLS.Certificates[0]))) + "/good"
	success := "gRPC check " + target + ": success"
	expectFirst(t, api.CheckType{GRPC: target, GRPCUseTLS: true}, trusting(t, s), api.Passing, success)
	expectFirst(t, api.CheckType{GRPC: target, GRPCUseTLS: true, TLSSkipVerify: true}, quiet, api.Passing, success)
	expectFails(t, api.CheckType{GRPC: target, GRPCUseTLS: true}, quiet, `x509: certificate signed by unknown authority"`)
	expectFails(t, api.CheckType{GRPC: target}, quiet, `rpc error: code = Unavailable desc = connection error: desc = "error reading server preface: EOF"`)
}

func TestH2Ping(t *testing.T) {
	var plain http.Protocols
	plain.SetUnencryptedHTTP2(true)
	open := httptest.NewUnstartedServer(http.NotFoundHandler())
	open.Config.Protocols = &plain
	open.Start()
	defer open.Close()
	at := open.Listener.Addr().String()
	const success = "HTTP2 ping was successful"
	expectFirst(t, api.CheckType{H2PING: at}, quiet, api.Passing, success)
	expectFails(t, api.CheckType{H2PING: at, H2PingUseTLS: true}, quiet, "Failed to dial to "+at+": ")
	expectFirst(t, api.CheckType{H2PING: "127.0.0.1:1"}, quiet, api.Critical,
		"Failed to dial to 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused")
	expectFirst(t, api.CheckType{H2PING: mute(t), Timeout: seconds(0.3)}, quiet, api.Critical, "HTTP2 ping failed: context deadline exceeded")

	s := serveTLS(t, http.NotFoundHandler())
	at = s.Listener.Addr().String()
	expectFirst(t, api.CheckType{H2PING: at, H2PingUseTLS: true}, trusting(t, s), api.Passing, success)
	expectFirst(t, api.CheckType{H2PING: at, H2PingUseTLS: true, TLSSkipVerify: true}, quiet, api.Passing, success)
	expectFails(t, api.CheckType{H2PING: at, H2PingUseTLS: true}, quiet, "x509: certificate signed by unknown authority")
	expectFails(t, api.CheckType{H2PING: at}, quiet, "HTTP2 ping failed: ")
}

// manager is a serviceManager that answers with itself.
type manager struct {
	state string
	err   error
}

func (m manager) State(context.Context, string) (string, error) { return m.state, m.err }

func TestOSService(t *testing.T) {
	for _, c := range []struct {
		manager        manager
		status, output string
	}{
		{manager{state: "active"}, api.Passing, `OS service "x" is active`},
		{manager{state: "activating"}, api.Warning, `OS service "x" is activating`},
		{manager{state: "reloading"}, api.Warning, `OS service "x" is reloading`},
		{manager{state: "deactivating"}, api.Warning, `OS service "x" is deactivating`},
		{manager{state: "inactive"}, api.Critical, `OS service "x" is inactive`},
		{manager{state: "failed"}, api.Critical, `OS service "x" is failed`},
		{manager{err: errors.New("no systemd")}, api.Critical, `OS service "x": no systemd`},
		{manager{err: context.DeadlineExceeded}, api.Critical, `OS service "x": no answer in time`},
	} {
		if status, output := osServiceProbe(c.manager, "x")(t.Context()); status != c.status || output != c.output {
			t.Errorf("got %s %q, want %s %q", status, output, c.status, c.output)
		}
	}
}

func TestStateOfOSService(t *testing.T) {
	for shown, want := range map[string]string{
		"LoadState=loaded\nActiveState=active\n":      "active",
		"ActiveState=failed\nLoadState=loaded\n":      "failed",
		"LoadState=not-found\nActiveState=inactive\n": "there is no service of that name",
		"": `systemctl gives no state: ""`,
	} {
		state, err := stateOf(shown)
		if err != nil {
			state = err.Error()
		}
		if state != want {
			t.Errorf("%q: got %s, want %s", shown, state, want)
		}
	}
}
