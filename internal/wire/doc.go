// Package wire declares every method that servers answer, with its request and
// response types: the protocol between agents and servers and between
// datacenters. Field names are names on the wire. What all requests share, such
// as token and datacenter, is in rpc.Header.
package wire

import "isthmus/internal/rpc"

// Methods lists every declared method, so that tests can check that each is
// answered and keeps its bytes.
func Methods() []rpc.Desc {
	return []rpc.Desc{
		CatalogRegister.Desc(), CatalogDeregister.Desc(), CatalogDatacenters.Desc(), CatalogNodes.Desc(),
		CatalogServices.Desc(), CatalogServiceNodes.Desc(), CatalogNodeServices.Desc(), CatalogNodeServiceList.Desc(),
		HealthChecksInState.Desc(), HealthNodeChecks.Desc(), HealthServiceChecks.Desc(), HealthServiceNodes.Desc(),
		KVApply.Desc(), KVGet.Desc(), KVList.Desc(), KVKeys.Desc(),
		FederationApply.Desc(), FederationGet.Desc(), FederationList.Desc(), FederationGateways.Desc(),
		StatusPing.Desc(), StatusLeader.Desc(), StatusPeers.Desc(), StatusRaft.Desc(),
		ServiceDump.Desc(), FederationStatus.Desc(),
		CatalogGatewayServices.Desc(), NodeDump.Desc(), NodeInfoRead.Desc(), CatalogOverview.Desc(),
		CoordinateUpdate.Desc(), CoordinateNodes.Desc(), CoordinateNode.Desc(), CoordinateDatacenters.Desc(),
		CARoots.Desc(), CAConfiguration.Desc(), CASignIntermediate.Desc(),
	}
}

// Empty is an argument or answer without fields.
type Empty struct{}

// Source says where a request comes from, to sort answers by distance.
type Source struct {
	Datacenter    string
	Segment       string
	Node          string
	NodePartition string
	Ip            string //nolint:revive // the protocol's spelling
}

// DCQuery asks for something of a whole datacenter.
type DCQuery struct {
	Source          Source
	NodeMetaFilters map[string]string
	PeerName        string
}

// NodeQuery asks for something of a node.
type NodeQuery struct {
	Node               string
	PeerName           string
	MergeCentralConfig bool
}

// ServiceQuery asks for something of a service. ServiceTag is the form with one
// tag that old agents send.
type ServiceQuery struct {
	ServiceName        string
	ServiceKind        string
	ServiceTag         string
	ServiceTags        []string
	ServiceAddress     string
	TagFilter          bool
	Connect            bool
	Ingress            bool
	Source             Source
	NodeMetaFilters    map[string]string
	PeerName           string
	MergeCentralConfig bool
}

// Tags returns the tags an instance must have, whichever form they came in.
func (q *ServiceQuery) Tags() []string {
	switch {
	case !q.TagFilter:
		return nil
	case len(q.ServiceTags) > 0:
		return q.ServiceTags
	case q.ServiceTag != "":
		return []string{q.ServiceTag}
	}
	return nil
}

// StateQuery asks for the checks in a state.
type StateQuery struct {
	State           string
	Source          Source
	NodeMetaFilters map[string]string
	PeerName        string
}
