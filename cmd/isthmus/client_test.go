package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"isthmus/internal/testkit"
)

// walk makes the calls of the official client, and keeps what it decoded of the
// answers, without what differs from one agent to the next.
type walk struct {
	*api.Client

	t    *testing.T
	ip   string
	seen map[string]string
}

// saw keeps what a call returned: values, what is known of the query, an error.
func (w *walk) saw(name string, returned ...any) {
	w.t.Helper()
	var out strings.Builder
	for _, v := range returned {
		switch v := v.(type) {
		case nil:
		case error:
			fmt.Fprintf(&out, "error: %s\n", w.same(v.Error()))
		case *api.WriteMeta:
		case *api.QueryMeta:
			if v != nil {
				fmt.Fprintf(&out, "leader known %v, index %v, cached %v, filtered %v, policy %s\n",
					v.KnownLeader, v.LastIndex > 0, v.CacheHit, v.ResultsFilteredByACLs, v.DefaultACLPolicy)
			}
		default:
			b, err := json.Marshal(v)
			if err != nil {
				w.t.Fatal(err)
			}
			var tree any
			if err := json.Unmarshal(b, &tree); err != nil {
				w.t.Fatal(err)
			}
			var wide bytes.Buffer
			enc := json.NewEncoder(&wide)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", " ")
			if err := enc.Encode(w.normal("", tree)); err != nil {
				w.t.Fatal(err)
			}
			out.Write(wide.Bytes())
		}
	}
	if _, twice := w.seen[name]; twice {
		w.t.Fatalf("%s is called twice", name)
	}
	w.seen[name] = out.String()
}

var (
	uuid = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	// varying are fields that tell of one run: indexes, times, keys, places.
	varying = regexp.MustCompile(`^(\w*Index|ContentHash|Timestamp|NotBefore|NotAfter|RootCert|SigningKeyID|SerialNumber|ActiveRootID|Vec|Error|` +
		`Adjustment|Height|CurrentTime|RequestTime)$`)
	// own are fields in which the two tell of themselves.
	own = regexp.MustCompile(`^(Version|VersionMetadata|Revision|BuildDate|HumanVersion|SHA|build|id|port|raft_vsn|grpc_port|grpc_tls_port)$`)
)

// same is a text without what differs.
func (w *walk) same(s string) string {
	return uuid.ReplaceAllString(strings.ReplaceAll(s, w.ip, "IP"), "UUID")
}

func (w *walk) normal(key string, v any) any {
	switch {
	case v != nil && varying.MatchString(key), own.MatchString(key):
		return "…"
	case (key == "ID" || key == "ActiveRootID") && strings.Contains(fmt.Sprint(v), ":"):
		return "…" // of a root certificate
	}
	switch v := v.(type) {
	case string:
		return w.same(v)
	case []any:
		for i := range v {
			v[i] = w.normal("", v[i])
		}
		return v
	case map[string]any:
		switch v["Type"] {
		case "alias", "tcp": // it names one of the checks that it follows; whether it has run
			v["Output"] = "…"
		}
		// Addresses for transparent proxies, and telling the ports of gRPC, are not built.
		delete(v, "grpc_port")
		delete(v, "grpc_tls_port")
		for _, key := range []string{"TaggedAddresses", "ServiceTaggedAddresses"} {
			tagged, _ := v[key].(map[string]any)
			if delete(tagged, "consul-virtual"); len(tagged) == 0 {
				delete(v, key)
			}
		}
		if _, has := v["Meta"]; has && v["Meta"] == nil {
			v["Meta"] = map[string]any{} // agents of the reference send none where ours send none in braces
		}
		delete(v, "isthmus-version")
		for k := range v {
			v[k] = w.normal(k, v[k])
		}
		return v
	}
	return v
}

// must stops the walk: what follows makes no sense.
func (w *walk) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// passes waits until checks of the agent pass.
func (w *walk) passes(ids ...string) {
	w.t.Helper()
	testkit.Eventually(w.t, func() error {
		checks, err := w.Agent().Checks()
		w.must(err)
		for _, id := range ids {
			if c := checks[id]; c == nil || c.Status != api.HealthPassing {
				return fmt.Errorf("check %s is %+v", id, c)
			}
		}
		return nil
	})
}

// settled waits until the catalog has what the agent has.
func (w *walk) settled() {
	w.t.Helper()
	testkit.Eventually(w.t, func() error {
		services, err := w.Agent().Services()
		w.must(err)
		checks, err := w.Agent().Checks()
		w.must(err)
		node, _, err := w.Catalog().Node("n1", nil)
		w.must(err)
		rows, _, err := w.Health().Node("n1", nil)
		w.must(err)
		delete(node.Services, "consul")
		if want, got := slices.Sorted(maps.Keys(services)), slices.Sorted(maps.Keys(node.Services)); !slices.Equal(got, want) {
			return fmt.Errorf("the catalog has services %v, and the agent %v", got, want)
		}
		for id, own := range checks {
			if !slices.ContainsFunc(rows, func(c *api.HealthCheck) bool {
				return c.CheckID == id && c.Status == own.Status && (c.Output == own.Output || own.Type == "alias")
			}) {
				return fmt.Errorf("check %s is not in the catalog as the agent has it", id)
			}
		}
		if len(rows) != len(checks)+1 {
			return fmt.Errorf("the catalog has %d checks, and the agent %d", len(rows), len(checks))
		}
		return nil
	})
}

// TestTheOfficialClientSeesTheSame walks the official Go client through the routes,
// with our agent and with the reference's, and compares what it decoded.
func TestTheOfficialClientSeesTheSame(t *testing.T) {
	var walks []*walk
	eachAgent(t, func(on target) {
		t, addr := on.t, on.addr
		conf := api.DefaultConfig()
		conf.Address = addr
		client, err := api.NewClient(conf)
		if err != nil {
			t.Fatal(err)
		}
		ip, _, _ := net.SplitHostPort(addr)
		w := &walk{Client: client, t: t, ip: ip, seen: map[string]string{}}
		testkit.Eventually(t, func() error { // it has registered itself
			nodes, _, err := client.Catalog().Nodes(nil)
			if err == nil && (len(nodes) != 1 || nodes[0].TaggedAddresses["lan_ipv4"] == "") {
				err = fmt.Errorf("the catalog has nodes %v", nodes)
			}
			return err
		})
		w.status()
		w.registrations()
		w.catalog()
		w.health()
		w.keys()
		w.deregistrations()
		walks = append(walks, w)
	})
	if len(walks) < 2 {
		return // without the reference, that every call was answered is all
	}
	ours, theirs := walks[0], walks[1]
	if ours, theirs := slices.Sorted(maps.Keys(ours.seen)), slices.Sorted(maps.Keys(theirs.seen)); !slices.Equal(ours, theirs) {
		t.Fatalf("the walks went different ways: %s", cmp.Diff(theirs, ours))
	}
	for _, name := range slices.Sorted(maps.Keys(ours.seen)) {
		if diff := cmp.Diff(theirs.seen[name], ours.seen[name]); diff != "" {
			t.Errorf("%s: the reference (-) and ours (+):\n%s", name, diff)
		}
	}
}

func (w *walk) status() {
	leader, err := w.Status().Leader()
	w.saw("leader", leader, err)
	leader, err = w.Status().LeaderWithQueryOptions(&api.QueryOptions{Datacenter: "nope"})
	w.saw("leader of no datacenter", leader, err)
	peers, err := w.Status().Peers()
	w.saw("peers", peers, err)

	self, err := w.Agent().Self()
	w.must(err)
	w.saw("self", slices.Sorted(maps.Keys(self)), self["Config"], self["Member"], self["Meta"], err)
	name, err := w.Agent().NodeName()
	w.saw("node name", name, err)
	version, err := w.Agent().Version()
	w.saw("version", version, err)
	host, err := w.Agent().Host()
	w.saw("host", slices.Sorted(maps.Keys(host)), err)
	metrics, err := w.Agent().Metrics()
	w.must(err)
	w.saw("metrics", len(metrics.Gauges) > 0, len(metrics.Counters) > 0, len(metrics.Samples) > 0)
	for wan, pool := range map[bool]string{false: "LAN", true: "WAN"} {
		members, err := w.Agent().Members(wan)
		for _, m := range members {
			m.Port = 0
			delete(m.Tags, "ft_fs") // federation states are forwarded, ft_si: intentions
		}
		w.saw("members of the "+pool, members, err)
	}
	members, err := w.Agent().MembersOpts(api.MembersOpts{Segment: "x"})
	w.saw("members of a segment", members, err)
	w.saw("join itself", w.Agent().Join(w.ip, false))
	w.saw("force-leave", w.Agent().ForceLeave("nobody"))
	w.saw("force-leave and prune", w.Agent().ForceLeavePrune("nobody"))
	w.saw("reload", w.Agent().Reload())

	roots, meta, err := w.Connect().CARoots(nil)
	w.saw("roots", roots, meta, err)
	roots, meta, err = w.Agent().ConnectCARoots(nil)
	meta.CacheHit = false // whoever asked first
	w.saw("roots of the agent", roots, meta, err)
	config, meta, err := w.Connect().CAGetConfig(nil)
	w.saw("configuration of the CA", config, meta, err)
}

func (w *walk) registrations() {
	agent := w.Agent()
	web := &api.AgentServiceRegistration{
		ID: "web1", Name: "web", Tags: []string{"a", "Blue"}, Port: 8001, Address: w.ip, EnableTagOverride: true,
		Meta: map[string]string{"v": "1"}, Weights: &api.AgentWeights{Passing: 10, Warning: 2},
		TaggedAddresses: map[string]api.ServiceAddress{"wan": {Address: "192.0.2.1", Port: 18001}},
		Check:           &api.AgentServiceCheck{CheckID: "web1-ttl", Name: "heartbeat", TTL: "60s", Notes: "beats", DeregisterCriticalServiceAfter: "90m"},
		Checks: api.AgentServiceChecks{
			{CheckID: "web1-tcp", TCP: w.ip + ":8500", Interval: "1s", Timeout: "1s", Status: api.HealthCritical},
			{CheckID: "web1-http", HTTP: "http://" + w.ip + ":8500/v1/status/peers", Method: "GET", Header: map[string][]string{"X": {"1"}}, Interval: "1s", Status: api.HealthWarning},
		},
		Connect: &api.AgentServiceConnect{SidecarService: &api.AgentServiceRegistration{
			Proxy: &api.AgentServiceConnectProxyConfig{
				Config:    map[string]any{"protocol": "http"},
				Upstreams: []api.Upstream{{DestinationName: "db", LocalBindPort: 9001, Datacenter: "dc2", MeshGateway: api.MeshGatewayConfig{Mode: api.MeshGatewayModeLocal}}},
				Expose:    api.ExposeConfig{Paths: []api.ExposePath{{Path: "/h", LocalPathPort: 1, ListenerPort: 2, Protocol: "http"}}},
			},
		}},
	}
	w.saw("register", agent.ServiceRegister(web))
	w.saw("register again", agent.ServiceRegister(web))
	w.saw("register a native one", agent.ServiceRegister(&api.AgentServiceRegistration{Name: "native", Port: 1, Connect: &api.AgentServiceConnect{Native: true}}))
	w.saw("register a gateway", agent.ServiceRegister(&api.AgentServiceRegistration{
		Kind: api.ServiceKindMeshGateway, Name: "gw", Port: 8443, Proxy: &api.AgentServiceConnectProxyConfig{Config: map[string]any{"x": 1}},
		TaggedAddresses: map[string]api.ServiceAddress{"lan": {Address: "10.0.0.1", Port: 8443}, "wan": {Address: "192.0.2.1", Port: 443}},
	}))
	w.saw("register without a name", agent.ServiceRegister(&api.AgentServiceRegistration{ID: "x"}))
	w.saw("register with a wrong check", agent.ServiceRegister(&api.AgentServiceRegistration{Name: "x", Check: &api.AgentServiceCheck{HTTP: "http://x"}}))
	w.saw("replace checks", agent.ServiceRegisterOpts(&api.AgentServiceRegistration{Name: "plain", Checks: api.AgentServiceChecks{{TTL: "60s"}, {TTL: "50s", Status: api.HealthPassing}}}, api.ServiceRegisterOpts{ReplaceExistingChecks: true}))
	w.saw("replace checks again", agent.ServiceRegisterOpts(&api.AgentServiceRegistration{Name: "plain", Check: &api.AgentServiceCheck{CheckID: "only", TTL: "60s"}}, api.ServiceRegisterOpts{ReplaceExistingChecks: true}))

	w.saw("register an alias", agent.CheckRegister(&api.AgentCheckRegistration{Name: "alias", ServiceID: "plain", AgentServiceCheck: api.AgentServiceCheck{AliasService: "native"}}))
	w.passes("web1-tcp", "web1-http", "alias")
	w.saw("deregister the alias", agent.CheckDeregister("alias")) // it would follow the checks below when it likes

	w.saw("register a check", agent.CheckRegister(&api.AgentCheckRegistration{ID: "memory", Name: "memory", Notes: "n", AgentServiceCheck: api.AgentServiceCheck{TTL: "60s"}}))
	w.saw("register a check of a service", agent.CheckRegister(&api.AgentCheckRegistration{Name: "extra", ServiceID: "web1", AgentServiceCheck: api.AgentServiceCheck{TTL: "60s", SuccessBeforePassing: 1, FailuresBeforeWarning: 2, FailuresBeforeCritical: 3}}))
	w.saw("register a check of no service", agent.CheckRegister(&api.AgentCheckRegistration{Name: "extra", ServiceID: "none", AgentServiceCheck: api.AgentServiceCheck{TTL: "60s"}}))
	w.saw("pass", agent.PassTTL("web1-ttl", "fine"))
	w.saw("warn", agent.WarnTTL("memory", "low"))
	w.saw("fail", agent.FailTTL("extra", "out"))
	w.saw("update", agent.UpdateTTL("only", "text", "pass"))
	w.saw("update to nothing known", agent.UpdateTTL("only", "text", "bad"))
	w.saw("pass what is not there", agent.PassTTL("none", ""))
	w.saw("maintenance", agent.EnableServiceMaintenance("native", "window"))
	w.saw("maintenance of the node", agent.EnableNodeMaintenance("all"))
	w.saw("maintenance of nothing", agent.EnableServiceMaintenance("none", ""))
	services, err := agent.Services()
	w.saw("services", services, err)
	services, err = agent.ServicesWithFilter(`Service == "web" and "Blue" in Tags`)
	w.saw("services by filter", services, err)
	services, err = agent.ServicesWithFilter(`Nonsense == 1`)
	w.saw("services by nonsense", services, err)
	checks, err := agent.Checks()
	w.saw("checks", checks, err)
	checks, err = agent.ChecksWithFilter(`Status == critical`)
	w.saw("checks by filter", checks, err)
	for _, id := range []string{"web1", "web1-sidecar-proxy", "gw", "native", "none"} {
		service, meta, err := agent.Service(id, nil)
		hash := meta != nil && meta.LastContentHash != ""
		w.saw("service "+id, service, hash, err)
	}
	for _, id := range []string{"web1", "native", "plain", "none"} {
		status, info, err := agent.AgentHealthServiceByID(id)
		sortChecks(info)
		w.saw("health by id of "+id, status, info, err)
	}
	for _, name := range []string{"web", "none"} {
		status, info, err := agent.AgentHealthServiceByName(name)
		for i := range info {
			sortChecks(&info[i])
		}
		w.saw("health by name of "+name, status, info, err)
	}
	w.saw("maintenance ends", agent.DisableServiceMaintenance("native"))
	w.saw("maintenance of the node ends", agent.DisableNodeMaintenance())
	w.settled()
}

// sortChecks puts checks in order, which the agent of the reference gives in any.
func sortChecks(info *api.AgentServiceChecksInfo) {
	if info != nil {
		slices.SortFunc(info.Checks, func(a, b *api.HealthCheck) int { return strings.Compare(a.CheckID, b.CheckID) })
	}
}

func (w *walk) catalog() {
	catalog := w.Catalog()
	meta, err := catalog.Register(&api.CatalogRegistration{
		Node: "ext", Address: "10.9.9.9", NodeMeta: map[string]string{"external-node": "true"}, TaggedAddresses: map[string]string{"wan": "192.0.2.9"},
		Service: &api.AgentService{ID: "db1", Service: "db", Port: 5432, Tags: []string{"m"}, Meta: map[string]string{"k": "v"}},
		Checks: api.HealthChecks{{
			Node: "ext", CheckID: "db1-up", Name: "up", Status: api.HealthPassing, ServiceID: "db1", ServiceName: "db",
			Definition: api.HealthCheckDefinition{TCP: "10.9.9.9:5432", IntervalDuration: 10 * time.Second, TimeoutDuration: time.Second, DeregisterCriticalServiceAfterDuration: time.Hour},
		}},
	}, nil)
	w.saw("catalog register", meta, err)
	meta, err = catalog.Register(&api.CatalogRegistration{Node: "ext", SkipNodeUpdate: true, Service: &api.AgentService{ID: "web9", Service: "web", Port: 9}}, nil)
	w.saw("catalog register an instance", meta, err)
	meta, err = catalog.Register(&api.CatalogRegistration{}, nil)
	w.saw("catalog register nothing", meta, err)
	dcs, err := catalog.Datacenters()
	w.saw("datacenters", dcs, err)
	for name, q := range map[string]*api.QueryOptions{
		"": nil, " stale": {AllowStale: true}, " consistent": {RequireConsistent: true}, " by meta": {NodeMeta: map[string]string{"external-node": "true"}},
		" by filter": {Filter: `Meta["external-node"] == "true"`}, " nearby": {Near: "_agent"}, " of no datacenter": {Datacenter: "nope"},
		" by nonsense": {Filter: "Nonsense == 1"},
	} {
		nodes, qm, err := catalog.Nodes(q)
		w.saw("nodes"+name, nodes, qm, err)
		services, qm, err := catalog.Services(q)
		for _, tags := range services {
			slices.Sort(tags) // the reference gives them in any order
		}
		if name != " by filter" { // instances have other fields than nodes
			w.saw("services of the catalog"+name, services, qm, err)
		}
	}
	for _, name := range []string{"web", "db", "gw", "native", "none", "web-sidecar-proxy"} {
		rows, qm, err := catalog.Service(name, "", nil)
		w.saw("instances of "+name, rows, qm, err)
		rows, qm, err = catalog.Connect(name, "", nil)
		w.saw("connect to "+name, rows, qm, err)
	}
	rows, qm, err := catalog.ServiceMultipleTags("web", []string{"a", "blue"}, nil)
	w.saw("instances by tags", rows, qm, err)
	rows, qm, err = catalog.Service("web", "", &api.QueryOptions{Filter: "ServicePort == 9"})
	w.saw("instances by filter", rows, qm, err)
	for _, name := range []string{"n1", "ext", "none"} {
		node, qm, err := catalog.Node(name, nil)
		w.saw("node "+name, node, qm, err)
		list, qm, err := catalog.NodeServiceList(name, nil)
		w.saw("list of node "+name, list, qm, err)
	}
	gateways, qm, err := catalog.GatewayServices("gw", nil)
	w.saw("services of a gateway", gateways, qm, err)

	meta, err = w.Coordinate().Update(&api.CoordinateEntry{Node: "ext", Coord: nil}, nil)
	w.saw("coordinate of a node unknown to the network", meta != nil, err != nil)
	coordinates, err := w.Coordinate().Datacenters()
	for _, dc := range coordinates {
		for i := range dc.Coordinates {
			dc.Coordinates[i].Coord = nil
		}
	}
	w.saw("coordinates of datacenters", coordinates, err)
	_, qm, err = w.Coordinate().Nodes(nil)
	w.saw("coordinates of nodes", qm, err)
	_, _, err = w.Coordinate().Node("none", nil)
	w.saw("coordinates of no node", err)
}

func (w *walk) health() {
	health := w.Health()
	for _, name := range []string{"n1", "ext", "none"} {
		checks, qm, err := health.Node(name, nil)
		slices.SortFunc(checks, func(a, b *api.HealthCheck) int { return strings.Compare(a.CheckID, b.CheckID) })
		w.saw("checks of node "+name, checks, qm, err)
	}
	for _, name := range []string{"web", "db", "gw", "native", "none"} {
		checks, qm, err := health.Checks(name, nil)
		w.saw("checks of "+name, checks, qm, err)
		for passing, only := range map[bool]string{false: "", true: ", passing"} {
			rows, qm, err := health.Service(name, "", passing, nil)
			w.saw("health of "+name+only, rows, qm, err)
			rows, qm, err = health.Connect(name, "", passing, nil)
			w.saw("health to connect to "+name+only, rows, qm, err)
		}
		rows, qm, err := health.Ingress(name, false, nil)
		w.saw("ingress of "+name, rows, qm, err)
	}
	rows, qm, err := health.ServiceMultipleTags("web", []string{"BLUE", "a"}, false, &api.QueryOptions{Near: "_agent", NodeMeta: map[string]string{"consul-network-segment": ""}})
	w.saw("health by tags", rows, qm, err)
	rows, qm, err = health.Service("web", "", false, &api.QueryOptions{Filter: "Checks.Status == passing", AllowStale: true})
	w.saw("health by filter", rows, qm, err)
	rows, qm, err = health.Service("web", "", false, &api.QueryOptions{MergeCentralConfig: true})
	w.saw("health with central settings", rows, qm, err)
	rows, qm, err = health.Service("web", "", false, &api.QueryOptions{Filter: "Nonsense == 1"})
	w.saw("health by nonsense", rows, qm, err)
	for _, state := range []string{api.HealthAny, api.HealthPassing, api.HealthWarning, api.HealthCritical} {
		checks, qm, err := health.State(state, nil)
		slices.SortFunc(checks, func(a, b *api.HealthCheck) int { return strings.Compare(a.Node+a.CheckID, b.Node+b.CheckID) })
		w.saw("checks in state "+state, checks, qm, err)
	}
	_, qm, err = health.Service("web", "", false, nil)
	w.must(err)
	start := time.Now()
	rows, later, err := health.Service("web", "", false, &api.QueryOptions{WaitIndex: qm.LastIndex, WaitTime: 300 * time.Millisecond})
	w.saw("wait for nothing", len(rows), later.LastIndex == qm.LastIndex, time.Since(start) > 290*time.Millisecond, err)
}

func (w *walk) keys() {
	kv := w.KV()
	for _, key := range []string{"w/a", "w/b/c", "w/b/d", "w/ü &%+"} {
		meta, err := kv.Put(&api.KVPair{Key: key, Value: []byte("v\x00" + key), Flags: 1<<64 - 1}, nil)
		w.saw("put "+key, meta, err)
		pair, qm, err := kv.Get(key, nil)
		w.saw("get "+key, pair, qm, err)
	}
	pair, qm, err := kv.Get("none", nil)
	w.saw("get what is not there", pair, qm, err)
	list, qm, err := kv.List("w/", nil)
	w.saw("list", list, qm, err)
	list, qm, err = kv.List("none/", nil)
	w.saw("list what is not there", list, qm, err)
	keys, qm, err := kv.Keys("w/", "/", nil)
	w.saw("keys", keys, qm, err)
	keys, qm, err = kv.Keys("none/", "", nil)
	w.saw("keys that are not there", keys, qm, err)
	for _, index := range []uint64{0, 1} {
		done, meta, err := kv.CAS(&api.KVPair{Key: "w/a", Value: []byte("x"), ModifyIndex: index}, nil)
		w.saw(fmt.Sprintf("compare and set at %d", index), done, meta, err)
		done, meta, err = kv.DeleteCAS(&api.KVPair{Key: "w/a", ModifyIndex: index}, nil)
		w.saw(fmt.Sprintf("compare and delete at %d", index), done, meta, err)
	}
	pair, _, err = kv.Get("w/a", nil)
	w.must(err)
	done, meta, err := kv.CAS(&api.KVPair{Key: "w/a", Value: []byte("x"), ModifyIndex: pair.ModifyIndex}, nil)
	w.saw("compare and set", done, meta, err)
	meta, err = kv.Put(&api.KVPair{Key: "w/big", Value: make([]byte, 600000)}, nil)
	w.saw("put too much", meta, err)
	meta, err = kv.Put(&api.KVPair{Key: "/w"}, nil)
	w.saw("put a key with a slash first", meta, err)
	meta, err = kv.Delete("w/b/c", nil)
	w.saw("delete", meta, err)
	meta, err = kv.DeleteTree("w/", nil)
	w.saw("delete a tree", meta, err)
	list, qm, err = kv.List("w", nil)
	w.saw("list what was deleted", list, qm, err)
}

func (w *walk) deregistrations() {
	meta, err := w.Catalog().Deregister(&api.CatalogDeregistration{Node: "ext", Address: "10.9.9.9", ServiceID: "web9"}, nil)
	w.saw("catalog deregister an instance", meta, err)
	meta, err = w.Catalog().Deregister(&api.CatalogDeregistration{Node: "ext"}, nil)
	w.saw("catalog deregister", meta, err)
	meta, err = w.Catalog().Deregister(&api.CatalogDeregistration{}, nil)
	w.saw("catalog deregister nothing", meta, err)
	w.saw("deregister a check", w.Agent().CheckDeregister("memory"))
	w.saw("deregister a check again", w.Agent().CheckDeregister("memory"))
	w.saw("deregister", w.Agent().ServiceDeregister("web1"))
	w.saw("deregister again", w.Agent().ServiceDeregister("web1"))
	services, err := w.Agent().Services()
	w.saw("services left", services, err)
	checks, err := w.Agent().Checks()
	w.saw("checks left", checks, err)
	w.settled()
	node, qm, err := w.Catalog().NodeServiceList("n1", nil)
	w.saw("node left", node, qm, err)
}
