package mesh

import "isthmus/api"

// Snapshot is all that one mesh gateway depends on, as it was at one moment.
// Whoever holds one may rely on it never changing.
type Snapshot struct {
	// Proxy is the gateway as it is registered with its agent: kind, id, addresses,
	// meta, and in Proxy.Config its own settings.
	Proxy      *api.NodeService
	Datacenter string // the gateway's own
	Domain     string // of all names, without dots around it
	// TrustDomain of the mesh, "<cluster id>.consul". It is empty while the
	// datacenter has no certificate authority: then nothing but the servers can be
	// reached through the gateway.
	TrustDomain string
	// Servers of the own datacenter, ordered by node. Only a gateway that leads to
	// servers (ExposesServers) has them.
	Servers []Endpoint `json:",omitempty"`
	// Services of the own datacenter that are in the mesh, by name, each with its
	// proxies' addresses, ordered by node and id.
	Services map[string][]Endpoint `json:",omitempty"`
	// Remote are the other datacenters, ordered by name.
	Remote []Remote `json:",omitempty"`
}

// Remote is another datacenter.
type Remote struct {
	Datacenter string
	Gateways   []Endpoint // at their WAN addresses, ordered by node and id; none while none is known
}

// Endpoint is where an instance is reached.
type Endpoint struct {
	Node    string // name of its node
	Host    string // IP address or host name
	Port    int
	Healthy bool // none of its checks is critical
	Weight  int  `json:",omitempty"` // share of the traffic; 0 is 1
	Servers bool `json:",omitempty"` // a gateway that leads to the servers of its datacenter
}

// ExposesServers tells whether the gateway leads to the servers of its
// datacenter.
func (s *Snapshot) ExposesServers() bool { return s.Proxy.Meta[api.FederationKey] == "1" }
