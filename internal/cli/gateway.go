package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	consul "github.com/hashicorp/consul/api"
	sockaddr "github.com/hashicorp/go-sockaddr/template"
	"golang.org/x/sync/errgroup"

	"isthmus/internal/proxy"
)

// connectGateway runs the built-in mesh gateway beside an agent, which it follows
// over HTTP alone.
type connectGateway struct {
	Kind            string   `flag:"kind"                      default:"mesh"                                                                                      doc:"kind of gateway: mesh is the only one yet"`
	Register        bool     `flag:"register"                  doc:"register the gateway with the agent, and keep it registered"`
	ExposeServers   bool     `flag:"expose-servers"            doc:"lead to the servers of this datacenter, for federation through mesh gateways; needs -register"`
	Service         string   `flag:"service"                   default:"mesh-gateway"                                                                              doc:"name to register the gateway under"`
	ProxyID         string   `flag:"proxy-id"                  doc:"id to register the gateway under; the name when empty"`
	Address         string   `flag:"address"                   doc:"IP:PORT (templates are expanded) where the gateway is reached inside its datacenter"`
	WANAddress      string   `flag:"wan-address"               doc:"IP:PORT (templates are expanded) where the gateway is reached from other datacenters"`
	BindAddress     []string `flag:"bind-address"              doc:"NAME=IP:PORT to listen on instead of -address and -wan-address; may be given again"`
	AdminBind       string   `flag:"admin-bind"                default:"localhost:19000"                                                                           doc:"IP:PORT that serves metrics; empty serves none"`
	DeregisterAfter string   `flag:"deregister-after-critical" default:"6h"                                                                                        doc:"time after which the agent forgets a gateway that does not answer"`
	DrainTime       string   `flag:"drain-time"                default:"30s"                                                                                       doc:"time that open connections have to end once the gateway is told to stop"`
}

// gatewayPort is the port of an address that names none.
const gatewayPort = "8443"

// Run implements the command.
func (c *connectGateway) Run(ctx context.Context, e *Env) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := c.check(); err != nil {
		return err
	}
	drain, err := time.ParseDuration(c.DrainTime)
	if err != nil {
		return fmt.Errorf("-drain-time: %w", err)
	}
	log := e.Logger()
	of := agentSource{e.client}.registered(c.ProxyID, log)
	var reg *consul.AgentServiceRegistration
	if c.Register {
		if reg, err = c.registration(); err != nil {
			return err
		}
		of = always(reg)
	}
	gw := proxy.New(proxy.Config{Log: log, DrainTimeout: drain})
	listeners, err := c.listen()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, ln := range listeners {
		log.Info("gateway listens", "address", ln.Addr())
		g.Go(func() error { return gw.Serve(ctx, ln) })
	}
	g.Go(func() error { followAgent(ctx, e.client, of, gw, log); return nil })
	if c.Register {
		g.Go(func() error { return keepRegistered(ctx, e.client.Agent(), reg, log) })
	}
	if c.AdminBind != "" {
		admin, err := net.Listen("tcp", c.AdminBind) //nolint:noctx // bound to the process
		if err != nil {
			return fmt.Errorf("-admin-bind: %w", err)
		}
		g.Go(func() error { return serveMetrics(ctx, admin, gw) })
	}
	return g.Wait() //nolint:wrapcheck // wrapped above
}

// check refuses flags that do not go together, and completes addresses.
func (c *connectGateway) check() error {
	switch {
	case c.Kind != "mesh":
		return fmt.Errorf("-kind %q is not known: mesh is the only kind yet", c.Kind)
	case c.ExposeServers && !c.Register:
		return errors.New("-expose-servers needs -register: other datacenters find the gateway by its registration")
	case c.Address == "" && len(c.BindAddress) == 0:
		return errors.New("-address IP:PORT is missing: where is the gateway reached inside its datacenter?")
	case c.Register && c.WANAddress == "" && c.ExposeServers:
		return errors.New("-wan-address IP:PORT is missing: where is the gateway reached from other datacenters?")
	}
	for name, addr := range map[string]*string{"-address": &c.Address, "-wan-address": &c.WANAddress} {
		full, err := completeAddress(*addr)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		*addr = full
	}
	if c.ProxyID == "" {
		c.ProxyID = c.Service
	}
	return nil
}

// completeAddress expands templates and adds the port that is missing.
func completeAddress(addr string) (string, error) {
	if addr == "" {
		return "", nil
	}
	addr, err := sockaddr.Parse(addr)
	if err != nil {
		return "", fmt.Errorf("expand template: %w", err)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port = strings.Trim(addr, "[]"), gatewayPort
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || host == "" {
		return "", fmt.Errorf("%q is not IP:PORT", addr)
	}
	return net.JoinHostPort(host, port), nil
}

// listen listens where the flags say.
func (c *connectGateway) listen() ([]net.Listener, error) {
	var addrs []string
	for _, bind := range c.BindAddress {
		_, addr, ok := strings.Cut(bind, "=")
		if !ok {
			return nil, fmt.Errorf("-bind-address %q is not NAME=IP:PORT", bind)
		}
		addr, err := completeAddress(addr)
		if err != nil {
			return nil, fmt.Errorf("-bind-address: %w", err)
		}
		addrs = append(addrs, addr)
	}
	if len(addrs) == 0 {
		addrs = append(addrs, c.Address)
		if c.WANAddress != "" && localAddress(c.WANAddress) {
			addrs = append(addrs, c.WANAddress)
		}
	}
	slices.Sort(addrs)
	var out []net.Listener
	for _, addr := range slices.Compact(addrs) {
		ln, err := net.Listen("tcp", addr) //nolint:noctx // bound to the process
		if err != nil {
			for _, ln := range out {
				err = errors.Join(err, ln.Close())
			}
			return nil, fmt.Errorf("listen for the gateway: %w", err)
		}
		out = append(out, ln)
	}
	return out, nil
}

// localAddress tells whether an address is one of this machine's: a WAN address
// may be that of a load balancer or router in front of it.
func localAddress(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0")) //nolint:noctx // closed at once
	if err != nil {
		return false
	}
	_ = ln.Close()
	return true
}

func serveMetrics(ctx context.Context, ln net.Listener, gw *proxy.Gateway) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_ = gw.WriteMetrics(w) // the reader went away
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}

// registration is what the agent is told of this gateway.
func (c *connectGateway) registration() (*consul.AgentServiceRegistration, error) {
	lan, err := serviceAddress(c.Address)
	if err != nil {
		return nil, err
	}
	out := meshGatewayService{
		ID: c.ProxyID, Name: c.Service, LAN: lan, ExposeServers: c.ExposeServers, DeregisterAfter: c.DeregisterAfter,
	}
	if c.WANAddress != "" {
		wan, err := serviceAddress(c.WANAddress)
		if err != nil {
			return nil, err
		}
		out.WAN = &wan
	}
	return out.registration(), nil
}
