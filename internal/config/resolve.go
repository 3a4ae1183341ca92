package config

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	sockaddr "github.com/hashicorp/go-sockaddr"
	"github.com/hashicorp/go-sockaddr/template"
)

// resolve fills in what follows from other settings.
func (l *loader) resolve() {
	s := l.settings
	s.Datacenter = strings.ToLower(s.Datacenter)
	s.PrimaryDatacenter = strings.ToLower(s.PrimaryDatacenter)
	if s.PrimaryDatacenter == "" {
		s.PrimaryDatacenter = s.Datacenter
	}
	if s.NodeName == "" {
		name, err := os.Hostname()
		if err != nil {
			l.wrongKey("node_name", "is not set, and the host has no name", "set node_name")
		}
		s.NodeName = name
	}
	s.LogLevel = strings.ToLower(s.LogLevel)
	if s.LogLevel == "err" {
		s.LogLevel = "error"
	}
	if s.BootstrapExpect == 1 && !s.Bootstrap {
		s.Bootstrap, s.BootstrapExpect = true, 0
	}
	if !l.isSet("leave_on_terminate") {
		s.LeaveOnTerminate = !s.Server
	}
	if !l.isSet("skip_leave_on_interrupt") {
		s.SkipLeaveOnInterrupt = s.Server
	}
	l.resolveTLS()
	if s.Server && s.TLS.GRPC.CertFile != "" && !l.isSet("ports.grpc_tls") {
		s.Ports.GRPCTLS = 8503
	}
	l.resolvePorts()
	l.resolveAddresses()
}

func (l *loader) isSet(path string) bool {
	_, ok := l.set[path]
	return ok
}

// wrongKey notes what is wrong with a setting, where it was set last.
func (l *loader) wrongKey(path, what, cure string) {
	from := l.set[path]
	key := path
	if from.key != "" {
		key = from.key
	}
	l.problems.add(from.where, key, what, cure)
}

// resolvePorts makes of 0 and -1, which both switch a port off, the latter.
func (l *loader) resolvePorts() {
	p := &l.settings.Ports
	for _, one := range []struct {
		key  string
		port *int
	}{
		{"server", &p.Server},
		{"serf_lan", &p.SerfLAN},
		{"serf_wan", &p.SerfWAN},
		{"http", &p.HTTP},
		{"https", &p.HTTPS},
		{"dns", &p.DNS},
		{"grpc", &p.GRPC},
		{"grpc_tls", &p.GRPCTLS},
	} {
		needed := one.key == "server" || one.key == "serf_lan"
		switch {
		case *one.port < -1 || *one.port > 65535:
			l.wrongKey("ports."+one.key, strconv.Itoa(*one.port)+" is no port", "write 1 to 65535, or -1 to switch it off")
		case *one.port <= 0 && needed:
			l.wrongKey("ports."+one.key, "cannot be switched off", "write 1 to 65535")
		case *one.port == 0:
			*one.port = -1
		}
	}
}

func (l *loader) resolveAddresses() {
	s := l.settings
	before := len(l.problems)
	s.BindAddr = l.oneIP("bind_addr", s.BindAddr)
	if s.BindAddr == "" && len(l.problems) == before {
		l.wrongKey("bind_addr", "is empty", `write an IP address, such as "0.0.0.0"`)
	}
	s.SerfLAN = l.orElse(l.oneIP("serf_lan", s.SerfLAN), s.BindAddr)
	s.SerfWAN = l.orElse(l.oneIP("serf_wan", s.SerfWAN), s.BindAddr)
	s.AdvertiseAddr = l.oneIP("advertise_addr", s.AdvertiseAddr)
	if s.AdvertiseAddr == "" && len(l.problems) == before {
		s.AdvertiseAddr = l.advertised(s.BindAddr)
	}
	s.AdvertiseAddrWAN = l.orElse(l.oneIP("advertise_addr_wan", s.AdvertiseAddrWAN), s.AdvertiseAddr)
	for _, one := range []struct{ key, addr string }{
		{"advertise_addr", s.AdvertiseAddr}, {"advertise_addr_wan", s.AdvertiseAddrWAN},
	} {
		if ip, err := netip.ParseAddr(one.addr); err == nil && ip.IsUnspecified() {
			l.wrongKey(one.key, one.addr+" is an address nobody can reach", "write the IP address that others reach this node at")
		}
	}
	s.RetryJoin = l.templates("retry_join", s.RetryJoin)
	s.RetryJoinWAN = l.templates("retry_join_wan", s.RetryJoinWAN)
	s.PrimaryGateways = l.templates("primary_gateways", s.PrimaryGateways)
	s.Recursors = l.templates("recursors", s.Recursors)
	l.resolveTagged()
	l.resolveListen()
}

func (*loader) orElse(addr, other string) string {
	if addr == "" {
		return other
	}
	return addr
}

// advertised finds what to tell others when nothing is said: the bind address,
// or the one private address when that is "any".
func (l *loader) advertised(bind string) string {
	ip, err := netip.ParseAddr(bind)
	if err != nil || !ip.IsUnspecified() {
		return bind
	}
	find, family := sockaddr.GetPrivateIPs, "private IPv4"
	if ip.Is6() {
		find, family = sockaddr.GetPublicIPs, "public IPv6"
	}
	found, err := find()
	addrs := slices.DeleteFunc(strings.Fields(found), func(addr string) bool {
		other, err := netip.ParseAddr(addr)
		return err != nil || other.Is6() != ip.Is6()
	})
	if err != nil || len(addrs) != 1 {
		l.wrongKey("advertise_addr", "is not set, and the host has "+strconv.Itoa(len(addrs))+" "+family+" addresses to choose from",
			"set advertise_addr, or bind_addr, to the one that others reach")
		return ""
	}
	return addrs[0]
}

func (l *loader) resolveListen() {
	s := l.settings
	s.Listen.Server = hostPort(s.BindAddr, s.Ports.Server)
	s.Listen.SerfLAN = hostPort(s.SerfLAN, s.Ports.SerfLAN)
	s.Listen.SerfWAN = hostPort(s.SerfWAN, s.Ports.SerfWAN)
	client := l.ips("client_addr", s.ClientAddr)
	if len(client) == 0 {
		l.warnings = append(l.warnings, "client_addr is empty: HTTP, DNS and gRPC listen only where addresses names them")
	}
	s.ClientAddr = strings.Join(client, " ")
	taken := map[string]string{}
	for _, one := range []struct {
		key  string
		addr *string
		port int
		out  *[]string
	}{
		{"dns", &s.Addresses.DNS, s.Ports.DNS, &s.Listen.DNS},
		{"http", &s.Addresses.HTTP, s.Ports.HTTP, &s.Listen.HTTP},
		{"https", &s.Addresses.HTTPS, s.Ports.HTTPS, &s.Listen.HTTPS},
		{"grpc", &s.Addresses.GRPC, s.Ports.GRPC, &s.Listen.GRPC},
		{"grpc_tls", &s.Addresses.GRPCTLS, s.Ports.GRPCTLS, &s.Listen.GRPCTLS},
	} {
		ips := client
		if *one.addr != "" {
			ips = l.ips("addresses."+one.key, *one.addr)
			*one.addr = strings.Join(ips, " ")
		}
		*one.out = nil
		for _, ip := range ips {
			at := hostPort(ip, one.port)
			if at == "" {
				continue
			}
			if other, ok := taken[at]; ok {
				l.wrongKey("ports."+one.key, at+" is the address of ports."+other+" as well", "give each its own port or address")
			}
			taken[at] = one.key
			*one.out = append(*one.out, at)
		}
	}
}

func hostPort(ip string, port int) string {
	if port <= 0 || ip == "" {
		return ""
	}
	return net.JoinHostPort(ip, strconv.Itoa(port))
}

// expand replaces a go-sockaddr template by its addresses.
func (l *loader) expand(key, text string) []string {
	if !strings.Contains(text, "{{") {
		return strings.Fields(text)
	}
	out, err := template.Parse(text)
	if err != nil {
		l.wrongKey(key, "is a template that cannot be expanded: "+printable(err.Error()), "see the go-sockaddr template language")
		return nil
	}
	addrs := strings.Fields(out)
	if len(addrs) == 0 {
		l.wrongKey(key, "is a template that yields no address on this host", "write an address, or another template")
	}
	return addrs
}

// ips expands a text to IP addresses.
func (l *loader) ips(key, text string) []string {
	addrs := l.expand(key, text)
	for i, addr := range addrs {
		if strings.HasPrefix(addr, "unix:") {
			l.wrongKey(key, "names a Unix socket, which is not built yet", "write an IP address")
			return nil
		}
		ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]"))
		if err != nil {
			l.wrongKey(key, quote(addr)+" is no IP address", `write one such as "10.0.0.1", without a port, or a go-sockaddr template`)
			return nil
		}
		addrs[i] = ip.String()
	}
	return addrs
}

// oneIP expands a text to at most one IP address.
func (l *loader) oneIP(key, text string) string {
	addrs := l.ips(key, text)
	if len(addrs) > 1 {
		l.wrongKey(key, "is "+strconv.Itoa(len(addrs))+" addresses where one is expected", "write one")
	}
	if len(addrs) == 0 {
		return ""
	}
	return addrs[0]
}

// templates expands the addresses of a list; cloud discovery strings stay.
func (l *loader) templates(key string, list []string) []string {
	var all []string
	for _, text := range list {
		switch {
		case strings.TrimSpace(text) == "":
			l.wrongKey(key, "holds an empty address", "remove it")
		case strings.Contains(text, "{{"):
			all = append(all, l.expand(key, text)...)
		default:
			all = append(all, text)
		}
	}
	return all
}

// RaftTiming yields how long a follower waits for its leader, a candidate for
// its votes, and a leader for its followers. In development mode one server has
// nobody to wait for.
func (s *Settings) RaftTiming() (heartbeat, election, lease time.Duration) {
	if s.DevMode {
		return 35 * time.Millisecond, 52 * time.Millisecond, 20 * time.Millisecond
	}
	heartbeat = time.Duration(s.Performance.RaftMultiplier) * time.Second
	return heartbeat, heartbeat, heartbeat / 2
}
