package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// target is one address to join, in parts.
type target struct {
	name string // with its slash, or empty
	host string
	port string
}

// parseTarget takes "[<name>/]<host>[:<port>]". An IPv6 address may stand without brackets when there is no port.
func parseTarget(s string, defaultPort int) (target, error) {
	t := target{host: s, port: strconv.Itoa(defaultPort)}
	if name, host, ok := strings.Cut(s, "/"); ok {
		if name == "" {
			return target{}, fmt.Errorf("address %q: empty node name", s)
		}
		t.name, t.host = name+"/", host
	}
	if _, err := netip.ParseAddr(t.host); err == nil {
		return t, nil
	}
	if host, port, err := net.SplitHostPort(t.host); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return target{}, fmt.Errorf("address %q: port %q is not a number up to 65535", s, port)
		}
		t.host, t.port = host, port
	} else if bracketed := strings.TrimSuffix(strings.TrimPrefix(t.host, "["), "]"); len(bracketed) == len(t.host)-2 {
		t.host = bracketed
	}
	if t.host == "" || strings.ContainsAny(t.host, "[]:/") && !isIP(t.host) {
		return target{}, fmt.Errorf("address %q: want [name/]host[:port]", s)
	}
	return t, nil
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// resolve turns addresses into those the library takes, one for each IP address of a host. It yields what it found
// even when it could not resolve all. The library would resolve names itself, but could not be told to stop.
func resolve(ctx context.Context, addrs []string, defaultPort int) ([]string, error) {
	var found []string
	var errs []error
	for _, addr := range addrs {
		t, err := parseTarget(addr, defaultPort)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ips, err := lookup(ctx, t.host)
		if err != nil {
			errs = append(errs, fmt.Errorf("address %q: %w", addr, err))
			continue
		}
		for _, ip := range ips {
			found = append(found, t.name+net.JoinHostPort(ip.Unmap().String(), t.port))
		}
	}
	return found, errors.Join(errs...)
}

func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}
