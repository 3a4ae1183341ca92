package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

const defaultDomain = "consul"

// TLSConfig says which material to load and how strictly to use it. The zero
// value means that TLS is off.
type TLSConfig struct {
	// CAFile is a PEM file of certificates to trust. CAPath is a directory of such
	// files, and is looked at only when there is no CAFile.
	CAFile, CAPath string

	// CertFile and KeyFile are the own certificate, with its intermediates, and its
	// private key.
	CertFile, KeyFile string

	// MinVersion is the lowest TLS version to speak: "tls12" (the default and the
	// lowest there is) or "tls13", or the same as "TLSv1_2" and "TLSv1_3".
	MinVersion string

	// CipherSuites are the suites for TLS 1.2, by their IANA names. Empty means a
	// safe choice.
	CipherSuites []string

	// VerifyIncoming demands TLS with a client certificate of every connection.
	VerifyIncoming bool

	// VerifyOutgoing makes connections in the own datacenter use TLS.
	VerifyOutgoing bool

	// VerifyServerHostname demands that a server's certificate names it as a server
	// of its datacenter, and that those who use protocols among servers have such a
	// certificate. It implies VerifyOutgoing.
	VerifyServerHostname bool

	// Domain, Datacenter and NodeName make up the own server names.
	Domain, Datacenter, NodeName string
}

// TLS holds certificates and settings that can be replaced while running. A nil
// TLS is one that is off.
type TLS struct {
	current atomic.Pointer[material]
}

// NewTLS loads what cfg names.
func NewTLS(cfg TLSConfig) (*TLS, error) {
	t := &TLS{}
	if err := t.Reload(cfg); err != nil {
		return nil, err
	}
	return t, nil
}

// Reload replaces everything, or nothing when it returns an error. Handshakes
// that begin afterwards use the new material and resume no session of the old;
// connections already made stay as they are.
func (t *TLS) Reload(cfg TLSConfig) error {
	m, err := loadMaterial(cfg)
	if err != nil {
		return fmt.Errorf("load TLS material: %w", err)
	}
	t.current.Store(m)
	return nil
}

// material gives what new handshakes use. It is never nil and never changes.
func (t *TLS) material() *material {
	if t != nil {
		if m := t.current.Load(); m != nil {
			return m
		}
	}
	return &material{}
}

// MutualCapable says that there is a CA and a certificate, so that both sides of
// a connection can be verified. Federation through gateways is possible only then.
func (t *TLS) MutualCapable() bool { return t.material().mutualCapable() }

// NotAfter is when the own certificate expires; zero when there is none.
func (t *TLS) NotAfter() time.Time {
	if m := t.material(); m.cert != nil {
		return m.cert.Leaf.NotAfter
	}
	return time.Time{}
}

// HTTPS is for the listener of an HTTP or gRPC front. It stays valid when the
// material is replaced: each handshake takes what is current.
func (t *TLS) HTTPS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		// net/http looks here to see whether it may speak HTTP/2.
		NextProtos: frontProtos(),
		// Tickets would be encrypted with keys of this value, which outlives the
		// material, and so let a session survive the CA that vouched for its client.
		SessionTicketsDisabled: true,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			m := t.material()
			if m.cert == nil {
				return nil, errors.New("there is no certificate to answer with")
			}
			return m.front, nil
		},
	}
}

// Probe is for clients of services outside of the cluster that trust its CA and
// ask for its certificates. They are expected to name this node unless a copy is
// given another name. The value is another one when the material is replaced, and
// is never changed; it is nil when TLS is off.
func (t *TLS) Probe() *tls.Config { return t.material().probe }

func frontProtos() []string { return []string{"h2", "http/1.1"} }

// CheckServerNames says what keeps the own certificate from being accepted by
// other servers when they dial through gateways, and the command that makes a
// right one.
func (t *TLS) CheckServerNames() error {
	m := t.material()
	if err := m.checkServerNames(time.Now()); err != nil {
		return fmt.Errorf("check the server certificate: %w; make one with: %s", err, m.createCommand())
	}
	return nil
}

func (m *material) checkServerNames(now time.Time) error {
	if !m.mutualCapable() {
		return errors.New("a CA and a certificate are needed")
	}
	leaf, file := m.cert.Leaf, m.cfg.CertFile
	if now.After(leaf.NotAfter) {
		return fmt.Errorf("%s: expired at %s", file, leaf.NotAfter.Format(time.RFC3339))
	}
	if now.Before(leaf.NotBefore) {
		return fmt.Errorf("%s: not valid before %s", file, leaf.NotBefore.Format(time.RFC3339))
	}
	var errs []error
	for _, name := range m.serverNames() {
		if leaf.VerifyHostname(name) != nil {
			errs = append(errs, fmt.Errorf("%s: lacks the name %s", file, name))
		}
	}
	// A server is a client of every other server, so it needs both usages.
	for _, use := range []struct {
		text string
		eku  x509.ExtKeyUsage
	}{{"server", x509.ExtKeyUsageServerAuth}, {"client", x509.ExtKeyUsageClientAuth}} {
		if err := m.verifyChain(append([]*x509.Certificate{leaf}, m.intermediates...), use.eku, now); err != nil {
			errs = append(errs, fmt.Errorf("%s: is no %s certificate of the CA: %w", file, use.text, err))
		}
	}
	return errors.Join(errs...)
}

// serverNames are the names under which other servers reach this one.
func (m *material) serverNames() []string {
	own := Target{Datacenter: m.cfg.Datacenter}
	names := []string{own.ServerName(m.cfg.Domain)}
	if m.cfg.NodeName != "" {
		own.Node = m.cfg.NodeName
		names = append(names, own.ServerName(m.cfg.Domain))
	}
	return names
}

func (m *material) createCommand() string {
	cmd := []string{"isthmus tls cert create -server -dc", m.cfg.Datacenter}
	if m.cfg.NodeName != "" {
		cmd = append(cmd, "-node", m.cfg.NodeName)
	}
	if d := trimDomain(m.cfg.Domain); d != defaultDomain {
		cmd = append(cmd, "-domain", d)
	}
	return strings.Join(cmd, " ")
}

// CheckServerPeer says why the other side of conn is not, by its certificate, a
// server of the own datacenter. It is nil when the settings do not demand one.
// Handlers use it for what only servers may ask.
func (t *TLS) CheckServerPeer(conn net.Conn) error {
	m := t.material()
	if !m.cfg.VerifyIncoming || !m.cfg.VerifyServerHostname {
		return nil
	}
	return m.checkServerPeer(conn)
}

func (m *material) checkServerPeer(conn net.Conn) error {
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return errors.New("the connection is not encrypted")
	}
	state := secure.ConnectionState()
	if len(state.VerifiedChains) == 0 {
		return errors.New("the peer has no verified certificate")
	}
	own := Target{Datacenter: m.cfg.Datacenter}
	if err := state.PeerCertificates[0].VerifyHostname(own.ServerName(m.cfg.Domain)); err != nil {
		return fmt.Errorf("the peer is no server of %s: %w", m.cfg.Datacenter, err)
	}
	return nil
}
