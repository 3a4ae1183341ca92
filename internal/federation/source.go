package federation

import (
	"context"
	"iter"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
)

// gatewayPort is the port of a discovered gateway that names none.
const gatewayPort = "8443"

// FromStates yields the gateways that federation states tell of: of the own
// datacenter at their LAN addresses, of the primary at their WAN addresses. Only
// gateways that lead to servers and pass their checks count.
func FromStates(states iter.Seq2[rpc.Update[[]*api.FederationState], error], own, primary string, log *slog.Logger) Source {
	return func(yield func(Gateways) bool) {
		for update, err := range states {
			if err != nil {
				log.Debug("federation states are not readable yet", "err", err)
				continue
			}
			var g Gateways
			for _, f := range update.Out {
				if f.Datacenter == own {
					g.Own = addresses(f.MeshGateways, LANAddress)
				}
				if f.Datacenter == primary && primary != own {
					g.Primary = addresses(f.MeshGateways, WANAddress)
				}
			}
			if !yield(g) {
				return
			}
		}
	}
}

// Usable tells whether a gateway leads to servers and passes its checks.
func Usable(c *api.CheckServiceNode) bool {
	return c.Service.Meta[api.FederationKey] == "1" && c.Status() != api.Critical
}

func addresses(gateways []api.CheckServiceNode, of func(*api.CheckServiceNode) string) []string {
	var out []string
	for i := range gateways {
		if Usable(&gateways[i]) {
			out = append(out, of(&gateways[i]))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// LANAddress is where servers of its own datacenter reach a gateway.
func LANAddress(c *api.CheckServiceNode) string {
	addr := c.Service.Address
	if addr == "" {
		addr = c.Node.Address
	}
	return net.JoinHostPort(addr, strconv.Itoa(c.Service.Port))
}

// WANAddress is where a gateway is reached from other datacenters.
func WANAddress(c *api.CheckServiceNode) string {
	port := c.Service.Port
	if wan, ok := c.Service.TaggedAddresses["wan"]; ok && wan.Address != "" {
		if wan.Port != 0 {
			port = wan.Port
		}
		return net.JoinHostPort(wan.Address, strconv.Itoa(port))
	}
	addr := c.Service.Address
	if addr == "" {
		addr = c.Node.TaggedAddresses["wan"]
	}
	if addr == "" {
		addr = c.Node.Address
	}
	return net.JoinHostPort(addr, strconv.Itoa(port))
}

// Configured yields the primary's gateways as the settings name them: literal
// addresses, whose host names are resolved at each dial, and discovery strings,
// which are asked again for as long as ctx lives.
func Configured(ctx context.Context, settings []string, interval time.Duration,
	discover func(ctx context.Context, setting string) ([]string, error), log *slog.Logger,
) Source {
	return func(yield func(Gateways) bool) {
		found := map[string][]string{} // the last answer to each discovery string, kept when one fails
		var last []string
		for first := true; ctx.Err() == nil; first = false {
			var all []string
			dynamic := false
			for _, setting := range settings {
				if !strings.Contains(setting, "provider=") {
					all = append(all, setting)
					continue
				}
				dynamic = true
				if addrs, err := discover(ctx, setting); err != nil {
					log.Warn("primary gateways were not discovered", "err", err)
				} else {
					found[setting] = addrs
				}
				for _, addr := range found[setting] {
					all = append(all, withPort(addr))
				}
			}
			slices.Sort(all)
			all = slices.Compact(all)
			if (first || !slices.Equal(all, last)) && !yield(Gateways{Primary: all}) || !dynamic {
				return
			}
			last = all
			if !sleep(ctx, interval) {
				return
			}
		}
	}
}

func withPort(addr string) string {
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	return net.JoinHostPort(strings.Trim(addr, "[]"), gatewayPort)
}

// sleep returns false when ctx is done first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
