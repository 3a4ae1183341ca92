package xds_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"

	"isthmus/api"
	"isthmus/internal/mesh"
	"isthmus/internal/testkit"
	"isthmus/internal/xds"
)

var updateGolden = flag.Bool("update", false, "rewrite what Render makes in testdata")

// renderJSON renders a snapshot and returns what comes out in a form to read.
func renderJSON(t *testing.T, in []byte) []byte {
	t.Helper()
	s := parseSnapshot(t, in)
	all, err := xds.Render(s)
	if err != nil {
		t.Fatal(err)
	}
	checkResources(t, all)
	want := struct {
		Warnings                       []string `json:",omitempty"`
		Clusters, Endpoints, Listeners []json.RawMessage
	}{xds.Warnings(s), messages(t, all[xds.ClusterType]), messages(t, all[xds.EndpointType]), messages(t, all[xds.ListenerType])}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(want); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func parseSnapshot(t testing.TB, in []byte) *mesh.Snapshot {
	t.Helper()
	var s mesh.Snapshot
	d := json.NewDecoder(bytes.NewReader(in))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		t.Fatal(err)
	}
	return &s
}

func messages(t *testing.T, list []xds.Resource) []json.RawMessage {
	t.Helper()
	out := make([]json.RawMessage, 0, len(list))
	for _, r := range list {
		m, err := r.Body.UnmarshalNew()
		if err != nil {
			t.Fatalf("%s: %v", r.Name, err)
		}
		b, err := protojson.Marshal(m)
		if err != nil {
			t.Fatalf("%s: %v", r.Name, err)
		}
		out = append(out, b)
	}
	return out
}

// checkResources checks what holds for all resources: each name once and in
// order, valid by Envoy's own rules, in the generated types without a rest.
func checkResources(t testing.TB, all xds.Resources) {
	t.Helper()
	for url, list := range all {
		for i, r := range list {
			if i > 0 && list[i-1].Name >= r.Name {
				t.Errorf("%s follows %s in %s", r.Name, list[i-1].Name, url)
			}
			if r.Body.GetTypeUrl() != url || r.Version == "" {
				t.Errorf("%s is a %s of version %q in %s", r.Name, r.Body.GetTypeUrl(), r.Version, url)
			}
			m, err := r.Body.UnmarshalNew()
			if err != nil {
				t.Errorf("%s: %v", r.Name, err)
				continue
			}
			if err := m.(interface{ ValidateAll() error }).ValidateAll(); err != nil {
				t.Errorf("%s: %v", r.Name, err)
			}
			if name := nameOf(m); name != r.Name {
				t.Errorf("a resource named %s says %s", r.Name, name)
			}
			if got, want := len(r.Body.GetValue()), proto.Size(m); got != want {
				t.Errorf("%s takes %d bytes, of the generated types %d", r.Name, got, want)
			}
			if err := errors.Join(known(m), matchedOnce(m)); err != nil {
				t.Errorf("%s: %v", r.Name, err)
			}
		}
	}
}

// known tells whether a message, and all in it, has only fields that its type has.
func known(m proto.Message) error {
	return protorange.Range(m.ProtoReflect(), func(at protopath.Values) error {
		last := at.Index(-1)
		if inner, ok := last.Value.Interface().(protoreflect.Message); ok && len(inner.GetUnknown()) > 0 {
			return fmt.Errorf("unknown fields at %v", at.Path)
		}
		return nil
	})
}

// matchedOnce tells whether a listener matches each server name once: Envoy
// refuses it otherwise.
func matchedOnce(m proto.Message) error {
	l, _ := m.(*listenerv3.Listener)
	seen := make(map[string]bool)
	for _, c := range l.GetFilterChains() {
		for _, name := range c.GetFilterChainMatch().GetServerNames() {
			if seen[name] {
				return fmt.Errorf("%s is matched twice", name)
			}
			seen[name] = true
		}
	}
	return nil
}

func nameOf(m proto.Message) string {
	switch m := m.(type) {
	case *clusterv3.Cluster:
		return m.GetName()
	case *endpointv3.ClusterLoadAssignment:
		return m.GetClusterName()
	case *listenerv3.Listener:
		return m.GetName()
	default:
		return ""
	}
}

func TestRender(t *testing.T) {
	testkit.Golden(t, "testdata/*.txtar", *updateGolden, renderJSON)
}

func TestRenderRefusesWhatIsNoMeshGateway(t *testing.T) {
	proxy := func(kind string) *api.NodeService { return &api.NodeService{ID: "p", Kind: kind, Port: 1} }
	for want, s := range map[string]*mesh.Snapshot{
		"has no proxy":       {},
		`kind "" is not`:     {Proxy: proxy(""), Datacenter: "dc1", Domain: "consul"},
		"kind \"connect-pro": {Proxy: proxy("connect-proxy"), Datacenter: "dc1", Domain: "consul"},
		"are not DNS names":  {Proxy: proxy(api.MeshGateway), Datacenter: "dc1"},
		"trust domain":       {Proxy: proxy(api.MeshGateway), Datacenter: "dc1", Domain: "consul", TrustDomain: "*"},
	} {
		if _, err := xds.Render(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want something about %q", err, want)
		}
		if got := xds.Warnings(s); got != nil {
			t.Errorf("warnings %q of what cannot be rendered", got)
		}
	}
	if _, err := xds.Render(nil); err == nil {
		t.Error("no snapshot was rendered")
	}
}

func TestRenderChangesVersionsOfWhatChangedOnly(t *testing.T) {
	versions := func(s *mesh.Snapshot) map[string]string {
		all, err := xds.Render(s)
		if err != nil {
			t.Fatal(err)
		}
		out := make(map[string]string)
		for url, list := range all {
			for _, r := range list {
				out[url[strings.LastIndex(url, ".")+1:]+" "+r.Name] = r.Version
			}
		}
		return out
	}
	before, moved := snapshotOf(3, 2, 2), snapshotOf(3, 2, 2)
	moved.Remote[1].Gateways[0].Host = "203.0.113.99"
	a, b, c := versions(before), versions(snapshotOf(3, 2, 2)), versions(moved)
	var changed []string
	for name, version := range a {
		if b[name] != version {
			t.Errorf("%s of an equal snapshot has another version", name)
		}
		if c[name] != version {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	want := []string{
		"ClusterLoadAssignment remote002.internal.11111111-2222-3333-4444-555555555555.consul",
		"ClusterLoadAssignment server.remote002.consul",
	}
	if !slices.Equal(changed, want) {
		t.Errorf("changed %q, want %q", changed, want)
	}
}

func TestRenderLeavesTheSnapshotAsItWas(t *testing.T) {
	in := []byte(`{"Proxy":{"Kind":"mesh-gateway","ID":"g","Port":8443,"Meta":{"consul-wan-federation":"1"},"Proxy":{"Config":{"envoy_mesh_gateway_bind_tagged_addresses":true}},
		"TaggedAddresses":{"lan":{"Address":"10.0.0.1","Port":8443}}},"Datacenter":"dc1","Domain":"consul","TrustDomain":"x.consul",
		"Servers":[{"Node":"b","Host":"bad host","Port":1},{"Node":"a","Host":"10.0.0.1","Port":8300},{"Node":"A","Host":"10.0.0.2","Port":8300}],
		"Remote":[{"Datacenter":"dc3","Gateways":[{"Node":"x","Host":"","Port":1,"Servers":true},{"Node":"y","Host":"10.0.0.3","Port":2}]},{"Datacenter":"dc2","Gateways":null}]}`)
	s := parseSnapshot(t, in)
	before := fmt.Sprintf("%#v %#v", *s, *s.Proxy)
	if _, err := xds.Render(s); err != nil {
		t.Fatal(err)
	}
	if after := fmt.Sprintf("%#v %#v", *s, *s.Proxy); after != before {
		t.Errorf("got %s, want %s", after, before)
	}
}

// snapshotOf is a gateway's view of a federation.
func snapshotOf(datacenters, gateways, servers int) *mesh.Snapshot {
	s := &mesh.Snapshot{
		Proxy: &api.NodeService{
			Kind: api.MeshGateway, ID: "gw1", Service: "mesh-gateway", Address: "10.0.0.1", Port: 8443,
			Meta: map[string]string{api.FederationKey: "1"},
		},
		Datacenter: "dc1", Domain: "consul", TrustDomain: "11111111-2222-3333-4444-555555555555.consul",
	}
	for i := range servers {
		s.Servers = append(s.Servers, mesh.Endpoint{Node: fmt.Sprintf("server-%03d", i+1), Host: fmt.Sprintf("10.0.1.%d", i+1), Port: 8300, Healthy: true})
	}
	for i := range datacenters {
		r := mesh.Remote{Datacenter: fmt.Sprintf("remote%03d", i+1)}
		for j := range gateways {
			r.Gateways = append(r.Gateways, mesh.Endpoint{
				Node: fmt.Sprintf("gateway-%d", j+1), Host: fmt.Sprintf("203.0.%d.%d", i, j+1), Port: 443, Healthy: true, Servers: true,
			})
		}
		s.Remote = append(s.Remote, r)
	}
	return s
}

func BenchmarkRender(b *testing.B) {
	s := snapshotOf(100, 3, 50)
	b.ReportAllocs()
	size := 0
	for b.Loop() {
		all, err := xds.Render(s)
		if err != nil {
			b.Fatal(err)
		}
		size = 0
		for _, list := range all {
			for _, r := range list {
				size += len(r.Body.GetValue())
			}
		}
	}
	b.ReportMetric(float64(size), "bytes")
}

func FuzzRender(f *testing.F) {
	for _, s := range []string{
		`{"Proxy":{"Kind":"mesh-gateway","Port":1},"Datacenter":"dc1","Domain":"consul","Remote":[{"Datacenter":"b","Gateways":[{"Host":"h","Port":1}]}]}`,
		`{"Proxy":{"Kind":"mesh-gateway","Port":1,"Proxy":{"Config":{"envoy_dns_discovery_type":"logical_dns","connect_timeout_ms":1e99,"envoy_mesh_gateway_bind_addresses":[[{"a":1}]]}}},
			"Datacenter":"dc1","Domain":"consul","TrustDomain":"t","Services":{"":[{"Host":"h","Port":1}],"S":[{"Host":"h","Port":1},{"Host":"::1%1","Port":-1}]}}`,
		`{"Proxy":{"Kind":"mesh-gateway","Meta":{"consul-wan-federation":"1"}},"Datacenter":"a","Domain":"t","TrustDomain":"t","Remote":[{"Datacenter":"server"},{"Datacenter":"internal"}]}`,
		`{"Proxy":{"Kind":"mesh-gateway","Meta":{"consul-wan-federation":"1"}},"Datacenter":"D","Domain":"d","Servers":[{"Node":"\ud800"},{"Node":"*"}],"Remote":[{},{"Datacenter":"d"}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var s mesh.Snapshot
		if json.Unmarshal(in, &s) != nil {
			t.Skip()
		}
		all, err := xds.Render(&s)
		if err != nil {
			return
		}
		checkResources(t, all)
		again, err := xds.Render(&s)
		if err != nil || fmt.Sprint(again[xds.ListenerType]) != fmt.Sprint(all[xds.ListenerType]) {
			t.Errorf("rendered again: %v, %v", again, err)
		}
		xds.Warnings(&s)
	})
}
