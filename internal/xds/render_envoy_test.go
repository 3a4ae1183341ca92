package xds_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"isthmus/internal/mesh"
	"isthmus/internal/testkit"
	"isthmus/internal/xds"
)

func TestEnvoyLoadsWhatRenderMakes(t *testing.T) {
	cases := map[string]*mesh.Snapshot{"many": snapshotOf(100, 3, 50)}
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, path := range paths {
		a, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		cases[filepath.Base(path)] = parseSnapshot(t, a.Files[0].Data)
	}
	for _, envoy := range testkit.Envoys(t) {
		for name, s := range cases {
			t.Run(filepath.Base(envoy)+"/"+name, func(t *testing.T) {
				b := newBootstrap()
				addStatic(t, b, s)
				cmd := exec.Command(envoy, "--mode", "validate", "--log-level", "warning", "--use-dynamic-base-id", "-c", writeBootstrap(t, b))
				if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(bytes.ToLower(out), []byte("deprecated")) {
					t.Errorf("%v: %s", err, out)
				}
			})
		}
	}
}

// newBootstrap has what clusters refer to: a server of resources.
func newBootstrap() *bootstrapv3.Bootstrap {
	return &bootstrapv3.Bootstrap{
		Node: &corev3.Node{Id: "test", Cluster: "test"},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{{
			Name: "local_agent", ConnectTimeout: durationpb.New(1e9),
			ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		}}},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{AdsConfig: &corev3.ApiConfigSource{
			ApiType: corev3.ApiConfigSource_DELTA_GRPC, TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: "local_agent"},
			}}},
		}},
	}
}

// addStatic adds the resources of a snapshot. Clusters whose endpoints are
// resources of their own stand there twice: as they are, and with the endpoints
// inside, named "static …", so that Envoy sees those as well.
func addStatic(t testing.TB, b *bootstrapv3.Bootstrap, s *mesh.Snapshot) {
	t.Helper()
	all, err := xds.Render(s)
	if err != nil {
		t.Fatal(err)
	}
	clusters := make(map[string]*clusterv3.Cluster)
	for _, r := range all[xds.ClusterType] {
		c := unpack(t, r, &clusterv3.Cluster{})
		clusters[r.Name] = unpack(t, r, &clusterv3.Cluster{})
		b.StaticResources.Clusters = append(b.GetStaticResources().GetClusters(), c)
	}
	for _, r := range all[xds.EndpointType] {
		c := clusters[r.Name]
		delete(clusters, r.Name)
		if c.GetType() != clusterv3.Cluster_EDS {
			t.Fatalf("%s has endpoints that nothing asks for", r.Name)
		}
		c.Name = "static " + r.Name
		c.EdsClusterConfig = nil
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
		c.LoadAssignment = unpack(t, r, &endpointv3.ClusterLoadAssignment{})
		b.StaticResources.Clusters = append(b.GetStaticResources().GetClusters(), c)
	}
	for name, c := range clusters {
		if c.GetType() == clusterv3.Cluster_EDS {
			t.Errorf("the endpoints of %s are missing", name)
		}
	}
	for _, r := range all[xds.ListenerType] {
		l := unpack(t, r, &listenerv3.Listener{})
		b.StaticResources.Listeners = append(b.GetStaticResources().GetListeners(), l)
	}
}

func unpack[M proto.Message](t testing.TB, r xds.Resource, to M) M {
	t.Helper()
	if err := r.Body.UnmarshalTo(to); err != nil {
		t.Fatalf("%s: %v", r.Name, err)
	}
	return to
}

func writeBootstrap(t *testing.T, b *bootstrapv3.Bootstrap) string {
	t.Helper()
	text, err := protojson.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
