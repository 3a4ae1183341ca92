package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"syscall"
	"testing"

	"isthmus/internal/testkit"
)

// TestEnvoyFollowsAClientAgentOverTLS starts an Envoy beside a client agent that
// serves gRPC with TLS alone. What the Envoy was sent is told by the agent, and its
// connections lead to the server.
func TestEnvoyFollowsAClientAgentOverTLS(t *testing.T) {
	f := newFleet(t)
	envoy := testkit.Envoy(t)
	f.servers(1, 1, "")
	settings := f.clientSettings()
	settings["connect"] = map[string]any{"enabled": true}
	settings["ports"] = map[string]any{"dns": -1, "grpc_tls": 8503}
	tls, ok := settings["tls"].(map[string]any)
	if !ok {
		t.Fatal("the client has no settings for TLS")
	}
	tls["grpc"] = map[string]any{"cert_file": filepath.Join(f.dir, "dc1s1.pem"), "key_file": filepath.Join(f.dir, "dc1s1-key.pem")}
	f.agent("client", "", settings)
	testkit.Eventually(t, func() error { return f.get(1, 9, "/v1/catalog/nodes", new(any)) })
	g := gateway{dc: 1, n: 1}
	at := f.gatewayAddr(1, 1)
	p := f.run("envoy", "", "connect", "envoy", "-gateway=mesh", "-register", "-expose-servers",
		"-address", at, "-wan-address", at, "-bind-address", "default="+at, "-admin-bind", f.admin(g),
		"-http-addr", "http://"+net.JoinHostPort(f.addr(1, 9), "8500"),
		"-grpc-addr", "https://"+net.JoinHostPort(f.addr(1, 9), "8503"), "-grpc-ca-file", filepath.Join(f.dir, "ca.pem"),
		"-envoy-binary", envoy, "--", "--concurrency", "1")
	testkit.Eventually(t, func() error { return f.leads(1, 1) })
	proxies := func() (out []struct {
		ID      string
		Streams []struct {
			Types []struct {
				Type     string
				Has      int
				Pending  bool
				Rejected *json.RawMessage
			}
		}
	}, err error,
	) {
		err = f.get(1, 9, "/v1/agent/proxies", &out)
		return out, err
	}
	testkit.Eventually(t, func() error {
		list, err := proxies()
		if err != nil {
			return err
		}
		if len(list) != 1 || list[0].ID != "mesh-gateway" || len(list[0].Streams) != 1 {
			return fmt.Errorf("the agent tells of %+v, want one stream of mesh-gateway", list)
		}
		for _, kind := range list[0].Streams[0].Types {
			if kind.Has == 0 || kind.Pending || kind.Rejected != nil {
				return fmt.Errorf("the agent tells of %+v, want all taken and nothing refused", kind)
			}
		}
		return nil
	})
	p.signal(syscall.SIGTERM)
	testkit.Eventually(t, func() error {
		if list, err := proxies(); err != nil || len(list) > 0 {
			return errors.Join(err, fmt.Errorf("the agent tells of %d proxies after the end of the only one", len(list)))
		}
		return nil
	})
}
