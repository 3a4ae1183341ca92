package proxy

import (
	"strings"
	"testing"
)

func TestBadRoutesAreRefused(t *testing.T) {
	good := Route{Name: "a", Match: "a.consul", Addrs: []string{"127.0.0.1:1"}}
	for name, routes := range map[string][]Route{
		"twice":          {good, {Name: "b", Match: "A.consul."}},
		"wildcard twice": {{Name: "a", Match: "*.consul"}, {Name: "b", Match: "*.CONSUL"}},
		"no label":       {{Name: "a", Match: "*"}},
		"empty":          {{Name: "a"}},
		"only wildcard":  {{Name: "a", Match: "*."}},
		"inner wildcard": {{Name: "a", Match: "a.*.consul"}},
		"empty label":    {{Name: "a", Match: "a..consul"}},
		"long label":     {{Name: "a", Match: strings.Repeat("a", 64) + ".consul"}},
		"long name":      {{Name: "a", Match: strings.Repeat("a.", 128)}},
		"bad character":  {{Name: "a", Match: "a/b.consul"}},
		"IP address":     {{Name: "a", Match: "192.0.2.1"}},
		"no metric name": {{Match: "a.consul"}},
		"no port":        {{Name: "a", Match: "a.consul", Addrs: []string{"127.0.0.1"}}},
		"port 0":         {{Name: "a", Match: "a.consul", Addrs: []string{"127.0.0.1:0"}}},
		"named port":     {{Name: "a", Match: "a.consul", Addrs: []string{"127.0.0.1:https"}}},
		"bare IPv6":      {{Name: "a", Match: "a.consul", Addrs: []string{"::1:8300"}}},
		"no host":        {{Name: "a", Match: "a.consul", Addrs: []string{":8300"}}},
	} {
		if _, err := NewRoutes(routes); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewRoutes([]Route{good, {Name: "a", Match: "*.a.consul", Addrs: []string{"[::1]:8300", "gw.example:443"}}}); err != nil {
		t.Error(err)
	}
}
