package xds

import (
	"fmt"
	"math"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	sniclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_cluster/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const tcpProxyType = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"

// lookup is how Envoy finds the endpoints of a cluster.
type lookup int

const (
	byEDS        lookup = iota // they are a resource of their own; IP addresses only
	byStrictDNS                // all addresses of all host names
	byLogicalDNS               // one host name, an address of it for each new connection
	lookups
)

// parts are what many resources of one Render have in common, encoded once.
type parts struct {
	local, remote [lookups][]byte // a Cluster without name and endpoints
	inspector     []byte          // the TLS inspector in a Listener
	sniCluster    []byte          // the filter in a FilterChain that takes the server name for a cluster's
	tcpProxy      []byte          // a TcpProxy without prefix and cluster
}

func newParts(s *settings) (*parts, error) {
	var p parts
	var err error
	encode := func(to *[]byte, m proto.Message) {
		if err == nil {
			*to, err = proto.MarshalOptions{Deterministic: true}.Marshal(m)
		}
	}
	for d := range lookups {
		c := clusterOf(s, d)
		encode(&p.local[d], c)
		if s.keepalive {
			c.UpstreamConnectionOptions = keepaliveOf(s)
		}
		encode(&p.remote[d], c)
	}
	encode(&p.inspector, &listenerv3.Listener{ListenerFilters: []*listenerv3.ListenerFilter{{
		Name:       "envoy.filters.listener.tls_inspector",
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: anyOf(&tlsinspectorv3.TlsInspector{})},
	}}})
	encode(&p.sniCluster, &listenerv3.FilterChain{Filters: []*listenerv3.Filter{{
		Name:       "envoy.filters.network.sni_cluster",
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: anyOf(&sniclusterv3.SniCluster{})},
	}}})
	// A connection that one gateway refuses goes to the next.
	encode(&p.tcpProxy, &tcpproxyv3.TcpProxy{MaxConnectAttempts: wrapperspb.UInt32(3)})
	if err != nil {
		return nil, fmt.Errorf("render: encode: %w", err)
	}
	return &p, nil
}

func clusterOf(s *settings, d lookup) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		ConnectTimeout: durationpb.New(s.connectTimeout),
		// Endpoints that are ill or fail are passed over while there is another, be it
		// the last one, and all are tried when there is none.
		OutlierDetection: &clusterv3.OutlierDetection{MaxEjectionPercent: wrapperspb.UInt32(100)},
		CommonLbConfig:   &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{Value: 1}},
		// Envoy refuses the 1025th connection unless it is told otherwise, and a whole
		// datacenter may be behind this cluster.
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections: wrapperspb.UInt32(math.MaxUint32), MaxPendingRequests: wrapperspb.UInt32(math.MaxUint32),
		}}},
	}
	switch d {
	case byStrictDNS:
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
	case byLogicalDNS:
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_LOGICAL_DNS}
	case byEDS, lookups:
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
		c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: &corev3.ConfigSource{
			ResourceApiVersion:    corev3.ApiVersion_V3,
			ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		}}
		return c
	}
	c.DnsLookupFamily = clusterv3.Cluster_ALL
	return c
}

func keepaliveOf(s *settings) *clusterv3.UpstreamConnectionOptions {
	set := func(v uint32) *wrapperspb.UInt32Value {
		if v == 0 {
			return nil
		}
		return wrapperspb.UInt32(v)
	}
	return &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{
		KeepaliveTime: set(s.keepaliveTime), KeepaliveInterval: set(s.keepaliveInterval), KeepaliveProbes: set(s.keepaliveProbes),
	}}
}

// anyOf packs a message that has no fields set, which cannot fail.
func anyOf(m proto.Message) *anypb.Any {
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName())}
}
