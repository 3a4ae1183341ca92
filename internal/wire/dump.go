package wire

import (
	"isthmus/api"
	"isthmus/internal/rpc"
)

// Reads for whoever shows a whole datacenter.
var (
	NodeDump        = rpc.Method[DCQuery, []*NodeInfo]{Name: "Internal.NodeDump", Reply: "Dump"}
	NodeInfoRead    = rpc.Method[NodeQuery, []*NodeInfo]{Name: "Internal.NodeInfo", Reply: "Dump"}
	CatalogOverview = rpc.Method[DCQuery, CatalogSummary]{Name: "Internal.CatalogOverview"}
)

// NodeInfo is a node with its instances and all checks on it.
type NodeInfo struct {
	ID              string
	Node            string
	Partition       string `json:",omitempty"`
	PeerName        string `json:",omitempty"`
	Address         string
	TaggedAddresses map[string]string
	Meta            map[string]string
	Services        []*api.NodeService
	Checks          []*api.HealthCheck
}

// CatalogSummary counts what is in the catalog by state.
type CatalogSummary struct {
	Nodes    []HealthSummary
	Services []HealthSummary
	Checks   []HealthSummary
}

// HealthSummary is how many of the things of a name are in which state.
type HealthSummary struct {
	Name     string `json:",omitempty"`
	Total    int
	Passing  int
	Warning  int
	Critical int
}
