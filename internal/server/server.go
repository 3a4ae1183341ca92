package server

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"isthmus/api"
	"isthmus/internal/acl"
	"isthmus/internal/ca"
	"isthmus/internal/consensus"
	"isthmus/internal/federation"
	"isthmus/internal/gossip"
	"isthmus/internal/rpc"
	"isthmus/internal/state"
	"isthmus/internal/telemetry"
	"isthmus/internal/wire"
)

// Log is the replicated log as the server uses it.
type Log interface {
	Ledger
	Peers
}

// Ledger is what is written, and who leads the writing.
type Ledger interface {
	Append(ctx context.Context, entry []byte) (result any, index uint64, err error)
	Verify(ctx context.Context) error // is this still the leader?
	Barrier(ctx context.Context) error
	IsLeader() bool
	Leader() (address, id string)
	LastContact() time.Duration
	Stats() map[string]string
}

// Peers are the servers that hold the log.
type Peers interface {
	HasState() bool
	Bootstrap(servers []consensus.Server) error
	Servers() ([]consensus.Server, error)
	AddVoter(ctx context.Context, id, address string) error
	RemoveServer(ctx context.Context, id string) error
}

// Config is what a server is told of itself.
type Config struct {
	Datacenter string
	Primary    string // the primary datacenter, which may be the own one
	Node       string
	ID         string
	Address    string                 // of the RPC port, as other servers reach it
	Hold       time.Duration          // how long a call is held while no leader is known
	Expect     int                    // servers to wait for before the first election; 0 leaves it to others
	Federate   bool                   // datacenters are joined through mesh gateways
	Connect    bool                   // the service mesh is on, and with it its certificate authority
	CA         ca.Settings            // of the authority where none are stored yet
	Token      string                 // for replication
	Members    func() []gossip.Member // of the LAN pool
	// CoordinatePeriod is how often a leader writes the coordinates that came; 0 is
	// the protocol's.
	CoordinatePeriod time.Duration
	// WANCoordinate is where a member of the WAN pool stands; nil without that pool.
	WANCoordinate func(member string) (api.NetworkCoordinate, bool)
	Log           *slog.Logger
}

// Server answers methods for one datacenter.
type Server struct {
	cfg         Config
	state       *state.State
	log         Log
	router      *rpc.Router
	primary     rpc.Caller          // servers of the primary datacenter
	locator     *federation.Locator // nil without federation
	handlers    *rpc.Handlers
	parks       map[string]park // by method
	gate        federation.Gate
	copier      federation.Replicator
	coordinates waiting
	lan         chan struct{} // wakes who follows the LAN's members
	blocking    atomic.Int64  // reads that wait for a change
	ready       atomic.Bool   // this leader has applied all that was committed before it
}

// New returns a server. It starts nothing. locator is nil unless datacenters are
// joined through mesh gateways.
func New(cfg Config, st *state.State, log Log, router *rpc.Router, locator *federation.Locator) *Server {
	s := &Server{
		cfg: cfg, state: st, log: log, router: router, primary: router.To(cfg.Primary), locator: locator,
		handlers: rpc.NewHandlers(), parks: map[string]park{}, lan: make(chan struct{}, 1),
	}
	s.gate.Servers = router.Servers
	s.gate.Datacenters = []string{cfg.Datacenter}
	if cfg.Primary != cfg.Datacenter {
		s.gate.Datacenters = append(s.gate.Datacenters, cfg.Primary)
	}
	s.gate.Stored = func() bool {
		for range state.FederationStates(st.Read()) {
			return true
		}
		return false
	}
	s.copier.Log = cfg.Log.With("component", "replication.federation_state")
	s.copier.Remote, s.copier.Token = s.primary, cfg.Token
	s.copier.Stored = func() []*api.FederationState { return slices.Collect(state.FederationStates(st.Read())) }
	s.copier.Apply = func(ctx context.Context, op string, f *api.FederationState) error {
		_, _, err := apply(ctx, s, &state.FederationApply, &wire.FederationRequest{Op: op, State: f})
		return err
	}
	bindCatalog(s)
	bindHealth(s)
	bindDump(s)
	bindCoordinate(s)
	bindKV(s)
	bindFederation(s)
	bindCA(s)
	bindStatus(s)
	bindView(s)
	return s
}

// Handlers are the methods as other processes may call them.
func (s *Server) Handlers() *rpc.Handlers { return s.handlers }

// Call implements rpc.Caller for the fronts of this process.
func (s *Server) Call(ctx context.Context, r *rpc.Request) (rpc.Meta, error) {
	telemetry.ClientRPC.Count()
	return s.handlers.Call(ctx, r) //nolint:wrapcheck // the pipeline's own errors
}

// Published are the datacenters whose gateways are known.
func (s *Server) Published() []string {
	var out []string
	for f := range state.FederationStates(s.state.Read()) {
		if len(f.MeshGateways) > 0 {
			out = append(out, f.Datacenter)
		}
	}
	return out
}

// authorizer resolves a token.
func (s *Server) authorizer(string) (acl.Authorizer, error) { return acl.AllowAll{}, nil }

// forward decides who answers. It returns nil when this server does.
func (s *Server) forward(d rpc.Desc, h rpc.Header) (rpc.Caller, error) {
	dc := s.cfg.Datacenter
	switch {
	case d.Local:
		return nil, nil
	case d.Primary:
		dc = s.cfg.Primary
	case h.Datacenter != "":
		dc = h.Datacenter
	}
	if dc != s.cfg.Datacenter {
		return s.router.To(dc), nil
	}
	if !d.Write && h.AllowStale && s.hasState() {
		return nil, nil
	}
	if s.log.IsLeader() {
		if !s.ready.Load() {
			return nil, api.Known(api.NotReady, nil)
		}
		return nil, nil
	}
	addr, _ := s.log.Leader()
	if addr == "" {
		return nil, api.Known(api.NoLeader, nil)
	}
	leader, ok := s.router.ServerAt(addr)
	if !ok {
		return nil, api.Known(api.LeaderUnmatched, nil)
	}
	return s.router.Server(leader), nil
}

// hasState tells whether this server can answer a stale read. After a restart it
// hears of a leader before its log is applied again: until then it knows nothing,
// and the leader is asked instead.
func (s *Server) hasState() bool { return s.state.LastIndex() > 0 }

// meta is what this server says of any answer.
func (s *Server) meta() rpc.Meta {
	if s.log.IsLeader() {
		return rpc.Meta{KnownLeader: true}
	}
	addr, _ := s.log.Leader()
	return rpc.Meta{KnownLeader: addr != "", LastContact: s.log.LastContact()}
}

// append replicates a command and returns its result.
func (s *Server) append(ctx context.Context, entry []byte) (any, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, enqueueLimit)
	defer cancel()
	result, index, err := s.log.Append(ctx, entry)
	switch {
	case errors.Is(err, consensus.ErrNotLeader):
		return nil, 0, api.Known(api.NoLeader, nil)
	case err != nil:
		return nil, 0, err //nolint:wrapcheck // says what it appended
	}
	if failed, ok := result.(error); ok {
		return nil, index, failed
	}
	return result, index, nil
}

// enqueueLimit bounds how long a write waits for its place in the log.
const enqueueLimit = 30 * time.Second
