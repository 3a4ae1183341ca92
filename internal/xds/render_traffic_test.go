package xds_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"isthmus/internal/mesh"
	"isthmus/internal/testkit"
	"isthmus/internal/transport"
)

func TestConnectionsThroughEnvoyArriveWhereTheirNameLeads(t *testing.T) {
	peers := newPeers(t)
	healthy, ill := peers.endpoint(t, "healthy"), peers.endpoint(t, "ill")
	ill.Healthy = false
	byName, byIP, dead, ordinary := peers.endpoint(t, "by-name"), peers.endpoint(t, "by-ip"), deadEndpoint(t), peers.endpoint(t, "ordinary")
	byName.Host = "localhost"
	ordinary.Servers = false

	s := snapshotOf(0, 0, 0)
	s.Proxy.Address = "127.0.0.1"
	s.Servers = []mesh.Endpoint{peers.endpoint(t, "Rack.S1"), peers.endpoint(t, "s2")}
	s.Services = map[string][]mesh.Endpoint{"web": {peers.endpoint(t, "web")}}
	s.Remote = []mesh.Remote{
		{Datacenter: "dc2", Gateways: []mesh.Endpoint{dead, ill, healthy}},
		{Datacenter: "dc3", Gateways: []mesh.Endpoint{ill}},
		{Datacenter: "dc4", Gateways: []mesh.Endpoint{dead, byName, byIP, ordinary}},
		{Datacenter: "dc5"},
	}
	for _, envoy := range testkit.Envoys(t) {
		t.Run(filepath.Base(envoy), func(t *testing.T) {
			s.Proxy.Port = deadEndpoint(t).Port
			agent := peers.endpoint(t, "agent")
			startEnvoy(t, envoy, s, agent.Port)
			for name, want := range map[string]string{
				"rack.s1.server.dc1.consul":                 "Rack.S1",
				"Rack.S1.Server.DC1.consul":                 "Rack.S1",
				"s2.server.dc1.consul":                      "s2",
				"server.dc1.consul":                         "Rack.S1 s2",
				"any.server.dc2.consul":                     "healthy",
				"server.dc2.consul":                         "healthy",
				"web.default.dc2.internal." + s.TrustDomain: "healthy",
				"any.server.dc3.consul":                     "ill",
				"any.server.dc4.consul":                     "by-ip by-name",
				"web.default.dc4.internal." + s.TrustDomain: "by-ip by-name ordinary",
				"web.default.dc1.internal." + s.TrustDomain: "web",
				"any.server.dc5.consul":                     "",
				"s3.server.dc1.consul":                      "",
				"local_agent":                               "",
				"":                                          "",
			} {
				if got := peers.reached(t, s.Proxy.Port, name, want != ""); got != want {
					t.Errorf("%q led to %q, want %q", name, got, want)
				}
			}
		})
	}
}

// peers are servers that tell who they are by their certificates.
type peers struct{ ca, key []byte }

func newPeers(t *testing.T) peers {
	t.Helper()
	ca, key, err := transport.NewCA(transport.CAOptions{Domain: "consul", Days: 1})
	if err != nil {
		t.Fatal(err)
	}
	return peers{ca, key}
}

// endpoint starts a server.
func (p peers) endpoint(t *testing.T, node string) mesh.Endpoint {
	t.Helper()
	cert, key, err := transport.NewCert(p.ca, p.key, transport.CertOptions{Role: transport.ServerCert, Datacenter: "dc1", Domain: "consul", Node: node, Days: 1})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{pair}}).HandshakeContext(t.Context())
				_ = conn.Close()
			}()
		}
	}()
	return mesh.Endpoint{Node: node, Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, Healthy: true, Servers: true}
}

// deadEndpoint is one at which nothing listens.
func deadEndpoint(t *testing.T) mesh.Endpoint {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return mesh.Endpoint{Node: "dead", Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, Healthy: true, Servers: true}
}

// reached connects many times and returns the names of who answered. No connection
// may fail where any is expected to arrive.
func (p peers) reached(t *testing.T, port int, name string, arrives bool) string {
	t.Helper()
	const times = 24
	var seen []string
	for range times {
		conn, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err != nil {
			if arrives {
				t.Errorf("connect to %q: %v", name, err)
			}
			continue
		}
		leaf := conn.ConnectionState().PeerCertificates[0]
		_ = conn.Close()
		if who := nodeOf(leaf); !slices.Contains(seen, who) {
			seen = append(seen, who)
		}
	}
	slices.Sort(seen)
	return strings.Join(seen, " ")
}

func nodeOf(leaf *x509.Certificate) string {
	for _, name := range leaf.DNSNames {
		if node, ok := strings.CutSuffix(name, ".server.dc1.consul"); ok {
			return node
		}
	}
	return ""
}

// startEnvoy runs Envoy with the resources of a snapshot until the test ends, and
// with a cluster "local_agent" that only its own settings are meant to reach.
func startEnvoy(t *testing.T, envoy string, s *mesh.Snapshot, agentPort int) {
	t.Helper()
	b := newBootstrap()
	addStatic(t, b, s)
	b.DynamicResources = nil
	kept := b.GetStaticResources().GetClusters()[:0]
	for _, c := range b.GetStaticResources().GetClusters() {
		c.Name = strings.TrimPrefix(c.GetName(), "static ")
		if c.GetType() != clusterv3.Cluster_EDS {
			kept = append(kept, c)
		}
	}
	b.StaticResources.Clusters = kept
	kept[0].LoadAssignment = &endpointv3.ClusterLoadAssignment{ClusterName: "local_agent", Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: loopback(agentPort)}}}},
	}}}
	b.Admin = &bootstrapv3.Admin{Address: loopback(0)}

	admin := filepath.Join(t.TempDir(), "admin")
	cmd := exec.Command(envoy, "--log-level", "error", "--use-dynamic-base-id", "--concurrency", "1",
		"--admin-address-path", admin, "-c", writeBootstrap(t, b))
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	client := http.Client{Timeout: time.Second}
	testkit.Eventually(t, func() error {
		at, err := os.ReadFile(admin)
		if err != nil {
			return err
		}
		resp, err := client.Get("http://" + string(at) + "/ready")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}

func loopback(port int) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}
