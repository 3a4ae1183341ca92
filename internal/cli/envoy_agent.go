package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	consul "github.com/hashicorp/consul/api"
)

// agentEndpoint is where an Envoy reaches its agent over gRPC.
type agentEndpoint struct {
	at   netip.AddrPort
	path string // of a socket, instead of at
	tls  bool
	ca   string // certificates in PEM; none: whoever answers is believed
}

// String implements fmt.Stringer.
func (a agentEndpoint) String() string {
	scheme, at := "http://", a.at.String()
	if a.tls {
		scheme = "https://"
	}
	if a.path != "" {
		scheme, at = "unix://", a.path
	}
	return scheme + at
}

// environment is a setting that flags leave open.
func environment(flag, name string) string {
	for _, text := range []string{flag, os.Getenv(envPrefix + name), os.Getenv(aliasPrefix + name)} {
		if text != "" {
			return text
		}
	}
	return ""
}

// agentAddress is the gRPC address of the agent, as the flags, the environment or
// the agent itself say.
func (c *connectEnvoy) agentAddress(ctx context.Context, e *Env, log *slog.Logger) (agentEndpoint, error) {
	caFile, caPath := environment(c.GRPCCAFile, "GRPC_CACERT"), environment(c.GRPCCAPath, "GRPC_CAPATH")
	named := caFile+caPath != ""
	if !named {
		caFile, caPath = e.config.TLSConfig.CAFile, e.config.TLSConfig.CAPath
	}
	ca, err := readCAs(caFile, caPath)
	if err != nil {
		return agentEndpoint{}, err
	}
	text := environment(c.GRPCAddr, "GRPC_ADDR")
	if text == "" {
		if text, err = discoverGRPC(ctx, e, ca != ""); err != nil {
			return agentEndpoint{}, err
		}
	}
	var out agentEndpoint
	switch scheme, rest, ok := strings.Cut(text, "://"); {
	case !ok, scheme == "http":
		out.at, err = resolved(ctx, strings.TrimPrefix(text, "http://"))
	case scheme == "https":
		out.tls, out.ca = true, ca
		out.at, err = resolved(ctx, rest)
	case scheme == "unix":
		out.path = rest
	default:
		err = fmt.Errorf("scheme %q is not known", scheme)
	}
	switch {
	case err != nil:
		return out, fmt.Errorf("gRPC address of the agent %q: %w", text, err)
	case named && !out.tls:
		log.Warn("the CA for gRPC is not used: the agent's address does not begin with https://", "address", text)
	case out.tls && out.ca == "":
		log.Warn("the agent's gRPC certificate is not checked: name its CA with -grpc-ca-file", "address", text)
	}
	return out, nil
}

// agentXDS is what an agent tells of its ports for proxies.
type agentXDS struct {
	DebugConfig struct{ GRPCPort int }
	XDS         struct {
		Port  int
		Ports struct{ Plaintext, TLS int }
	} `json:"xDS"`
}

// discoverGRPC asks the agent for its gRPC port. Without a CA the port without TLS
// comes first: Envoy would believe anybody on the other.
func discoverGRPC(ctx context.Context, e *Env, knowsCA bool) (string, error) {
	var self agentXDS
	if _, err := e.client.Raw().Query("/v1/agent/self", &self, (&consul.QueryOptions{}).WithContext(ctx)); err != nil {
		return "", failf("Error looking up xDS port: %w", err)
	}
	plain, tls := self.XDS.Ports.Plaintext, self.XDS.Ports.TLS
	if plain <= 0 && tls <= 0 { // agents that have one port
		plain = max(self.XDS.Port, self.DebugConfig.GRPCPort)
	}
	host := agentHost(e.config)
	switch {
	case tls > 0 && (knowsCA || plain <= 0):
		return "https://" + net.JoinHostPort(host, strconv.Itoa(tls)), nil
	case plain > 0:
		return "http://" + net.JoinHostPort(host, strconv.Itoa(plain)), nil
	default:
		return "", failf("Error looking up xDS port: agent has grpc disabled: set ports.grpc or ports.grpc_tls there")
	}
}

// agentHost is the host that answers for the agent over HTTP.
func agentHost(cfg *consul.Config) string {
	host, _, err := net.SplitHostPort(cfg.Address)
	if err != nil || strings.HasPrefix(cfg.Address, "/") {
		host = strings.Trim(cfg.Address, "[]")
	}
	if ip, err := netip.ParseAddr(host); host == "" || strings.HasPrefix(host, "/") || err == nil && ip.IsUnspecified() {
		return "127.0.0.1"
	}
	return host
}

// resolved reads HOST:PORT and looks the host up: Envoy takes nothing but IP
// addresses there. No host is this machine.
func resolved(ctx context.Context, text string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is not HOST:PORT: %w", text, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("port %q is not a number up to 65535", port)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("look up %s: %w", host, err)
	}
	// A name of both families usually means a listener on the older one.
	at := max(0, slices.IndexFunc(ips, func(ip netip.Addr) bool { return ip.Unmap().Is4() }))
	return netip.AddrPortFrom(ips[at].Unmap(), uint16(n)), nil
}

// readCAs reads certificates in PEM from a file, or from each file of a directory.
func readCAs(file, dir string) (string, error) {
	var files []string
	switch {
	case file != "":
		files = []string{file}
	case dir != "":
		entries, err := os.ReadDir(dir)
		if err != nil {
			return "", fmt.Errorf("read CA certificates: %w", err)
		}
		for _, entry := range entries {
			if !entry.IsDir() {
				files = append(files, filepath.Join(dir, entry.Name()))
			}
		}
	}
	var out strings.Builder
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("read CA certificates: %w", err)
		}
		if !strings.Contains(string(b), "-----BEGIN CERTIFICATE-----") {
			if name == file {
				return "", fmt.Errorf("read CA certificates: %s holds none in PEM", file)
			}
			continue // a directory may hold other things
		}
		out.WriteString(strings.TrimSpace(string(b)) + "\n")
	}
	if dir != "" && file == "" && out.Len() == 0 {
		return "", fmt.Errorf("read CA certificates: no file in %s holds one in PEM", dir)
	}
	return out.String(), nil
}
