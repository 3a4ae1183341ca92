package wire

import (
	"isthmus/api"
	"isthmus/internal/rpc"
)

// The certificate authority of the service mesh.
var (
	CARoots            = rpc.Method[DCQuery, api.CARoots]{Name: "ConnectCA.Roots", Reply: rpc.Flat}
	CAConfiguration    = rpc.Method[DCQuery, api.CAConfiguration]{Name: "ConnectCA.ConfigurationGet"}
	CASignIntermediate = rpc.Method[SignRequest, string]{Name: "ConnectCA.SignIntermediate", Write: true}
)

// SignRequest asks for a certificate: of a leaf, or of the authority of a
// secondary datacenter.
type SignRequest struct {
	CSR string // PEM
}
