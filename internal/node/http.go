package node

import (
	"context"
	"fmt"
	"net"
	"runtime"

	"isthmus/api"
	"isthmus/internal/httpapi"
	"isthmus/internal/rpc"
	"isthmus/internal/transport"
	"isthmus/internal/watches"
)

// newHTTP makes the HTTP front, which asks caller, and listens for it.
func (n *Node) newHTTP(caller rpc.Caller) ([]part, error) {
	cfg := httpapi.Config{
		Datacenter: n.cfg.Datacenter, Primary: n.cfg.PrimaryDatacenter, Node: n.cfg.NodeName, NodeID: n.id,
		Build: api.Compat, Version: api.Version, Server: n.cfg.Server,
		Caller: caller, Servers: n.servers, Local: n.local, LAN: n.lan,
		Federated: n.cfg.Connect.EnableMeshGatewayWANFederation,
		Leave:     n.Leave, Reload: n.reloadAsked, Stats: n.stats, Settings: n.shown(), Monitor: n.opts.Logs.Follow,
		MaxValueSize: n.cfg.Limits.KVMaxValueSize, ResponseHeaders: n.cfg.HTTPConfig.ResponseHeaders,
		Coord: n.shownCoordinate, TranslateWAN: n.cfg.TranslateWANAddrs,
		EnableDebug: n.cfg.EnableDebug, AllowUnprintable: n.cfg.AllowUnprintable, Pretty: n.cfg.DevMode, Log: n.log.With("component", "http"),
	}
	if n.server != nil && n.server.wan != nil {
		cfg.WAN = n.server.wan
	}
	if n.xds != nil {
		cfg.Proxies = func() any { return n.xds.Proxies() }
		cfg.XDS.Plaintext, cfg.XDS.TLS = max(n.cfg.Ports.GRPC, 0), max(n.cfg.Ports.GRPCTLS, 0)
	}
	if n.opts.Metrics != nil {
		cfg.Metrics = n.opts.Metrics
	}
	front := httpapi.New(cfg)
	var err error
	if n.watches, err = watches.New(front, n.cfg.Watches, n.log.With("component", "watches")); err != nil {
		return nil, err //nolint:wrapcheck // names the watch
	}
	parts := []part{{"watches", n.watches.Run}}
	listen := func(name string, addrs []string, serve httpapi.ServeConfig) error {
		for _, addr := range addrs {
			ln, err := net.Listen("tcp", addr) //nolint:noctx // bound to the node, not to a request
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			parts = append(parts, part{name + " " + addr, func(ctx context.Context) error {
				return httpapi.Serve(ctx, ln, front, serve)
			}})
		}
		return nil
	}
	n.httpConns.Store(int64(n.cfg.Limits.HTTPMaxConnsPerClient))
	serve := httpapi.ServeConfig{MaxConnsPerClient: func() int { return int(n.httpConns.Load()) }, Log: cfg.Log}
	if err := listen("HTTP", n.cfg.Listen.HTTP, serve); err != nil {
		return nil, err
	}
	if len(n.cfg.Listen.HTTPS) > 0 {
		if n.https, err = transport.NewTLS(n.tlsConfig(n.cfg, n.cfg.TLS.HTTPS)); err != nil {
			return nil, fmt.Errorf("tls.https: %w", err)
		}
		serve.TLS = n.https.HTTPS()
		if err := listen("HTTPS", n.cfg.Listen.HTTPS, serve); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// servers are the servers of the own datacenter, each to be asked by itself.
func (n *Node) servers() []httpapi.Peer {
	var out []httpapi.Peer
	for _, s := range n.router.Servers(n.cfg.Datacenter) {
		if s.Name == n.cfg.NodeName && n.server != nil {
			out = append(out, httpapi.Peer{Caller: n.server.server, Node: s.Name})
			continue
		}
		out = append(out, httpapi.Peer{Caller: n.router.Server(s), Node: s.Name})
	}
	return out
}

// stats are figures of the parts, by name.
func (n *Node) stats() map[string]map[string]string {
	out := map[string]map[string]string{
		"build": {"version": api.Version, "compatible_with": api.Compat},
		"agent": n.agentStats(),
		"runtime": {
			"arch": runtime.GOARCH, "os": runtime.GOOS, "version": runtime.Version(),
			"cpu_count": fmt.Sprint(runtime.NumCPU()), "goroutines": fmt.Sprint(runtime.NumGoroutine()),
			"max_procs": fmt.Sprint(runtime.GOMAXPROCS(0)),
		},
		"serf_lan": n.lan.Stats(),
		"consul":   {"acl": "disabled", "server": fmt.Sprint(n.cfg.Server), "known_servers": fmt.Sprint(len(n.router.Servers(n.cfg.Datacenter)))},
	}
	if n.server != nil {
		out["raft"] = n.server.log.Stats()
		addr, _ := n.server.log.Leader()
		out["consul"]["bootstrap"] = fmt.Sprint(n.cfg.Bootstrap)
		out["consul"]["leader"] = fmt.Sprint(n.server.log.IsLeader())
		out["consul"]["leader_addr"] = addr
		out["consul"]["known_datacenters"] = fmt.Sprint(len(n.router.Datacenters()))
		if n.server.wan != nil {
			out["serf_wan"] = n.server.wan.Stats()
		}
	}
	return out
}

// agentStats counts the services and checks of this node.
func (n *Node) agentStats() map[string]string {
	checks, kinds := n.local.Checks(), map[string]int{}
	for _, c := range checks {
		kinds[c.Type]++
	}
	return map[string]string{
		"services": fmt.Sprint(len(n.local.Services())), "checks": fmt.Sprint(len(checks)),
		"check_monitors": fmt.Sprint(kinds["script"]), "check_ttls": fmt.Sprint(kinds["ttl"]),
	}
}

// shown is what /v1/agent/self tells of the settings, under the names that
// clients read there.
func (n *Node) shown() map[string]any {
	return map[string]any{
		"Datacenter": n.cfg.Datacenter, "PrimaryDatacenter": n.cfg.PrimaryDatacenter, "NodeName": n.cfg.NodeName,
		"ServerMode": n.cfg.Server, "DNSDomain": n.cfg.Domain, "DNSAltDomain": n.cfg.AltDomain, "DataDir": n.cfg.DataDir,
		"DevMode": n.cfg.DevMode, "ConnectEnabled": n.cfg.Connect.Enabled,
		"ConnectMeshGatewayWANFederationEnabled": n.cfg.Connect.EnableMeshGatewayWANFederation,
		"PrimaryGateways":                        n.cfg.PrimaryGateways, "AdvertiseAddrLAN": n.cfg.AdvertiseAddr,
		"AdvertiseAddrWAN": n.cfg.AdvertiseAddrWAN, "EncryptVerifyIncoming": n.cfg.EncryptVerifyIncoming,
		"EnableDebug": n.cfg.EnableDebug, "ACLsEnabled": false, "TranslateWANAddrs": n.cfg.TranslateWANAddrs,
		"SerfPortLAN": n.cfg.Ports.SerfLAN, "SerfPortWAN": n.cfg.Ports.SerfWAN, "ServerPort": n.cfg.Ports.Server,
	}
}
