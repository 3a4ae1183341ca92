package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"

	"isthmus/api"
)

// agentService is an instance of this node as the API shows it.
type agentService struct {
	Kind              string `json:",omitempty"`
	ID                string
	Service           string
	Tags              []string
	Meta              map[string]string
	Port              int
	Address           string
	SocketPath        string                        `json:",omitempty"`
	TaggedAddresses   map[string]api.ServiceAddress `json:",omitempty"`
	Weights           api.Weights
	EnableTagOverride bool
	ContentHash       string              `json:",omitempty"`
	Proxy             *agentProxy         `json:",omitempty"`
	Connect           *api.ServiceConnect `json:",omitempty"`
	PeerName          string              `json:",omitempty"`
	Datacenter        string
	Locality          *api.Locality `json:",omitempty"`
}

// agentProxy leaves out more of what is not set than the catalog does.
type agentProxy struct {
	DestinationServiceName string                     `json:",omitempty"`
	DestinationServiceID   string                     `json:",omitempty"`
	LocalServiceAddress    string                     `json:",omitempty"`
	LocalServicePort       int                        `json:",omitempty"`
	LocalServiceSocketPath string                     `json:",omitempty"`
	Mode                   string                     `json:",omitempty"`
	TransparentProxy       api.TransparentProxyConfig `json:",omitzero"`
	AccessLogs             api.AccessLogsConfig       `json:",omitzero"`
	EnvoyExtensions        []api.EnvoyExtension       `json:",omitempty"`
	Config                 map[string]any             `json:",omitempty"`
	Upstreams              []agentUpstream            `json:",omitempty"`
	MeshGateway            api.MeshGatewayConfig
	Expose                 api.ExposeConfig
	MutualTLSMode          string `json:",omitempty"`
}

// agentUpstream is api.Upstream but for what it leaves out.
type agentUpstream struct {
	DestinationType      string         `json:",omitempty"`
	DestinationNamespace string         `json:",omitempty"`
	DestinationPartition string         `json:",omitempty"`
	DestinationPeer      string         `json:",omitempty"`
	DestinationName      string         `json:",omitempty"`
	Datacenter           string         `json:",omitempty"`
	LocalBindAddress     string         `json:",omitempty"`
	LocalBindPort        int            `json:",omitempty"`
	LocalBindSocketPath  string         `json:",omitempty"`
	LocalBindSocketMode  string         `json:",omitempty"`
	Config               map[string]any `json:",omitempty"`
	MeshGateway          api.MeshGatewayConfig
	IngressHosts         []string `json:"-"`
	CentrallyConfigured  bool     `json:"-"`
}

func agentProxyOf(p *api.ConnectProxyConfig) *agentProxy {
	out := &agentProxy{
		DestinationServiceName: p.DestinationServiceName, DestinationServiceID: p.DestinationServiceID,
		LocalServiceAddress: p.LocalServiceAddress, LocalServicePort: p.LocalServicePort, LocalServiceSocketPath: p.LocalServiceSocketPath,
		Mode: p.Mode, TransparentProxy: p.TransparentProxy, AccessLogs: p.AccessLogs, EnvoyExtensions: p.EnvoyExtensions,
		Config: p.Config, MeshGateway: p.MeshGateway, Expose: p.Expose, MutualTLSMode: p.MutualTLSMode,
	}
	for _, u := range p.Upstreams {
		out.Upstreams = append(out.Upstreams, agentUpstream(u))
	}
	return out
}

func (a *API) agentService(s *api.NodeService) agentService {
	out := agentService{
		Kind: s.Kind, ID: s.ID, Service: s.Service, Tags: s.Tags, Meta: s.Meta, Port: s.Port, Address: s.Address,
		SocketPath: s.SocketPath, TaggedAddresses: s.TaggedAddresses, Weights: api.Weights{Passing: 1, Warning: 1},
		EnableTagOverride: s.EnableTagOverride, PeerName: s.PeerName, Locality: s.Locality, Datacenter: a.cfg.Datacenter,
	}
	if out.Tags == nil {
		out.Tags = []string{}
	}
	if out.Meta == nil {
		out.Meta = map[string]string{}
	}
	if s.Weights != nil {
		out.Weights = *s.Weights
	}
	if s.Kind != "" {
		out.Proxy = agentProxyOf(&s.Proxy)
	}
	if s.Connect.Native {
		out.Connect = &s.Connect
	}
	return out
}

func agentServices(q *request) error {
	keep, err := keeping(q, &q.api.filters.services)
	if err != nil {
		return err
	}
	all := q.api.cfg.Local.Services()
	out := make(map[string]agentService, len(all))
	for id, s := range all {
		if keep(s) {
			out[id] = q.api.agentService(s)
		}
	}
	return q.json(out)
}

// agentServiceGet shows a service. With ?hash it waits until the service is
// another than the one of that hash.
func agentServiceGet(q *request) error {
	wait := agentWait
	if v := q.query.Get("wait"); v != "" {
		var err error
		if wait, err = time.ParseDuration(v); err != nil {
			return api.Errorf(api.Invalid, "Invalid wait time")
		}
	}
	seen := q.query.Get("hash")
	if wait <= 0 {
		wait = agentWait
	}
	ctx, stop := untilDrain(q.Context())
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, min(wait, agentWaitMost))
	defer cancel()
	var out agentService
	for s := range q.api.cfg.Local.Follow(ctx, q.rest) {
		if s == nil {
			return api.Errorf(api.NotFound, "unknown service ID: %s", q.rest)
		}
		out = q.api.agentService(s)
		hash, err := serviceHash(out)
		if err != nil {
			return err
		}
		if out.ContentHash = hash; hash != seen {
			break
		}
	}
	q.w.Header().Set("X-Consul-Contenthash", out.ContentHash)
	return q.json(out)
}

// How long a service is waited for: by default and at most.
const (
	agentWait     = 5 * time.Minute
	agentWaitMost = 10 * time.Minute
)

func serviceHash(s agentService) (string, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("render answer: %w", err)
	}
	sum := fnv.New64a()
	_, _ = sum.Write(b) // never fails
	return strconv.FormatUint(sum.Sum64(), 16), nil
}

func agentChecks(q *request) error {
	keep, err := keeping(q, &q.api.filters.checks)
	if err != nil {
		return err
	}
	all := q.api.cfg.Local.Checks()
	out := make(map[string]*api.HealthCheck, len(all))
	for id, c := range all {
		if !keep(c) {
			continue
		}
		if c.ServiceTags == nil {
			shown := *c
			shown.ServiceTags = []string{}
			c = &shown
		}
		out[id] = c
	}
	return q.json(out)
}

func agentServiceRegister(q *request) error {
	def, err := decode[api.ServiceDefinition](q)
	if err != nil {
		return err
	}
	if t := q.token(); t != "" && def.Token == "" {
		def.Token = t
	}
	return q.api.cfg.Local.AddService(def, q.has("replace-existing-checks")) //nolint:wrapcheck // shown to the caller
}

// checkBody is the body of a check's registration: the check and what it is of.
type checkBody struct {
	api.CheckType

	ID        string
	ServiceID string
	Token     string
}

func agentCheckRegister(q *request) error {
	in, err := decode[checkBody](q)
	if err != nil {
		return err
	}
	def := in.CheckType
	if in.ID != "" {
		def.CheckID = in.ID
	}
	if def.Name == "" {
		return api.Errorf(api.Invalid, "Missing check name")
	}
	return q.api.cfg.Local.AddCheck(def, in.ServiceID) //nolint:wrapcheck // shown to the caller
}

func agentServiceDeregister(q *request) error {
	err := q.api.cfg.Local.RemoveService(q.rest)
	if err != nil && api.CodeOf(err) == api.NotFound {
		return api.Errorf(api.NotFound, "Unknown service ID %q. Ensure that the service ID is passed, not the service name.", q.rest)
	}
	return err //nolint:wrapcheck // shown to the caller
}

func agentCheckDeregister(q *request) error {
	return unknownCheck(q.rest, q.api.cfg.Local.RemoveCheck(q.rest))
}

func unknownCheck(id string, err error) error {
	if err != nil && api.CodeOf(err) == api.NotFound {
		return api.Errorf(api.NotFound, "Unknown check ID %q. Ensure that the check ID is passed, not the check name.", id)
	}
	return err
}

// agentCheckSet makes the route that sets a TTL check to a state.
func agentCheckSet(status string) handler {
	return func(q *request) error {
		return unknownCheck(q.rest, q.api.cfg.Local.UpdateTTL(q.rest, status, q.query.Get("note")))
	}
}

// checkUpdate is the state and output that a TTL check is set to.
type checkUpdate struct{ Status, Output string }

func agentCheckUpdate(q *request) error {
	in, err := decode[checkUpdate](q)
	if err != nil {
		return err
	}
	if !isState(in.Status) {
		return api.Errorf(api.Invalid, "Invalid check status: '%s'", in.Status)
	}
	return unknownCheck(q.rest, q.api.cfg.Local.UpdateTTL(q.rest, in.Status, in.Output))
}

func isState(s string) bool { return s == api.Passing || s == api.Warning || s == api.Critical }
