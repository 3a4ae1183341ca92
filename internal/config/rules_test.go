package config

import (
	"strings"
	"testing"
)

func TestBrokenRules(t *testing.T) {
	fed := "connect { enabled = true\n enable_mesh_gateway_wan_federation = true }\n"
	tlsKeys := "tls { defaults { ca_file = \"a\"\n cert_file = \"b\"\n key_file = \"c\" } }\n"
	for _, c := range []struct {
		text  string
		names []string
	}{
		// Federation: the table of facts §1.
		{"server = true\n" + tlsKeys + "connect { enable_mesh_gateway_wan_federation = true }", []string{"connect.enabled", federationKey, ".hcl:5"}},
		{tlsKeys + fed, []string{federationKey, "server = true"}},
		{"server = true\nnode_name = \"a/b\"\n" + tlsKeys + fed, []string{federationKey, "node_name", "/"}},
		{"server = true\nretry_join_wan = [\"x\"]\n" + tlsKeys + fed, []string{"retry_join_wan", federationKey, ".hcl:2"}},
		{"server = true\nstart_join_wan = [\"x\"]\n" + tlsKeys + fed, []string{"start_join_wan", federationKey}},
		{"primary_gateways = [\"x:1\"]\nprimary_datacenter = \"b\"", []string{"primary_gateways", "server = true"}},
		{"server = true\nprimary_gateways = [\"x:1\"]\nprimary_datacenter = \"DC1\"", []string{"primary_gateways", "primary_datacenter", "secondary"}},
		{"server = true\n" + fed, []string{federationKey, "tls.internal_rpc.ca_file, tls.internal_rpc.cert_file, tls.internal_rpc.key_file"}},
		{"server = true\nca_file = \"a\"\n" + fed, []string{federationKey, "but tls.internal_rpc.cert_file, tls.internal_rpc.key_file"}},
		// Names.
		{`datacenter = "a.b"`, []string{"datacenter", "a.b"}},
		{`datacenter = ""`, []string{"datacenter"}},
		{`primary_datacenter = "a b"`, []string{"primary_datacenter"}},
		{`node_name = "a\"b"`, []string{"node_name"}},
		{`node_name = "a\nb"`, []string{"node_name", `a\nb`}},
		{`node_name = "*"`, []string{"node_name"}},
		{`node_name = "a b"`, []string{"node_name"}},
		{`node_name = "` + strings.Repeat("x", 129) + `"`, []string{"node_name", "128"}},
		{`node_id = "x"`, []string{"node_id", "UUID"}},
		{`domain = "a b"`, []string{"domain"}},
		{`alt_domain = "-/-"`, []string{"alt_domain"}},
		{`log_level = "loud"`, []string{"log_level", "loud"}},
		{`data_dir = ""`, []string{"data_dir", "-dev"}},
		{`node_meta { "consul-x" = "y" }`, []string{"node_meta", "consul-x"}},
		{`node_meta { "a b" = "y" }`, []string{"node_meta", "a b"}},
		// Servers.
		{`bootstrap = true`, []string{"bootstrap", "server = true"}},
		{`bootstrap_expect = 3`, []string{"bootstrap_expect", "server = true"}},
		{`bootstrap_expect = 1`, []string{"bootstrap_expect", "server = true"}},
		{"server = true\nbootstrap_expect = -1", []string{"bootstrap_expect", "negative"}},
		{"server = true\nbootstrap = true\nbootstrap_expect = 3", []string{"bootstrap_expect", "bootstrap = true"}},
		{`server_rejoin_age_max = "5h59m"`, []string{"server_rejoin_age_max", "6h"}},
		{`raft_protocol = 2`, []string{"raft_protocol"}},
		{`performance { raft_multiplier = 11 }`, []string{"performance.raft_multiplier", "1 to 10"}},
		{`performance { raft_multiplier = 0 }`, []string{"performance.raft_multiplier"}},
		// Addresses and ports.
		{`bind_addr = "x"`, []string{"bind_addr", "IP"}},
		{`bind_addr = "10.0.0.1 10.0.0.2"`, []string{"bind_addr", "2 addresses"}},
		{`bind_addr = "{{ nonsense }}"`, []string{"bind_addr", "template"}},
		{`bind_addr = "{{ GetInterfaceIP \"none0\" }}"`, []string{"bind_addr", "template"}},
		{`advertise_addr = "0.0.0.0"`, []string{"advertise_addr", "0.0.0.0"}},
		{`advertise_addr_wan = "::"`, []string{"advertise_addr_wan"}},
		{`client_addr = "127.0.0.1 x"`, []string{"client_addr"}},
		{`addresses { http = "unix:///run/x" }`, []string{"addresses.http", "Unix socket"}},
		{`retry_join = [""]`, []string{"retry_join", "empty"}},
		{`advertise_addr_ipv4 = "::1"`, []string{"advertise_addr_ipv4", "::1"}},
		{`advertise_addr_wan_ipv6 = "10.0.0.1"`, []string{"advertise_addr_wan_ipv6", "10.0.0.1"}},
		{`serf_lan_allowed_cidrs = ["10.0.0.1"]`, []string{"serf_lan_allowed_cidrs", "10.0.0.1"}},
		{`serf_lan_allowed_cidrs = ["10.0.0.0/8", "192.168.0.0/16"]`, []string{"serf_lan_allowed_cidrs", "127.0.0.1"}},
		{`serf_wan_allowed_cidrs = ["x"]`, []string{"serf_wan_allowed_cidrs", `"x"`}},
		{"enable_syslog = true\nsyslog_facility = \"x\"", []string{"syslog_facility", `"X"`}},
		{`ports { http = 70000 }`, []string{"ports.http", "70000"}},
		{`ports { http = -2 }`, []string{"ports.http"}},
		{`ports { serf_lan = -1 }`, []string{"ports.serf_lan"}},
		{`ports { server = 0 }`, []string{"ports.server"}},
		{`ports { sidecar_max_port = 65536 }`, []string{"ports.sidecar_max_port", "65536"}},
		{`ports { sidecar_min_port = 21256 }`, []string{"ports.sidecar_max_port", "ports.sidecar_min_port"}},
		{`ports { dns = 8500 }`, []string{"ports.dns", "127.0.0.1:8500"}},
		// TLS.
		{`tls { https { verify_server_hostname = true } }`, []string{"tls.https.verify_server_hostname", "internal_rpc"}},
		{`tls { grpc { verify_outgoing = true } }`, []string{"tls.grpc.verify_outgoing"}},
		{`tls { defaults { tls_min_version = "9" } }`, []string{"tls.defaults.tls_min_version", "TLSv1_2"}},
		{`tls_cipher_suites = "x"`, []string{"tls_cipher_suites"}},
		{`verify_outgoing = true`, []string{"verify_outgoing", "ca_file"}},
		{`verify_server_hostname = true`, []string{"verify_server_hostname", "ca_file"}},
		{`verify_incoming = true`, []string{"verify_incoming", "ca_file"}},
		{"server = true\nca_file = \"a\"\nverify_incoming = true", []string{"verify_incoming", "cert_file"}},
		{`cert_file = "a"`, []string{"cert_file", "key_file"}},
		{`key_file = "a"`, []string{"key_file", "cert_file"}},
		{`ports { https = 8501 }`, []string{"ports.https", "tls.https.cert_file"}},
		{"cert_file = \"a\"\nkey_file = \"b\"\nports { grpc = 8502 }", []string{"ports.grpc", "ports.grpc_tls"}},
		// Numbers.
		{`encrypt = "AAAA"`, []string{"encrypt", "16, 24 or 32", "keygen"}},
		{`encrypt = "?"`, []string{"encrypt"}},
		{`reconnect_timeout_wan = "1h"`, []string{"reconnect_timeout_wan", "8h"}},
		{`retry_interval = "0s"`, []string{"retry_interval", "0"}},
		{`gossip_wan { gossip_nodes = 0 }`, []string{"gossip_wan.gossip_nodes"}},
		{`limits { rpc_client_timeout = "-1s" }`, []string{"limits.rpc_client_timeout", "negative"}},
		{`limits { kv_max_value_size = -1 }`, []string{"limits.kv_max_value_size", "negative"}},
		{`retry_max = 1.5`, []string{"retry_max", "whole"}},
		{`retry_interval = "30"`, []string{"retry_interval", "unit"}},
		// Definitions.
		{`service { port = 1 }`, []string{".hcl:1: service", "name"}},
		{`service { name = "a" port = 70000 }`, []string{".hcl:1: service", `"a"`, "port"}},
		{`service { name = "a" port = 1 socket_path = "/s" }`, []string{"socket_path"}},
		{`service { name = "a" meta { "consul-x" = "1" } }`, []string{"service \"a\"", "meta", "consul-x"}},
		{`service { name = "a" weights { passing = -1 } }`, []string{"service \"a\"", "weights"}},
		{"\ncheck { name = \"a\" }", []string{".hcl:2: check", `"a"`, "what to look at"}},
		{`check { name = "a" tcp = "x:1" }`, []string{"check", "interval"}},
		{`check { name = "a" tcp = "x:1" ttl = "5s" interval = "5s" }`, []string{"check", "more than one"}},
		{`check { name = "a" tcp = "x:1" http = "y" interval = "5s" }`, []string{"check", "more than one"}},
		{`check { name = "a" ttl = "5s" timeout = "-1s" }`, []string{"check", "negative"}},
		{`service { name = "a" check { ttl = "5s" status = "good" } }`, []string{"service \"a\"", "status"}},
		// Shapes and keys.
		{`datacentre = "x"`, []string{".hcl:1", "datacentre", "did you mean datacenter?"}},
		{`acl { enable = true }`, []string{"acl.enable", "did you mean enabled?"}},
		{`ports "x" { http = 1 }`, []string{"ports.x"}},
		{"ports { http = 1 }\nports { dns = 2 }", []string{".hcl:2", "ports", "more than once"}},
		{"service { name = \"a\" }\nservice { name = \"b\" }", []string{".hcl:2", "service", "services = ["}},
		{`service { name = "a" foo = 1 }`, []string{"service.foo"}},
		{`server = "true"`, []string{"server", "is a string where a bool is expected"}},
		{`retry_join = "a"`, []string{"retry_join", "list of strings"}},
		{`retry_join = [1]`, []string{"retry_join[0]"}},
		{`acl = 5`, []string{"acl", "object"}},
	} {
		_, err := load(t, "a.hcl", c.text)
		if err == nil {
			t.Errorf("%s: was accepted", c.text)
			continue
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if !strings.HasSuffix(line, ")") {
				t.Errorf("%s: no cure in %q", c.text, line)
			}
		}
		for _, part := range c.names {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not name %q", c.text, err, part)
			}
		}
	}
}

func TestProtectiveKeysStopTheStart(t *testing.T) {
	for _, c := range []string{
		`acl { enabled = true }`, `acl { default_policy = "deny" }`, `acl { down_policy = "deny" }`,
		`acl { enable_key_list_policy = true }`, `acl_datacenter = "dc1"`, `acl_default_policy = "deny"`,
		`default_intention_policy = "deny"`, `http_config { block_endpoints = ["/v1/kv"] }`,
		`http_config { allow_write_http_from = ["127.0.0.0/8"] }`, `auto_encrypt { tls = true }`, `auto_encrypt { allow_tls = true }`,
		`auto_config { enabled = true }`, `auto_config { authorization { enabled = true } }`,
		`limits { request_limits { mode = "enforcing" } }`, `connect { ca_provider = "vault" }`,
		`connect { ca_config { private_key = "x" } }`, `connect { ca_config { root_cert = "x" } }`,
		`config_entries { bootstrap = [{ Kind = "service-intentions" }] }`, `cloud { resource_id = "x" }`,
		`tls { grpc { use_auto_cert = true } }`,
		`audit { enabled = true }`, `partition = "x"`, `segment = "x"`, `segments = [{ name = "x" }]`, `read_replica = true`,
	} {
		_, err := load(t, "a.hcl", c)
		key, _, _ := strings.Cut(c, " ")
		if err == nil || !strings.Contains(err.Error(), ".hcl:1: "+key) {
			t.Errorf("%s: got %v", c, err)
		}
	}
	for _, args := range [][]string{{"-allow-write-http-from=10.0.0.0/8"}, {"-segment", "x"}, {"-read-replica"}} {
		if _, err := load(t, "a.hcl", "", args...); err == nil || !strings.Contains(err.Error(), args[0][:8]) {
			t.Errorf("%v: got %v", args, err)
		}
	}
}

func TestHarmlessKeysOnlyWarn(t *testing.T) {
	for _, c := range []struct{ text, key string }{
		{`{"acl": {"enabled": false}}`, "acl.enabled"},
		{`{"acl": {"enabled": null}}`, "acl.enabled"},
		{`{"acl": {"default_policy": "allow"}}`, "acl.default_policy"},
		{`{"acl": {"tokens": {"agent": "t"}}}`, "acl.tokens.agent"},
		{`{"http_config": {"block_endpoints": []}}`, "http_config.block_endpoints"},
		{`{"auto_encrypt": {"tls": false}}`, "auto_encrypt.tls"},
		{`{"limits": {"request_limits": {"mode": "disabled", "read_rate": 5}}}`, "limits.request_limits.mode"},
		{`{"audit": {"enabled": false, "sink": {}}}`, "audit"},
		{`{"partition": ""}`, "partition"},
		{`{"connect": {"ca_config": {"csr_max_per_second": 50}}}`, "connect.ca_config.csr_max_per_second"},
		{`{"config_entries": {"bootstrap": [{"kind": "proxy-defaults"}]}}`, "config_entries.bootstrap"},
		{`{"ui": true}`, "ui"},
	} {
		r, err := load(t, "a.json", c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], c.key) {
			t.Errorf("%s: got %q, want one warning with %s", c.text, r.Warnings, c.key)
		}
	}
	for _, quiet := range []string{`{"acl": {}}`, `{"acl": null}`, `{"datacenter": null}`, `{}`, ``} {
		if r, err := load(t, "a.json", quiet); err != nil || len(r.Warnings) > 0 || r.Settings.Datacenter != "dc1" {
			t.Errorf("%s: got %+v, %v", quiet, r, err)
		}
	}
}

func TestAllMistakesAreToldAtOnceWithoutSecrets(t *testing.T) {
	_, err := load(t, "a.json", "{\"foo\": 1,\n\"encrypt\": \"c2VjcmV0\",\n\"server\": \"secret\",\n\"datacenter\": \"a.b\"}")
	if err == nil {
		t.Fatal("was accepted")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 4 || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "c2VjcmV0") {
		t.Errorf("got %q", lines)
	}
	for _, where := range []string{"a.json:1: foo", "a.json:3: server", "a.json:4: datacenter", "a.json:2: encrypt"} {
		if !strings.Contains(err.Error(), where) {
			t.Errorf("%q is not in %q", where, lines)
		}
	}
}

func TestSettingsOfChecks(t *testing.T) {
	for _, c := range []struct {
		text          string
		args          []string
		all, own, tls bool
		size          int
	}{
		{"", nil, false, false, false, 4096},
		{"", []string{"-dev"}, false, false, false, 4096},
		{"enable_script_checks = true\ncheck_output_max_size = 10", nil, true, false, false, 10},
		{"enable_local_script_checks = true\nenable_agent_tls_for_checks = true", nil, false, true, true, 4096},
		{"", []string{"-enable-script-checks", "-check_output_max_size=1"}, true, false, false, 1},
		{"enable_script_checks = true", []string{"-enable-script-checks=false", "-enable-local-script-checks"}, false, true, false, 4096},
	} {
		r, err := load(t, "a.hcl", c.text, c.args...)
		if err != nil {
			t.Errorf("%q %v: %v", c.text, c.args, err)
			continue
		}
		s := r.Settings
		if s.EnableScriptChecks != c.all || s.EnableLocalScriptChecks != c.own || s.EnableAgentTLSForChecks != c.tls || s.CheckOutputMaxSize != c.size {
			t.Errorf("%q %v: got %v, %v, %v, %d", c.text, c.args, s.EnableScriptChecks, s.EnableLocalScriptChecks, s.EnableAgentTLSForChecks, s.CheckOutputMaxSize)
		}
	}
	for _, size := range []string{"0", "-1"} {
		if _, err := load(t, "a.hcl", "check_output_max_size = "+size); err == nil || !strings.Contains(err.Error(), "check_output_max_size") {
			t.Errorf("size %s: got %v", size, err)
		}
	}
}
