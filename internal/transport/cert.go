package transport

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
)

const (
	pemCertificate = "CERTIFICATE"
	pemECKey       = "EC PRIVATE KEY"

	defaultCADays     = 1825
	defaultCertDays   = 365
	defaultDatacenter = "dc1"
)

// CAOptions says what a new CA is like. The zero value makes a usual one.
type CAOptions struct {
	// CommonName is "Isthmus Agent CA" and the serial number when empty.
	CommonName string

	// Domain is the DNS domain of the cluster, "consul" when empty.
	Domain string

	// Days is how long the CA is valid, 1825 when zero.
	Days int

	// NameConstraint lets the CA sign only for Domain, localhost and
	// AdditionalNameConstraints.
	NameConstraint            bool
	AdditionalNameConstraints []string

	// ClusterID, when set, is put into the CA as its SPIFFE trust domain.
	ClusterID string
}

// CertRole says who a certificate is for.
type CertRole int

// The roles. Only a Server's certificate lets its owner act as a server.
const (
	ServerCert CertRole = iota + 1
	ClientCert
	CLICert
)

func (r CertRole) String() string {
	switch r {
	case ServerCert:
		return "server"
	case ClientCert:
		return "client"
	case CLICert:
		return "cli"
	default:
		return fmt.Sprintf("role %d", int(r))
	}
}

// CertOptions says what a new certificate is like.
type CertOptions struct {
	Role CertRole

	// Datacenter is "dc1" and Domain is "consul" when empty.
	Datacenter, Domain string

	// Node is the server's node name, for the name by which gateways route to it.
	// "*" makes the certificate good for every server of the datacenter.
	Node string

	// Days is how long the certificate is valid, 365 when zero. It never outlives
	// the CA.
	Days int

	AdditionalDNS []string
	AdditionalIPs []net.IP
}

// NewCA makes a CA for the certificates of all servers and clients of a
// federation, in PEM.
func NewCA(opts CAOptions) (certPEM, keyPEM []byte, err error) {
	certPEM, keyPEM, err = newCA(opts)
	if err != nil {
		return nil, nil, fmt.Errorf("create CA: %w", err)
	}
	return certPEM, keyPEM, nil
}

func newCA(opts CAOptions) (certPEM, keyPEM []byte, err error) {
	domain, err := checkDomain(opts.Domain)
	if err != nil {
		return nil, nil, err
	}
	template, err := newTemplate(opts.Days, defaultCADays)
	if err != nil {
		return nil, nil, err
	}
	template.IsCA = true
	template.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	// The serial number keeps the names of two CAs apart, so that a bundle of both
	// is searched by name without trying the wrong one.
	name := fmt.Sprintf("Isthmus Agent CA %d", template.SerialNumber)
	if opts.CommonName != "" {
		name = opts.CommonName
	}
	if err := checkText("common name", name); err != nil {
		return nil, nil, err
	}
	template.Subject = pkix.Name{Organization: []string{"Isthmus"}, CommonName: name}
	if opts.NameConstraint {
		template.PermittedDNSDomainsCritical = true
		template.PermittedDNSDomains = append(slices.Clone(opts.AdditionalNameConstraints), domain, "localhost")
		for _, d := range opts.AdditionalNameConstraints {
			if err := checkDNSName("name constraint", strings.TrimPrefix(d, ".")); err != nil {
				return nil, nil, err
			}
		}
	} else if len(opts.AdditionalNameConstraints) > 0 {
		return nil, nil, errors.New("additional name constraints need the name constraint to be on")
	}
	if opts.ClusterID != "" {
		host := opts.ClusterID + "." + domain
		if err := checkDNSName("cluster id", host); err != nil {
			return nil, nil, err
		}
		template.URIs = []*url.URL{{Scheme: "spiffe", Host: host}}
	}
	return sign(template, nil, nil)
}

// NewCert makes a certificate signed by the CA, which is given and returned in
// PEM.
func NewCert(ca, caKey []byte, opts CertOptions) (certPEM, keyPEM []byte, err error) {
	certPEM, keyPEM, err = newCert(ca, caKey, opts)
	if err != nil {
		return nil, nil, fmt.Errorf("create %s certificate: %w", opts.Role, err)
	}
	return certPEM, keyPEM, nil
}

func newCert(ca, caKey []byte, opts CertOptions) (certPEM, keyPEM []byte, err error) {
	issuer, signer, err := parseCA(ca, caKey)
	if err != nil {
		return nil, nil, err
	}
	template, err := newTemplate(opts.Days, defaultCertDays)
	if err != nil {
		return nil, nil, err
	}
	if template.NotBefore.After(issuer.NotAfter) {
		return nil, nil, fmt.Errorf("the CA expired at %s", issuer.NotAfter.Format(time.RFC3339))
	}
	if template.NotAfter.After(issuer.NotAfter) {
		template.NotAfter = issuer.NotAfter
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	if err := addNames(template, opts); err != nil {
		return nil, nil, err
	}
	return sign(template, issuer, signer)
}

// addNames sets who the certificate is for and what it may be used for.
func addNames(template *x509.Certificate, opts CertOptions) error {
	domain, err := checkDomain(opts.Domain)
	if err != nil {
		return err
	}
	dc := opts.Datacenter
	if dc == "" {
		dc = defaultDatacenter
	}
	if err := checkLabel("datacenter", dc); err != nil {
		return err
	}
	name := opts.Role.String() + "." + dc + "." + domain
	if err := checkAdditional(opts, name); err != nil {
		return err
	}
	template.Subject = pkix.Name{CommonName: name}
	template.DNSNames = slices.Clone(opts.AdditionalDNS)
	template.IPAddresses = slices.Clone(opts.AdditionalIPs)
	if opts.Node != "" {
		template.DNSNames = append(template.DNSNames, opts.Node+"."+name)
	}
	template.DNSNames = append(template.DNSNames, name, "localhost")
	switch opts.Role {
	case ServerCert:
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	case ClientCert:
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	case CLICert:
		return nil // No usage is named, which permits all, and nobody dials a CLI.
	default:
		return errors.New("the role must be server, client or cli")
	}
	template.IPAddresses = append(template.IPAddresses, net.IPv4(127, 0, 0, 1))
	return nil
}

// checkAdditional checks the names and addresses that go into a certificate
// beside its main name.
func checkAdditional(opts CertOptions, name string) error {
	if opts.Node != "" && opts.Role != ServerCert {
		return errors.New("a node name is for server certificates only")
	}
	// A star is good for every node, but only as the whole of the name.
	if opts.Node != "" && opts.Node != "*" {
		name = opts.Node + "." + name
	}
	if err := checkDNSName("certificate name", name); err != nil {
		return err
	}
	for _, dns := range opts.AdditionalDNS {
		if err := checkDNSName("additional DNS name", strings.TrimPrefix(dns, "*.")); err != nil {
			return err
		}
	}
	for _, ip := range opts.AdditionalIPs {
		if ip.To16() == nil {
			return errors.New("additional IP address: not an address")
		}
	}
	return nil
}

func newTemplate(days, defaultDays int) (*x509.Certificate, error) {
	if days == 0 {
		days = defaultDays
	}
	if days < 0 || days > 100*365 {
		return nil, fmt.Errorf("%d days: must be between 1 and a hundred years", days)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, NotBefore: now, NotAfter: now.AddDate(0, 0, days), BasicConstraintsValid: true,
	}, nil
}

// sign makes a key and has its certificate signed by issuer, or by itself when
// there is none.
func sign(template, issuer *x509.Certificate, signer crypto.Signer) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("key: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, fmt.Errorf("public key: %w", err)
	}
	id := sha256.Sum256(public)
	template.SubjectKeyId = id[:]
	if issuer == nil {
		issuer, signer = template, key
		template.AuthorityKeyId = id[:]
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("key: %w", err)
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: pemECKey, Bytes: keyDER})
	return certPEM, keyPEM, nil
}

// parseCA reads a CA that may have been made elsewhere, with another kind of key.
func parseCA(ca, caKey []byte) (*x509.Certificate, crypto.Signer, error) {
	certs, err := parseCertificates(ca)
	if err != nil {
		return nil, nil, fmt.Errorf("CA certificate: %w", err)
	}
	if !certs[0].IsCA {
		return nil, nil, errors.New("CA certificate: is not one of a CA")
	}
	signer, err := parseKey(caKey)
	if err != nil {
		return nil, nil, fmt.Errorf("CA key: %w", err)
	}
	return certs[0], signer, nil
}

func parseKey(data []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case pemECKey:
			return x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			return x509.ParsePKCS1PrivateKey(block.Bytes)
		case "PRIVATE KEY":
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, err
			}
			if signer, ok := key.(crypto.Signer); ok {
				return signer, nil
			}
			return nil, errors.New("the key cannot sign")
		}
	}
	return nil, errors.New("holds no PEM private key")
}

func checkDomain(domain string) (string, error) {
	domain = trimDomain(domain)
	return domain, checkDNSName("domain", domain)
}

// checkDNSName refuses what must not get into a certificate: a name with quotes,
// blanks, slashes or stars could mean something else to whoever reads it.
func checkDNSName(what, name string) error {
	if len(name) > 253 {
		return fmt.Errorf("%s: longer than 253 bytes", what)
	}
	for label := range strings.SplitSeq(name, ".") {
		if err := checkLabel(what, label); err != nil {
			return err
		}
	}
	return nil
}

func checkLabel(what, label string) error {
	if label == "" || len(label) > 63 {
		return fmt.Errorf("%s: a part of it has %d bytes, must have 1 to 63", what, len(label))
	}
	for _, c := range []byte(label) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return fmt.Errorf("%s: %q has a character other than letters, digits, - and _", what, label)
		}
	}
	return nil
}

// checkText refuses a text that is not one short printable line.
func checkText(what, text string) error {
	if len(text) > 64 {
		return fmt.Errorf("%s: longer than 64 bytes", what)
	}
	for _, r := range text {
		if !unicode.IsPrint(r) || strings.ContainsRune(`"'\/*`, r) {
			return fmt.Errorf("%s: %q has a character that is not permitted", what, text)
		}
	}
	return nil
}
