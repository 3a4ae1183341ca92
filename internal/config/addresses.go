package config

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// resolveTagged makes the addresses of the node by purpose: what is set, then the
// advertised ones, and one of each family where they are known.
func (l *loader) resolveTagged() {
	s := l.settings
	tagged := maps.Clone(s.TaggedAddresses)
	if tagged == nil {
		tagged = map[string]string{}
	}
	for _, name := range []string{"lan", "wan"} {
		addr := s.AdvertiseAddr
		if name == "wan" {
			addr = s.AdvertiseAddrWAN
		}
		tagged[name] = addr
		if ip, err := netip.ParseAddr(addr); err == nil {
			tagged[name+family(ip)] = addr
		}
	}
	for _, one := range []struct {
		key, tag string
		addr     *string
	}{
		{"advertise_addr_ipv4", "lan_ipv4", &s.AdvertiseAddrIPv4},
		{"advertise_addr_ipv6", "lan_ipv6", &s.AdvertiseAddrIPv6},
		{"advertise_addr_wan_ipv4", "wan_ipv4", &s.AdvertiseAddrWANIPv4},
		{"advertise_addr_wan_ipv6", "wan_ipv6", &s.AdvertiseAddrWANIPv6},
	} {
		if *one.addr = l.oneIP(one.key, *one.addr); *one.addr == "" {
			continue
		}
		if ip, err := netip.ParseAddr(*one.addr); err == nil && !strings.HasSuffix(one.tag, family(ip)) {
			l.wrongKey(one.key, *one.addr+" is of the other family", "write an address of the family that the key names")
		}
		tagged[one.tag] = *one.addr
	}
	s.TaggedAddresses = tagged
}

// family is the end of the name of an address of its kind.
func family(ip netip.Addr) string {
	if ip.Is4() {
		return "_ipv4"
	}
	return "_ipv6"
}

// facilities are the names that the system's log knows.
var facilities = []string{
	"KERN", "USER", "MAIL", "DAEMON", "AUTH", "SYSLOG", "LPR", "NEWS", "UUCP", "CRON", "AUTHPRIV", "FTP",
	"LOCAL0", "LOCAL1", "LOCAL2", "LOCAL3", "LOCAL4", "LOCAL5", "LOCAL6", "LOCAL7",
}

func (l *loader) validateSyslog() {
	s := l.settings
	s.SyslogFacility = strings.ToUpper(s.SyslogFacility)
	if s.EnableSyslog && !slices.Contains(facilities, s.SyslogFacility) {
		l.wrongKey("syslog_facility", quote(s.SyslogFacility)+" is no facility", "write one such as LOCAL0, DAEMON or USER")
	}
}

// validateNetworks checks the networks that members of the pools may be in: the
// node itself must be in one of them.
func (l *loader) validateNetworks() {
	s := l.settings
	for _, one := range []struct {
		key, own string
		networks []string
	}{
		{"serf_lan_allowed_cidrs", s.AdvertiseAddr, s.SerfLANAllowedCIDRs},
		{"serf_wan_allowed_cidrs", s.AdvertiseAddrWAN, s.SerfWANAllowedCIDRs},
	} {
		own, err := netip.ParseAddr(one.own)
		inside := err != nil || len(one.networks) == 0
		for _, text := range one.networks {
			network, err := netip.ParsePrefix(text)
			if err != nil {
				l.wrongKey(one.key, quote(text)+" is no network", `write one such as "10.0.0.0/8"`)
				inside = true // told already
			}
			inside = inside || network.Contains(own)
		}
		if !inside {
			l.wrongKey(one.key, "leaves out the own address "+one.own, "add a network that holds it, or advertise another address")
		}
	}
}

// Networks reads what validateNetworks has checked.
func Networks(texts []string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		if network, err := netip.ParsePrefix(text); err == nil {
			out = append(out, network)
		}
	}
	return out
}
