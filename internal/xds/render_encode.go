package xds

import (
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"isthmus/internal/mesh"
)

// encoder appends messages field by field, which takes a fraction of the time of
// building and marshalling the generated types. A test reads them with those.
type encoder struct{ b []byte }

func (e *encoder) text(n protowire.Number, s string) {
	e.b = protowire.AppendTag(e.b, n, protowire.BytesType)
	e.b = protowire.AppendString(e.b, s)
}

func (e *encoder) varint(n protowire.Number, v int) {
	e.b = protowire.AppendTag(e.b, n, protowire.VarintType)
	e.b = protowire.AppendVarint(e.b, unsigned(v))
}

func unsigned(v int) uint64 {
	return uint64(v) //nolint:gosec // ports, weights and lengths are not negative
}

func (e *encoder) raw(b []byte) { e.b = append(e.b, b...) }

// message appends a field that is a message. Its length is known only when it is
// written: most fit into the one byte that is kept free for it.
func (e *encoder) message(n protowire.Number, fields func()) {
	e.b = protowire.AppendTag(e.b, n, protowire.BytesType)
	e.b = append(e.b, 0)
	start := len(e.b)
	fields()
	size := unsigned(len(e.b) - start)
	if more := protowire.SizeVarint(size) - 1; more > 0 {
		e.b = slices.Grow(e.b, more)[:len(e.b)+more]
		copy(e.b[start+more:], e.b[start:])
	}
	protowire.AppendVarint(e.b[:start-1], size)
}

// cluster appends a Cluster: its name, what all of its kind have in common, and
// its endpoints where they are a part of it.
func (e *encoder) cluster(c *cluster, parts *parts) {
	const name, loadAssignment = 1, 33
	e.text(name, c.name)
	switch {
	case c.remote:
		e.raw(parts.remote[c.lookup])
	default:
		e.raw(parts.local[c.lookup])
	}
	if c.lookup != byEDS {
		e.message(loadAssignment, func() { e.loadAssignment(c.name, c.endpoints) })
	}
}

// loadAssignment appends the fields of a ClusterLoadAssignment.
func (e *encoder) loadAssignment(cluster string, endpoints []mesh.Endpoint) {
	const clusterName, localities, lbEndpoints = 1, 2, 2
	e.text(clusterName, cluster)
	if len(endpoints) == 0 {
		return
	}
	e.message(localities, func() {
		for i := range endpoints {
			e.message(lbEndpoints, func() { e.endpoint(&endpoints[i]) })
		}
	})
}

// endpoint appends the fields of an LbEndpoint.
func (e *encoder) endpoint(ep *mesh.Endpoint) {
	const endpoint, endpointAddress, healthStatus, weight, wrapped, maxWeight = 1, 1, 2, 4, 1, 65535
	status := corev3.HealthStatus_HEALTHY
	if !ep.Healthy {
		status = corev3.HealthStatus_UNHEALTHY
	}
	e.message(endpoint, func() { e.address(endpointAddress, ep.Host, ep.Port) })
	e.varint(healthStatus, int(status))
	e.message(weight, func() { e.varint(wrapped, min(max(ep.Weight, 1), maxWeight)) })
}

// address appends a field that is an Address.
func (e *encoder) address(n protowire.Number, host string, port int) {
	const socketAddress, address, portValue = 1, 2, 3
	e.message(n, func() {
		e.message(socketAddress, func() {
			e.text(address, host)
			e.varint(portValue, port)
		})
	})
}

// listener appends a Listener.
func (e *encoder) listener(l *listener, chains []chain, parts *parts) {
	const name, address, filterChains = 1, 2, 3
	e.text(name, l.name)
	e.address(address, l.host, l.port)
	for i := range chains {
		e.message(filterChains, func() { e.chain(&chains[i], l.label, parts) })
	}
	e.raw(parts.inspector)
}

// chain appends the fields of a FilterChain.
func (e *encoder) chain(c *chain, label string, parts *parts) {
	const (
		filterChainMatch, serverNames, filters = 1, 11, 3
		name, typedConfig, typeURL, value      = 1, 4, 1, 2
		statPrefix, cluster                    = 1, 2
	)
	e.message(filterChainMatch, func() {
		for _, match := range c.match {
			e.text(serverNames, match)
		}
	})
	if c.cluster == "" {
		e.raw(parts.sniCluster)
	}
	e.message(filters, func() {
		e.text(name, "envoy.filters.network.tcp_proxy")
		e.message(typedConfig, func() {
			e.text(typeURL, tcpProxyType)
			e.message(value, func() {
				e.message(statPrefix, func() { e.statPrefix(c, label) })
				e.text(cluster, c.cluster)
				e.raw(parts.tcpProxy)
			})
		})
	})
}

// statPrefix appends the text of a prefix: what is counted, the listener, and
// the datacenter if it is another's or a server's.
func (e *encoder) statPrefix(c *chain, label string) {
	e.b = append(append(e.b, c.prefix...), label...)
	if c.datacenter != "" {
		e.b = append(append(e.b, '.'), c.datacenter...)
	}
}
