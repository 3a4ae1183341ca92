package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"isthmus/api"
	"isthmus/internal/filter"
	"isthmus/internal/gossip"
	"isthmus/internal/telemetry"
)

// member is a member of a pool as the API shows it.
type member struct {
	Name        string
	Addr        string
	Port        uint16
	Tags        map[string]string
	Status      int
	ProtocolMin uint8
	ProtocolMax uint8
	ProtocolCur uint8
	DelegateMin uint8
	DelegateMax uint8
	DelegateCur uint8
}

func memberOf(m *gossip.Member) member {
	return member{
		m.Name, m.Addr.String(), m.Port, m.Tags, int(m.Status),
		m.ProtocolMin, m.ProtocolMax, m.ProtocolCur, m.DelegateMin, m.DelegateMax, m.DelegateCur,
	}
}

// xds tells how this node configures proxies.
type xds struct {
	SupportedProxies map[string][]string
	Port             int // the one with TLS, when there are both
	Ports            xdsPorts
}

type xdsPorts struct{ Plaintext, TLS int }

// selfInfo is the answer of /v1/agent/self.
type selfInfo struct {
	Config      selfConfig
	DebugConfig any
	Coord       any
	Member      member
	Stats       map[string]map[string]string
	Meta        map[string]string
	XDS         *xds `json:"xDS,omitempty"`
}

type selfConfig struct {
	Datacenter        string
	PrimaryDatacenter string
	NodeName          string
	NodeID            string
	Revision          string
	Server            bool
	Version           string
	BuildDate         string
}

func agentSelf(q *request) error {
	cfg := &q.api.cfg
	own := cfg.LAN.Local()
	out := selfInfo{
		Config: selfConfig{
			cfg.Datacenter, cfg.Primary, cfg.Node, cfg.NodeID, "", cfg.Server, cfg.Build, buildDate,
		},
		DebugConfig: cfg.Settings,
		Member:      memberOf(&own),
		Meta:        map[string]string{"consul-network-segment": "", "consul-version": cfg.Build, "isthmus-version": cfg.Version},
	}
	if ports := cfg.XDS; ports.Plaintext > 0 || ports.TLS > 0 {
		out.XDS = &xds{
			SupportedProxies: map[string][]string{"envoy": EnvoyVersions},
			Port:             ports.Plaintext, Ports: xdsPorts(ports),
		}
		if ports.TLS > 0 {
			out.XDS.Port = ports.TLS
		}
	}
	if cfg.Coord != nil {
		out.Coord = cfg.Coord()
	}
	if cfg.Stats != nil {
		out.Stats = cfg.Stats()
	}
	return q.json(out)
}

// pool is the pool that a request is about: with ?wan, whatever its value, the
// WAN pool, which is nil on a client.
func (q *request) pool() Pool {
	if q.has("wan") {
		return q.api.cfg.WAN
	}
	return q.api.cfg.LAN
}

// What a client answers to who asks for the WAN pool.
var (
	errNoWANJoin  = api.Errorf(api.Internal, "Must be a server to join WAN cluster")
	errNoWANLeave = api.Errorf(api.Internal, "Must be a server to force-leave a node from the WAN cluster")
)

func agentMembers(q *request) error {
	if v := q.query.Get("segment"); v != "" && v != "_all" {
		return api.Errorf(api.Internal, "Network segments are not supported in this version of Consul")
	}
	keep, err := keeping(q, &q.api.filters.members)
	if err != nil {
		return err
	}
	pool := q.pool()
	if pool == nil {
		return q.json(nil) // a client knows nobody there
	}
	members := pool.Members()
	out := make([]member, 0, len(members))
	for i := range members {
		if m := memberOf(&members[i]); keep(&m) {
			out = append(out, m)
		}
	}
	return q.json(out)
}

// filters are the expressions that this node itself evaluates, compiled.
type filters struct {
	members  filter.Cache[member]
	services filter.Cache[api.NodeService]
	checks   filter.Cache[api.HealthCheck]
}

// keeping is what tells whether a row is wanted: the expression in ?filter, or
// nothing. Its error is the server's in the reference, too.
func keeping[T any](q *request, known *filter.Cache[T]) (func(*T) bool, error) {
	expression := q.query.Get("filter")
	if expression == "" {
		return func(*T) bool { return true }, nil
	}
	if err := filter.Check(expression); err != nil {
		return nil, api.Errorf(api.Invalid, "%w", err)
	}
	f, err := known.Compile(expression)
	if err != nil {
		return nil, calledError{err}
	}
	return f.Match, nil
}

func agentJoin(q *request) error {
	if q.has("wan") && q.api.cfg.Federated {
		return api.Errorf(api.Internal, "joining the WAN pool by hand is switched off: "+
			"connect.enable_mesh_gateway_wan_federation is on, and datacenters meet through mesh gateways alone")
	}
	pool := q.pool()
	if pool == nil {
		return errNoWANJoin
	}
	if _, err := pool.Join(q.Context(), []string{q.rest}); err != nil {
		return calledError{err}
	}
	return nil
}

func agentLeave(q *request) error {
	// Who leaves is stopping: that must not cut the answer.
	if err := q.api.cfg.Leave(context.WithoutCancel(q.Context())); err != nil {
		return calledError{err}
	}
	return nil
}

func agentForceLeave(q *request) error {
	cfg := &q.api.cfg
	prune := q.has("prune")
	if q.has("wan") {
		if cfg.WAN == nil {
			return errNoWANLeave
		}
		return q.forceLeave(cfg.WAN, prune)
	}
	if err := q.forceLeave(cfg.LAN, prune); err != nil {
		return err
	}
	if wide := q.rest + "." + cfg.Datacenter; cfg.WAN != nil && isMember(cfg.WAN, wide) {
		if err := cfg.WAN.ForceLeave(wide, prune); err != nil {
			return calledError{err}
		}
	}
	return nil
}

func (q *request) forceLeave(pool Pool, prune bool) error {
	if !isMember(pool, q.rest) {
		return api.Errorf(api.Internal, "agent: No node found with name '%s'", q.rest)
	}
	if err := pool.ForceLeave(q.rest, prune); err != nil {
		return calledError{err}
	}
	return nil
}

func isMember(pool Pool, name string) bool {
	for _, m := range pool.Members() {
		if m.Name == name {
			return true
		}
	}
	return false
}

func agentReload(q *request) error {
	if err := q.api.cfg.Reload(); err != nil {
		return calledError{err}
	}
	return nil
}

func agentMetrics(q *request) error {
	m := q.api.cfg.Metrics
	if m == nil {
		return api.Errorf(api.NotBuilt, "metrics are not built yet")
	}
	if q.query.Get("format") != "prometheus" && !strings.HasPrefix(q.Header.Get("Accept"), "application/openmetrics-text") {
		out, err := m.Summary()
		if err != nil {
			return calledError{err}
		}
		return q.json(out)
	}
	b := getBuffer()
	defer putBuffer(b)
	on, err := m.WritePrometheus(b)
	if err != nil {
		return calledError{err}
	}
	if !on {
		q.w.Header().Set("X-Consul-Reason", "Prometheus is not enabled since its retention time is not positive")
		return nil
	}
	q.w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	q.send(b.Bytes())
	return nil
}

// agentMonitor sends log lines for as long as the caller listens.
func agentMonitor(q *request) error {
	if q.api.cfg.Monitor == nil {
		return api.Errorf(api.NotBuilt, "following the log is not built yet")
	}
	level := slog.LevelInfo
	if name := q.query.Get("loglevel"); name != "" {
		var ok bool
		if level, ok = telemetry.Level(name); !ok {
			return api.Errorf(api.Invalid, "Unknown log level: %s", name)
		}
	}
	json := q.has("logjson") // whatever its value
	ctx, stop := untilDrain(q.Context())
	defer stop()
	control := http.NewResponseController(q.w)
	q.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	q.w.Header().Set("X-Content-Type-Options", "nosniff")
	q.w.WriteHeader(http.StatusOK)
	_ = control.Flush() // A caller that went away is told by its context.
	err := q.api.cfg.Monitor(ctx, level, json, func(line []byte) error {
		if _, err := q.w.Write(line); err != nil {
			return err //nolint:wrapcheck // ends the stream, nobody reads it
		}
		return control.Flush() //nolint:wrapcheck // ends the stream, nobody reads it
	})
	if err != nil && ctx.Err() == nil && q.api.cfg.Log != nil {
		q.api.cfg.Log.Debug("log stream ended", "err", err)
	}
	return nil
}

// agentProxies shows what proxies were sent, took and refused.
func agentProxies(q *request) error {
	if q.api.cfg.Proxies == nil {
		return q.json([]struct{}{})
	}
	return q.json(q.api.cfg.Proxies())
}
