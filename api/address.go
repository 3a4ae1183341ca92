package api

import "net/netip"

// Family is a kind of IP address.
type Family int

// The families of addresses.
const (
	AnyFamily Family = iota
	IPv4
	IPv6
)

// ChooseAddress chooses among the addresses of a node or an instance: of the family
// that is asked for where there is one, and the WAN's for who is in another
// datacenter. tagged yields the address under a name such as wan or lan_ipv4, or
// nothing.
func ChooseAddress(addr string, tagged func(name string) string, wan bool, family Family) string {
	v4, v6 := "lan_ipv4", "lan_ipv6"
	if wan {
		v4, v6 = "wan_ipv4", "wan_ipv6"
		if other := tagged("wan"); other != "" {
			addr = other
		}
	}
	if _, err := netip.ParseAddr(addr); err != nil && addr != "" {
		return addr // a name has addresses of all families
	}
	if other := tagged(v6); family != IPv4 && other != "" {
		return other
	}
	if other := tagged(v4); family != IPv6 && other != "" {
		return other
	}
	return addr
}
