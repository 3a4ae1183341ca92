package wire

import (
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
)

// Federation states: what each datacenter publishes of its mesh gateways.
var (
	FederationApply    = rpc.Method[FederationRequest, bool]{Name: "FederationState.Apply", Write: true, Primary: true}
	FederationGet      = rpc.Method[FederationQuery, *api.FederationState]{Name: "FederationState.Get", Reply: "State", Route: "TargetDatacenter"}
	FederationList     = rpc.Method[DCQuery, []*api.FederationState]{Name: "FederationState.List", Reply: "States"}
	FederationGateways = rpc.Method[DCQuery, map[string][]api.CheckServiceNode]{
		Name: "FederationState.ListMeshGateways", Reply: "DatacenterNodes",
	}

	// FederationStatus is our own: how one server sees the federation. No peer of
	// another make is asked for it.
	FederationStatus = rpc.Method[Empty, ServerView]{Name: "Isthmus.FederationStatus", Local: true, Bare: true}
)

// Operations of a FederationRequest.
const (
	FederationUpsert = "upsert"
	FederationDelete = "delete"
)

// FederationRequest writes or deletes a federation state.
type FederationRequest struct {
	Op    string
	State *api.FederationState
}

// FederationQuery names the datacenter whose state is wanted. Which datacenter
// answers is in the header, sent as TargetDatacenter.
type FederationQuery struct {
	Datacenter string
}

// ServerView is how one server sees the federation at this moment.
type ServerView struct {
	Node        string
	Datacenter  string
	Leader      bool
	Datacenters []DatacenterView
	Replication ReplicationView
}

// DatacenterView is how a server reaches a datacenter.
type DatacenterView struct {
	Name         string
	Primary      bool
	ServersAlive int
	Servers      int
	Gateways     []GatewayView // in the order in which the next dial tries them
	Route        string        // own gateway, primary gateway, direct, or none
	UpdatedAt    time.Time     // of its federation state; zero when there is none
	Problems     []string
}

// GatewayView is what a server knows of a gateway it may dial.
type GatewayView struct {
	Address     string
	Source      string // configured or replicated
	Own         bool   // a gateway of the server's own datacenter
	Connections int    // open through it at the moment, to any datacenter
	LastSuccess time.Time
	LastFailure time.Time
	Error       string // of the last failure, when it is newer than the last success
}

// ReplicationView is how far a secondary's copy of the federation states is.
type ReplicationView struct {
	Running     bool
	LastSuccess time.Time
	LastError   string
	Index       uint64 // of the primary, up to which the copy is complete
}
