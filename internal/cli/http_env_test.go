package cli

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// whoAsks answers with what a client shows of itself.
func whoAsks(w http.ResponseWriter, r *http.Request) {
	name := ""
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		name = r.TLS.PeerCertificates[0].DNSNames[0]
	}
	user, password, _ := r.BasicAuth()
	_, _ = io.WriteString(w, `["`+strings.Join([]string{
		r.URL.Query().Get("ns"), r.Header.Get("X-Consul-Token"), user, password, name,
	}, "|")+`"]`)
}

// bothPrefixes runs a test with the variables that clients of Consul know, and
// with our own.
func bothPrefixes(t *testing.T, test func(t *testing.T, set func(name, value string))) {
	t.Helper()
	for _, prefix := range []string{envPrefix, aliasPrefix} {
		t.Run(prefix, func(t *testing.T) {
			cleanEnv(t)
			test(t, func(name, value string) { t.Setenv(prefix+name, value) })
		})
	}
}

func TestNodeIsAskedOverAUnixSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "http.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: ln, Config: &http.Server{Handler: http.HandlerFunc(whoAsks)}}
	srv.Start()
	t.Cleanup(srv.Close)
	bothPrefixes(t, func(t *testing.T, set func(name, value string)) { //nolint:thelper // a test of its own
		set("HTTP_ADDR", "unix://"+socket)
		set("HTTP_TOKEN", "secret")
		set("HTTP_AUTH", "user:pass:word")
		set("NAMESPACE", "n")
		run(t, "catalog", "datacenters").expect(t, 0, "n|secret|user|pass:word|\n", "")
	})
}

func TestTokenFileOfTheEnvironment(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(whoAsks))
	t.Cleanup(srv.Close)
	file := filepath.Join(t.TempDir(), "token")
	writeFile(t, file, "of-file\n")
	bothPrefixes(t, func(t *testing.T, set func(name, value string)) { //nolint:thelper // a test of its own
		set("HTTP_ADDR", srv.URL)
		set("HTTP_TOKEN_FILE", file)
		run(t, "catalog", "datacenters").expect(t, 0, "|of-file|||\n", "")
		set("HTTP_TOKEN_FILE", file+".none")
		run(t, "catalog", "datacenters").expect(t, 1, "", "Error loading token file")
	})
}

// secured serves HTTPS with certificates of the tls commands, to clients with
// such ones only, and leaves them in the working directory.
func secured(t *testing.T) (addr string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for _, line := range []string{"tls ca create", "tls cert create -server", "tls cert create -client"} {
		if got := run(t, strings.Fields(line)...); got.code != 0 {
			t.Fatal(got.stderr)
		}
	}
	pem, err := os.ReadFile("consul-agent-ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair("dc1-server-consul-0.pem", "dc1-server-consul-0-key.pem")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(whoAsks))
	srv.Config.ErrorLog = nil
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	if err := os.Mkdir("cas", 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, "cas/ca.pem", string(pem))
	return srv.Listener.Addr().String()
}

func TestTLSOfTheEnvironment(t *testing.T) {
	addr := secured(t)
	const asClient = "||||client.dc1.consul\n"
	bothPrefixes(t, func(t *testing.T, set func(name, value string)) { //nolint:thelper // a test of its own
		set("HTTP_ADDR", addr)
		set("HTTP_SSL", "true")
		set("CLIENT_CERT", "dc1-client-consul-0.pem")
		set("CLIENT_KEY", "dc1-client-consul-0-key.pem")
		run(t, "catalog", "datacenters").expect(t, 1, "", "certificate signed by unknown authority")
		set("CACERT", "consul-agent-ca.pem")
		run(t, "catalog", "datacenters").expect(t, 0, asClient, "") // it is for 127.0.0.1 as well
		set("TLS_SERVER_NAME", "server.dc1.consul")
		run(t, "catalog", "datacenters").expect(t, 0, asClient, "")
		set("TLS_SERVER_NAME", "server.dc2.consul")
		run(t, "catalog", "datacenters").expect(t, 1, "", "not server.dc2.consul")
		set("HTTP_SSL_VERIFY", "false")
		run(t, "catalog", "datacenters").expect(t, 0, asClient, "")
	})
	bothPrefixes(t, func(t *testing.T, set func(name, value string)) { //nolint:thelper // a test of its own
		set("HTTP_ADDR", "https://"+addr)
		set("CAPATH", "cas")
		set("CLIENT_CERT", "dc1-client-consul-0.pem")
		set("CLIENT_KEY", "dc1-client-consul-0-key.pem")
		run(t, "catalog", "datacenters").expect(t, 0, asClient, "")
	})
	bothPrefixes(t, func(t *testing.T, set func(name, value string)) { //nolint:thelper // a test of its own
		set("HTTP_ADDR", "127.0.0.1:1")
		set("HTTP_SSL", "false")
		run(t, "catalog", "datacenters", "-http-addr=https://"+addr, "-ca-file=consul-agent-ca.pem", "-tls-server-name=server.dc1.consul",
			"-client-cert=dc1-client-consul-0.pem", "-client-key=dc1-client-consul-0-key.pem").expect(t, 0, asClient, "")
		run(t, "catalog", "datacenters", "-http-addr=https://"+addr, "-ca-path=cas").expect(t, 1, "", "certificate required")
	})
}
