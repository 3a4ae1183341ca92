package local

import (
	"fmt"
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

// validateKind tells what a service of its kind cannot be. Any other kind is one
// that this version does not know, and is taken as it is. The texts are the
// protocol's, with all that is wrong in one list.
func validateKind(def *api.ServiceDefinition) error {
	var wrong []string
	switch def.Kind {
	case api.MeshGateway, ingressGateway, terminatingGateway, apiGateway:
		wrong = wrongGateway(def)
	case connectProxy:
		wrong = wrongProxy(def)
	}
	if def.Connect != nil && def.Connect.Native && def.Port == 0 && def.SocketPath == "" {
		wrong = append(wrong, "Port or SocketPath must be set for a Connect native service.")
	}
	if len(wrong) == 0 {
		return nil
	}
	count := "1 error"
	if len(wrong) > 1 {
		count = fmt.Sprintf("%d errors", len(wrong))
	}
	return api.Errorf(api.Invalid, "Validation failed: %s occurred:\n\t* %s\n\n", count, strings.Join(wrong, "\n\t* "))
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
	if def.Port == 0 && def.SocketPath == "" {
		wrong = append(wrong, "Port or SocketPath must be set for a "+def.Kind)
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
	return wrong
}
