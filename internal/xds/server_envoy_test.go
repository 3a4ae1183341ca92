package xds

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpproxy "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"isthmus/internal/testkit"
)

// TestEnvoys lets real Envoys of every version we have follow a server over both
// protocols: a start, moved endpoints, a reconnect, a replaced cluster, one cluster
// for another, a refused listener and its successor.
func TestEnvoys(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts processes")
	}
	for i, binary := range testkit.Envoys(t) {
		for j, protocol := range []string{"DELTA_GRPC", "GRPC"} {
			t.Run(filepath.Base(binary)+"/"+protocol, func(t *testing.T) {
				t.Parallel()
				testEnvoy(t, binary, protocol, fmt.Sprintf("127.42.%d.%d", i+1, j+1))
			})
		}
	}
}

func testEnvoy(t *testing.T, binary, protocol, ip string) {
	t.Helper()
	p := newProxies()
	one, two := greeter(t, ip, "one"), greeter(t, ip, "two")
	public := free(t, ip)
	p.set("gw", envoyResources(t, web("web", time.Second, one), door(public, "web")))
	first := startADS(t, p, ip+":0")
	admin := startEnvoy(t, binary, protocol, ip, first.addr)
	reaches(t, public, "one")
	inSync(t, first)

	p.set("gw", envoyResources(t, web("web", time.Second, two), door(public, "web")))
	reaches(t, public, "two")
	inSync(t, first)

	// The server restarts: Envoy has all there is, and is sent nothing.
	first.stop()
	second := startADS(t, p, first.addr)
	inSync(t, second)
	if n := second.sent.Load(); n != 0 {
		t.Errorf("after a reconnect %d responses were sent, want none", n)
	}

	// Envoy does not ask again for the endpoints of a cluster it replaces, and
	// would wait 15 s for them.
	begin := time.Now()
	p.set("gw", envoyResources(t, web("web", 7*time.Second, two), door(public, "web")))
	active(t, admin, `"7s"`, true)
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("a replaced cluster took %s to become active", d)
	}
	reaches(t, public, "two")

	// Whoever connects meanwhile always reaches one of the two.
	p.set("gw", envoyResources(t, web("other", time.Second, one), door(public, "other")))
	reaches(t, public, "one")
	active(t, admin, `"name": "other"`, true)
	active(t, admin, `"name": "web"`, false)
	inSync(t, second)

	// A listener without a destination is refused; its clusters go on.
	bad := door(public, "")
	p.set("gw", envoyResources(t, web("other", time.Second, two), bad))
	reaches(t, public, "two")
	testkit.Eventually(t, func() error {
		for _, typ := range types(second) {
			if typ.Type == "Listener" && typ.Rejected != nil && strings.Contains(typ.Rejected.Error, "TcpProxy") {
				return nil
			}
		}
		return fmt.Errorf("no refusal in %+v", second.server.Proxies())
	})
	sent := second.sent.Load()
	p.set("gw", envoyResources(t, web("other", time.Second, one), bad))
	reaches(t, public, "one")
	if n := second.sent.Load() - sent; n != 1 {
		t.Errorf("a change besides a refused listener made %d responses, want 1", n)
	}
	p.set("gw", envoyResources(t, web("other", time.Second, one), door(public, "other")))
	inSync(t, second)
}

// ads is a server with a socket.
type ads struct {
	server *Server
	addr   string
	sent   atomic.Int32 // responses
	stop   func()
}

func startADS(t *testing.T, p *proxies, addr string) *ads {
	t.Helper()
	a := &ads{server: p.server(t, Config{})}
	opts := append(ServerOptions(), grpc.ChainStreamInterceptor(
		func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			return handle(srv, counted{ss, &a.sent})
		}))
	g := grpc.NewServer(opts...)
	a.server.Register(g)
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	a.addr = ln.Addr().String()
	done := make(chan error, 1)
	go func() { done <- g.Serve(ln) }()
	a.stop = sync.OnceFunc(func() {
		g.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(a.stop)
	return a
}

type counted struct {
	grpc.ServerStream

	n *atomic.Int32
}

func (c counted) SendMsg(m any) error {
	c.n.Add(1)
	return c.ServerStream.SendMsg(m)
}

// types are the types of the one stream.
func types(a *ads) []TypeStatus {
	list := a.server.Proxies()
	if len(list) != 1 || len(list[0].Streams) != 1 {
		return nil
	}
	return list[0].Streams[0].Types
}

// inSync waits until Envoy has taken all of the newest view.
func inSync(t *testing.T, a *ads) {
	t.Helper()
	testkit.Eventually(t, func() error {
		list := types(a)
		if len(list) != 3 {
			return fmt.Errorf("%d types", len(list))
		}
		for _, typ := range list {
			if !typ.InSync() || typ.Has != 1 {
				return fmt.Errorf("not in sync: %+v, refused %+v", typ, typ.Rejected)
			}
		}
		return nil
	})
}

// startEnvoy returns the address of its admin page.
func startEnvoy(t *testing.T, binary, protocol, ip, server string) string {
	t.Helper()
	admin := free(t, ip)
	split := func(addr string) map[string]any {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		return map[string]any{"socket_address": map[string]any{"address": host, "port_value": json.Number(port)}}
	}
	overADS := map[string]any{"ads": map[string]any{}, "resource_api_version": "V3"}
	http2 := map[string]any{
		"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
		"explicit_http_config": map[string]any{"http2_protocol_options": map[string]any{}},
	}
	bootstrap, err := json.Marshal(map[string]any{
		"node":  map[string]any{"id": "gw", "cluster": "gw", "metadata": map[string]any{"namespace": "default"}},
		"admin": map[string]any{"address": split(admin)},
		"dynamic_resources": map[string]any{
			"ads_config": map[string]any{
				"api_type": protocol, "transport_api_version": "V3",
				"grpc_services": map[string]any{"envoy_grpc": map[string]any{"cluster_name": "xds"}},
			},
			"cds_config": overADS, "lds_config": overADS,
		},
		"static_resources": map[string]any{"clusters": []any{map[string]any{
			"name": "xds", "type": "STATIC", "connect_timeout": "1s",
			"typed_extension_protocol_options": map[string]any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
			"load_assignment": map[string]any{"cluster_name": "xds", "endpoints": []any{map[string]any{
				"lb_endpoints": []any{map[string]any{"endpoint": map[string]any{"address": split(server)}}},
			}}},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "--config-yaml", string(bootstrap), "--concurrency", "1", "--disable-hot-restart", "-l", "warn")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(output.String())
		}
	})
	return admin
}

// active waits until the clusters that Envoy uses have a text, or have not.
func active(t *testing.T, admin, text string, want bool) {
	t.Helper()
	testkit.Eventually(t, func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin+"/config_dump?resource=dynamic_active_clusters", nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = res.Body.Close() }()
		dump, err := io.ReadAll(res.Body)
		if err != nil {
			return err
		}
		if strings.Contains(string(dump), text) != want {
			return fmt.Errorf("active clusters have %s: %t, want %t", text, !want, want)
		}
		return nil
	})
}

// reaches waits until new connections are greeted by a name.
func reaches(t *testing.T, addr, name string) {
	t.Helper()
	testkit.Eventually(t, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		got, err := io.ReadAll(c)
		if err == nil && string(got) != name {
			err = fmt.Errorf("greeted by %q, want %q", got, name)
		}
		return err
	})
}

// greeter says its name to whoever connects.
func greeter(t *testing.T, ip, name string) string {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = io.WriteString(c, name)
				_ = c.Close()
			}
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

// free returns an address that nobody listens at.
func free(t *testing.T, ip string) string {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}

func envoyResources(t *testing.T, parts ...map[string]proto.Message) Resources {
	t.Helper()
	out := make(Resources)
	for _, part := range parts {
		for name, m := range part {
			body, err := anypb.New(m)
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(body.GetValue())
			kind, name, _ := strings.Cut(name, " ")
			out[kind] = append(out[kind], Resource{Name: name, Version: hex.EncodeToString(sum[:8]), Body: body})
		}
	}
	return out
}

func socket(t string) *corev3.Address {
	host, port, _ := net.SplitHostPort(t)
	var n uint32
	_, _ = fmt.Sscan(port, &n)
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: n},
	}}}
}

// web is a cluster and its endpoint.
func web(name string, timeout time.Duration, addr string) map[string]proto.Message {
	return map[string]proto.Message{
		ClusterType + " " + name: &clusterv3.Cluster{
			Name: name, ConnectTimeout: durationpb.New(timeout),
			ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
			EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: &corev3.ConfigSource{
				ResourceApiVersion:    corev3.ApiVersion_V3,
				ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
			}},
		},
		EndpointType + " " + name: &endpointv3.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: socket(addr)}},
			}}}},
		},
	}
}

// door is a listener that leads to a cluster.
func door(addr, to string) map[string]proto.Message {
	filter := &tcpproxy.TcpProxy{StatPrefix: "door", ClusterSpecifier: &tcpproxy.TcpProxy_Cluster{Cluster: to}}
	if to == "" {
		filter.StatPrefix = "" // it must have one
	}
	config, err := anypb.New(filter)
	if err != nil {
		panic(err)
	}
	return map[string]proto.Message{ListenerType + " door": &listenerv3.Listener{
		Name: "door", Address: socket(addr),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "envoy.filters.network.tcp_proxy", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: config},
		}}}},
	}}
}
