package node

import (
	"context"
	"fmt"
	"net"

	"isthmus/internal/config"
	"isthmus/internal/dns"
	"isthmus/internal/rpc"
)

// newDNS makes the DNS front, which asks caller, and listens for it.
func (n *Node) newDNS(caller rpc.Caller) ([]part, error) {
	if len(n.cfg.Listen.DNS) == 0 {
		return nil, nil
	}
	n.dns = dns.New(dns.Config{
		Datacenter: n.cfg.Datacenter, Domain: n.cfg.Domain, AltDomain: n.cfg.AltDomain, TranslateWAN: n.cfg.TranslateWANAddrs,
		Caller: caller, Settings: dnsSettings(n.cfg), Log: n.log.With("component", "dns"),
	})
	parts := []part{{"DNS answers", n.dns.Run}}
	for _, addr := range n.cfg.Listen.DNS {
		at, err := net.ResolveUDPAddr("udp", addr)
		if err != nil {
			return nil, fmt.Errorf("DNS: %w", err)
		}
		conn, err := net.ListenUDP("udp", at)
		if err != nil {
			return nil, fmt.Errorf("DNS: %w", err)
		}
		ln, err := net.Listen("tcp", addr) //nolint:noctx // bound to the node, not to a request
		if err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("DNS: %w", err)
		}
		parts = append(parts,
			part{"DNS over UDP " + addr, func(ctx context.Context) error { return n.dns.ServeUDP(ctx, conn) }},
			part{"DNS over TCP " + addr, func(ctx context.Context) error { return n.dns.ServeTCP(ctx, ln) }})
	}
	return parts, nil
}

// dnsSettings are the settings of DNS that may change while it runs.
func dnsSettings(cfg *config.Settings) dns.Settings {
	d := &cfg.DNSConfig
	return dns.Settings{
		AllowStale: d.AllowStale, MaxStale: d.MaxStale, UseCache: d.UseCache, CacheMaxAge: d.CacheMaxAge,
		NodeTTL: d.NodeTTL, ServiceTTL: d.ServiceTTL, OnlyPassing: d.OnlyPassing,
		UDPAnswerLimit: d.UDPAnswerLimit, ARecordLimit: d.ARecordLimit, EnableTruncate: d.EnableTruncate,
		DisableCompression: d.DisableCompression, NodeMetaTXT: d.EnableAdditionalNodeMetaTXT,
		SOA: dns.SOA{
			Refresh: uint32(d.SOA.Refresh), Retry: uint32(d.SOA.Retry), //nolint:gosec // Load has checked that they fit
			Expire: uint32(d.SOA.Expire), MinTTL: uint32(d.SOA.MinTTL), //nolint:gosec // the same
		},
		Recursors: cfg.Recursors, RecursorTimeout: d.RecursorTimeout, RandomRecursor: d.RecursorStrategy == "random",
	}
}
