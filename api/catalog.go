package api

import (
	"encoding/json"
	"fmt"
	"time"
)

// Check states.
const (
	Passing  = "passing"
	Warning  = "warning"
	Critical = "critical"
	Any      = "any" // as a filter: every state
)

// Names the protocol gives a meaning.
const (
	SerfHealth    = "serfHealth"            // the check that tells whether a node's agent is alive
	ConsulService = "consul"                // the service every server registers
	MeshGateway   = "mesh-gateway"          // kind of a mesh gateway
	ConnectProxy  = "connect-proxy"         // kind of a sidecar
	FederationKey = "consul-wan-federation" // service meta of gateways that lead to servers
)

// RaftIndex says at which log index a row was made and last changed.
type RaftIndex struct {
	CreateIndex uint64
	ModifyIndex uint64
}

// Locality is where a node or service runs.
type Locality struct {
	Region string
	Zone   string
}

// Node is a member of the catalog.
type Node struct {
	ID              string
	Node            string
	Address         string
	Datacenter      string
	Partition       string `json:",omitempty"`
	PeerName        string `json:",omitempty"`
	TaggedAddresses map[string]string
	Meta            map[string]string
	Locality        *Locality `json:",omitempty" bexpr:"-"`
	RaftIndex
}

// ServiceAddress is an address of a service under a tag such as "lan" or "wan".
type ServiceAddress struct {
	Address string
	Port    int
}

// Weights say how much traffic an instance gets.
type Weights struct {
	Passing int
	Warning int
}

// NodeService is an instance of a service on a node.
type NodeService struct {
	Kind                       string `json:",omitempty"`
	ID                         string
	Service                    string
	Tags                       []string
	Address                    string
	TaggedAddresses            map[string]ServiceAddress `json:",omitempty"`
	Meta                       map[string]string
	Port                       int
	SocketPath                 string `json:",omitempty"`
	Weights                    *Weights
	EnableTagOverride          bool
	Proxy                      ConnectProxyConfig
	Connect                    ServiceConnect
	LocallyRegisteredAsSidecar bool      `json:"-"          bexpr:"-"`
	Locality                   *Locality `json:",omitempty" bexpr:"-"`
	PeerName                   string
	RaftIndex
}

// ServiceConnect is the part of an instance that concerns the service mesh.
type ServiceConnect struct {
	Native         bool                `json:",omitempty"`
	SidecarService *ServiceDefinition  `json:",omitempty" bexpr:"-"`
	PeerMeta       *PeeringServiceMeta `json:",omitempty" bexpr:"-"`
}

// PeeringServiceMeta tells how an imported instance is reached.
type PeeringServiceMeta struct {
	SNI      []string `json:",omitempty"`
	SpiffeID []string `json:",omitempty"`
	Protocol string   `json:",omitempty"`
}

// HealthCheck is the last known state of a check.
type HealthCheck struct {
	Node        string
	CheckID     string
	Name        string
	Status      string
	Notes       string
	Output      string
	ServiceID   string
	ServiceName string
	ServiceTags []string
	Type        string
	Interval    string
	Timeout     string
	ExposedPort int
	PeerName    string                `json:",omitempty"`
	Definition  HealthCheckDefinition `bexpr:"-"`
	RaftIndex
}

// HealthCheckDefinition is what of a check's definition the catalog keeps.
type HealthCheckDefinition struct {
	HTTP                           string              `json:",omitempty"`
	TLSServerName                  string              `json:",omitempty"`
	TLSSkipVerify                  bool                `json:",omitempty"`
	Header                         map[string][]string `json:",omitempty"`
	Method                         string              `json:",omitempty"`
	Body                           string              `json:",omitempty"`
	DisableRedirects               bool                `json:",omitempty"`
	TCP                            string              `json:",omitempty"`
	TCPUseTLS                      bool                `json:",omitempty"`
	UDP                            string              `json:",omitempty"`
	H2PING                         string              `json:",omitempty"`
	OSService                      string              `json:",omitempty"`
	H2PingUseTLS                   bool                `json:",omitempty"`
	Interval                       Duration            `json:",omitempty"`
	OutputMaxSize                  uint                `json:",omitempty"`
	Timeout                        Duration            `json:",omitempty"`
	DeregisterCriticalServiceAfter Duration            `json:",omitempty"`
	ScriptArgs                     []string            `json:",omitempty"`
	DockerContainerID              string              `json:",omitempty"`
	Shell                          string              `json:",omitempty"`
	GRPC                           string              `json:",omitempty"`
	GRPCUseTLS                     bool                `json:",omitempty"`
	AliasNode                      string              `json:",omitempty"`
	AliasService                   string              `json:",omitempty"`
	TTL                            Duration            `json:",omitempty"`
}

// CheckServiceNode is an instance with its node and the checks of both.
type CheckServiceNode struct {
	Node    *Node
	Service *NodeService
	Checks  []*HealthCheck
}

// Status is the worst state among the checks of an instance.
func (c *CheckServiceNode) Status() string {
	worst := Passing
	for _, check := range c.Checks {
		switch check.Status {
		case Passing:
		case Warning:
			worst = Warning
		default:
			return Critical
		}
	}
	return worst
}

// ServiceNode is an instance beside the fields of its node, as /v1/catalog/service
// shows it.
type ServiceNode struct {
	ID                       string
	Node                     string
	Address                  string
	Datacenter               string
	TaggedAddresses          map[string]string
	NodeMeta                 map[string]string
	ServiceKind              string
	ServiceID                string
	ServiceName              string
	ServiceTags              []string
	ServiceAddress           string
	ServiceTaggedAddresses   map[string]ServiceAddress `json:",omitempty"`
	ServiceWeights           Weights
	ServiceMeta              map[string]string
	ServicePort              int
	ServiceSocketPath        string
	ServiceEnableTagOverride bool
	ServiceProxy             ConnectProxyConfig
	ServiceConnect           ServiceConnect
	ServiceLocality          *Locality `bexpr:"-"`
	PeerName                 string    `json:",omitempty"`
	RaftIndex
}

// NodeServices is a node with its instances by id.
type NodeServices struct {
	Node     *Node
	Services map[string]*NodeService
}

// NodeServiceList is a node with its instances as a list.
type NodeServiceList struct {
	Node     *Node
	Services []*NodeService
}

// Registration puts a node, an instance and checks into the catalog.
type Registration struct {
	Datacenter      string
	ID              string
	Node            string
	Address         string
	TaggedAddresses map[string]string
	NodeMeta        map[string]string
	Service         *NodeService
	Check           *HealthCheck
	Checks          []*HealthCheck
	SkipNodeUpdate  bool
	PeerName        string
	Locality        *Locality
	RaftIndex
}

// Deregistration takes a node, or one of its instances or checks, out of the
// catalog.
type Deregistration struct {
	Datacenter string
	Node       string
	ServiceID  string
	CheckID    string
	PeerName   string
}

// KVPair is an entry of the key-value store.
type KVPair struct {
	LockIndex uint64
	Key       string
	Flags     uint64
	Value     []byte
	Session   string `json:",omitempty"`
	RaftIndex
}

// FederationState is what a datacenter publishes of itself to all others.
type FederationState struct {
	Datacenter         string
	MeshGateways       []CheckServiceNode `json:",omitempty"`
	UpdatedAt          time.Time
	PrimaryModifyIndex uint64
	RaftIndex
}

// Duration is a time.Duration that reads and writes JSON as text ("10s"). A
// number is taken as nanoseconds.
type Duration time.Duration

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) {
	return []byte(`"` + time.Duration(d).String() + `"`), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("duration: %w", err)
	}
	switch v := v.(type) {
	case nil:
		*d = 0
	case float64:
		*d = Duration(v)
	case string:
		if v == "" {
			*d = 0
			return nil
		}
		p, err := time.ParseDuration(v)
		if err != nil {
			return fmt.Errorf("duration: %w", err)
		}
		*d = Duration(p)
	default:
		return fmt.Errorf("duration %s is neither a text such as \"10s\" nor a number", b)
	}
	return nil
}
