package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"time"

	"isthmus/api"
)

// domain ends every trust domain, whatever DNS calls its own.
const domain = "consul"

// TrustDomain is the name of a cluster in the names of all its certificates.
func TrustDomain(clusterID string) string { return strings.ToLower(clusterID) + "." + domain }

// ClusterID is the cluster id that a trust domain is named after.
func ClusterID(trustDomain string) string {
	id, _, _ := strings.Cut(trustDomain, ".")
	return id
}

// NewClusterID draws a cluster id.
func NewClusterID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// authorityURI is the name of whoever may sign for a cluster.
func authorityURI(clusterID string) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: TrustDomain(clusterID)}
}

// rootName is the common name of a root. The random part keeps roots of one
// cluster apart for tools that look at names alone.
func rootName(clusterID string) string {
	short, _, _ := strings.Cut(clusterID, "-")
	return fmt.Sprintf("pri-%s.%s.ca.%s.%s", strings.ToLower(rand.Text()[:8]), domain, short, domain)
}

// backdate lets a certificate begin before now, for machines whose clocks lag.
const backdate = time.Minute

// authority is a template of a certificate that may sign others.
func authority(serial uint64, begin, end time.Time, uri *url.URL, key any) (*x509.Certificate, error) {
	id, err := keyID(key)
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetUint64(serial), NotBefore: begin, NotAfter: end, URIs: []*url.URL{uri},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true, IsCA: true, SubjectKeyId: id,
	}, nil
}

// newRoot makes a certificate that is signed by its own key.
func newRoot(clusterID string, serial uint64, key crypto.Signer, ttl time.Duration) (string, error) {
	now := time.Now().UTC()
	t, err := authority(serial, now, now.Add(ttl), authorityURI(clusterID), key.Public())
	if err != nil {
		return "", err
	}
	t.Subject = pkix.Name{CommonName: rootName(clusterID)}
	t.AuthorityKeyId = t.SubjectKeyId
	return sign(t, t, key.Public(), key)
}

// newIntermediate makes an intermediate of a cluster for a key. It does not
// outlive the root.
func newIntermediate(clusterID string, root *x509.Certificate, rootKey crypto.Signer, key any, serial uint64, ttl time.Duration) (string, error) {
	begin := time.Now().UTC().Add(-backdate)
	end := begin.Add(ttl)
	if end.After(root.NotAfter) {
		end = root.NotAfter
	}
	t, err := authority(serial, begin, end, authorityURI(clusterID), key)
	if err != nil {
		return "", err
	}
	t.MaxPathLenZero = true
	return sign(t, root, key, rootKey)
}

func sign(t, parent *x509.Certificate, public any, key crypto.Signer) (string, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, public, key)
	if err != nil {
		return "", fmt.Errorf("sign certificate: %w", err)
	}
	return encode("CERTIFICATE", der), nil
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

var oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}

// newRequest asks for an intermediate.
func newRequest(clusterID string, key crypto.Signer) (string, error) {
	constraints, err := asn1.Marshal(struct {
		IsCA       bool
		MaxPathLen int
	}{true, 0})
	if err != nil {
		return "", fmt.Errorf("encode constraints: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		URIs:            []*url.URL{authorityURI(clusterID)},
		ExtraExtensions: []pkix.Extension{{Id: oidBasicConstraints, Critical: true, Value: constraints}},
	}, key)
	if err != nil {
		return "", fmt.Errorf("make certificate request: %w", err)
	}
	return encode("CERTIFICATE REQUEST", der), nil
}

// ParseCert reads the first certificate of a PEM text.
func ParseCert(text string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no certificate in PEM form")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse certificate: %w", err)
	}
	return cert, nil
}

// parseRequest reads a request for an intermediate of a cluster and checks that
// whoever asks has the key, and asks for no other name. None is taken for the
// cluster's, which the intermediate gets.
func parseRequest(text, clusterID string) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, api.Errorf(api.Invalid, "no certificate request in PEM form")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, api.Errorf(api.Invalid, "parse certificate request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, api.Errorf(api.Invalid, "certificate request: %w", err)
	}
	kind, bits, err := describeKey(csr.PublicKey)
	if err != nil {
		return nil, api.Errorf(api.Invalid, "certificate request: %w", err)
	}
	if kind == keyRSA && bits < minBitsRSA {
		return nil, api.Errorf(api.Invalid, "certificate request: an RSA key of %d bits is too short", bits)
	}
	want := authorityURI(clusterID).String()
	other := func(u *url.URL) bool { return !strings.EqualFold(u.String(), want) }
	if len(csr.URIs) > 1 || slices.ContainsFunc(csr.URIs, other) || len(csr.DNSNames)+len(csr.IPAddresses)+len(csr.EmailAddresses) > 0 {
		return nil, api.Errorf(api.Invalid, "certificate request: its only name must be %s", want)
	}
	return csr, nil
}

// RootName is how a root of the built-in provider is called.
const RootName = "Consul CA Primary Cert"

// DescribeRoot makes the row of a root that signs leaves itself.
func DescribeRoot(text, clusterID string) (*api.CARoot, error) {
	cert, err := ParseCert(text)
	if err != nil {
		return nil, err
	}
	kind, bits, err := describeKey(cert.PublicKey)
	if err != nil {
		return nil, err
	}
	signer, err := KeyID(cert)
	if err != nil {
		return nil, err
	}
	return &api.CARoot{
		ID: Fingerprint(cert), Name: RootName, SerialNumber: cert.SerialNumber.Uint64(), SigningKeyID: signer,
		ExternalTrustDomain: clusterID, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, RootCert: text,
		Active: true, PrivateKeyType: kind, PrivateKeyBits: bits,
	}, nil
}

// CheckIntermediate checks that an intermediate may sign for a cluster under a
// root at this moment, and returns it.
func CheckIntermediate(text, root string) (*x509.Certificate, error) {
	cert, err := ParseCert(text)
	if err != nil {
		return nil, fmt.Errorf("intermediate: %w", err)
	}
	top, err := ParseCert(root)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	if !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, errors.New("the intermediate may not sign")
	}
	roots := x509.NewCertPool()
	roots.AddCert(top)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return nil, fmt.Errorf("intermediate: %w", err)
	}
	return cert, nil
}

// RenewAt is when an intermediate should be replaced: at half its life, so that
// an authority that is down for long does not stop the mesh.
func RenewAt(cert *x509.Certificate) time.Time {
	return cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) / 2)
}
