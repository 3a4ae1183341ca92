package config

import "time"

// Settings is everything an agent is told at start. Load fills it, resolves
// what depends on other settings, and checks it.
type Settings struct {
	Datacenter        string `conf:"datacenter"         flag:"datacenter" default:"dc1"                                                                               reload:"no" doc:"Name of this datacenter: lower-case letters, digits, - and _."`
	PrimaryDatacenter string `conf:"primary_datacenter" reload:"no"       doc:"Datacenter that holds the source of truth for the federation; the own one when empty."`

	NodeName string            `conf:"node_name" flag:"node"      reload:"no"  doc:"Name of this node, unique in its datacenter; the host name when empty."`
	NodeID   string            `conf:"node_id"   flag:"node-id"   reload:"no"  doc:"UUID of this node; made at the first start and kept in data_dir when empty."`
	NodeMeta map[string]string `conf:"node_meta" flag:"node-meta" reload:"yes" doc:"Key and value pairs kept with the node (as a flag: key:value, repeatable)."`

	DataDir         string `conf:"data_dir"         flag:"data-dir"         reload:"no" doc:"Directory for state that outlives a restart; required unless -dev."`
	Server          bool   `conf:"server"           flag:"server"           dev:"true"  reload:"no"                                                              doc:"Run as a server: keep state, vote, answer for the datacenter."`
	Bootstrap       bool   `conf:"bootstrap"        flag:"bootstrap"        reload:"no" doc:"Let this server elect itself alone."`
	BootstrapExpect int    `conf:"bootstrap_expect" flag:"bootstrap-expect" default:"0" reload:"no"                                                              doc:"Number of servers to wait for before the first election."`

	BindAddr             string `conf:"bind_addr"               flag:"bind"          default:"0.0.0.0"                                                                               dev:"127.0.0.1"                                                                                             reload:"no"                                                                                   doc:"IP address that cluster ports listen on; a go-sockaddr template is expanded."`
	ClientAddr           string `conf:"client_addr"             flag:"client"        default:"127.0.0.1"                                                                             reload:"no"                                                                                                 doc:"IP addresses, separated by spaces, that client ports listen on; templates are expanded."`
	AdvertiseAddr        string `conf:"advertise_addr"          flag:"advertise"     reload:"no"                                                                                     doc:"IP address that others in the datacenter are told; bind_addr, or the one private address, when empty."`
	AdvertiseAddrWAN     string `conf:"advertise_addr_wan"      flag:"advertise-wan" reload:"no"                                                                                     doc:"IP address that other datacenters are told; advertise_addr when empty."`
	AdvertiseAddrIPv4    string `conf:"advertise_addr_ipv4"     reload:"no"          doc:"IPv4 address that others in the datacenter may choose (lan_ipv4 of the tagged addresses)."`
	AdvertiseAddrIPv6    string `conf:"advertise_addr_ipv6"     reload:"no"          doc:"IPv6 address that others in the datacenter may choose (lan_ipv6)."`
	AdvertiseAddrWANIPv4 string `conf:"advertise_addr_wan_ipv4" reload:"no"          doc:"IPv4 address that other datacenters may choose (wan_ipv4)."`
	AdvertiseAddrWANIPv6 string `conf:"advertise_addr_wan_ipv6" reload:"no"          doc:"IPv6 address that other datacenters may choose (wan_ipv6)."`
	SerfLAN              string `conf:"serf_lan"                flag:"serf-lan-bind" reload:"no"                                                                                     doc:"IP address that LAN gossip listens on; bind_addr when empty."`
	SerfWAN              string `conf:"serf_wan"                flag:"serf-wan-bind" reload:"no"                                                                                     doc:"IP address that WAN gossip listens on; bind_addr when empty."`

	SerfLANAllowedCIDRs []string          `conf:"serf_lan_allowed_cidrs" flag:"serf-lan-allowed-cidrs" reload:"no"                                                                                                       doc:"Networks (address/bits) whose nodes may be members of the LAN pool; all when empty."`
	SerfWANAllowedCIDRs []string          `conf:"serf_wan_allowed_cidrs" flag:"serf-wan-allowed-cidrs" reload:"no"                                                                                                       doc:"Networks whose servers may be members of the WAN pool; all when empty."`
	TaggedAddresses     map[string]string `conf:"tagged_addresses"       reload:"no"                   doc:"Addresses of the node by purpose, beside lan, wan and their _ipv4 and _ipv6, which follow from those above."`

	Ports     Ports     `conf:"ports"`
	Addresses Addresses `conf:"addresses"`

	Domain    string `conf:"domain"     flag:"domain"     default:"consul." reload:"no"                               doc:"Domain that DNS answers for and that names certificates."`
	AltDomain string `conf:"alt_domain" flag:"alt-domain" reload:"no"       doc:"Second domain that DNS answers for."`

	Encrypt               Secret `conf:"encrypt"                 flag:"encrypt" reload:"no" doc:"Gossip key: base64 of 16, 24 or 32 bytes."`
	EncryptVerifyIncoming bool   `conf:"encrypt_verify_incoming" default:"true" reload:"no" doc:"Refuse gossip that is not encrypted."`
	EncryptVerifyOutgoing bool   `conf:"encrypt_verify_outgoing" default:"true" reload:"no" doc:"Encrypt the gossip that is sent."`

	RetryJoin        []string      `conf:"retry_join"         flag:"retry-join,join"         reload:"no"   doc:"Addresses, or cloud discovery strings, of LAN members to join, tried until one answers."`
	RetryJoinWAN     []string      `conf:"retry_join_wan"     flag:"retry-join-wan,join-wan" reload:"no"   doc:"As retry_join, for servers of other datacenters; not with federation through gateways."`
	RetryInterval    time.Duration `conf:"retry_interval"     flag:"retry-interval"          default:"30s" reload:"no"                                                                                   doc:"Pause between attempts to join the LAN."`
	RetryIntervalWAN time.Duration `conf:"retry_interval_wan" flag:"retry-interval-wan"      default:"30s" reload:"no"                                                                                   doc:"Pause between attempts to join the WAN."`
	RetryMax         int           `conf:"retry_max"          flag:"retry-max"               default:"0"   reload:"no"                                                                                   doc:"Attempts to join the LAN before the agent stops; 0 is no limit."`
	RetryMaxWAN      int           `conf:"retry_max_wan"      flag:"retry-max-wan"           default:"0"   reload:"no"                                                                                   doc:"Attempts to join the WAN before the agent stops; 0 is no limit."`

	RejoinAfterLeave     bool          `conf:"rejoin_after_leave"      flag:"rejoin"  reload:"no"                                                                                  doc:"Join the known members again after a start, even if the node had left."`
	LeaveOnTerminate     bool          `conf:"leave_on_terminate"      reload:"no"    doc:"Leave the cluster on SIGTERM; true for clients and false for servers when unset."`
	SkipLeaveOnInterrupt bool          `conf:"skip_leave_on_interrupt" reload:"no"    doc:"Do not leave the cluster on SIGINT; true for servers and false for clients when unset."`
	ReconnectTimeout     time.Duration `conf:"reconnect_timeout"       default:"72h"  reload:"no"                                                                                  doc:"Time after which a failed LAN member is forgotten; 8h or more."`
	ReconnectTimeoutWAN  time.Duration `conf:"reconnect_timeout_wan"   default:"72h"  reload:"no"                                                                                  doc:"Time after which a failed WAN member is forgotten; 8h or more."`
	ServerRejoinAgeMax   time.Duration `conf:"server_rejoin_age_max"   default:"168h" reload:"no"                                                                                  doc:"A server that was down for longer refuses to start; 6h or more."`

	LogLevel          string        `conf:"log_level"            flag:"log-level"            default:"info" dev:"debug"                                                                       reload:"yes"                                                 doc:"Least level that is logged: trace, debug, info, warn or error."`
	LogJSON           bool          `conf:"log_json"             flag:"log-json"             reload:"no"    doc:"Log one JSON object a line."`
	LogFile           string        `conf:"log_file"             flag:"log-file"             reload:"no"    doc:"File, or directory when it ends with /, that the log is written to as well."`
	LogRotateBytes    int           `conf:"log_rotate_bytes"     flag:"log-rotate-bytes"     default:"0"    reload:"no"                                                                       doc:"Size at which the log file is rotated; 0 is no limit."`
	LogRotateDuration time.Duration `conf:"log_rotate_duration"  flag:"log-rotate-duration"  default:"24h"  reload:"no"                                                                       doc:"Age at which the log file is rotated."`
	LogRotateMaxFiles int           `conf:"log_rotate_max_files" flag:"log-rotate-max-files" default:"0"    reload:"no"                                                                       doc:"Rotated log files that are kept; 0 keeps all, -1 none."`

	EnableSyslog   bool   `conf:"enable_syslog"   flag:"syslog"    reload:"no" doc:"Send the log to the system's log (syslog) as well."`
	SyslogFacility string `conf:"syslog_facility" default:"LOCAL0" reload:"no" doc:"Facility of the lines there: USER, DAEMON, LOCAL0 and so on."`

	Connect                 Connect       `conf:"connect"`
	PrimaryGateways         []string      `conf:"primary_gateways"          flag:"primary-gateway" reload:"no"                                                     doc:"Addresses (host:port), or cloud discovery strings, of mesh gateways in the primary datacenter."`
	PrimaryGatewaysInterval time.Duration `conf:"primary_gateways_interval" default:"30s"          reload:"no"                                                     doc:"Pause between attempts to reach the primary's gateways."`
	TranslateWANAddrs       bool          `conf:"translate_wan_addrs"       reload:"no"            doc:"Answer with WAN addresses for nodes of other datacenters."`

	TLS         TLS         `conf:"tls"`
	Limits      Limits      `conf:"limits"`
	Performance Performance `conf:"performance"`
	GossipLAN   GossipLAN   `conf:"gossip_lan"`
	GossipWAN   GossipWAN   `conf:"gossip_wan"`

	RaftProtocol          int           `conf:"raft_protocol"           flag:"raft-protocol" default:"3"  reload:"no"                                         doc:"Version of the raft protocol; 3 is the only one."`
	RaftSnapshotThreshold int           `conf:"raft_snapshot_threshold" default:"16384"      reload:"yes" doc:"Log entries after which a snapshot is made."`
	RaftSnapshotInterval  time.Duration `conf:"raft_snapshot_interval"  default:"30s"        reload:"yes" doc:"How often the need for a snapshot is checked."`
	RaftTrailingLogs      int           `conf:"raft_trailing_logs"      default:"10240"      reload:"yes" doc:"Log entries that are kept after a snapshot."`

	CheckUpdateInterval time.Duration `conf:"check_update_interval" default:"5m"                 reload:"no"                             doc:"How long a changed check output may wait before the servers are told."`
	DiscardCheckOutput  bool          `conf:"discard_check_output"  reload:"yes"                 doc:"Do not keep the output of checks."`
	CheckOutputMaxSize  int           `conf:"check_output_max_size" flag:"check_output_max_size" default:"4096"                          reload:"no"                                                                 doc:"Bytes of a check's output that are kept at most."`

	EnableScriptChecks      bool `conf:"enable_script_checks"        flag:"enable-script-checks"       reload:"no"                                                                                                   doc:"Run checks that are commands, also those that anybody registers with the HTTP API: who reaches it can run what they like."`
	EnableLocalScriptChecks bool `conf:"enable_local_script_checks"  flag:"enable-local-script-checks" reload:"no"                                                                                                   doc:"Run checks that are commands if configuration files define them."`
	EnableAgentTLSForChecks bool `conf:"enable_agent_tls_for_checks" reload:"no"                       doc:"Use the CA and the certificate of tls.internal_rpc for checks over TLS too; else the CAs of the system."`

	EnableDebug        bool `conf:"enable_debug"        dev:"true"  reload:"no"                                                         doc:"Serve profiling endpoints over HTTP."`
	DisableCoordinates bool `conf:"disable_coordinates" reload:"no" doc:"Do not tell the servers where the node stands in the network."`
	// AllowUnprintable is named after what the filter does when it is off.
	AllowUnprintable bool   `conf:"disable_http_unprintable_char_filter" reload:"no"     doc:"Let control characters stand in the paths of requests."`
	PIDFile          string `conf:"pid_file"                             flag:"pid-file" reload:"no"                                                  doc:"File that the process id is written to."`

	Recursors []string  `conf:"recursors"  flag:"recursor" reload:"yes" doc:"Addresses, with a port or without, of the DNS servers that are asked for names outside domain and alt_domain."`
	DNSConfig DNSConfig `conf:"dns_config"`

	HTTPConfig HTTPConfig `conf:"http_config"`
	Telemetry  Telemetry  `conf:"telemetry"`

	Services []ServiceDefinition `conf:"services" single:"service" reload:"yes" doc:"Services of this node (a block named service is one of them)."`
	Checks   []CheckDefinition   `conf:"checks"   single:"check"   reload:"yes" doc:"Checks of this node, or of one of its services by service_id (a block named check is one of them)."`

	Watches []map[string]any `conf:"watches" reload:"yes" doc:"Views to follow, each an object with type (key, keyprefix, services, nodes, service, checks or agent_service), what that type needs (key, prefix, service, tag, passingonly, state, service_id, filter, datacenter, token, stale), and what to call with the view on each change: args, a command that reads it from standard input, or handler_type http with http_handler_config (path, method, timeout, header, tls_skip_verify)."`

	// DevMode is the flag -dev; it has no key.
	DevMode bool
	// Listen is where the agent listens, from the addresses and ports above.
	Listen Listen
}

// Ports are the numbers of the ports; -1 switches one off.
type Ports struct {
	Server  int `conf:"server"   flag:"server-port"   default:"8300" reload:"no" doc:"RPC between agents."`
	SerfLAN int `conf:"serf_lan" flag:"serf-lan-port" default:"8301" reload:"no" doc:"Gossip inside the datacenter."`
	SerfWAN int `conf:"serf_wan" flag:"serf-wan-port" default:"8302" reload:"no" doc:"Gossip between datacenters; -1 switches the WAN pool off."`
	HTTP    int `conf:"http"     flag:"http-port"     default:"8500" reload:"no" doc:"HTTP API; -1 switches it off."`
	HTTPS   int `conf:"https"    flag:"https-port"    default:"-1"   reload:"no" doc:"HTTPS API; -1 switches it off."`
	DNS     int `conf:"dns"      flag:"dns-port"      default:"8600" reload:"no" doc:"DNS over UDP and TCP; -1 switches it off."`
	GRPC    int `conf:"grpc"     flag:"grpc-port"     default:"-1"   dev:"8502"  reload:"no"                                                                                   doc:"gRPC without TLS; -1 switches it off."`
	GRPCTLS int `conf:"grpc_tls" flag:"grpc-tls-port" default:"-1"   reload:"no" doc:"gRPC with TLS; -1 switches it off; when unset, 8503 on servers with a gRPC certificate."`

	SidecarMin int `conf:"sidecar_min_port" default:"21000" reload:"no" doc:"First of the ports for sidecars that ask for none; 0, with the last, gives them none."`
	SidecarMax int `conf:"sidecar_max_port" default:"21255" reload:"no" doc:"Last of the ports for sidecars that ask for none."`
}

// Addresses override client_addr for one port each.
type Addresses struct {
	HTTP    string `conf:"http"     reload:"no" doc:"IP addresses for the HTTP API; client_addr when empty."`
	HTTPS   string `conf:"https"    reload:"no" doc:"IP addresses for the HTTPS API; client_addr when empty."`
	DNS     string `conf:"dns"      reload:"no" doc:"IP addresses for DNS; client_addr when empty."`
	GRPC    string `conf:"grpc"     reload:"no" doc:"IP addresses for gRPC without TLS; client_addr when empty."`
	GRPCTLS string `conf:"grpc_tls" reload:"no" doc:"IP addresses for gRPC with TLS; client_addr when empty."`
}

// Listen is where the agent listens, as host:port; empty is nowhere.
type Listen struct {
	HTTP, HTTPS, DNS, GRPC, GRPCTLS []string
	Server, SerfLAN, SerfWAN        string
}

// Connect is the service mesh.
type Connect struct {
	Enabled                        bool     `conf:"enabled"                            dev:"true"       reload:"no"                                                                                doc:"Switch the service mesh and its certificate authority on; federation through gateways needs it."`
	EnableMeshGatewayWANFederation bool     `conf:"enable_mesh_gateway_wan_federation" reload:"no"      doc:"Federate datacenters through mesh gateways only; on the servers of every datacenter."`
	CAProvider                     string   `conf:"ca_provider"                        default:"consul" reload:"no"                                                                                doc:"Who keeps the keys of the certificate authority; consul, the servers themselves, is the only one."`
	CAConfig                       CAConfig `conf:"ca_config"`
	SidecarInherit                 bool     `conf:"sidecar_inherit"                    default:"true"   reload:"no"                                                                                doc:"Give sidecars the tags and the metadata of their service where they set none; not part of Consul's settings. Load balancers that select by tag may need false."`
}

// CAConfig is how the authority makes keys and certificates. It counts when a
// datacenter's authority is made; later the stored configuration does.
type CAConfig struct {
	LeafCertTTL         time.Duration `conf:"leaf_cert_ttl"         default:"72h"    reload:"no"                                                                                                                doc:"Lifetime of the certificates of services; 1h or more."`
	IntermediateCertTTL time.Duration `conf:"intermediate_cert_ttl" default:"8760h"  reload:"no"                                                                                                                doc:"Lifetime of the intermediates that the primary signs for secondaries; 3 times leaf_cert_ttl or more."`
	RootCertTTL         time.Duration `conf:"root_cert_ttl"         default:"87600h" reload:"no"                                                                                                                doc:"Lifetime of the root; more than intermediate_cert_ttl."`
	PrivateKeyType      string        `conf:"private_key_type"      reload:"no"      doc:"Type of the keys that sign: ec or rsa; ec when empty."`
	PrivateKeyBits      int           `conf:"private_key_bits"      reload:"no"      doc:"Size of those keys: 224, 256, 384 or 521 for ec, 2048 or 4096 for rsa; the smallest common one, 256 or 2048, when 0."`
}

// TLS is the material and the rules of each kind of listener. What one of them
// does not set comes from Defaults; Load has resolved that, and readers look at
// the three listeners only.
type TLS struct {
	Defaults    TLSListener `conf:"defaults"`
	InternalRPC TLSListener `conf:"internal_rpc"`
	HTTPS       TLSListener `conf:"https"`
	GRPC        TLSListener `conf:"grpc"`
}

// TLSListener is the TLS set-up of one kind of listener.
type TLSListener struct {
	CAFile               string `conf:"ca_file"                reload:"yes" doc:"File with the CA certificates, PEM."`
	CAPath               string `conf:"ca_path"                reload:"yes" doc:"Directory of files with CA certificates."`
	CertFile             string `conf:"cert_file"              reload:"yes" doc:"File with the certificate, PEM."`
	KeyFile              string `conf:"key_file"               reload:"yes" doc:"File with the private key, PEM."`
	TLSMinVersion        string `conf:"tls_min_version"        reload:"yes" doc:"Least TLS version: TLS_AUTO, TLSv1_2 or TLSv1_3; TLSv1_2 when empty."`
	TLSCipherSuites      string `conf:"tls_cipher_suites"      reload:"yes" doc:"Names of the TLS 1.2 cipher suites that are allowed, separated by commas."`
	VerifyIncoming       bool   `conf:"verify_incoming"        reload:"yes" doc:"Demand a certificate of the CA from whoever connects."`
	VerifyOutgoing       bool   `conf:"verify_outgoing"        reload:"yes" doc:"Use TLS, and check the certificate, on connections to others."`
	VerifyServerHostname bool   `conf:"verify_server_hostname" reload:"yes" doc:"Check that a server's certificate names server.<dc>.<domain>; internal RPC only."`

	// MinVersion and CipherSuites are the two texts above as crypto/tls wants
	// them.
	MinVersion   uint16
	CipherSuites []uint16
}

// Limits bound what one client may ask for.
type Limits struct {
	RPCHandshakeTimeout   time.Duration `conf:"rpc_handshake_timeout"     default:"5s"     reload:"no"  doc:"Time for the first byte and the TLS handshake on the server port."`
	RPCClientTimeout      time.Duration `conf:"rpc_client_timeout"        default:"60s"    reload:"yes" doc:"Time for an RPC that does not block."`
	RPCMaxConnsPerClient  int           `conf:"rpc_max_conns_per_client"  default:"100"    reload:"yes" doc:"Connections to the server port for each remote IP; 0 is no limit."`
	HTTPSHandshakeTimeout time.Duration `conf:"https_handshake_timeout"   default:"5s"     reload:"no"  doc:"Time for the TLS handshake of the HTTPS API."`
	HTTPMaxConnsPerClient int           `conf:"http_max_conns_per_client" default:"200"    reload:"yes" doc:"Connections to the HTTP API for each remote IP; 0 is no limit."`
	RPCRate               float64       `conf:"rpc_rate"                  default:"-1"     reload:"yes" doc:"RPCs a second that this agent sends to servers; -1 is no limit."`
	RPCMaxBurst           int           `conf:"rpc_max_burst"             default:"1000"   reload:"yes" doc:"RPCs that rpc_rate lets through at once."`
	KVMaxValueSize        uint64        `conf:"kv_max_value_size"         default:"524288" reload:"no"  doc:"Bytes in the value of a key."`
	TxnMaxReqLen          uint64        `conf:"txn_max_req_len"           default:"524288" reload:"no"  doc:"Bytes in the body of a transaction."`
}

// Performance are the timings of consensus and RPC.
type Performance struct {
	RaftMultiplier int           `conf:"raft_multiplier"  default:"5"  reload:"no" doc:"Factor on the raft timeouts, 1 to 10; 1 for fast machines."`
	RPCHoldTimeout time.Duration `conf:"rpc_hold_timeout" default:"7s" reload:"no" doc:"How long an RPC is tried again while there is no leader."`
	LeaveDrainTime time.Duration `conf:"leave_drain_time" default:"5s" reload:"no" doc:"How long a leaving node still answers."`
}

// GossipLAN are the timings of the LAN pool. GossipWAN has the same fields, so
// that one can be converted into the other; only defaults differ.
type GossipLAN struct {
	GossipInterval time.Duration `conf:"gossip_interval" default:"200ms" dev:"100ms" reload:"no"                                        doc:"Pause between gossip messages."`
	GossipNodes    int           `conf:"gossip_nodes"    default:"3"     reload:"no" doc:"Nodes that get each gossip message."`
	ProbeInterval  time.Duration `conf:"probe_interval"  default:"1s"    dev:"100ms" reload:"no"                                        doc:"Pause between probes of a random node."`
	ProbeTimeout   time.Duration `conf:"probe_timeout"   default:"500ms" dev:"100ms" reload:"no"                                        doc:"Time for the answer to a probe."`
	SuspicionMult  int           `conf:"suspicion_mult"  default:"4"     dev:"3"     reload:"no"                                        doc:"Factor on the time that a suspect has to answer."`
	RetransmitMult int           `conf:"retransmit_mult" default:"4"     reload:"no" doc:"Factor on how often a message is sent again."`
}

// GossipWAN are the timings of the WAN pool.
type GossipWAN struct {
	GossipInterval time.Duration `conf:"gossip_interval" default:"500ms" dev:"100ms" reload:"no"                                        doc:"Pause between gossip messages."`
	GossipNodes    int           `conf:"gossip_nodes"    default:"3"     reload:"no" doc:"Nodes that get each gossip message."`
	ProbeInterval  time.Duration `conf:"probe_interval"  default:"5s"    dev:"100ms" reload:"no"                                        doc:"Pause between probes of a random node."`
	ProbeTimeout   time.Duration `conf:"probe_timeout"   default:"3s"    dev:"100ms" reload:"no"                                        doc:"Time for the answer to a probe."`
	SuspicionMult  int           `conf:"suspicion_mult"  default:"6"     dev:"3"     reload:"no"                                        doc:"Factor on the time that a suspect has to answer."`
	RetransmitMult int           `conf:"retransmit_mult" default:"4"     reload:"no" doc:"Factor on how often a message is sent again."`
}

// DNSConfig shapes the answers of DNS.
type DNSConfig struct {
	AllowStale bool          `conf:"allow_stale" default:"true"   reload:"yes" doc:"Let any server answer, not the leader alone."`
	MaxStale   time.Duration `conf:"max_stale"   default:"87600h" reload:"yes" doc:"Age up to which such an answer is used; the leader is asked for newer ones."`

	NodeTTL    time.Duration            `conf:"node_ttl"    default:"0s" reload:"yes"                                                                                                                      doc:"TTL of the records of nodes."`
	ServiceTTL map[string]time.Duration `conf:"service_ttl" reload:"yes" doc:"TTL of the records of services by name; * at the end of a name stands for any rest, and the longest name that fits decides."`

	OnlyPassing    bool `conf:"only_passing"     reload:"yes" doc:"Leave out instances with a check that warns; those with a critical one always are."`
	UDPAnswerLimit int  `conf:"udp_answer_limit" default:"3"  reload:"yes"                                                                             doc:"Records in an answer over UDP to who does not take more than 512 bytes; 0 is no limit."`
	ARecordLimit   int  `conf:"a_record_limit"   default:"0"  reload:"yes"                                                                             doc:"Addresses in any answer; 0 is no limit."`

	EnableTruncate              bool `conf:"enable_truncate"                 reload:"yes"   doc:"Mark answers that are not whole, so that who asks may ask again over TCP."`
	DisableCompression          bool `conf:"disable_compression"             reload:"yes"   doc:"Write names in answers in full."`
	EnableAdditionalNodeMetaTXT bool `conf:"enable_additional_node_meta_txt" default:"true" reload:"yes"                                                                    doc:"Add TXT records of a node's metadata to answers about other types."`

	UseCache    bool          `conf:"use_cache"     reload:"yes" doc:"Let the agent's cache answer."`
	CacheMaxAge time.Duration `conf:"cache_max_age" default:"0s" reload:"yes"                        doc:"Age up to which an answer of the cache is used; 0s is any."`

	RecursorStrategy string        `conf:"recursor_strategy" default:"sequential" reload:"yes" doc:"Order in which recursors are asked: sequential or random."`
	RecursorTimeout  time.Duration `conf:"recursor_timeout"  default:"2s"         reload:"yes" doc:"Time for the answer of a recursor."`

	SOA DNSSOA `conf:"soa"`
}

// DNSSOA are the figures of the SOA record, in seconds.
type DNSSOA struct {
	Refresh int `conf:"refresh" default:"3600"  reload:"yes" doc:"Seconds after which secondary servers look for changes."`
	Retry   int `conf:"retry"   default:"600"   reload:"yes" doc:"Seconds after which they try again."`
	Expire  int `conf:"expire"  default:"86400" reload:"yes" doc:"Seconds after which they stop answering."`
	MinTTL  int `conf:"min_ttl" default:"0"     reload:"yes" doc:"Seconds for which it may be remembered that a name does not exist."`
}

// HTTPConfig shapes the answers of the HTTP API.
type HTTPConfig struct {
	ResponseHeaders map[string]string `conf:"response_headers" reload:"no" doc:"Headers added to every answer."`
}

// Telemetry says where metrics go.
type Telemetry struct {
	PrometheusRetentionTime time.Duration `conf:"prometheus_retention_time" default:"0s" reload:"no" doc:"How long a metric without news is shown to Prometheus; 0s switches that format off."`

	MetricsPrefix   string   `conf:"metrics_prefix"   default:"consul" reload:"no"                                                                                                      doc:"What the names of all metrics begin with."`
	DisableHostname bool     `conf:"disable_hostname" reload:"no"      doc:"Leave the name of this machine out of the names of gauges."`
	PrefixFilter    []string `conf:"prefix_filter"    reload:"no"      doc:"Beginnings of names of metrics, after a plus sign to show them or a minus sign not to; the longest counts."`
	FilterDefault   bool     `conf:"filter_default"   default:"true"   reload:"no"                                                                                                      doc:"Show the metrics that prefix_filter says nothing of."`
	StatsdAddress   string   `conf:"statsd_address"   reload:"no"      doc:"Address (host:port) of a statsd that metrics are sent to over UDP."`
	StatsiteAddress string   `conf:"statsite_address" reload:"no"      doc:"Address (host:port) of a statsite that metrics are sent to over TCP."`
	DogstatsdAddr   string   `conf:"dogstatsd_addr"   reload:"no"      doc:"Address (host:port) of a DogStatsD that metrics are sent to over UDP, with their labels as tags."`
	DogstatsdTags   []string `conf:"dogstatsd_tags"   reload:"no"      doc:"Tags (key:value) of all metrics that DogStatsD is sent."`
}
