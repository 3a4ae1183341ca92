package xds

import "google.golang.org/protobuf/types/known/anypb"

// Type URLs of the resources, in the order in which they must be sent so that
// nothing ever points at what is not there yet.
const (
	ClusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	ListenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
	RouteType    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
)

// Resource is one resource, ready to be sent.
type Resource struct {
	Name    string
	Version string // of the content: equal bytes have equal versions
	Body    *anypb.Any
}

// Resources are all resources of one proxy by type URL, each list ordered by
// name. Nobody changes one that has been handed out.
type Resources map[string][]Resource
