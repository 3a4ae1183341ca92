package checks

import (
	"crypto/tls"

	"isthmus/api"
)

// base returns what probes over TLS begin with.
func (e *Env) base() *tls.Config {
	if e.TLS != nil {
		if c := e.TLS(); c != nil {
			return c
		}
	}
	return nil
}

// tlsFor makes of what the agent has what one check needs. A check may leave the
// certificate of its target unverified: that is for its definition to decide.
func tlsFor(base *tls.Config, def *api.CheckType, protos ...string) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if base != nil {
		c = base.Clone()
	}
	if def.TLSServerName != "" {
		c.ServerName = def.TLSServerName
	}
	c.InsecureSkipVerify = def.TLSSkipVerify
	c.NextProtos = protos
	return c
}
