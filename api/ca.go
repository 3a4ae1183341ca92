package api

import "time"

// CARoot is a root certificate of the service mesh.
type CARoot struct {
	ID                  string // fingerprint of the certificate
	Name                string
	SerialNumber        uint64
	SigningKeyID        string // of the key that signs leaf certificates, which may be an intermediate's
	ExternalTrustDomain string // cluster id of whoever made the root
	NotBefore           time.Time
	NotAfter            time.Time
	RootCert            string // PEM
	IntermediateCerts   []string
	SigningCert         string `json:",omitempty"`
	SigningKey          string `json:",omitempty"` // never leaves the servers
	Active              bool
	RotatedOutAt        time.Time `json:"-"`
	PrivateKeyType      string
	PrivateKeyBits      int
	RaftIndex
}

// CARoots are the root certificates that the mesh trusts, one of them in use.
type CARoots struct {
	ActiveRootID string
	TrustDomain  string // of all SPIFFE names: "<cluster id>.consul"
	Roots        []*CARoot
}

// CAConfiguration is how the certificate authority of the mesh is set up.
type CAConfiguration struct {
	ClusterID                string `json:"-"`
	Provider                 string
	Config                   map[string]any
	State                    map[string]string
	ForceWithoutCrossSigning bool
	RaftIndex
}
