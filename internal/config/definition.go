package config

import "time"

// ServiceDefinition is a service that a file declares. Inside it and its
// checks, keys are also known in their older spellings without underscores
// (EnableTagOverride, DeregisterCriticalServiceAfter).
type ServiceDefinition struct {
	ID                string                   `conf:"id"                  doc:"Identifier, unique on the node; the name when empty."`
	Name              string                   `conf:"name"                doc:"Name of the service."`
	Kind              string                   `conf:"kind"                doc:"Empty for an ordinary service; connect-proxy, mesh-gateway and so on for proxies."`
	Tags              []string                 `conf:"tags"                doc:"Words to find the instance by."`
	Address           string                   `conf:"address"             doc:"Address of the instance; the node's when empty."`
	Port              int                      `conf:"port"                doc:"Port of the instance."`
	SocketPath        string                   `conf:"socket_path"         doc:"Unix socket of the instance, in place of address and port."`
	TaggedAddresses   map[string]TaggedAddress `conf:"tagged_addresses"    doc:"Addresses by purpose, such as lan and wan."`
	Meta              map[string]string        `conf:"meta"                doc:"Key and value pairs kept with the instance."`
	Weights           Weights                  `conf:"weights"`
	EnableTagOverride bool                     `conf:"enable_tag_override" doc:"Let the catalog change the tags."`
	Token             Secret                   `conf:"token"               doc:"ACL token to register with."`
	Checks            []CheckDefinition        `conf:"checks"              single:"check"                                                                          doc:"Checks of the instance."`
	Proxy             map[string]any           `conf:"proxy"               doc:"Set-up of a proxy, as the API takes it."`
	Connect           map[string]any           `conf:"connect"             doc:"Part in the service mesh, as the API takes it."`
	Locality          map[string]any           `conf:"locality"            doc:"Region and zone, as the API takes it."`

	// Source is the file and line of the definition.
	Source string
}

// TaggedAddress is one address of a service for one purpose.
type TaggedAddress struct {
	Address string `conf:"address" doc:"IP address or host name."`
	Port    int    `conf:"port"    doc:"Port; the service's when 0."`
}

// Weights are the weights of an instance in DNS answers. They are nil where the
// file says nothing, and then 1: a weight of 0 means something else.
type Weights struct {
	Passing *int `conf:"passing" doc:"Weight while all checks pass; 1 when unset."`
	Warning *int `conf:"warning" doc:"Weight while a check warns; 1 when unset."`
}

// CheckDefinition is a check that a file declares. Which kind it is follows
// from the fields that are set.
type CheckDefinition struct {
	ID        string `conf:"id"         doc:"Identifier, unique on the node; the name when empty."`
	Name      string `conf:"name"       doc:"Name of the check."`
	Notes     string `conf:"notes"      doc:"Words for people."`
	ServiceID string `conf:"service_id" doc:"Service of this node that the check is about; the node itself when empty."`
	Token     Secret `conf:"token"      doc:"ACL token to register with."`
	Status    string `conf:"status"     doc:"State before the first result: passing, warning or critical."`

	HTTP             string              `conf:"http"              doc:"URL to ask."`
	Method           string              `conf:"method"            doc:"HTTP method; GET when empty."`
	Header           map[string][]string `conf:"header"            doc:"HTTP headers."`
	Body             string              `conf:"body"              doc:"HTTP body."`
	DisableRedirects bool                `conf:"disable_redirects" doc:"Do not follow HTTP redirects."`
	TCP              string              `conf:"tcp"               doc:"Address (host:port) to connect to."`
	TCPUseTLS        bool                `conf:"tcp_use_tls"       doc:"Use TLS on that connection."`
	UDP              string              `conf:"udp"               doc:"Address (host:port) to send to."`
	GRPC             string              `conf:"grpc"              doc:"Address (host:port/service) to ask with the gRPC health protocol."`
	GRPCUseTLS       bool                `conf:"grpc_use_tls"      doc:"Use TLS for gRPC."`
	H2Ping           string              `conf:"h2ping"            doc:"Address (host:port) to ping over HTTP/2."`
	H2PingUseTLS     *bool               `conf:"h2ping_use_tls"    doc:"Use TLS for the ping; true when unset."`
	TLSServerName    string              `conf:"tls_server_name"   doc:"Name to check the certificate against."`
	TLSSkipVerify    bool                `conf:"tls_skip_verify"   doc:"Do not check the certificate."`

	Args              []string      `conf:"args"                doc:"Command to run, with its arguments."`
	DockerContainerID string        `conf:"docker_container_id" doc:"Container to run the command in."`
	Shell             string        `conf:"shell"               doc:"Shell for the command in the container."`
	OSService         string        `conf:"os_service"          doc:"Service of the operating system to look at."`
	TTL               time.Duration `conf:"ttl"                 doc:"Time within which the service must report itself."`
	AliasNode         string        `conf:"alias_node"          doc:"Node whose state is taken over."`
	AliasService      string        `conf:"alias_service"       doc:"Service whose state is taken over."`

	Interval                       time.Duration `conf:"interval"                          doc:"Pause between probes."`
	Timeout                        time.Duration `conf:"timeout"                           doc:"Time for one probe."`
	SuccessBeforePassing           int           `conf:"success_before_passing"            doc:"Good results in a row before the check passes."`
	FailuresBeforeWarning          *int          `conf:"failures_before_warning"           doc:"Bad results in a row before the check warns."`
	FailuresBeforeCritical         int           `conf:"failures_before_critical"          doc:"Bad results in a row before the check is critical."`
	DeregisterCriticalServiceAfter time.Duration `conf:"deregister_critical_service_after" doc:"Time critical after which the service is removed; 0s is never."`
	OutputMaxSize                  int           `conf:"output_max_size"                   doc:"Bytes of output that are kept."`

	// Source is the file and line of the definition.
	Source string
}
