package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	consul "github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"

	"isthmus/internal/proxy"
)

// Pace of following the agent.
const (
	followWait  = 5 * time.Minute // of one blocking read
	followRetry = 250 * time.Millisecond
	followMost  = 5 * time.Second
	lookAgain   = 5 * time.Second // whether the agent still knows the gateway
)

// follower keeps the routes of a gateway equal to what its agent knows: the
// servers of its datacenter, and the gateways of the others.
type follower struct {
	client  *consul.Client
	gateway *proxy.Gateway
	log     *slog.Logger

	datacenter, domain string

	mu      sync.Mutex
	servers []proxy.Route
	remote  []proxy.Route
	ready   [2]bool
}

// run follows until ctx is done.
func (f *follower) run(ctx context.Context) error {
	if !retry(ctx, f.log, "the agent does not answer yet", f.identify) {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { f.watch(ctx, "servers", f.readServers); return nil })
	g.Go(func() error { f.watch(ctx, "gateways of other datacenters", f.readRemote); return nil })
	return g.Wait() //nolint:wrapcheck // always nil
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
func (f *follower) identify(ctx context.Context) error {
	var self struct {
		Config      struct{ Datacenter string }
		DebugConfig struct{ DNSDomain string }
	}
	if _, err := f.client.Raw().Query("/v1/agent/self", &self, (&consul.QueryOptions{}).WithContext(ctx)); err != nil {
		return fmt.Errorf("ask the agent who it is: %w", err)
	}
	f.datacenter = self.Config.Datacenter
	f.domain = strings.Trim(self.DebugConfig.DNSDomain, ".")
	if f.domain == "" {
		f.domain = "consul"
	}
	if f.datacenter == "" {
		return errors.New("the agent does not say which datacenter it is of")
	}
	return nil
}

// watch reads again and again, each time when something changed.
func (f *follower) watch(ctx context.Context, what string, read func(*consul.QueryOptions) (uint64, error)) {
	var index uint64
	for ctx.Err() == nil {
		ok := retry(ctx, f.log.With("of", what), "routes are not followed", func(ctx context.Context) error {
			opts := (&consul.QueryOptions{WaitIndex: index, WaitTime: followWait, AllowStale: true}).WithContext(ctx)
			next, err := read(opts)
			if err != nil {
				index = 0
				return err
			}
			if next < index {
				next = 0 // the index went back: read anew
			}
			index = next
			return nil
		})
		if !ok {
			return
		}
	}
}

// readServers makes the routes to the servers of the own datacenter.
func (f *follower) readServers(opts *consul.QueryOptions) (uint64, error) {
	entries, meta, err := f.client.Health().Service("consul", "", false, opts)
	if err != nil {
		return 0, fmt.Errorf("read the servers: %w", err)
	}
	name := "server." + f.datacenter + "." + f.domain
	all := proxy.Route{Name: "server/" + f.datacenter, Match: name}
	var routes []proxy.Route
	for _, e := range entries {
		host := e.Service.Address
		if host == "" {
			host = e.Node.Address
		}
		addr := net.JoinHostPort(host, strconv.Itoa(e.Service.Port))
		routes = append(routes, proxy.Route{
			Name: all.Name + "/" + e.Node.Node, Match: strings.ToLower(e.Node.Node) + "." + name, Addrs: []string{addr},
		})
		if e.Checks.AggregatedStatus() != consul.HealthCritical {
			all.Addrs = append(all.Addrs, addr)
		}
	}
	if len(all.Addrs) > 0 {
		routes = append(routes, all)
	}
	return meta.LastIndex, f.set(0, &f.servers, routes)
}

// readRemote makes the routes to the gateways of other datacenters.
func (f *follower) readRemote(opts *consul.QueryOptions) (uint64, error) {
	var states map[string][]consul.ServiceEntry
	meta, err := f.client.Raw().Query("/v1/internal/federation-states/mesh-gateways", &states, opts)
	if err != nil {
		return 0, fmt.Errorf("read the gateways of other datacenters: %w", err)
	}
	var routes []proxy.Route
	for _, dc := range slices.Sorted(maps.Keys(states)) {
		if dc == f.datacenter {
			continue
		}
		var addrs []string
		for i := range states[dc] {
			if addr := remoteAddress(&states[dc][i]); addr != "" {
				addrs = append(addrs, addr)
			}
		}
		if len(addrs) == 0 {
			continue
		}
		slices.Sort(addrs)
		addrs = slices.Compact(addrs)
		name := "server." + dc + "." + f.domain
		routes = append(routes,
			proxy.Route{Name: "remote/" + dc, Match: "*." + name, Addrs: addrs},
			proxy.Route{Name: "remote/" + dc, Match: name, Addrs: addrs})
	}
	return meta.LastIndex, f.set(1, &f.remote, routes)
}

// remoteAddress is where a gateway of another datacenter is reached, or empty
// when it leads to no servers or does not work.
func remoteAddress(e *consul.ServiceEntry) string {
	if e.Service.Meta["consul-wan-federation"] != "1" || e.Checks.AggregatedStatus() == consul.HealthCritical {
		return ""
	}
	host, port := e.Service.Address, e.Service.Port
	if wan, ok := e.Service.TaggedAddresses["wan"]; ok && wan.Address != "" {
		host = wan.Address
		if wan.Port != 0 {
			port = wan.Port
		}
	}
	if host == "" {
		host = e.Node.TaggedAddresses["wan"]
	}
	if host == "" {
		host = e.Node.Address
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// set takes over one half of the routes.
func (f *follower) set(half int, to *[]proxy.Route, routes []proxy.Route) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	*to = routes
	f.ready[half] = true
	if f.ready != [2]bool{true, true} {
		return nil // a table with one half would refuse names that exist
	}
	table, err := proxy.NewRoutes(slices.Concat(f.servers, f.remote))
	if err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	f.gateway.SetRoutes(table)
	f.log.Info("routes changed", "to_servers", len(f.servers), "to_datacenters", len(f.remote)/2)
	return nil
}

// keepRegistered registers the gateway and, when the agent has forgotten it,
// registers it again. It deregisters it at the end, so that nobody is sent to a
// gateway that drains.
func (c *connectGateway) keepRegistered(ctx context.Context, e *Env, log *slog.Logger) error {
	reg, err := c.registration()
	if err != nil {
		return err
	}
	agent := e.client.Agent()
	for retry(ctx, log, "the gateway is not registered", func(ctx context.Context) error {
		_, _, err := agent.Service(reg.ID, (&consul.QueryOptions{}).WithContext(ctx))
		var status consul.StatusError
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &status) || status.Code != http.StatusNotFound:
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

func register(ctx context.Context, agent *consul.Agent, reg *consul.AgentServiceRegistration, log *slog.Logger) error {
	opts := consul.ServiceRegisterOpts{ReplaceExistingChecks: true}
	if err := agent.ServiceRegisterOpts(reg, opts.WithContext(ctx)); err != nil {
		return fmt.Errorf("register the gateway: %w", err)
	}
	log.Info("gateway registered", "id", reg.ID, "address", reg.Address, "port", reg.Port)
	return nil
}
