package checks

import (
	"context"
	"crypto/tls"
	"net"

	"isthmus/api"
)

// dialer is either of those of packages net and tls.
type dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// newTCP returns a check that passes when a connection can be opened, with a TLS
// handshake if the definition says so.
func newTCP(def *api.CheckType, report Report, env *Env) (Runner, error) {
	target := def.TCP
	success := "TCP connect " + target + ": Success"
	if def.TCPUseTLS {
		success = "TCP+TLS connect " + target + ": Success"
	}
	return newPoll(def, func(ctx context.Context) (status, output string) {
		var d dialer = &net.Dialer{}
		if def.TCPUseTLS {
			d = &tls.Dialer{Config: tlsFor(env.base(), def)}
		}
		conn, err := d.DialContext(ctx, "tcp", target)
		if err != nil {
			return api.Critical, err.Error()
		}
		// The connection proved what it was opened for: how it ends says no more.
		_ = conn.Close()
		return api.Passing, success
	}, report, env), nil
}
