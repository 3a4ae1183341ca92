package api

// ConnectProxyConfig is the mesh configuration that an instance of a proxy kind
// carries. Isthmus keeps and returns it; what it means belongs to the service
// mesh.
type ConnectProxyConfig struct {
	DestinationServiceName string `json:",omitempty"`
	DestinationServiceID   string `json:",omitempty"`
	LocalServiceAddress    string `json:",omitempty"`
	LocalServicePort       int    `json:",omitempty"`
	LocalServiceSocketPath string `json:",omitempty"`
	Mode                   string
	Config                 map[string]any `json:",omitempty"`
	Upstreams              []Upstream     `json:",omitempty"`
	MeshGateway            MeshGatewayConfig
	Expose                 ExposeConfig
	TransparentProxy       TransparentProxyConfig `json:",omitzero"`
	MutualTLSMode          string                 `json:",omitempty" bexpr:"-"`
	AccessLogs             AccessLogsConfig       `json:",omitzero"`
	EnvoyExtensions        []EnvoyExtension       `json:",omitempty"`
}

// MeshGatewayConfig chooses the gateways an upstream goes through.
type MeshGatewayConfig struct {
	Mode string `json:",omitempty"`
}

// ExposeConfig lists the HTTP paths served outside the mesh.
type ExposeConfig struct {
	Checks bool         `json:",omitempty"`
	Paths  []ExposePath `json:",omitempty"`
}

// ExposePath is one HTTP path served outside the mesh.
type ExposePath struct {
	ListenerPort    int    `json:",omitempty"`
	Path            string `json:",omitempty"`
	LocalPathPort   int    `json:",omitempty"`
	Protocol        string `json:",omitempty"`
	ParsedFromCheck bool   `json:",omitempty"`
}

// TransparentProxyConfig is how a transparent proxy is reached.
type TransparentProxyConfig struct {
	OutboundListenerPort int  `json:",omitempty"`
	DialedDirectly       bool `json:",omitempty"`
}

// AccessLogsConfig says where a proxy logs requests.
type AccessLogsConfig struct {
	Enabled             bool   `json:",omitempty"`
	DisableListenerLogs bool   `json:",omitempty"`
	Type                string `json:",omitempty"`
	Path                string `json:",omitempty"`
	JSONFormat          string `json:",omitempty"`
	TextFormat          string `json:",omitempty"`
}

// EnvoyExtension changes the configuration of an Envoy.
type EnvoyExtension struct {
	Name          string
	Required      bool
	Arguments     map[string]any
	ConsulVersion string
	EnvoyVersion  string
}

// Upstream is a service that a proxy makes reachable on a local port.
type Upstream struct {
	DestinationType      string
	DestinationNamespace string `json:",omitempty"`
	DestinationPartition string `json:",omitempty"`
	DestinationPeer      string `json:",omitempty"`
	DestinationName      string
	Datacenter           string
	LocalBindAddress     string         `json:",omitempty"`
	LocalBindPort        int            `json:",omitempty"`
	LocalBindSocketPath  string         `json:",omitempty"`
	LocalBindSocketMode  string         `json:",omitempty"`
	Config               map[string]any `json:",omitempty"`
	MeshGateway          MeshGatewayConfig
	IngressHosts         []string `json:"-" bexpr:"-"`
	CentrallyConfigured  bool     `json:"-" bexpr:"-"`
}

// ServiceDefinition is what an agent is told of a service to register.
type ServiceDefinition struct {
	Kind              string                    `json:",omitempty"`
	ID                string                    `json:",omitempty"`
	Name              string                    `json:",omitempty"`
	Tags              []string                  `json:",omitempty"`
	Address           string                    `json:",omitempty"`
	TaggedAddresses   map[string]ServiceAddress `json:",omitempty"`
	Meta              map[string]string         `json:",omitempty"`
	Port              int                       `json:",omitempty"`
	SocketPath        string                    `json:",omitempty"`
	Check             CheckType                 `json:",omitzero"`
	Checks            []*CheckType              `json:",omitempty"`
	Weights           *Weights                  `json:",omitempty"`
	Token             string                    `json:",omitempty"`
	EnableTagOverride bool                      `json:",omitempty"`
	Proxy             *ConnectProxyConfig       `json:",omitempty"`
	Connect           *ServiceConnect           `json:",omitempty"`
	Locality          *Locality                 `json:",omitempty"`
}

// CheckType is what an agent is told of a check to run.
type CheckType struct {
	CheckID                        string              `json:",omitempty"`
	Name                           string              `json:",omitempty"`
	Status                         string              `json:",omitempty"`
	Notes                          string              `json:",omitempty"`
	ScriptArgs                     []string            `json:",omitempty"`
	HTTP                           string              `json:",omitempty"`
	H2PING                         string              `json:",omitempty"`
	H2PingUseTLS                   bool                `json:",omitempty"`
	Header                         map[string][]string `json:",omitempty"`
	Method                         string              `json:",omitempty"`
	Body                           string              `json:",omitempty"`
	DisableRedirects               bool                `json:",omitempty"`
	TCP                            string              `json:",omitempty"`
	TCPUseTLS                      bool                `json:",omitempty"`
	UDP                            string              `json:",omitempty"`
	Interval                       Duration            `json:",omitempty"`
	AliasNode                      string              `json:",omitempty"`
	AliasService                   string              `json:",omitempty"`
	DockerContainerID              string              `json:",omitempty"`
	Shell                          string              `json:",omitempty"`
	GRPC                           string              `json:",omitempty"`
	GRPCUseTLS                     bool                `json:",omitempty"`
	OSService                      string              `json:",omitempty"`
	TLSServerName                  string              `json:",omitempty"`
	TLSSkipVerify                  bool                `json:",omitempty"`
	Timeout                        Duration            `json:",omitempty"`
	TTL                            Duration            `json:",omitempty"`
	SuccessBeforePassing           int                 `json:",omitempty"`
	FailuresBeforeWarning          int                 `json:",omitempty"`
	FailuresBeforeCritical         int                 `json:",omitempty"`
	ProxyHTTP                      string              `json:",omitempty"`
	ProxyGRPC                      string              `json:",omitempty"`
	DeregisterCriticalServiceAfter Duration            `json:",omitempty"`
	OutputMaxSize                  int                 `json:",omitempty"`
}
