package xds

import (
	"context"
	"net"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/structpb"

	"isthmus/internal/testkit"
)

// dialGRPC returns a client of a real gRPC server over memory, whose streams bear
// a token.
func dialGRPC(t *testing.T, s *Server, token string) (context.Context, discoveryv3.AggregatedDiscoveryServiceClient) {
	t.Helper()
	ln := bufconn.Listen(1 << 16)
	g := grpc.NewServer(ServerOptions()...)
	s.Register(g)
	done := make(chan error, 1)
	go func() { done <- g.Serve(ln) }()
	cc, err := grpc.NewClient("passthrough:", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cc.Close()
		g.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), tokenHeader, token), time.Minute)
	t.Cleanup(cancel)
	return ctx, discoveryv3.NewAggregatedDiscoveryServiceClient(cc)
}

func testNode() *corev3.Node {
	fields := map[string]*structpb.Value{"namespace": structpb.NewStringValue("default"), "n": structpb.NewNumberValue(1)}
	return &corev3.Node{
		Id: "gw", Cluster: "mesh-gateway", Metadata: &structpb.Struct{Fields: fields},
		UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: &corev3.BuildVersion{
			Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40, Patch: 2},
		}},
	}
}

func grpcProxies(t *testing.T) *Server {
	t.Helper()
	p := newProxies()
	p.tokens = map[string]bool{"secret": true}
	p.set("gw", envoyResources(t, web("a", time.Second, "192.0.2.1:80"), web("b", time.Second, "192.0.2.2:80")))
	return p.server(t, Config{})
}

func TestDeltaOverGRPC(t *testing.T) {
	s := grpcProxies(t)
	ctx, c := dialGRPC(t, s, "secret")
	stream, err := c.DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	send := func(in *discoveryv3.DeltaDiscoveryRequest) {
		t.Helper()
		if err := stream.Send(in); err != nil {
			t.Fatal(err)
		}
	}
	send(&discoveryv3.DeltaDiscoveryRequest{Node: testNode(), TypeUrl: EndpointType, ResourceNamesSubscribe: []string{"b", "none"}})
	out, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if len(out.GetResources()) != 1 || out.GetResources()[0].GetName() != "b" || out.GetResources()[0].GetVersion() == "" ||
		len(out.GetRemovedResources()) != 1 || out.GetTypeUrl() != EndpointType {
		t.Errorf("got %v", out)
	}
	send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: EndpointType, ResponseNonce: out.GetNonce(), ErrorDetail: &statuspb.Status{Message: "no"},
	})
	if out, err = stream.Recv(); err != nil || len(out.GetResources())+len(out.GetRemovedResources()) != 1 {
		t.Errorf("got %v, %v: want one of the two alone", out, err)
	}
	st := s.Proxies()[0].Streams[0]
	if st.Envoy != "1.40.2" || st.Cluster != "mesh-gateway" || len(st.Metadata) != 1 || st.Types[0].Rejected.Error != "no" {
		t.Errorf("got %+v", st)
	}
}

func TestStateOfTheWorldOverGRPC(t *testing.T) {
	s := grpcProxies(t)
	ctx, c := dialGRPC(t, s, "secret")
	version := ""
	for range 2 {
		stream, err := c.StreamAggregatedResources(ctx)
		if err != nil {
			t.Fatal(err)
		}
		in := &discoveryv3.DiscoveryRequest{Node: testNode(), TypeUrl: ClusterType, VersionInfo: version}
		if err := stream.Send(in); err != nil {
			t.Fatal(err)
		}
		if version != "" {
			// It has all there is: what comes first is for the next request.
			if err := stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: EndpointType, ResourceNames: []string{"a"}}); err != nil {
				t.Fatal(err)
			}
		}
		out, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if version != "" {
			if out.GetTypeUrl() != EndpointType || len(out.GetResources()) != 1 {
				t.Errorf("got %v", out)
			}
			return
		}
		if len(out.GetResources()) != 2 || out.GetVersionInfo() == "" {
			t.Errorf("got %v", out)
		}
		version = out.GetVersionInfo()
		in = &discoveryv3.DiscoveryRequest{TypeUrl: ClusterType, VersionInfo: version, ResponseNonce: out.GetNonce()}
		if err := stream.Send(in); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, func() error {
			list := s.Proxies()
			if len(list) == 1 && list[0].Streams[0].Types[0].Has == 2 {
				return nil
			}
			return status.Error(codes.Unavailable, "not taken yet")
		})
	}
}

func TestTokenIsAskedFor(t *testing.T) {
	s := grpcProxies(t)
	ctx, c := dialGRPC(t, s, "wrong")
	stream, err := c.DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: testNode(), TypeUrl: ClusterType}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("got %v", err)
	}
}
