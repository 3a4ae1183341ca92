package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/anypb"

	"isthmus/api"
	"isthmus/internal/mesh"
)

// Render makes the resources of a mesh gateway. Equal snapshots give equal
// bytes. What would make Envoy refuse a resource as a whole, such as a malformed
// name of one of many servers, is left out; Warnings tells of it.
func Render(s *mesh.Snapshot) (Resources, error) {
	p, err := newPlan(s)
	if err != nil {
		return nil, err
	}
	parts, err := newParts(&p.settings)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(p.clusters, func(a, b cluster) int { return strings.Compare(a.name, b.name) })
	slices.SortFunc(p.listeners, func(a, b listener) int { return strings.Compare(a.name, b.name) })

	var clusters, endpoints, listeners batch
	clusters.grow(len(p.clusters), bytesPerCluster)
	endpoints.grow(len(p.clusters), bytesPerCluster)
	listeners.grow(len(p.listeners), bytesPerChain*(1+len(p.chains)))
	for i := range p.clusters {
		cl := &p.clusters[i]
		clusters.add(cl.name, func(e *encoder) { e.cluster(cl, parts) })
		if cl.lookup == byEDS {
			endpoints.add(cl.name, func(e *encoder) { e.loadAssignment(cl.name, cl.endpoints) })
		}
	}
	for i := range p.listeners {
		l := &p.listeners[i]
		listeners.add(l.name, func(e *encoder) { e.listener(l, p.chains, parts) })
	}
	return Resources{
		ClusterType:  clusters.resources(ClusterType),
		EndpointType: endpoints.resources(EndpointType),
		ListenerType: listeners.resources(ListenerType),
	}, nil
}

// Warnings tells what Render leaves out of a snapshot or replaces by a default,
// and why: settings of the wrong type, names that no connection can ask for,
// addresses that Envoy refuses.
func Warnings(s *mesh.Snapshot) []string {
	p, err := newPlan(s)
	if err != nil {
		return nil
	}
	return p.warnings
}

// checkProxy tells whether a snapshot is one that can be rendered.
func checkProxy(s *mesh.Snapshot) error {
	switch {
	case s == nil || s.Proxy == nil:
		return api.Errorf(api.Invalid, "render: the snapshot has no proxy")
	case s.Proxy.Kind != api.MeshGateway:
		return api.Errorf(api.NotBuilt, "render proxy %q: kind %q is not supported, only %s is", s.Proxy.ID, s.Proxy.Kind, api.MeshGateway)
	case !isName(s.Datacenter) || !isName(s.Domain):
		return api.Errorf(api.Invalid, "render proxy %q: datacenter %q and domain %q are not DNS names", s.Proxy.ID, s.Datacenter, s.Domain)
	case s.TrustDomain != "" && !isName(s.TrustDomain):
		return api.Errorf(api.Invalid, "render proxy %q: trust domain %q is not a DNS name", s.Proxy.ID, s.TrustDomain)
	default:
		return nil
	}
}

// About what one takes, so that the buffers seldom grow.
const (
	bytesPerCluster = 160
	bytesPerChain   = 280
)

// batch encodes many resources of one type into one buffer.
type batch struct {
	enc   encoder
	names []string
	ends  []int
}

func (b *batch) grow(n, size int) {
	b.enc.b = make([]byte, 0, n*size)
	b.names = make([]string, 0, n)
	b.ends = make([]int, 0, n)
}

func (b *batch) add(name string, encode func(*encoder)) {
	encode(&b.enc)
	b.names = append(b.names, name)
	b.ends = append(b.ends, len(b.enc.b))
}

func (b *batch) resources(typeURL string) []Resource {
	out := make([]Resource, len(b.names))
	bodies := make([]anypb.Any, len(b.names))
	start := 0
	for i, end := range b.ends {
		body := b.enc.b[start:end:end]
		start = end
		bodies[i].TypeUrl, bodies[i].Value = typeURL, body
		out[i] = Resource{Name: b.names[i], Version: version(body), Body: &bodies[i]}
	}
	return out
}

// version of a content: 64 bits of a hash that nobody can aim at.
func version(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:8])
}
