package local

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"isthmus/api"
)

// The kinds of services with rules of their own, beside mesh gateways.
const (
	connectProxy       = "connect-proxy"
	ingressGateway     = "ingress-gateway"
	terminatingGateway = "terminating-gateway"
	apiGateway         = "api-gateway"
)

// validateKind tells what a service of its kind cannot be.
func validateKind(def *api.ServiceDefinition) error {
	wrong := slices.Concat(wrongKind(def, false), wrongSidecar(def))
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("Validation failed: %w", allWrong(wrong)) //nolint:staticcheck // the protocol's text
}

// Validate tells what an instance of its kind cannot be in the catalog.
func Validate(s *api.NodeService) error {
	wrong := wrongKind(&api.ServiceDefinition{
		Kind: s.Kind, Port: s.Port, SocketPath: s.SocketPath, Proxy: &s.Proxy, Connect: &s.Connect,
	}, false)
	if len(wrong) == 0 {
		return nil
	}
	return allWrong(wrong)
}

// wrongKind tells what a service of its kind cannot be. Any other kind is one
// that this version does not know, and is taken as it is. A proxy needs no port
// when it is given one later. The texts are the protocol's.
func wrongKind(def *api.ServiceDefinition, portLater bool) (wrong []string) {
	switch def.Kind {
	case api.MeshGateway, ingressGateway, terminatingGateway, apiGateway:
		wrong = wrongGateway(def)
	case connectProxy:
		if !portLater && def.Port == 0 && def.SocketPath == "" {
			wrong = append(wrong, "Port or SocketPath must be set for a "+def.Kind)
		}
		wrong = append(wrong, wrongProxy(def)...)
	}
	if def.Connect != nil && def.Connect.Native && def.Port == 0 && def.SocketPath == "" {
		wrong = append(wrong, "Port or SocketPath must be set for a Connect native service.")
	}
	return wrong
}

// allWrong is one error for all that is wrong.
func allWrong(wrong []string) error {
	count := "1 error"
	if len(wrong) > 1 {
		count = fmt.Sprintf("%d errors", len(wrong))
	}
	return api.Errorf(api.Invalid, "%s occurred:\n\t* %s\n\n", count, strings.Join(wrong, "\n\t* "))
}

// wrongGateway tells what of a definition a gateway cannot have: it stands for no
// service, so that it has no instance beside it and no upstreams.
func wrongGateway(def *api.ServiceDefinition) (wrong []string) {
	proxy := def.Proxy
	if proxy == nil {
		proxy = &api.ConnectProxyConfig{}
	}
	if def.Port == 0 && (def.Kind == api.MeshGateway || def.Kind == terminatingGateway) {
		wrong = append(wrong, "Port must be non-zero for a "+def.Kind)
	}
	if def.Connect != nil && def.Connect.SidecarService != nil {
		wrong = append(wrong, fmt.Sprintf("A %s cannot have a sidecar service defined", def.Kind))
	}
	for _, field := range []struct {
		name string
		set  bool
	}{
		{"DestinationServiceName", proxy.DestinationServiceName != ""},
		{"DestinationServiceID", proxy.DestinationServiceID != ""},
		{"LocalServiceAddress", proxy.LocalServiceAddress != ""},
		{"LocalServicePort", proxy.LocalServicePort != 0},
		{"LocalServiceSocketPath", proxy.LocalServiceSocketPath != ""},
		{"Upstreams", len(proxy.Upstreams) > 0},
	} {
		if field.set {
			wrong = append(wrong, fmt.Sprintf("The Proxy.%s configuration is invalid for a %s", field.name, def.Kind))
		}
	}
	return wrong
}

// wrongProxy tells what is wrong with the proxy of an instance.
func wrongProxy(def *api.ServiceDefinition) (wrong []string) {
	proxy := def.Proxy
	if proxy == nil {
		proxy = &api.ConnectProxyConfig{}
	}
	switch proxy.DestinationServiceName {
	case "":
		wrong = append(wrong, "Proxy.DestinationServiceName must be non-empty for Connect proxy services")
	case "*":
		wrong = append(wrong, "Proxy.DestinationServiceName must not be a wildcard for Connect proxy services")
	}
	if def.Connect != nil && def.Connect.Native {
		wrong = append(wrong, "A Proxy cannot also be Connect Native, only typical services")
	}
	wrong = append(wrong, wrongUpstreams(proxy.Upstreams)...)
	return append(wrong, wrongPaths(proxy.Expose.Paths)...)
}

// The types of what an upstream leads to.
const (
	upstreamService = "service"
	upstreamQuery   = "prepared_query"
)

// wrongUpstreams tells what is wrong with the upstreams of a proxy.
func wrongUpstreams(all []api.Upstream) (wrong []string) {
	type place struct {
		address, socket string
		port            int
	}
	leads, binds := map[string]bool{}, map[place]bool{}
	for i := range all {
		u := &all[i]
		if why := wrongUpstream(u); why != "" {
			wrong = append(wrong, why)
			continue
		}
		kind := u.DestinationType
		if kind == "" {
			kind = upstreamService
		}
		to := fmt.Sprintf("[type=%q, name=%q, partition=%q, namespace=%q, peer=%q, datacenter=%q]",
			kind, u.DestinationName, u.DestinationPartition, u.DestinationNamespace, u.DestinationPeer, u.Datacenter)
		at := place{u.LocalBindAddress, u.LocalBindSocketPath, u.LocalBindPort}
		if at.address == "" && at.socket == "" {
			at.address = "127.0.0.1"
		}
		switch {
		case leads[to]:
			wrong = append(wrong, "upstreams cannot contain duplicates of "+to)
		case binds[at]:
			text := at.socket
			if text == "" {
				text = net.JoinHostPort(at.address, strconv.Itoa(at.port))
			}
			wrong = append(wrong, fmt.Sprintf(
				"upstreams cannot contain duplicates by local bind address and port or unix path; %q is specified twice", text))
		}
		leads[to], binds[at] = true, true
	}
	return wrong
}

// wrongUpstream tells what is wrong with one upstream by itself, if anything.
func wrongUpstream(u *api.Upstream) string {
	switch {
	case u.DestinationType != "" && u.DestinationType != upstreamService && u.DestinationType != upstreamQuery:
		return fmt.Sprintf("unknown upstream destination type: %q", u.DestinationType)
	case u.DestinationName == "":
		return "upstream destination name cannot be empty"
	case u.DestinationName == "*":
		return "upstream destination name cannot be a wildcard"
	case u.LocalBindPort == 0 && u.LocalBindSocketPath == "":
		return "upstream local bind port or local socket path must be defined and nonzero"
	case u.LocalBindPort != 0 && u.LocalBindSocketPath != "":
		return "only one of upstream local bind port or local socket path can be defined and nonzero"
	}
	return ""
}

// wrongPaths tells what is wrong with the paths that a proxy lets through.
func wrongPaths(all []api.ExposePath) (wrong []string) {
	ports := map[int]bool{}
	for _, p := range all {
		if p.Path == "" {
			wrong = append(wrong, "expose.paths: empty path exposed")
		}
		if ports[p.ListenerPort] {
			wrong = append(wrong, "expose.paths: duplicate listener ports exposed")
		}
		ports[p.ListenerPort] = true
		if p.ListenerPort <= 0 || p.ListenerPort > maxPort {
			wrong = append(wrong, fmt.Sprintf("expose.paths: invalid listener port: %d", p.ListenerPort))
		}
		if p.Protocol != "" && p.Protocol != "http" && p.Protocol != "http2" {
			wrong = append(wrong, fmt.Sprintf("protocol '%s' not supported for path: %s, must be in: [http http2]", p.Protocol, p.Path))
		}
	}
	return wrong
}
