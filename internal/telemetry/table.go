package telemetry

// The metrics of this program, under the names that dashboards of the protocol's
// reference know. Those of the libraries are in table_libraries.go.
var (
	HTTPTime     = sample("api.http", "ms", "Time to answer an HTTP request, from its head on; a blocking read's includes its wait.", "method", "path")
	ClientAPI    = counter("client.api.<call>", "calls", "Requests for a route of the catalog that reached this agent.", "node")
	ClientAPIGot = counter("client.api.success.<call>", "calls", "Those of them that were answered.", "node")
	ClientAPIBad = counter("client.rpc.error.<call>", "calls", "Those of them that failed.", "node")

	ClientRPC         = counter("client.rpc", "calls", "Calls of this agent to a server; on a server, to itself.")
	ClientRPCExceeded = counter("client.rpc.exceeded", "calls", "Calls of this agent that its own limit refused.")
	ClientRPCFailed   = counter("client.rpc.failed", "calls", "Calls of this agent that no server answered.")
	RPCAccept         = counter("rpc.accept_conn", "connections", "Connections to the server port.")
	RPCRaft           = counter("rpc.raft_handoff", "connections", "Connections to the server port that are the log's.")
	RPCRequest        = counter("rpc.request", "calls", "Calls that came to a server over the network.")
	RPCError          = counter("rpc.request_error", "calls", "Those of them that failed.")
	RPCQuery          = counter("rpc.query", "reads", "Reads that a server evaluated.")
	RPCBlocking       = gauge("rpc.queries_blocking", "reads", "Reads that wait for a change; equal ones are one.")
	RPCConsistent     = sample("rpc.consistentRead", "ms", "Time to make sure of the leadership, for a consistent read.")
	RPCCrossDC        = counter("rpc.cross-dc", "calls", "Calls that a server sent to another datacenter.", "datacenter")

	CatalogRegister   = sample("catalog.register", "ms", "Time to register a node, service or check.")
	CatalogDeregister = sample("catalog.deregister", "ms", "Time to deregister a node, service or check.")
	KVSApply          = sample("kvs.apply", "ms", "Time to change the key-value store.")
	FederationApply   = sample("federation_state.apply", "ms", "Time to change what a datacenter publishes of its gateways.")
	FederationGet     = sample("federation_state.get", "ms", "Time to read what a datacenter publishes of its gateways.")
	FederationList    = sample("federation_state.list", "ms", "Time to read what all datacenters publish of their gateways.")
	FederationVia     = sample("federation_state.list_mesh_gateways", "ms", "Time to read the gateways of all datacenters.")

	CatalogReads = serviceReads("catalog", "instances of a service in the catalog")
	HealthReads  = serviceReads("health", "the health of a service")

	FSMApply       = sample("raft.fsm.apply", "ms", "Time to apply one entry of the log to the state.")
	FSMRegister    = sample("fsm.register", "ms", "Time to apply a registration to the state.")
	FSMDeregister  = sample("fsm.deregister", "ms", "Time to apply a deregistration to the state.")
	FSMKVS         = sample("fsm.kvs", "ms", "Time to apply a change of the key-value store to the state.", "op")
	FSMCoordinates = sample("fsm.coordinate.batch-update", "ms", "Time to apply coordinates to the state.")
	FSMCA          = sample("fsm.ca", "ms", "Time to apply a change of the certificate authority to the state.", "op")
	FSMFederation  = sample("fsm.federation_state.<datacenter>", "ms", "Time to apply what a datacenter publishes of its gateways to the state.", "op")
	FSMPersist     = sample("fsm.persist", "ms", "Time to write the state as a snapshot.")

	LeaderBarrier         = sample("leader.barrier", "ms", "Time until a new leader has applied what those before it committed.")
	LeaderReconcileMember = sample("leader.reconcileMember", "ms", "Time to compare one member of the pool with the catalog.")
	LeaderReconcile       = sample("leader.reconcile", "ms", "Time to compare the members of the pool with the catalog.")

	ReplicationStatus = kept("leader.replication.federation-state.status", "", "1 when the last copy of the primary's federation states succeeded, else 0.")
	ReplicationIndex  = kept("leader.replication.federation-state.index", "", "Index of the primary that was copied.")
	ReplicationApply  = sample("leader.replication.federation-state.apply", "ms", "Time to apply a copy of the primary's federation states.")

	ServerIsLeader   = gauge("server.isLeader", "", "1 on the server that leads, 0 on others.")
	AutopilotHealthy = gauge("autopilot.healthy", "", "1 while every peer of the log is alive, as the leader sees it, else 0.")
	AutopilotSpare   = gauge("autopilot.failure_tolerance", "servers", "How many peers may fail before the log stops, as the leader sees it.")
	RaftApplied      = gauge("raft.applied_index", "", "Index of the log up to which the state is applied.")
	RaftLast         = gauge("raft.last_index", "", "Last index of the log.")
	RootExpiry       = gauge("mesh.active-root-ca.expiry", "s", "Until the active root certificate of the mesh expires, as the leader sees it.")
	SigningExpiry    = gauge("mesh.active-signing-ca.expiry", "s", "Until the certificate expires that signs those of services, as the leader sees it.")
	TLSExpiry        = gauge("agent.tls.cert.expiry", "s", "Until the certificate of this agent expires.")
	Version          = gauge("version", "", "Always 1; which version is told by its labels.", "version", "pre_release")

	MembersServers = gauge("members.servers", "nodes", "Servers in the pool that are alive.", "datacenter")
	MembersClients = gauge("members.clients", "nodes", "Clients in the pool that are alive.", "datacenter")
	StateNodes     = gauge("state.nodes", "nodes", "Nodes of the catalog.", "datacenter")
	StateServices  = gauge("state.services", "services", "Names of services of the catalog.", "datacenter")
	StateInstances = gauge("state.service_instances", "instances", "Instances of services of the catalog.", "datacenter")
	StateBillable  = gauge("state.billable_service_instances", "instances", "Instances of the catalog that are neither servers nor of the mesh.", "datacenter")
	StateConnect   = gauge("state.connect_instances", "instances", "Instances of the catalog that are of the mesh, by kind.", "datacenter", "kind")
	StateKVEntries = gauge("state.kv_entries", "entries", "Entries of the key-value store.", "datacenter")

	CacheOutcome = counter("cache.<type>.<outcome>", "reads", "Reads from the agent's cache, by how they fared: hit, miss_new, miss_block.")
	CacheBypass  = counter("cache.bypass", "reads", "Reads that the agent's cache could not serve.")
	CacheFetched = counter("cache.<type>.fetch_success", "reads", "Reads of the agent's cache from the servers that succeeded, by type.", "result_not_modified")
	CacheGood    = counter("cache.fetch_success", "reads", "Reads of the agent's cache from the servers that succeeded.", "result_not_modified")
	CacheBad     = counter("cache.fetch_error", "reads", "Reads of the agent's cache from the servers that failed.")
	CacheExpire  = counter("cache.evict_expired", "entries", "Entries of the agent's cache that nobody asked for any more.")
	CacheEntries = kept("cache.entries_count", "entries", "Entries of the agent's cache.")

	DNSDomain = sample("dns.domain_query", "ms", "Time to answer a DNS question about the domain.")
	DNSPTR    = sample("dns.ptr_query", "ms", "Time to answer a reverse DNS question.")
	DNSStale  = counter("dns.stale_queries", "questions", "DNS questions that were answered from a state more than 5 s old.")

	GRPCCounts = counter("grpc.<side>.<what>.count", "", "Connections, requests and streams of gRPC that began, on the server's and the client's side.", "server_type")
	GRPCGauges = kept("grpc.<side>.<what>", "", "Connections and streams of gRPC that there are, on the server's and the client's side.", "server_type")

	XDSStreams = kept("xds.server.streams", "streams", "Streams over which proxies are configured.")
	XDSStart   = sample("xds.server.streamStart", "ms", "Time from the begin of such a stream to its first answer.")
	XDSNacks   = counter("xds.server.nacks", "answers", "Answers that a proxy refused. Not of the reference.", "type")

	FederationDial    = sample("federation.dial", "ms", "Time to reach another datacenter through its mesh gateways. Not of the reference.", "datacenter", "protocol", "gateway")
	FederationFailed  = counter("federation.dial_failure", "dials", "Dials of another datacenter through its mesh gateways that failed. Not of the reference.", "datacenter", "protocol")
	FederationSent    = counter("federation.packets_sent", "packets", "Packets of gossip that were sent across. Not of the reference.")
	FederationDropped = counter("federation.packets_dropped", "packets", "Packets of gossip that were dropped, for their way across was too slow. Not of the reference.")
)

var (
	runtimeGoroutines  = gauge("runtime.num_goroutines", "goroutines", "Goroutines.")
	runtimeAlloc       = gauge("runtime.alloc_bytes", "bytes", "Memory in use by objects, dead ones included until they are collected.")
	runtimeSys         = gauge("runtime.sys_bytes", "bytes", "Memory that was taken from the system.")
	runtimeMallocs     = gauge("runtime.malloc_count", "objects", "Objects that were ever allocated.")
	runtimeFrees       = gauge("runtime.free_count", "objects", "Objects that were ever freed.")
	runtimeObjects     = gauge("runtime.heap_objects", "objects", "Objects in memory.")
	runtimePauses      = gauge("runtime.total_gc_pause_ns", "ns", "Time for which garbage collections stopped everything, in all.")
	runtimeCollections = gauge("runtime.total_gc_runs", "collections", "Garbage collections.")
	runtimePause       = sample("runtime.gc_pause_ns", "ns", "Time for which one garbage collection stopped everything.")
)

// ServiceReads count the reads of services. The first value is the form of the name
// that is asked for: service, connect or ingress.
type ServiceReads struct{ Query, Tag, Tags, NotFound Counter }

func serviceReads(of, what string) ServiceReads {
	name := of + ".<form>."
	return ServiceReads{
		Query:    counter(name+"query", "reads", "Reads of "+what+"; the form is service, connect or ingress.", "service"),
		Tag:      counter(name+"query-tag", "reads", "Those of them with one tag, in the protocol's old form.", "service", "tag"),
		Tags:     counter(name+"query-tags", "reads", "Those of them with tags, in order, with commas between.", "service", "tag"),
		NotFound: counter(name+"not-found", "reads", "Those of them that found no instance.", "service"),
	}
}
