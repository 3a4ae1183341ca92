package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Route sends connections for one server name, or for all names below a
// suffix, to a set of addresses.
type Route struct {
	// Name labels the route in metrics; several routes may share one.
	Name string
	// Match is an exact DNS name, or "*." and a suffix, which matches every name
	// with one or more labels in front of that suffix.
	Match string
	// Addrs are the candidates as host:port. Host names are resolved whenever
	// they are dialled. A route without addresses is known, but cannot be reached.
	Addrs []string
}

// Routes is an immutable routing table.
type Routes struct {
	list   []Route
	exact  map[string]int
	suffix map[string]int // by what follows "*."
}

const (
	maxNameLen  = 253
	maxLabelLen = 63
)

// NewRoutes builds a table. It refuses names that are malformed, IP addresses
// or given twice, and addresses that are not host:port.
func NewRoutes(routes []Route) (*Routes, error) {
	r := &Routes{exact: make(map[string]int), suffix: make(map[string]int)}
	for _, route := range routes {
		if err := r.add(route); err != nil {
			return nil, fmt.Errorf("route %q for %q: %w", route.Name, route.Match, err)
		}
	}
	return r, nil
}

func (r *Routes) add(route Route) error {
	if route.Name == "" {
		return errors.New("no name")
	}
	text, wild := strings.CutPrefix(route.Match, "*.")
	name, ok := appendName(nil, []byte(text))
	if !ok {
		return errors.New("match is not a DNS name")
	}
	if _, err := netip.ParseAddr(string(name)); err == nil {
		return errors.New("match is an IP address")
	}
	names := r.exact
	if wild {
		names = r.suffix
	}
	if _, ok := names[string(name)]; ok {
		return errors.New("match is given twice")
	}
	for _, addr := range route.Addrs {
		if err := checkAddr(addr); err != nil {
			return err
		}
	}
	names[string(name)] = len(r.list)
	route.Addrs = slices.Clone(route.Addrs)
	r.list = append(r.list, route)
	return nil
}

func checkAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("parse address: %w", err)
	}
	if host == "" {
		return fmt.Errorf("address %q has no host", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("address %q has no valid port", addr)
	}
	return nil
}

// find yields the place of the route for a name as appendName makes it: the
// exact one, or else the one with the longest suffix.
func (r *Routes) find(name []byte) (int, bool) {
	if i, ok := r.exact[string(name)]; ok {
		return i, true
	}
	for i, c := range name {
		if c != '.' {
			continue
		}
		if at, ok := r.suffix[string(name[i+1:])]; ok {
			return at, true
		}
	}
	return 0, false
}

// appendName appends the form in which names are compared: lower case, without
// a final dot. It refuses what is not a host name; underscores pass, as node
// names may hold them.
func appendName(dst, name []byte) ([]byte, bool) {
	if n := len(name); n > 0 && name[n-1] == '.' {
		name = name[:n-1]
	}
	if len(name) == 0 || len(name) > maxNameLen {
		return dst, false
	}
	label := 0
	for _, c := range name {
		switch {
		case c == '.':
			if label == 0 {
				return dst, false
			}
			label = -1
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return dst, false
		}
		if label++; label > maxLabelLen {
			return dst, false
		}
		dst = append(dst, c)
	}
	return dst, label > 0
}
