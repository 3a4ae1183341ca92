package transport

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// sessionCacheSize is how many servers behind gateways can be reached again with
// a resumed session. More servers than that only cost handshakes.
const sessionCacheSize = 512

// material is one loaded set of certificates and what is derived from it. It is
// made anew as a whole: session caches and ticket keys belong to it, so nothing
// that an old CA vouched for can be resumed under a new one.
type material struct {
	cfg           TLSConfig
	cert          *tls.Certificate
	intermediates []*x509.Certificate
	pool          *x509.CertPool

	// server answers connections that ask for TLS with a type byte, gateway those
	// told apart by ALPN, front those of HTTP and gRPC.
	server, gateway, front *tls.Config

	// direct and upgrade are for dialling; each dial sets its names on a copy. So
	// is probe, which verifies in the ordinary way.
	direct, upgrade, probe *tls.Config
}

func loadMaterial(cfg TLSConfig) (*material, error) {
	cfg.VerifyOutgoing = cfg.VerifyOutgoing || cfg.VerifyServerHostname
	m := &material{cfg: cfg}
	if err := m.loadCA(); err != nil {
		return nil, err
	}
	if err := m.loadCertificate(); err != nil {
		return nil, err
	}
	if cfg.VerifyIncoming && !m.mutualCapable() {
		return nil, errors.New("verifying incoming connections needs a CA and a certificate")
	}
	if cfg.VerifyOutgoing && m.pool == nil {
		return nil, errors.New("verifying outgoing connections needs a CA")
	}
	version, err := parseVersion(cfg.MinVersion)
	if err != nil {
		return nil, err
	}
	suites, err := parseSuites(cfg.CipherSuites)
	if err != nil {
		return nil, err
	}
	m.derive(version, suites)
	return m, nil
}

func (m *material) mutualCapable() bool { return m.pool != nil && m.cert != nil }

// derive makes the settings. None is a copy of another, since a copy would
// share the keys that encrypt session tickets, and a session begun where no
// client certificate is asked for must not be resumed where one is.
func (m *material) derive(version uint16, suites []uint16) {
	base := func() *tls.Config {
		c := &tls.Config{MinVersion: version, CipherSuites: suites}
		if m.cert != nil {
			c.Certificates = []tls.Certificate{*m.cert}
		}
		return c
	}
	listen := func(verify bool) *tls.Config {
		c := base()
		if c.ClientCAs = m.pool; verify {
			c.ClientAuth = tls.RequireAndVerifyClientCert
		}
		return c
	}
	m.server = listen(m.cfg.VerifyIncoming)
	m.gateway = listen(true)
	m.gateway.NextProtos = alpnIDs()
	m.front = listen(m.cfg.VerifyIncoming)
	m.front.NextProtos = frontProtos()
	m.front.SessionTicketsDisabled = true

	m.direct = base()
	m.direct.RootCAs = m.pool
	if !m.cfg.VerifyServerHostname {
		// The chain is verified all the same, only without a name.
		m.direct.InsecureSkipVerify = true
		m.direct.VerifyConnection = func(s tls.ConnectionState) error {
			return m.verifyChain(s.PeerCertificates, x509.ExtKeyUsageServerAuth, time.Now())
		}
	}
	m.upgrade = base()
	m.upgrade.RootCAs = m.pool
	m.upgrade.ClientSessionCache = tls.NewLRUClientSessionCache(sessionCacheSize)
	m.probe = base()
	m.probe.RootCAs = m.pool
	m.probe.ServerName = m.cfg.NodeName
}

func (m *material) directConfig(serverName string) *tls.Config {
	c := m.direct.Clone()
	c.ServerName = serverName
	return c
}

func (m *material) upgradeConfig(serverName string, p Proto) *tls.Config {
	c := m.upgrade.Clone()
	c.ServerName = serverName
	c.NextProtos = []string{p.ALPN}
	return c
}

// verifyChain verifies certs, the leaf first, against the CA, without a name.
func (m *material) verifyChain(certs []*x509.Certificate, use x509.ExtKeyUsage, now time.Time) error {
	if len(certs) == 0 {
		return errors.New("there is no certificate")
	}
	opts := x509.VerifyOptions{
		Roots: m.pool, Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use},
	}
	for _, c := range certs[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err := certs[0].Verify(opts)
	return err
}

func (m *material) loadCA() error {
	files := []string{m.cfg.CAFile}
	switch {
	case m.cfg.CAFile != "":
	case m.cfg.CAPath != "":
		var err error
		if files, err = listFiles(m.cfg.CAPath); err != nil {
			return fmt.Errorf("CA path: %w", err)
		}
		if len(files) == 0 {
			return fmt.Errorf("CA path: %s: holds no files", m.cfg.CAPath)
		}
	default:
		return nil
	}
	m.pool = x509.NewCertPool()
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("CA: %w", err)
		}
		certs, err := parseCertificates(data)
		if err != nil {
			return fmt.Errorf("CA: %s: %w", file, err)
		}
		for _, c := range certs {
			m.pool.AddCert(c)
		}
	}
	return nil
}

// listFiles lists the files of a directory. Hidden names are left out: mounted
// secrets keep their older versions under such names.
func listFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		file := filepath.Join(dir, e.Name())
		info, err := os.Stat(file) // Follows links, which mounted secrets are.
		if err != nil {
			return nil, err
		}
		if info.Mode().IsRegular() {
			files = append(files, file)
		}
	}
	return files, nil
}

func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		if block.Type != pemCertificate {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse certificate: %w", err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("holds no PEM certificate")
	}
	return certs, nil
}

func (m *material) loadCertificate() error {
	certFile, keyFile := m.cfg.CertFile, m.cfg.KeyFile
	if certFile == "" && keyFile == "" {
		return nil
	}
	if certFile == "" || keyFile == "" {
		return errors.New("a certificate file and a key file are needed together")
	}
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return fmt.Errorf("key: %w", err)
	}
	if !bytes.Contains(cert, []byte(pemCertificate)) {
		return fmt.Errorf("certificate: %s: holds no PEM certificate", certFile)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", certFile, keyFile, err)
	}
	for _, der := range pair.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("certificate: %s: parse intermediate: %w", certFile, err)
		}
		m.intermediates = append(m.intermediates, c)
	}
	m.cert = &pair
	return nil
}

func parseVersion(name string) (uint16, error) {
	switch name {
	case "", "TLS_AUTO", "tls12", "TLSv1_2":
		return tls.VersionTLS12, nil
	case "tls13", "TLSv1_3":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("minimum TLS version %q: must be tls12 or tls13", name)
}

func parseSuites(names []string) ([]uint16, error) {
	known := map[string]uint16{}
	for _, s := range tls.CipherSuites() {
		// Those of TLS 1.3 alone cannot be chosen: they are always on.
		if s.SupportedVersions[0] != tls.VersionTLS13 {
			known[s.Name] = s.ID
		}
	}
	var ids []uint16
	for _, name := range names {
		id, ok := known[strings.TrimSpace(name)]
		if !ok {
			return nil, fmt.Errorf("cipher suite %q: unknown, insecure, or not of TLS 1.2", name)
		}
		ids = append(ids, id)
	}
	return ids, nil
}
