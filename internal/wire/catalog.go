package wire

import (
	"isthmus/api"
	"isthmus/internal/rpc"
)

// The catalog and the health of what is in it.
var (
	CatalogRegister   = rpc.Method[api.Registration, Empty]{Name: "Catalog.Register", Write: true}
	CatalogDeregister = rpc.Method[api.Deregistration, Empty]{Name: "Catalog.Deregister", Write: true}

	CatalogDatacenters     = rpc.Method[Empty, []string]{Name: "Catalog.ListDatacenters", Local: true}
	CatalogNodes           = rpc.Method[DCQuery, []*api.Node]{Name: "Catalog.ListNodes", Reply: "Nodes"}
	CatalogServices        = rpc.Method[DCQuery, map[string][]string]{Name: "Catalog.ListServices", Reply: "Services"}
	CatalogServiceNodes    = rpc.Method[ServiceQuery, []*api.ServiceNode]{Name: "Catalog.ServiceNodes", Reply: "ServiceNodes"}
	CatalogNodeServices    = rpc.Method[NodeQuery, *api.NodeServices]{Name: "Catalog.NodeServices", Reply: "NodeServices"}
	CatalogNodeServiceList = rpc.Method[NodeQuery, api.NodeServiceList]{Name: "Catalog.NodeServiceList", Reply: "NodeServices"}

	CatalogGatewayServices = rpc.Method[ServiceQuery, []*GatewayService]{Name: "Catalog.GatewayServices", Reply: "Services"}

	HealthChecksInState = rpc.Method[StateQuery, []*api.HealthCheck]{Name: "Health.ChecksInState", Reply: "HealthChecks"}
	HealthNodeChecks    = rpc.Method[NodeQuery, []*api.HealthCheck]{Name: "Health.NodeChecks", Reply: "HealthChecks"}
	HealthServiceChecks = rpc.Method[ServiceQuery, []*api.HealthCheck]{Name: "Health.ServiceChecks", Reply: "HealthChecks"}
	HealthServiceNodes  = rpc.Method[ServiceQuery, []*api.Instance]{Name: "Health.ServiceNodes", Reply: "Nodes"}

	ServiceDump = rpc.Method[DumpQuery, DumpReply]{Name: "Internal.ServiceDump", Reply: rpc.Flat}
)

// DumpQuery asks for all instances, or for those of a kind.
type DumpQuery struct {
	ServiceKind    string
	UseServiceKind bool
	Source         Source
	PeerName       string
}

// GatewayService is a service that a gateway leads to.
type GatewayService struct {
	Gateway      ServiceName
	Service      ServiceName
	GatewayKind  string
	ServiceKind  string
	Port         int
	Protocol     string
	Hosts        []string
	CAFile       string
	CertFile     string
	KeyFile      string
	SNI          string
	FromWildcard bool
	api.RaftIndex
}

// ServiceName is the name of a service where the protocol wraps it.
type ServiceName struct{ Name string }

// DumpReply is all instances, or those of a kind.
type DumpReply struct {
	Nodes         []api.CheckServiceNode
	ImportedNodes []api.CheckServiceNode
	Gateways      []*GatewayService
}
