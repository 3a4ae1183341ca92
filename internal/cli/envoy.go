package cli

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	consul "github.com/hashicorp/consul/api"
	sockaddr "github.com/hashicorp/go-sockaddr/template"
)

// connectEnvoy makes the bootstrap configuration of an Envoy, and becomes that
// Envoy.
type connectEnvoy struct {
	Gateway       string `flag:"gateway"        doc:"kind of gateway: mesh is the only one yet"`
	MeshGateway   bool   `flag:"mesh-gateway"   doc:"old name of -gateway=mesh"`
	ProxyID       string `flag:"proxy-id"       doc:"id of the gateway with the agent: the one to register, or one that is registered"`
	NodeName      string `flag:"node-name"      doc:"node on which the gateway is registered, when that is not the agent's own; needs -proxy-id"`
	SidecarFor    string `flag:"sidecar-for"    doc:"id of the service to be the sidecar of; sidecars are not built yet"`
	Register      bool   `flag:"register"       doc:"register the gateway with the agent first"`
	Service       string `flag:"service"        doc:"name to register the gateway under; mesh-gateway when empty"`
	ExposeServers bool   `flag:"expose-servers" doc:"lead to the servers of this datacenter, for federation through mesh gateways; needs -gateway=mesh and -register"`

	Address         string   `flag:"address"                   doc:"IP[:PORT] (templates are expanded) where the gateway is reached inside its datacenter; port 8443 when none is given"`
	WANAddress      string   `flag:"wan-address"               doc:"HOST[:PORT] (templates are expanded) where the gateway is reached from other datacenters"`
	BindAddress     []string `flag:"bind-address"              doc:"NAME=IP:PORT to listen on instead of -address and -wan-address; may be given again"`
	DeregisterAfter string   `flag:"deregister-after-critical" default:"6h"                                                                                                              doc:"time after which the agent forgets a gateway that does not answer"`

	AdminBind          string `flag:"admin-bind"               default:"localhost:19000"                                          doc:"HOST:PORT of Envoy's own pages. They show secrets and change settings: keep them away from others."`
	AdminAccessLogPath string `flag:"admin-access-log-path"    doc:"file that notes each request of those pages; deprecated"`
	ReadyBindAddress   string `flag:"envoy-ready-bind-address" doc:"IP that answers on /ready; needs -envoy-ready-bind-port"`
	ReadyBindPort      int    `flag:"envoy-ready-bind-port"    doc:"port that answers on /ready; needs -envoy-ready-bind-address"`

	PrometheusBackendPort string `flag:"prometheus-backend-port" doc:"port of this machine that the metrics listener leads to instead of Envoy's own pages. This and the other flags of Prometheus work once envoy_prometheus_bind_addr is set in the proxy's config."`
	PrometheusScrapePath  string `flag:"prometheus-scrape-path"  default:"/metrics"                                                                                                                                                                                    doc:"path of the metrics"`
	PrometheusCAFile      string `flag:"prometheus-ca-file"      doc:"file with the CA certificates that readers of metrics are checked against"`
	PrometheusCAPath      string `flag:"prometheus-ca-path"      doc:"directory with such CA certificates"`
	PrometheusCertFile    string `flag:"prometheus-cert-file"    doc:"file with the certificate of the metrics listener"`
	PrometheusKeyFile     string `flag:"prometheus-key-file"     doc:"file with the key of that certificate"`

	GRPCAddr   string `flag:"grpc-addr"    doc:"address of the agent's gRPC port, as HOST:PORT, http://, https:// (with TLS) or unix:// and a path. Also CONSUL_GRPC_ADDR; what the agent itself tells when neither is given."`
	GRPCCAFile string `flag:"grpc-ca-file" doc:"file with the CA certificates that the agent's gRPC certificate is checked against. Also CONSUL_GRPC_CACERT; those of the HTTP API when neither is given."`
	GRPCCAPath string `flag:"grpc-ca-path" doc:"directory with such CA certificates. Also CONSUL_GRPC_CAPATH."`

	EnvoyBinary         string `flag:"envoy-binary"               doc:"path of Envoy's binary; envoy in $PATH when empty"`
	EnvoyVersion        string `flag:"envoy-version"              doc:"is accepted and does nothing: the binary itself is asked"`
	IgnoreCompatibility bool   `flag:"ignore-envoy-compatibility" doc:"start an Envoy of any version"`
	Bootstrap           bool   `flag:"bootstrap"                  doc:"print the bootstrap configuration instead of starting Envoy. It holds the ACL token."`
	NoCentralConfig     bool   `flag:"no-central-config"          doc:"leave out what the proxy's config with the agent says of the bootstrap"`
	OmitDeprecatedTags  bool   `flag:"omit-deprecated-tags"       doc:"leave out the tags of metrics under the names they had before consul.destination"`
	Logging             bool   `flag:"enable-config-gen-logging"  doc:"tell of each step on standard error"`

	Args []string `arg:"[ENVOY-ARG...]"`
}

// Help implements helper.
func (*connectEnvoy) Help() string {
	return `Registers a gateway with the agent if asked to, makes the bootstrap
configuration by which Envoy gets everything else from the agent, and
becomes Envoy. What stands behind -- is given to Envoy:

    connect envoy -gateway=mesh -register -address 10.0.0.5 -- -l debug

The ACL token, if any, must allow service:write for the gateway.
`
}

// nodeService is what the bootstrap depends on of the registered gateway.
type nodeService struct {
	name       string
	datacenter string
	config     map[string]any
}

// Run implements the command.
func (c *connectEnvoy) Run(ctx context.Context, e *Env) error {
	if err := c.check(); err != nil {
		return err
	}
	log := e.Logger()
	step := slog.New(slog.DiscardHandler)
	if c.Logging {
		step = slog.New(slog.NewTextHandler(e.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	c.note(log)
	var binary string
	if !c.Bootstrap {
		// Asked first: a gateway that cannot run must not be registered.
		var err error
		if binary, err = c.findEnvoy(ctx); err != nil {
			return err
		}
		step.Debug("envoy found", "binary", binary)
	}
	if err := c.identify(ctx, e, step); err != nil {
		return err
	}
	b, err := c.describe(ctx, e, log)
	if err != nil {
		return err
	}
	step.Debug("bootstrap described", "agent", b.agent)
	config, err := b.render()
	if err != nil {
		return err
	}
	if c.Bootstrap {
		return e.printf("%s\n", config)
	}
	step.Debug("envoy is started", "binary", binary, "args", c.Args)
	return becomeEnvoy(binary, config, c.Args)
}

// gatewayKinds are the kinds of gateways there are.
var gatewayKinds = []string{"api", "terminating", meshKind, "ingress"}

const meshKind = "mesh"

// check refuses flags that do not go together. The texts that the reference has a
// counterpart for are its own.
func (c *connectEnvoy) check() error {
	if err := c.checkGateway(); err != nil {
		return err
	}
	switch {
	case c.SidecarFor != "":
		return failf("-sidecar-for=%s: sidecars are not built yet, mesh gateways alone are", c.SidecarFor)
	case c.ProxyID == "" && c.NodeName != "":
		return failf("'-node-name' requires '-proxy-id'")
	case c.ProxyID == "" && c.Gateway == "":
		return failf("No proxy ID specified. One of -proxy-id, -sidecar-for, or -gateway is required")
	case c.Register && c.Gateway == "":
		return failf("Auto-Registration can only be used for gateways")
	case (c.ReadyBindAddress == "") != (c.ReadyBindPort == 0):
		return failf("-envoy-ready-bind-address and -envoy-ready-bind-port go together")
	}
	return c.checkMetricsTLS()
}

func (c *connectEnvoy) checkGateway() error {
	if c.MeshGateway {
		if c.Gateway != "" {
			return failf("The mesh-gateway flag is deprecated and cannot be used alongside the gateway flag")
		}
		c.Gateway = meshKind
	}
	switch {
	case c.ExposeServers && c.Gateway != meshKind:
		return failf("'-expose-servers' can only be used for mesh gateways")
	case c.ExposeServers && !c.Register:
		return failf("'-expose-servers' requires '-register'")
	case c.Gateway == "", c.Gateway == meshKind:
		return nil
	case !slices.Contains(gatewayKinds, c.Gateway):
		return failf("Gateway must be one of: api, terminating, mesh, or ingress")
	default:
		return failf("-gateway=%s is not built yet: mesh is the only kind of gateway", c.Gateway)
	}
}

func (c *connectEnvoy) checkMetricsTLS() error {
	ca := c.PrometheusCAFile + c.PrometheusCAPath
	some := ca+c.PrometheusCertFile+c.PrometheusKeyFile != ""
	if some && (ca == "" || c.PrometheusCertFile == "" || c.PrometheusKeyFile == "") {
		return failf("Must provide a CA (-prometheus-ca-file or -prometheus-ca-path) as well as " +
			"-prometheus-cert-file and -prometheus-key-file to enable TLS for prometheus metrics")
	}
	return nil
}

// note tells of flags that do less than they seem to.
func (c *connectEnvoy) note(log *slog.Logger) {
	if c.AdminAccessLogPath != "" {
		log.Warn("-admin-access-log-path is deprecated")
	}
	if c.EnvoyVersion != "" {
		log.Warn("-envoy-version does nothing: the binary itself is asked")
	}
}

// identify makes sure that ProxyID is the id of the gateway, and registers it when
// asked to.
func (c *connectEnvoy) identify(ctx context.Context, e *Env, step *slog.Logger) error {
	if c.Gateway != "" && c.Service == "" {
		c.Service = c.Gateway + "-gateway"
	}
	agent := e.client.Agent()
	switch {
	case c.Register:
		if c.ProxyID == "" {
			c.ProxyID = c.Service
		}
		m, err := c.advertised()
		if err != nil {
			return err
		}
		if err := register(ctx, agent, m.registration(), e.Logger()); err != nil {
			return failf("%w", err)
		}
	case c.ProxyID == "":
		var err error
		if c.ProxyID, err = onlyGateway(ctx, agent); err != nil {
			return err
		}
	}
	step.Debug("gateway identified", "id", c.ProxyID)
	return nil
}

// onlyGateway is the id of the one mesh gateway that is registered.
func onlyGateway(ctx context.Context, agent *consul.Agent) (string, error) {
	all, err := agent.ServicesWithFilterOpts("", (&consul.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return "", failf("Failed looking up mesh-gateway instances: %w", err)
	}
	maps.DeleteFunc(all, func(_ string, s *consul.AgentService) bool { return s.Kind != consul.ServiceKindMeshGateway })
	ids := slices.Collect(maps.Keys(all))
	switch len(ids) {
	case 0:
		return "", failf("No mesh-gateway services registered with this agent: register one with -register")
	case 1:
		return ids[0], nil
	default:
		slices.Sort(ids)
		return "", failf("Cannot lookup the mesh-gateway's proxy ID because multiple are registered with the agent: "+
			"choose with -proxy-id one of %s", strings.Join(ids, ", "))
	}
}

// advertised is what others are told of this gateway.
func (c *connectEnvoy) advertised() (meshGatewayService, error) {
	out := meshGatewayService{
		ID: c.ProxyID, Name: c.Service, ExposeServers: c.ExposeServers, DeregisterAfter: c.DeregisterAfter,
	}
	var err error
	if out.LAN, err = gatewayAddress(c.Address); err != nil {
		return out, fmt.Errorf("-address: %w", err)
	}
	if c.WANAddress != "" {
		wan, err := gatewayAddress(c.WANAddress)
		if err != nil {
			return out, fmt.Errorf("-wan-address: %w", err)
		}
		out.WAN = &wan
	}
	if len(c.BindAddress) > 0 {
		bind, err := bindAddresses(c.BindAddress)
		if err != nil {
			return out, err
		}
		out.Config = map[string]any{"envoy_gateway_bind_addresses": bind, "envoy_gateway_no_default_bind": true}
		return out, nil
	}
	if out.LAN.Address != "" && !bindable(out.LAN.Address) {
		return out, failf("The LAN address %q will not be bindable. Either set a bindable address or override the bind "+
			"addresses with -bind-address", out.LAN.Address)
	}
	if out.WAN != nil && bindable(out.WAN.Address) {
		out.Config = map[string]any{"envoy_gateway_bind_tagged_addresses": true, "envoy_gateway_no_default_bind": true}
	}
	return out, nil
}

// gatewayAddress reads HOST[:PORT] after templates in it are expanded.
func gatewayAddress(text string) (consul.ServiceAddress, error) {
	text, err := sockaddr.Parse(text)
	if err != nil {
		return consul.ServiceAddress{}, fmt.Errorf("expand template: %w", err)
	}
	if _, _, err := net.SplitHostPort(text); err != nil {
		text = net.JoinHostPort(strings.Trim(text, "[]"), gatewayPort)
	}
	return serviceAddress(text)
}

// bindAddresses reads NAME=IP:PORT pairs.
func bindAddresses(pairs []string) (map[string]consul.ServiceAddress, error) {
	out := map[string]consul.ServiceAddress{}
	for _, pair := range pairs {
		name, text, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("-bind-address %q is not NAME=IP:PORT", pair)
		}
		addr, err := gatewayAddress(text)
		if err != nil {
			return nil, fmt.Errorf("-bind-address %s: %w", name, err)
		}
		if net.ParseIP(addr.Address) == nil {
			return nil, fmt.Errorf("-bind-address %s: %q is not an IP address", name, addr.Address)
		}
		out[name] = addr
	}
	return out, nil
}

// bindable tells whether a gateway of this machine can listen on the address, and
// others reach it there.
func bindable(address string) bool {
	ip := net.ParseIP(address)
	return ip != nil && !ip.IsUnspecified() && localAddress(net.JoinHostPort(address, "0"))
}

// registered reads what the agent knows of the gateway.
func (c *connectEnvoy) registered(ctx context.Context, client *consul.Client) (nodeService, error) {
	opts := (&consul.QueryOptions{}).WithContext(ctx)
	var s *consul.AgentService
	if c.NodeName == "" {
		var err error
		if s, _, err = client.Agent().Service(c.ProxyID, opts); err != nil {
			return nodeService{}, failf("failed fetch proxy config from local agent: %w", err)
		}
	} else {
		list, _, err := client.Catalog().NodeServiceList(c.NodeName, opts)
		if err != nil {
			return nodeService{}, failf("failed to fetch proxy config from the catalog: %w", err)
		}
		if i := slices.IndexFunc(list.Services, func(s *consul.AgentService) bool { return s.ID == c.ProxyID }); i >= 0 {
			s = list.Services[i]
			s.Datacenter = list.Node.Datacenter
		}
	}
	switch {
	case s == nil:
		return nodeService{}, failf("Proxy service with ID %q not found on node %q", c.ProxyID, c.NodeName)
	case s.Kind == "":
		return nodeService{}, failf("service is not a Connect proxy or gateway")
	case s.Kind != consul.ServiceKindMeshGateway:
		return nodeService{}, failf("-proxy-id=%s is a %s, which is not built yet: mesh gateways alone are", c.ProxyID, s.Kind)
	}
	out := nodeService{name: s.Service, datacenter: s.Datacenter}
	if s.Proxy != nil && !c.NoCentralConfig {
		out.config = s.Proxy.Config
	}
	return out, nil
}

// describe gathers what the bootstrap says.
func (c *connectEnvoy) describe(ctx context.Context, e *Env, log *slog.Logger) (*envoyBootstrap, error) {
	service, err := c.registered(ctx, e.client)
	if err != nil {
		return nil, err
	}
	b := &envoyBootstrap{
		id: c.ProxyID, cluster: c.Service, nodeName: c.NodeName, service: service.name, datacenter: service.datacenter,
		namespace: e.config.Namespace, partition: e.config.Partition, token: e.config.Token, config: service.config,
		accessLog: c.AdminAccessLogPath, omitDeprecatedTags: c.OmitDeprecatedTags, scrapePath: c.PrometheusScrapePath,
		certFile: c.PrometheusCertFile, keyFile: c.PrometheusKeyFile, caFile: c.PrometheusCAFile,
	}
	if c.Gateway == "" {
		b.cluster = c.ProxyID
	}
	if b.agent, err = c.agentAddress(ctx, e, log); err != nil {
		return nil, err
	}
	if b.admin, err = resolved(ctx, c.AdminBind); err != nil {
		return nil, fmt.Errorf("-admin-bind: %w", err)
	}
	if c.ReadyBindPort != 0 {
		if b.ready, err = resolved(ctx, net.JoinHostPort(c.ReadyBindAddress, strconv.Itoa(c.ReadyBindPort))); err != nil {
			return nil, fmt.Errorf("-envoy-ready-bind-address: %w", err)
		}
	}
	if c.PrometheusBackendPort != "" {
		if b.backend, err = resolved(ctx, net.JoinHostPort("127.0.0.1", c.PrometheusBackendPort)); err != nil {
			return nil, fmt.Errorf("-prometheus-backend-port: %w", err)
		}
	}
	if c.PrometheusCAPath != "" && c.PrometheusCAFile == "" {
		if b.caText, err = readCAs("", c.PrometheusCAPath); err != nil {
			return nil, fmt.Errorf("-prometheus-ca-path: %w", err)
		}
	}
	return b, nil
}
