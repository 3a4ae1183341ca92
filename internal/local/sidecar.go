package local

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"isthmus/api"
	"isthmus/internal/checks"
)

// sidecarSuffix makes the id and the name of a sidecar from those of its service.
const sidecarSuffix = "-sidecar-proxy"

// sidecarCheckInterval is the pause between two probes of a sidecar's port.
const sidecarCheckInterval = 10 * time.Second

// Sidecars says how the sidecars that services define inside of themselves are
// made.
type Sidecars struct {
	// MinPort and MaxPort are the ports for sidecars without one of their own.
	// Both are 0 when none is to be given.
	MinPort, MaxPort int
	// Bare has sidecars take over neither the tags nor the metadata of their
	// service.
	Bare bool
}

func sidecarID(service string) string { return service + sidecarSuffix }

// planAll plans a service, and after it its sidecar if it defines one. Ports in
// reserved are given to no sidecar; the new ones are added to it.
func (a *Agent) planAll(def *api.ServiceDefinition, from origin, reserved map[int]bool) ([]*plan, error) {
	p, err := a.plan(def, from, false)
	if err != nil {
		return nil, err
	}
	reserved[def.Port] = true
	if def.Connect == nil || def.Connect.SidecarService == nil {
		return []*plan{p}, nil
	}
	sidecar := a.sidecarOf(def)
	if err := validateSidecar(&sidecar); err != nil {
		return nil, err
	}
	if sidecar.Port < 1 {
		if sidecar.Port, err = a.sidecarPort(sidecar.ID, reserved); err != nil {
			return nil, err
		}
	}
	reserved[sidecar.Port] = true
	if len(serviceChecks(&sidecar)) == 0 {
		sidecar.Checks = sidecarChecks(&sidecar, serviceID(def))
	}
	q, err := a.plan(&sidecar, from, true)
	if err != nil {
		return nil, err
	}
	return []*plan{p, q}, nil
}

// sidecarOf is the sidecar that a definition holds, with what follows from its
// service. It has no port yet unless it asks for one.
func (a *Agent) sidecarOf(def *api.ServiceDefinition) api.ServiceDefinition {
	out := *def.Connect.SidecarService
	out.ID = sidecarID(serviceID(def))
	if out.Name == "" {
		out.Name = def.Name + sidecarSuffix
	}
	if out.Kind == "" {
		out.Kind = connectProxy
	}
	if len(out.Tags) == 0 && !a.cfg.Sidecars.Bare {
		out.Tags = def.Tags
	}
	if len(out.Meta) == 0 && !a.cfg.Sidecars.Bare {
		out.Meta = def.Meta
	}
	if out.Address == "" {
		out.Address = def.Address
	}
	if out.Token == "" {
		out.Token = def.Token
	}
	if out.Locality == nil {
		out.Locality = def.Locality
	}
	out.Proxy = sidecarProxy(out.Proxy, def)
	return out
}

// sidecarProxy is the proxy of a sidecar: it stands before def.
func sidecarProxy(asked *api.ConnectProxyConfig, def *api.ServiceDefinition) *api.ConnectProxyConfig {
	proxy := &api.ConnectProxyConfig{}
	if asked != nil {
		*proxy = *asked
	}
	if proxy.DestinationServiceName == "" {
		proxy.DestinationServiceName = def.Name
	}
	if proxy.DestinationServiceID == "" {
		proxy.DestinationServiceID = serviceID(def)
	}
	whole := proxy.LocalServiceAddress != "" && proxy.LocalServicePort > 0
	switch {
	case proxy.LocalServiceSocketPath != "" || whole:
	case def.SocketPath != "":
		proxy.LocalServiceSocketPath = def.SocketPath
	default:
		if proxy.LocalServiceAddress == "" {
			proxy.LocalServiceAddress = "127.0.0.1"
		}
		if proxy.LocalServicePort < 1 {
			proxy.LocalServicePort = def.Port
		}
	}
	return proxy
}

// sidecarPort is the port that a sidecar has already, or else the first that no
// service of this node has.
func (a *Agent) sidecarPort(id string, reserved map[int]bool) (int, error) {
	low, high := a.cfg.Sidecars.MinPort, a.cfg.Sidecars.MaxPort
	if low < 1 || high < 1 {
		return 0, api.Errorf(api.Internal, "no port provided for sidecar_service and auto-assignment disabled in config")
	}
	taken := map[int]bool{}
	a.mu.Lock()
	old := a.services[id]
	for _, s := range a.services {
		if low <= s.row.Port && s.row.Port <= high {
			taken[s.row.Port] = true
		}
	}
	a.mu.Unlock()
	if old != nil && old.row.LocallyRegisteredAsSidecar {
		if port := old.row.Port; low <= port && port <= high && !reserved[port] {
			return port, nil
		}
	}
	for port := low; port <= high; port++ {
		if !taken[port] && !reserved[port] {
			return port, nil
		}
	}
	return 0, api.Errorf(api.Internal, "no port provided for sidecar_service and none left in the configured range [%d, %d]", low, high)
}

// askedPorts are the ports that definitions and their sidecars ask for.
func askedPorts(services []api.ServiceDefinition) map[int]bool {
	asked := map[int]bool{}
	for i := range services {
		asked[services[i].Port] = true
		if c := services[i].Connect; c != nil && c.SidecarService != nil {
			asked[c.SidecarService.Port] = true
		}
	}
	return asked
}

// sidecarChecks are the checks of a sidecar that defines none: whether it
// listens, and how the service behind it fares.
func sidecarChecks(sidecar *api.ServiceDefinition, service string) []*api.CheckType {
	host := sidecar.Address
	if host == "" {
		host = sidecar.Proxy.LocalServiceAddress
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return []*api.CheckType{
		{
			Name: "Connect Sidecar Listening", TCP: net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(sidecar.Port)),
			Interval: api.Duration(sidecarCheckInterval),
		},
		{Name: "Connect Sidecar Aliasing " + service, AliasService: service},
	}
}

// validateSidecar tells what is wrong with a sidecar, in the protocol's words.
func validateSidecar(def *api.ServiceDefinition) error {
	if err := validateMeta("Invalid SidecarService: ", def.Meta, def.Kind); err != nil {
		return err
	}
	for _, c := range serviceChecks(def) {
		if err := checks.Validate(&c); err != nil {
			why := strings.TrimPrefix(err.Error(), "Invalid check: ")
			return api.Errorf(api.CodeOf(err), "Invalid check in sidecar_service: %s", why)
		}
	}
	if wrong := wrongKind(def, true); len(wrong) > 0 {
		return fmt.Errorf("Failed Validation: %w", allWrong(wrong)) //nolint:staticcheck // the protocol's text
	}
	if def.Port > maxPort {
		return api.Errorf(api.Invalid, "Invalid port %d in sidecar_service: it must be between 0 and %d", def.Port, maxPort)
	}
	return validateWeights(def.Weights)
}

// wrongSidecar tells what of a definition a sidecar cannot have of its own.
func wrongSidecar(def *api.ServiceDefinition) (wrong []string) {
	if def.Connect == nil || def.Connect.SidecarService == nil {
		return nil
	}
	inner := def.Connect.SidecarService
	if inner.ID != "" {
		wrong = append(wrong, "A SidecarService cannot specify an ID as this is managed by the agent")
	}
	if inner.Connect != nil && inner.Connect.SidecarService != nil {
		wrong = append(wrong, "A SidecarService cannot have a nested SidecarService")
	}
	return wrong
}

// removedWith are the ids of what goes with a service: itself and the sidecar that
// it defined. The caller holds a.mu.
func (a *Agent) removedWith(id string) []string {
	ids := []string{id}
	if s := a.services[sidecarID(id)]; s != nil && s.row.LocallyRegisteredAsSidecar {
		ids = append(ids, sidecarID(id))
	}
	return ids
}

// dropStraySidecars removes the kept sidecars whose service is not there: they
// were left by a registration or a removal that a crash cut short. The caller
// holds a.edit.
func (a *Agent) dropStraySidecars() error {
	if a.ignored {
		return nil // their service may be the one that is ignored
	}
	a.mu.Lock()
	var stray []string
	for id, s := range a.services {
		if s.row.LocallyRegisteredAsSidecar && s.origin == fromAPI && a.services[strings.TrimSuffix(id, sidecarSuffix)] == nil {
			stray = append(stray, id)
		}
	}
	a.mu.Unlock()
	slices.Sort(stray)
	for _, id := range stray {
		a.log.Warn("kept sidecar is dropped: its service is gone", "sidecar", id)
		if err := a.removeService(id); err != nil {
			return err
		}
	}
	return nil
}
