package transport

// Proto is one protocol of the server port. A peer names it either with the
// first byte it sends, or with the only ALPN id it offers in a TLS handshake.
type Proto struct {
	Name string

	// Byte is the first byte of a connection; HasByte tells a protocol of byte 0
	// from one that has no byte at all.
	Byte    byte
	HasByte bool

	// ALPN is the id offered in a TLS handshake. Gateways route only protocols
	// that have one.
	ALPN string

	// ServersOnly protocols are refused to a peer whose certificate is not that of
	// a server of the own datacenter, so that no client agent can act as a server.
	ServersOnly bool
}

// The protocols of the server port. Numbers and ids are the protocol's.
var (
	RPCSingle      = Proto{Name: "rpc", Byte: 0, HasByte: true, ALPN: "consul/rpc-single"}
	Raft           = Proto{Name: "raft", Byte: 1, HasByte: true, ALPN: "consul/raft", ServersOnly: true}
	TLSUpgrade     = Proto{Name: "tls", Byte: 3, HasByte: true}
	RPCMulti       = Proto{Name: "rpc-multi", Byte: 4, HasByte: true, ALPN: "consul/rpc-multi"}
	Snapshot       = Proto{Name: "snapshot", Byte: 5, HasByte: true, ALPN: "consul/rpc-snapshot"}
	Gossip         = Proto{Name: "gossip", Byte: 6, HasByte: true, ALPN: "consul/rpc-gossip"}
	InsecureTLS    = Proto{Name: "tls-insecure", Byte: 7, HasByte: true}
	GRPC           = Proto{Name: "grpc", Byte: 8, HasByte: true, ALPN: "consul/rpc-grpc"}
	RaftForwarding = Proto{
		Name: "raft-forwarding", Byte: 9, HasByte: true, ALPN: "consul/raft-forwarding", ServersOnly: true,
	}
	WANPacket = Proto{Name: "wan-gossip-packet", ALPN: "consul/wan-gossip/packet"}
	WANStream = Proto{Name: "wan-gossip-stream", ALPN: "consul/wan-gossip/stream"}
)

// Protos lists every protocol of the server port.
func Protos() []Proto {
	return []Proto{
		RPCSingle, Raft, TLSUpgrade, RPCMulti, Snapshot, Gossip, InsecureTLS, GRPC, RaftForwarding,
		WANPacket, WANStream,
	}
}

// lastByte is the highest first byte that names a protocol. A higher one starts
// a TLS handshake, whose first byte is 22.
func lastByte() byte { return RaftForwarding.Byte }

// alpnIDs lists the ids a server offers.
func alpnIDs() []string {
	var ids []string
	for _, p := range Protos() {
		if p.ALPN != "" {
			ids = append(ids, p.ALPN)
		}
	}
	return ids
}

// envelope says that p carries another protocol and has no handler of its own.
func (p Proto) envelope() bool { return p == TLSUpgrade || p == InsecureTLS }
