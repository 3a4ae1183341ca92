package config

import (
	"reflect"
	"slices"
	"strings"
)

// class says what happens when a key of the reference that has no field is set.
type class int

const (
	// harmless keys change nothing that anybody relies on: one warning.
	harmless class = iota
	// protective keys restrict or protect something: ignoring them would leave
	// the node open, so the start is refused.
	protective
	// enterprise keys belong to the reference's paid edition, or promise what
	// only it does: refused as well.
	enterprise
)

// unbuilt is a key of the reference that has no field yet.
type unbuilt struct {
	class class
	// keys are paths; a path that ends in .* is an object with any keys.
	keys string
	// off are the texts and numbers with which the key does nothing, beside
	// null, false, 0, "" and what is empty.
	off []string
	// on is the one text that matters, where the others do not.
	on string
}

// unbuiltKeys lists every key of the reference without a field: this is the one
// place where they are named. A key that gets a field leaves the list.
var unbuiltKeys = []unbuilt{
	{class: protective, keys: `acl.enabled acl.enable_key_list_policy acl_datacenter acl_enable_key_list_policy`},
	{class: protective, keys: `acl.default_policy acl_default_policy default_intention_policy`, off: []string{"allow"}},
	{class: protective, keys: `acl.down_policy acl_down_policy`, off: []string{"allow", "extend-cache", "async-cache"}},
	{class: protective, keys: `http_config.block_endpoints http_config.allow_write_http_from`},
	{class: protective, keys: `auto_encrypt.tls auto_encrypt.allow_tls auto_config.enabled auto_config.authorization.enabled`},
	{class: protective, keys: `limits.request_limits.mode`, off: []string{"disabled"}},
	{class: protective, keys: `connect.ca_config.private_key connect.ca_config.root_cert`},
	{class: protective, keys: `config_entries.bootstrap`, on: "service-intentions"},
	{class: protective, keys: `cloud.resource_id tls.defaults.use_auto_cert tls.internal_rpc.use_auto_cert
		tls.https.use_auto_cert tls.grpc.use_auto_cert`},

	{class: enterprise, keys: `partition`, off: []string{"default"}},
	{class: enterprise, keys: `audit.* segment segments segment_limit segment_name_limit read_replica non_voting_server snapshot_agent.*
		acl.msp_disable_bootstrap acl.tokens.managed_service_provider
		autopilot.redundancy_zone_tag autopilot.disable_upgrade_migration autopilot.upgrade_version_tag
		dns_config.prefer_namespace reporting.license.enabled
		license_path license_poll_base_time license_poll_max_time license_update_base_time license_update_max_time`},

	{class: harmless, keys: `acl.token_ttl acl.policy_ttl acl.role_ttl acl.enable_token_persistence acl.enable_token_replication
		acl.tokens.initial_management acl.tokens.master acl.tokens.replication acl.tokens.agent_master
		acl.tokens.agent_recovery acl.tokens.default acl.tokens.agent acl.tokens.dns acl.tokens.config_file_service_registration
		acl_agent_master_token acl_agent_token acl_master_token acl_replication_token acl_token acl_ttl
		acl_enforce_version_8 enable_acl_replication`},
	{class: harmless, keys: `advertise_reconnect_timeout auto_reload_config server_name protocol`},
	{class: harmless, keys: `auto_config.intro_token auto_config.intro_token_file auto_config.server_addresses
		auto_config.dns_sans auto_config.ip_sans auto_config.authorization.static.* auto_encrypt.dns_san auto_encrypt.ip_san`},
	{class: harmless, keys: `autopilot.cleanup_dead_servers autopilot.last_contact_threshold autopilot.max_trailing_logs
		autopilot.min_quorum autopilot.server_stabilization_time`},
	{class: harmless, keys: `cache.entry_fetch_max_burst cache.entry_fetch_rate
		check_deregister_interval_min check_reap_interval ae_interval sync_coordinate_interval_min
		sync_coordinate_rate_target session_ttl_min default_query_time max_query_time discovery_max_stale`},
	{class: harmless, keys: `cloud.client_id cloud.client_secret cloud.hostname cloud.auth_url cloud.scada_address
		experiments locality.region locality.zone`},
	{class: harmless, keys: `connect.ca_config.csr_max_per_second connect.ca_config.csr_max_concurrent
		connect.ca_config.rotation_period connect.test_ca_leaf_root_change_spread
		peering.enabled peering.test_allow_peer_registrations xds.update_max_per_second`},
	{class: harmless, keys: `consul.coordinate.update_batch_size consul.coordinate.update_max_batches
		consul.coordinate.update_period consul.raft.election_timeout consul.raft.heartbeat_timeout
		consul.raft.leader_lease_timeout consul.server.health_interval
		revision version version_prerelease version_metadata build_date`},
	{class: harmless, keys: `disable_anonymous_signature disable_host_node_id
		disable_keyring_file disable_remote_exec disable_update_check
		enable_central_service_config`},
	{class: harmless, keys: `http_config.use_cache http_config.max_header_bytes`},
	{class: harmless, keys: `limits.request_limits.read_rate limits.request_limits.write_rate`},
	{class: harmless, keys: `performance.grpc_keepalive_interval performance.grpc_keepalive_timeout`},
	{class: harmless, keys: `ports.proxy_min_port ports.proxy_max_port
		ports.expose_min_port ports.expose_max_port`},
	{class: harmless, keys: `raft_prevote_disabled raft_logstore.backend raft_logstore.disable_log_cache
		raft_logstore.verification.enabled raft_logstore.verification.interval raft_logstore.boltdb.no_freelist_sync
		raft_logstore.wal.segment_size_mb raft_boltdb.nofreelistsync rpc.enable_streaming use_streaming_backend`},
	{class: harmless, keys: `telemetry.circonus_api_app telemetry.circonus_api_token telemetry.circonus_api_url
		telemetry.circonus_broker_id telemetry.circonus_broker_select_tag telemetry.circonus_check_display_name
		telemetry.circonus_check_force_metric_activation telemetry.circonus_check_id
		telemetry.circonus_check_instance_id telemetry.circonus_check_search_tag telemetry.circonus_check_tags
		telemetry.circonus_submission_interval telemetry.circonus_submission_url
		telemetry.disable_per_tenancy_usage_metrics
		telemetry.enable_host_metrics
		telemetry.retry_failed_connection`},
	{class: harmless, keys: `tls_prefer_server_cipher_suites`},
	{class: harmless, keys: `ui ui_dir ui_content_path ui_config.enabled ui_config.dir ui_config.content_path
		ui_config.metrics_provider ui_config.metrics_provider_files ui_config.metrics_provider_options_json
		ui_config.metrics_proxy.* ui_config.dashboard_url_templates.* ui_config.hcp_enabled`},
	{class: harmless, keys: `unix_sockets.user unix_sockets.group unix_sockets.mode`},
}

// renamed maps older keys to the ones that took their place.
var renamed = map[string]string{
	"ca_file":                "tls.defaults.ca_file",
	"ca_path":                "tls.defaults.ca_path",
	"cert_file":              "tls.defaults.cert_file",
	"key_file":               "tls.defaults.key_file",
	"tls_min_version":        "tls.defaults.tls_min_version",
	"tls_cipher_suites":      "tls.defaults.tls_cipher_suites",
	"verify_incoming":        "tls.defaults.verify_incoming",
	"verify_incoming_rpc":    "tls.internal_rpc.verify_incoming",
	"verify_incoming_https":  "tls.https.verify_incoming",
	"verify_outgoing":        "tls.defaults.verify_outgoing",
	"verify_server_hostname": "tls.internal_rpc.verify_server_hostname",
	"start_join":             "retry_join",
	"start_join_wan":         "retry_join_wan",
}

const noEffect = "not built yet: no effect"

// unbuiltFlags are flags of the reference for keys without a field.
var unbuiltFlags = []struct{ name, key, doc string }{
	{"allow-write-http-from", "http_config.allow_write_http_from", "not built yet: refused"},
	{"segment", "segment", "not built: refused"},
	{"auto-reload-config", "auto_reload_config", noEffect},
	{"default-query-time", "default_query_time", noEffect},
	{"max-query-time", "max_query_time", noEffect},
	{"disable-host-node-id", "disable_host_node_id", noEffect},
	{"disable-keyring-file", "disable_keyring_file", noEffect},
	{"non-voting-server", "non_voting_server", "not built: refused"},
	{"read-replica", "read_replica", "not built: refused"},
	{"protocol", "protocol", noEffect},
	{"ui", "ui", noEffect},
	{"ui-content-path", "ui_content_path", noEffect},
	{"ui-dir", "ui_dir", noEffect},
}

// boolFlags are those of them that need no value.
var boolFlags = []string{
	"auto-reload-config", "disable-host-node-id", "disable-keyring-file", "non-voting-server", "read-replica",
	"ui",
}

// unbuiltUnder lists the keys without a field that stand right under a path.
func unbuiltUnder(path string) []string {
	var keys []string
	for _, u := range unbuiltKeys {
		for key := range strings.FieldsSeq(u.keys) {
			if rest, ok := strings.CutPrefix(key, path); ok {
				first, _, _ := strings.Cut(strings.TrimPrefix(rest, "."), ".")
				keys = append(keys, first)
			}
		}
	}
	return keys
}

// unbuilt handles a key without a field, and reports whether it is one of the
// reference.
func (d *decoder) unbuilt(path string, e entry) bool {
	parent := false
	for _, u := range unbuiltKeys {
		for key := range strings.FieldsSeq(u.keys) {
			switch {
			case key == path, key == path+".*":
				d.judge(u, path, e)
				return true
			case strings.HasPrefix(key, path+"."):
				parent = true
			}
		}
	}
	if !parent {
		return false
	}
	d.within(path, e)
	return true
}

// within handles an object none of whose keys has a field.
func (d *decoder) within(path string, e entry) {
	obj := single(e.val)
	switch obj.kind {
	case kindNull:
	case kindObject:
		for _, inner := range obj.entries {
			d.foreign(reflect.TypeFor[struct{}](), inner, path)
		}
	default:
		d.problems.add(d.at(e.line), path, "is "+e.val.kind.String()+" where an object is expected", "write { key = value }")
	}
}

// judge refuses a key, or notes that it has no effect.
func (d *decoder) judge(u unbuilt, path string, e entry) {
	if u.class != harmless && u.effective(e.val) {
		what, cure := "is not built yet, and the node would run without its protection", "remove it, or do not run this node where it is needed"
		if u.class == enterprise {
			what, cure = "is a feature of the reference's enterprise edition", "remove it"
		}
		d.problems.add(d.at(e.line), path, what, cure)
		return
	}
	d.ignored = append(d.ignored, path)
}

// effective reports whether a value does anything.
func (u unbuilt) effective(v *value) bool {
	switch v.kind {
	case kindBool:
		return v.truth
	case kindNumber:
		return strings.Trim(v.text, "0.") != ""
	case kindText:
		if u.on != "" {
			return strings.EqualFold(v.text, u.on)
		}
		return v.text != "" && !slices.Contains(u.off, v.text)
	case kindList:
		return slices.ContainsFunc(v.items, u.effective)
	case kindObject:
		return slices.ContainsFunc(v.entries, func(e entry) bool { return u.effective(e.val) })
	case kindNull:
	}
	return false
}
