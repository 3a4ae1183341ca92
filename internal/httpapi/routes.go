package httpapi

import (
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	"isthmus/api"
	"isthmus/internal/wire"
)

// routes is the table: one line a route.
func routes() []route {
	return slices.Concat([]route{
		{get, "/", "A few words on where to look.", root},

		{get, "/v1/status/leader", "Address of the leader of a datacenter's servers, or an empty text.", statusLeader},
		{get, "/v1/status/peers", "Addresses of the servers of a datacenter that take part in its log.", statusPeers},

		{get, "/v1/catalog/datacenters", "Names of the datacenters, the own one first.", catalogDatacenters},
		{get, "/v1/catalog/nodes", "Nodes.", read(wire.CatalogNodes, dcQuery, translated(translateAll(translateNode), byHand(appendNode)))},
		{get, "/v1/catalog/services", "Names of the services, each with the tags of its instances.", read(wire.CatalogServices, dcQuery, tagged)},
		{get, "/v1/catalog/service/", "Instances of a service.", read(wire.CatalogServiceNodes, serviceQuery, translated(translateAll(translateServiceNode), byHand(appendServiceNode)))},
		{get, "/v1/catalog/node/", "A node and its instances by id.", read(wire.CatalogNodeServices, nodeQuery, translated(translateNodeServices, byID))},
		{get, "/v1/catalog/node-services/", "A node and its instances as a list.", read(wire.CatalogNodeServiceList, nodeQuery, translated(translateNodeServiceList, inOrder))},
		{get, "/v1/catalog/connect/", "Instances that take the mesh traffic of a service: its sidecars, and itself where it needs none.", read(wire.CatalogServiceNodes, connectQuery, translated(translateAll(translateServiceNode), byHand(appendServiceNode)))},
		{get, "/v1/catalog/gateway-services/", "Services that a gateway leads to.", read(wire.CatalogGatewayServices, gatewayQuery, listed)},
		{put, "/v1/catalog/register", "Puts a node, an instance and checks into the catalog, past the agents.", catalogRegister},
		{put, "/v1/catalog/deregister", "Takes a node, an instance or a check out of the catalog, past the agents.", catalogDeregister},

		{get, "/v1/health/service/", "Instances of a service with their nodes and checks; those that pass with ?passing.", read(wire.HealthServiceNodes, serviceQuery, translated(translateAll(translateInstance), serviceHealth))},
		{get, "/v1/health/connect/", "Instances that take the mesh traffic of a service, with their nodes and checks; those that pass with ?passing.", read(wire.HealthServiceNodes, connectQuery, translated(translateAll(translateInstance), serviceHealth))},
		{get, "/v1/health/ingress/", "Gateways that let traffic for a service into the mesh, with their nodes and checks.", read(wire.HealthServiceNodes, ingressQuery, translated(translateAll(translateInstance), serviceHealth))},
		{get, "/v1/health/checks/", "Checks of the instances of a service.", read(wire.HealthServiceChecks, serviceQuery, byHand(appendCheck))},
		{get, "/v1/health/node/", "Checks of a node and its instances.", read(wire.HealthNodeChecks, nodeQuery, byHand(appendCheck))},
		{get, "/v1/health/state/", "Checks in a state: passing, warning, critical, or any.", read(wire.HealthChecksInState, stateQuery, byHand(appendCheck))},

		{get, "/v1/coordinate/datacenters", "Where the servers of each datacenter stand in the network, in round-trip time.", coordinateDatacenters},
		{get, "/v1/coordinate/nodes", "Where the nodes of a datacenter stand in the network, in round-trip time.", coordinateNodes},
		{get, "/v1/coordinate/node/", "Where a node stands in the network, in round-trip time.", coordinateNode},
		{put, "/v1/coordinate/update", "Tells where a node stands in the network.", coordinateUpdate},

		{get, "/v1/kv/", "An entry of the key-value store; all below a prefix with ?recurse; keys alone with ?keys; the bare value with ?raw.", kvGet},
		{put, "/v1/kv/", "Writes an entry; with ?cas only if it last changed at that index.", kvPut},
		{del, "/v1/kv/", "Deletes an entry; with ?recurse all below a prefix; with ?cas only if it last changed at that index.", kvDelete},

		{get, "/v1/connect/ca/roots", "Root certificates that the mesh trusts; with ?pem=true as PEM alone, with their intermediates.", connectRoots},
		{get, "/v1/connect/ca/configuration", "How the certificate authority of the mesh is set up, without keys.", connectConfig},
		{put, "/v1/connect/ca/configuration", "", connectConfigPut},

		{get, "/v1/internal/federation-states", "What each datacenter publishes of its mesh gateways.", federationStates},
		{get, "/v1/internal/federation-states/mesh-gateways", "Mesh gateways by datacenter.", federationGateways},
		{get, "/v1/internal/federation-state/", "What one datacenter publishes of its mesh gateways.", federationState},
		{get, "/v1/internal/ui/nodes", "Nodes with their instances and checks.", show(wire.NodeDump, dcQuery, uiNodes)},
		{get, "/v1/internal/ui/node/", "A node with its instances and checks.", show(wire.NodeInfoRead, nodeQuery, uiNode)},
		{get, "/v1/internal/ui/services", "What there is of each service, counted.", show(wire.ServiceDump, dumpQuery, uiServices)},
		{get, "/v1/internal/ui/catalog-overview", "Nodes, services and checks, counted by state.", show(wire.CatalogOverview, dcQuery, uiOverview)},
		{get, "/v1/internal/ui/gateway-services-nodes/", "What there is of each service that a gateway leads to.", show(wire.CatalogGatewayServices, gatewayQuery, uiGateway)},
		{get, "/v1/federation/status", "How each server of this datacenter sees and reaches the others. Not part of Consul's API.", federationStatus},
	}, agentRoutes(), unbuilt())
}

func agentRoutes() []route {
	return []route{
		{get, "/v1/agent/self", "This node: its settings without secrets, its member and its figures.", agentSelf},
		{get, "/v1/agent/members", "Members of the LAN pool; of the WAN pool with ?wan.", agentMembers},
		{put, "/v1/agent/join/", "Joins the pool of the member at an address.", agentJoin},
		{put, "/v1/agent/leave", "Leaves the pools and stops this node.", agentLeave},
		{put, "/v1/agent/force-leave/", "Declares that a failed member has left; with ?prune it is forgotten.", agentForceLeave},
		{get, "/v1/agent/host", "The machine that this node runs on: memory, processors, system, disk.", agentHost},
		{get, "/v1/agent/version", "Version of this node.", agentVersion},
		{put, "/v1/agent/maintenance", "Takes this node out of use or back into it (?enable), for a reason (?reason).", agentMaintenance},
		{put, "/v1/agent/reload", "Reads the settings again.", agentReload},
		{get, "/v1/agent/metrics", "What this process measured; as text for Prometheus with ?format=prometheus.", agentMetrics},
		{get, "/v1/agent/metrics/stream", "What this process measures, as JSON at the end of each interval, for as long as the caller listens.", agentMetricsStream},
		{get, "/v1/agent/monitor", "Follows the log at a level (?loglevel), as text or JSON (?logjson).", agentMonitor},
		{get, "/v1/agent/services", "Services of this node.", agentServices},
		{get, "/v1/agent/service/", "One service of this node.", agentServiceGet},
		{put, "/v1/agent/service/register", "Registers a service with this node.", agentServiceRegister},
		{put, "/v1/agent/service/deregister/", "Removes a service of this node.", agentServiceDeregister},
		{put, "/v1/agent/service/maintenance/", "Takes a service of this node out of use or back into it (?enable), for a reason (?reason).", agentServiceMaintenance},
		{get, "/v1/agent/health/service/id/", "Health of a service of this node, as a status too: 200, 429 for a warning, 503; as a word with ?format=text.", agentHealthByID},
		{get, "/v1/agent/health/service/name/", "Health of all services of a name of this node, as a status too.", agentHealthByName},
		{get, "/v1/agent/proxies", "Envoys that follow this node: what each was sent, took and refused. Not part of Consul's API.", agentProxies},
		{get, "/v1/agent/checks", "Checks of this node.", agentChecks},
		{get, "/v1/agent/connect/ca/roots", "Root certificates that the mesh trusts, from this agent's cache.", agentConnectRoots},
		{put, "/v1/agent/check/register", "Registers a check with this node.", agentCheckRegister},
		{put, "/v1/agent/check/deregister/", "Removes a check of this node.", agentCheckDeregister},
		{put, "/v1/agent/check/pass/", "Sets a TTL check to passing.", agentCheckSet(api.Passing)},
		{put, "/v1/agent/check/warn/", "Sets a TTL check to warning.", agentCheckSet(api.Warning)},
		{put, "/v1/agent/check/fail/", "Sets a TTL check to critical.", agentCheckSet(api.Critical)},
		{put, "/v1/agent/check/update/", "Sets a TTL check to the state and output in the body.", agentCheckUpdate},
		{put, "/v1/agent/token/", "", refuse(api.Known(api.ACLDisabled, nil))},
		{http.MethodPost, "/v1/agent/connect/authorize", "", refuse(notBuilt("/v1/agent/connect/authorize"))},
		{get, "/v1/agent/connect/ca/leaf/", "", refuse(notBuilt("/v1/agent/connect/ca/leaf/"))},
	}
}

// refuse answers each request with an error.
func refuse(err error) handler { return func(*request) error { return err } }

func notBuilt(pattern string) error { return api.Errorf(api.NotBuilt, "%s is not built yet", pattern) }

const (
	get = http.MethodGet
	put = http.MethodPut
	del = http.MethodDelete
)

// debugRoutes are the profiles of this process.
func debugRoutes() []route {
	plain := func(f http.HandlerFunc) handler {
		return func(q *request) error {
			f(q.w, q.Request)
			return nil
		}
	}
	return []route{
		{get, "/debug/pprof/", "Profiles of this process.", plain(pprof.Index)},
		{get, "/debug/pprof/cmdline", "Command line of this process.", plain(pprof.Cmdline)},
		{get, "/debug/pprof/profile", "Processor profile.", plain(pprof.Profile)},
		{get, "/debug/pprof/symbol", "Names of addresses in this process.", plain(pprof.Symbol)},
		{get, "/debug/pprof/trace", "Execution trace.", plain(pprof.Trace)},
	}
}

func root(q *request) error {
	q.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	q.send([]byte("Isthmus agent. The HTTP API is below /v1/: try /v1/agent/self or /v1/federation/status.\n"))
	return nil
}

// unbuiltPatterns are the routes of the reference that do not exist here yet.
const unbuiltPatterns = `
	/v1/config /v1/config/ /v1/connect/
	/v1/discovery-chain/ /v1/event/ /v1/exported-services
	/v1/imported-services /v1/internal/ui/ /v1/internal/service-virtual-ip /v1/operator/
	/v1/peering /v1/peering/ /v1/peerings /v1/query /v1/query/ /v1/session/ /v1/snapshot /v1/txn`

// unbuilt are routes that say that they do not exist here yet, and those of the
// ACL system, which say that it is off.
func unbuilt() []route {
	var out []route
	for _, method := range []string{get, put, del, http.MethodPost} {
		for pattern := range strings.FieldsSeq(unbuiltPatterns) {
			out = append(out, route{method, pattern, "", refuse(notBuilt(pattern))})
		}
		out = append(out, route{method, "/v1/acl/", "", refuse(api.Known(api.ACLDisabled, nil))})
	}
	out = append(out, route{http.MethodPost, "/v1/internal/acl/authorize", "", refuse(api.Known(api.ACLDisabled, nil))})
	return out
}

// Docs writes the routes as a table in Markdown.
func Docs(w io.Writer) error {
	all := append(routes(), debugRoutes()...)
	slices.SortStableFunc(all, func(a, b route) int { return strings.Compare(a.pattern, b.pattern) })
	var b strings.Builder
	b.WriteString("# HTTP API\n\n| Method | Path | What it does |\n|---|---|---|\n")
	for _, r := range all {
		if r.doc != "" {
			fmt.Fprintf(&b, "| %s | `%s` | %s |\n", r.method, r.pattern, r.doc)
		}
	}
	b.WriteString("\nA path that ends in a slash is followed by a name. These answer 501, for they are not built yet:\n\n")
	for pattern := range strings.FieldsSeq("/v1/agent/connect/authorize /v1/agent/connect/ca/leaf/" + unbuiltPatterns) {
		fmt.Fprintf(&b, "- `%s`\n", pattern)
	}
	b.WriteString("\nThose below `/v1/acl/` and `/v1/agent/token/` answer 401: the ACL system is off.\n")
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write docs: %w", err)
	}
	return nil
}
