package config

import (
	"maps"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
)

// validateDNS checks how names are answered.
func (l *loader) validateDNS() {
	s := l.settings
	for _, addr := range s.Recursors {
		host := addr
		if h, port, err := net.SplitHostPort(addr); err == nil {
			host = h
			if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
				l.wrongKey("recursors", "has the port "+quote(port), "write 1 to 65535")
			}
		}
		ip, err := netip.ParseAddr(host)
		switch {
		case err != nil:
			l.wrongKey("recursors", quote(addr)+" is no IP address", `write one such as "10.0.0.1" or "10.0.0.1:53"`)
		case ip.IsUnspecified():
			l.wrongKey("recursors", addr+" is an address nobody can reach", "write the IP address of a DNS server")
		}
	}
	d := &s.DNSConfig
	if !slices.Contains([]string{"sequential", "random"}, d.RecursorStrategy) {
		l.wrongKey("dns_config.recursor_strategy", quote(d.RecursorStrategy)+" is no strategy", "write sequential or random")
	}
	if d.RecursorTimeout == 0 {
		l.wrongKey("dns_config.recursor_timeout", "cannot be 0", "write more than 0")
	}
	for _, name := range slices.Sorted(maps.Keys(d.ServiceTTL)) {
		if d.ServiceTTL[name] < 0 {
			l.wrongKey("dns_config.service_ttl", "is negative for "+quote(name), "write 0s or more")
		}
	}
	for key, n := range map[string]int{"refresh": d.SOA.Refresh, "retry": d.SOA.Retry, "expire": d.SOA.Expire, "min_ttl": d.SOA.MinTTL} {
		if n > math.MaxUint32 {
			l.wrongKey("dns_config.soa."+key, strconv.Itoa(n)+" does not fit into a record", "write a number of seconds up to 4294967295")
		}
	}
}
