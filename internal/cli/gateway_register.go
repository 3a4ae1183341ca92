package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// meshGatewayService is what an agent is told of a mesh gateway, whichever data
// plane it has.
type meshGatewayService struct {
	ID, Name        string
	LAN             consul.ServiceAddress  // without an address it is the node's
	WAN             *consul.ServiceAddress // nil when no other datacenter shall come
	ExposeServers   bool
	DeregisterAfter string
	Config          map[string]any // of its proxy
}

// registration is the request that registers the gateway.
func (m meshGatewayService) registration() *consul.AgentServiceRegistration {
	at := m.LAN.Address
	if at == "" {
		at = "127.0.0.1" // the agent that checks it runs on the same node
	}
	reg := &consul.AgentServiceRegistration{
		Kind: consul.ServiceKindMeshGateway, ID: m.ID, Name: m.Name, Address: m.LAN.Address, Port: m.LAN.Port,
		TaggedAddresses: map[string]consul.ServiceAddress{},
		Check: &consul.AgentServiceCheck{
			Name: "mesh-gateway listening", TCP: net.JoinHostPort(at, strconv.Itoa(m.LAN.Port)), Interval: "10s",
			DeregisterCriticalServiceAfter: m.DeregisterAfter,
		},
	}
	if m.LAN.Address != "" {
		reg.TaggedAddresses["lan"] = m.LAN
	}
	if m.WAN != nil {
		reg.TaggedAddresses["wan"] = *m.WAN
	}
	if m.ExposeServers {
		reg.Meta = map[string]string{"consul-wan-federation": "1"}
	}
	if len(m.Config) > 0 {
		reg.Proxy = &consul.AgentServiceConnectProxyConfig{Config: m.Config}
	}
	return reg
}

// serviceAddress takes HOST:PORT apart.
func serviceAddress(addr string) (consul.ServiceAddress, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return consul.ServiceAddress{}, fmt.Errorf("address %q: %w", addr, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return consul.ServiceAddress{}, fmt.Errorf("address %q: port %q is not a number up to 65535", addr, port)
	}
	return consul.ServiceAddress{Address: host, Port: int(n)}, nil
}

// keepRegistered registers a gateway and, when the agent has forgotten it or has
// it with other addresses, registers it again. It deregisters it at the end, so that nobody is sent to a
// gateway that drains.
func keepRegistered(ctx context.Context, agent *consul.Agent, reg *consul.AgentServiceRegistration, log *slog.Logger) error {
	for retry(ctx, log, "the gateway is not registered", func(ctx context.Context) error {
		known, _, err := agent.Service(reg.ID, (&consul.QueryOptions{}).WithContext(ctx))
		var status consul.StatusError
		switch {
		case err == nil && registeredAs(known, reg):
			return nil
		case err != nil && (!errors.As(err, &status) || status.Code != http.StatusNotFound):
			return fmt.Errorf("ask the agent for the gateway: %w", err)
		}
		return register(ctx, agent, reg, log)
	}) {
		t := time.NewTimer(lookAgain)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), followMost)
	defer cancel()
	if err := agent.ServiceDeregisterOpts(reg.ID, (&consul.QueryOptions{}).WithContext(end)); err != nil {
		log.Warn("the gateway is still registered", "err", err)
	}
	return nil
}

// registeredAs tells whether an agent has a gateway as it is now. After a kill it
// may still have the one that was there before, at other addresses.
func registeredAs(known *consul.AgentService, reg *consul.AgentServiceRegistration) bool {
	for tag, addr := range reg.TaggedAddresses {
		if known.TaggedAddresses[tag] != addr {
			return false
		}
	}
	for key, value := range reg.Meta {
		if known.Meta[key] != value {
			return false
		}
	}
	return known.Kind == reg.Kind && known.Service == reg.Name && known.Address == reg.Address && known.Port == reg.Port
}

func register(ctx context.Context, agent *consul.Agent, reg *consul.AgentServiceRegistration, log *slog.Logger) error {
	opts := consul.ServiceRegisterOpts{ReplaceExistingChecks: true}
	if err := agent.ServiceRegisterOpts(reg, opts.WithContext(ctx)); err != nil {
		return fmt.Errorf("register the gateway: %w", err)
	}
	log.Info("gateway registered", "id", reg.ID, "address", reg.Address, "port", reg.Port)
	return nil
}
