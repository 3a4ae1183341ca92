package order

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"isthmus/internal/telemetry"
	"isthmus/internal/testkit"
)

// TestWhatAnAgentShowsIsDeclared: each metric of a running agent stands in
// docs/metrics.md, whether the agent or a library reports it.
func TestWhatAnAgentShowsIsDeclared(t *testing.T) {
	a := startAgent(t, `{"telemetry":{"prometheus_retention_time":"1m","disable_hostname":true,"metrics_prefix":"x"}}`)
	a.fill(t)
	for _, path := range []string{
		"/v1/catalog/service/web?tag=a", "/v1/catalog/connect/web", "/v1/health/service/web?cached", "/v1/health/service/nowhere",
		"/v1/kv/a?consistent", "/v1/internal/federation-states", "/v1/connect/ca/roots?cached",
	} {
		if _, _, err := a.do(t, http.MethodGet, path, ""); err != nil {
			t.Fatal(err)
		}
	}
	var shown struct {
		Gauges, Counters, Samples []struct{ Name string }
	}
	a.get(t, "/v1/agent/metrics", &shown)
	all := slices.Concat(shown.Gauges, shown.Counters, shown.Samples)
	for _, m := range all {
		if name, ok := strings.CutPrefix(m.Name, "x."); !ok || !telemetry.IsDeclared(name) {
			t.Errorf("%s is not declared in internal/telemetry", m.Name)
		}
	}
	if len(all) < 40 {
		t.Errorf("got %d metrics, want more", len(all))
	}
}

// TestPrometheusReadsWhatAnAgentShows: each line has the form of Prometheus' text.
func TestPrometheusReadsWhatAnAgentShows(t *testing.T) {
	a := startAgent(t, `{"telemetry":{"prometheus_retention_time":"1m","disable_hostname":true}}`)
	a.fill(t)
	var text string
	testkit.Eventually(t, func() (err error) { // gossip has its own pace
		_, text, err = a.do(t, http.MethodGet, "/v1/agent/metrics?format=prometheus", "")
		if err == nil && !strings.Contains(text, "consul_memberlist_gossip_count") {
			err = errors.New("there was no gossip yet")
		}
		return err
	})
	line := regexp.MustCompile(`^(# (HELP|TYPE) [a-zA-Z_:][a-zA-Z0-9_:]* .+|[a-zA-Z_:][a-zA-Z0-9_:]*(\{.*\})? \S+)$`)
	seen := map[string]bool{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if !line.MatchString(lines.Text()) {
			t.Errorf("not a line of Prometheus: %q", lines.Text())
		}
		name, _, _ := strings.Cut(lines.Text(), " ")
		name, _, _ = strings.Cut(name, "{")
		seen[name] = true
	}
	for _, want := range dashboards {
		if !seen[want] {
			t.Errorf("%s is not shown", want)
		}
	}
}

// TestSettingsSayWhereMetricsGo: to collectors, under a prefix and the name of the
// machine, and no others than are wanted.
func TestSettingsSayWhereMetricsGo(t *testing.T) {
	listen := func() net.PacketConn {
		conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		return conn
	}
	statsd, dogstatsd := listen(), listen()
	host := telemetry.Hostname()
	startAgent(t, fmt.Sprintf(`{"telemetry":{"metrics_prefix":"x","statsd_address":%q,"dogstatsd_addr":%q,"dogstatsd_tags":["env:test"],
		"filter_default":false,"prefix_filter":["+x.%s.runtime.num"]}}`, statsd.LocalAddr(), dogstatsd.LocalAddr(), host))
	name := "^x." + regexp.QuoteMeta(host) + `.runtime.num_goroutines:\d+\|g`
	for conn, want := range map[net.PacketConn]string{statsd: name + "\n$", dogstatsd: name + "\\|#env:test\n$"} {
		buf := make([]byte, 4096)
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(want).Match(buf[:n]) {
			t.Errorf("got %q, want %s", buf[:n], want)
		}
	}
}

// dashboards are metrics that dashboards for the protocol's reference read.
var dashboards = strings.Fields(`
	consul_runtime_alloc_bytes consul_runtime_sys_bytes consul_runtime_num_goroutines consul_runtime_total_gc_pause_ns
	consul_raft_apply consul_raft_commitTime_count consul_raft_leader_dispatchLog_count consul_raft_leader_dispatchNumLogs
	consul_raft_state_leader consul_raft_state_candidate consul_raft_rpc_installSnapshot_count consul_raft_applied_index
	consul_raft_last_index consul_raft_peers consul_raft_fsm_apply_count consul_raft_thread_main_saturation_count
	consul_autopilot_healthy consul_autopilot_failure_tolerance consul_server_isLeader consul_leader_reconcile_count
	consul_kvs_apply_count consul_catalog_register_count consul_catalog_deregister_count
	consul_fsm_register_count consul_fsm_kvs_count
	consul_rpc_request consul_rpc_query consul_rpc_request_error consul_rpc_accept_conn
	consul_client_rpc consul_client_rpc_failed
	consul_dns_domain_query_count consul_dns_ptr_query_count consul_dns_stale_queries
	consul_serf_member_join consul_memberlist_msg_alive consul_memberlist_gossip_count
	consul_state_nodes consul_state_services consul_state_service_instances consul_state_kv_entries
	consul_members_servers consul_members_clients consul_version
	go_goroutines process_resident_memory_bytes process_open_fds
`)

// TestEveryMetricIsEmitted: what is declared for use elsewhere is used there. That
// nothing else is emitted, the compiler sees to.
func TestEveryMetricIsEmitted(t *testing.T) {
	declared := regexp.MustCompile(`(?m)^\t([A-Z]\w+) += \w+\(`)
	used := map[string]bool{}
	for _, name := range files(t, ".go") {
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "internal/telemetry/") {
			continue
		}
		for _, use := range regexp.MustCompile(`telemetry\.([A-Z]\w+)`).FindAllSubmatch(read(t, name), -1) {
			used[string(use[1])] = true
		}
	}
	all := declared.FindAllSubmatch(read(t, "internal/telemetry/table.go"), -1)
	for _, one := range all {
		if !used[string(one[1])] {
			t.Errorf("telemetry.%s is declared, but nothing emits it", one[1])
		}
	}
	if len(all) < 40 {
		t.Errorf("got %d declarations, want more", len(all))
	}
}
