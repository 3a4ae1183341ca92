package config

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSettingsOfDNS(t *testing.T) {
	s := mustLoad(t, "a.hcl", "")
	want := DNSConfig{
		AllowStale: true, MaxStale: 87600 * time.Hour, UDPAnswerLimit: 3, EnableAdditionalNodeMetaTXT: true,
		RecursorStrategy: "sequential", RecursorTimeout: 2 * time.Second, SOA: DNSSOA{Refresh: 3600, Retry: 600, Expire: 86400},
	}
	if got := s.DNSConfig; got.ServiceTTL != nil || got.AllowStale != want.AllowStale || got.MaxStale != want.MaxStale || got.SOA != want.SOA ||
		got.UDPAnswerLimit != want.UDPAnswerLimit || !got.EnableAdditionalNodeMetaTXT || got.RecursorStrategy != want.RecursorStrategy ||
		got.RecursorTimeout != want.RecursorTimeout || got.NodeTTL != 0 || got.ARecordLimit != 0 || got.EnableTruncate {
		t.Errorf("got the defaults %+v, want %+v", got, want)
	}
	s = mustLoad(t, "a.json", `{"alt_domain": "x.", "ports": {"dns": 53}, "addresses": {"dns": "127.0.0.2"}, "recursors": ["8.8.8.8", "[2001:db8::1]:5353"],
		"dns_config": {"allow_stale": false, "service_ttl": {"*": "5s", "web": "1m"}, "node_ttl": "10s", "soa": {"min_ttl": 30}, "recursor_strategy": "random"}}`,
		"-recursor", "1.1.1.1")
	d := s.DNSConfig
	if d.AllowStale || d.ServiceTTL["*"] != 5*time.Second || d.ServiceTTL["web"] != time.Minute || d.NodeTTL != 10*time.Second ||
		d.SOA.MinTTL != 30 || d.RecursorStrategy != "random" || !slices.Equal(s.Listen.DNS, []string{"127.0.0.2:53"}) ||
		!slices.Contains(s.Recursors, "8.8.8.8") || !slices.Contains(s.Recursors, "[2001:db8::1]:5353") || !slices.Contains(s.Recursors, "1.1.1.1") {
		t.Errorf("got %+v, recursors %v, listen %v", d, s.Recursors, s.Listen.DNS)
	}
	r, err := load(t, "a.hcl", `alt_domain = "x."`+"\nports { dns = 53 }")
	if err != nil || slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.Contains(w, "dns") || strings.Contains(w, "alt_domain") }) {
		t.Errorf("got %v and the warnings %v", err, r.Warnings)
	}
}

func TestBadSettingsOfDNSAreRefused(t *testing.T) {
	for _, c := range []struct{ text, key string }{
		{`recursors = ["dns.example.com"]`, "recursors"},
		{`recursors = ["0.0.0.0"]`, "recursors"},
		{`recursors = ["1.2.3.4:0"]`, "recursors"},
		{`recursors = ["1.2.3.4:x"]`, "recursors"},
		{`dns_config { recursor_strategy = "both" }`, "dns_config.recursor_strategy"},
		{`dns_config { recursor_timeout = "0s" }`, "dns_config.recursor_timeout"},
		{`dns_config { node_ttl = "-1s" }`, "dns_config.node_ttl"},
		{`dns_config { service_ttl { web = "-1s" } }`, "dns_config.service_ttl"},
		{`dns_config { service_ttl { web = "soon" } }`, "dns_config.service_ttl"},
		{`dns_config { udp_answer_limit = -1 }`, "dns_config.udp_answer_limit"},
		{`dns_config { soa { expire = 4294967296 } }`, "dns_config.soa.expire"},
		{`dns_config { nodes_ttl = "1s" }`, "dns_config.nodes_ttl"},
	} {
		if _, err := load(t, "a.hcl", c.text); err == nil || !strings.Contains(err.Error(), c.key) {
			t.Errorf("%s: got %v", c.text, err)
		}
	}
}
