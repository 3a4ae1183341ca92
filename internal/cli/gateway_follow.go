package cli

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"time"

	consul "github.com/hashicorp/consul/api"

	"isthmus/api"
	"isthmus/internal/mesh"
	"isthmus/internal/proxy"
)

// Pace of following the agent.
const (
	followRetry = 250 * time.Millisecond
	followMost  = 5 * time.Second
	lookAgain   = 5 * time.Second // whether the agent still knows the gateway
)

// followAgent keeps the routes of a gateway equal to what its agent knows, until
// ctx is done.
func followAgent(ctx context.Context, client *consul.Client, of gatewayOf, gw *proxy.Gateway, log *slog.Logger) {
	g := &mesh.Gateway{Caller: agentSource{client}, Proxy: of, Log: log}
	if !retry(ctx, log, "the agent does not answer yet", func(ctx context.Context) (err error) {
		g.Datacenter, g.Domain, err = identify(ctx, client)
		return err
	}) {
		return
	}
	for s := range g.Snapshots(ctx) {
		routes, err := proxy.RoutesFor(s)
		if err != nil {
			log.Warn("some routes are left out", "err", err)
		}
		gw.SetRoutes(routes)
		log.Info("routes changed", "to_servers", len(s.Servers), "to_datacenters", len(s.Remote))
	}
}

// gatewayOf yields the registration of a gateway now and after every change, nil
// while there is none.
type gatewayOf = func(ctx context.Context) iter.Seq[*api.NodeService]

// always is the registration of a gateway that registers itself.
func always(reg *consul.AgentServiceRegistration) gatewayOf {
	out := &api.NodeService{
		Kind: string(reg.Kind), ID: reg.ID, Service: reg.Name, Address: reg.Address, Port: reg.Port, Meta: reg.Meta,
		TaggedAddresses: map[string]api.ServiceAddress{},
	}
	for tag, addr := range reg.TaggedAddresses {
		out.TaggedAddresses[tag] = api.ServiceAddress{Address: addr.Address, Port: addr.Port}
	}
	return func(context.Context) iter.Seq[*api.NodeService] {
		return func(yield func(*api.NodeService) bool) { yield(out) }
	}
}

// retry calls try until it works. It returns false when ctx is done first.
func retry(ctx context.Context, log *slog.Logger, what string, try func(context.Context) error) bool {
	wait := followRetry
	for {
		err := try(ctx)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		log.Warn(what, "err", err, "again_in", wait) //nolint:sloglint // a constant of the caller
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return false
		case <-t.C:
		}
		wait = min(2*wait, followMost)
	}
}

// identify asks the agent for its datacenter and domain.
func identify(ctx context.Context, client *consul.Client) (datacenter, domain string, err error) {
	var self struct {
		Config      struct{ Datacenter string }
		DebugConfig struct{ DNSDomain string }
	}
	if _, err := client.Raw().Query("/v1/agent/self", &self, (&consul.QueryOptions{}).WithContext(ctx)); err != nil {
		return "", "", fmt.Errorf("ask the agent who it is: %w", err)
	}
	if self.Config.Datacenter == "" {
		return "", "", errors.New("the agent does not say which datacenter it is of")
	}
	if domain = strings.Trim(self.DebugConfig.DNSDomain, "."); domain == "" {
		domain = "consul"
	}
	return self.Config.Datacenter, domain, nil
}
