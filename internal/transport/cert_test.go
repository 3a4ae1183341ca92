package transport_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"isthmus/internal/transport"
)

func pool(t testing.TB, cas ...authority) *x509.CertPool {
	t.Helper()
	p := x509.NewCertPool()
	for _, ca := range cas {
		if !p.AppendCertsFromPEM(ca.cert) {
			t.Fatal("no certificate in the CA")
		}
	}
	return p
}

func parse(t testing.TB, data []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatalf("no PEM in %q", data)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCertificateNamesAndUsage(t *testing.T) {
	ca := newAuthority(t)
	authority := parse(t, ca.cert)
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, c := range []struct {
		opts  transport.CertOptions
		cn    string
		names []string
		ips   []string
		usage []x509.ExtKeyUsage
	}{
		{
			transport.CertOptions{
				Role: transport.ServerCert, Datacenter: "dc2", Node: "n1", Domain: "ex.org.",
				AdditionalDNS: []string{"x.y", "*.z"}, AdditionalIPs: []net.IP{net.IPv4(10, 0, 0, 1), net.IPv6loopback},
			},
			"server.dc2.ex.org",
			[]string{"x.y", "*.z", "n1.server.dc2.ex.org", "server.dc2.ex.org", "localhost"},
			[]string{"10.0.0.1", "::1", "127.0.0.1"},
			both,
		},
		{
			transport.CertOptions{Role: transport.ServerCert, Node: "*"},
			"server.dc1.consul",
			[]string{"*.server.dc1.consul", "server.dc1.consul", "localhost"},
			[]string{"127.0.0.1"},
			both,
		},
		{
			transport.CertOptions{Role: transport.ClientCert},
			"client.dc1.consul",
			[]string{"client.dc1.consul", "localhost"},
			[]string{"127.0.0.1"},
			[]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		},
		{
			transport.CertOptions{Role: transport.CLICert},
			"cli.dc1.consul",
			[]string{"cli.dc1.consul", "localhost"},
			nil, nil,
		},
	} {
		data, key, err := transport.NewCert(ca.cert, ca.key, c.opts)
		if err != nil {
			t.Fatal(err)
		}
		got := parse(t, data)
		var ips []string
		for _, ip := range got.IPAddresses {
			ips = append(ips, ip.String())
		}
		if got.Subject.CommonName != c.cn || !slices.Equal(got.DNSNames, c.names) || !slices.Equal(ips, c.ips) ||
			!slices.Equal(got.ExtKeyUsage, c.usage) {
			t.Errorf("%s: got %s %v %v %v", c.cn, got.Subject, got.DNSNames, ips, got.ExtKeyUsage)
		}
		if got.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment || got.IsCA ||
			!bytes.Equal(got.AuthorityKeyId, authority.SubjectKeyId) || len(got.SubjectKeyId) != 32 {
			t.Errorf("%s: key usage %v, CA %t, key ids %x of %x", c.cn, got.KeyUsage, got.IsCA, got.SubjectKeyId, got.AuthorityKeyId)
		}
		if err := got.CheckSignatureFrom(authority); err != nil {
			t.Error(err)
		}
		if !bytes.HasPrefix(key, []byte("-----BEGIN EC PRIVATE KEY-----\n")) {
			t.Errorf("got a key %.40q", key)
		}
		if days := got.NotAfter.Sub(got.NotBefore).Hours() / 24; days != 365 {
			t.Errorf("%s: valid for %v days", c.cn, days)
		}
	}
}

func TestCAIsAsAsked(t *testing.T) {
	usual := parse(t, newAuthority(t).cert)
	if !strings.HasPrefix(usual.Subject.CommonName, "Isthmus Agent CA ") || len(usual.Subject.CommonName) > 64 {
		t.Errorf("got %q", usual.Subject.CommonName)
	}
	if !usual.IsCA || usual.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign|x509.KeyUsageCRLSign ||
		len(usual.PermittedDNSDomains) != 0 {
		t.Errorf("got CA %t, usage %v, constraints %v", usual.IsCA, usual.KeyUsage, usual.PermittedDNSDomains)
	}
	if days := usual.NotAfter.Sub(usual.NotBefore).Hours() / 24; days != 1825 {
		t.Errorf("valid for %v days", days)
	}
	cert, key, err := transport.NewCA(transport.CAOptions{
		CommonName: "My CA", Domain: "ex.org", Days: 30, ClusterID: "abc",
		NameConstraint: true, AdditionalNameConstraints: []string{"foo.com"},
	})
	if err != nil {
		t.Fatal(err)
	}
	special := parse(t, cert)
	if special.Subject.CommonName != "My CA" || special.URIs[0].String() != "spiffe://abc.ex.org" ||
		!special.PermittedDNSDomainsCritical ||
		!slices.Equal(special.PermittedDNSDomains, []string{"foo.com", "ex.org", "localhost"}) {
		t.Errorf("got %s, %v, %v", special.Subject, special.URIs, special.PermittedDNSDomains)
	}

	// The constraint holds, and a certificate does not outlive its CA.
	verify := func(opts transport.CertOptions) error {
		opts.Role = transport.ServerCert
		data, _, err := transport.NewCert(cert, key, opts)
		if err != nil {
			t.Fatal(err)
		}
		leaf := parse(t, data)
		if !leaf.NotAfter.Equal(special.NotAfter) {
			t.Errorf("got a certificate until %v, want %v", leaf.NotAfter, special.NotAfter)
		}
		_, err = leaf.Verify(x509.VerifyOptions{Roots: pool(t, authority{cert, key})})
		return err
	}
	if err := verify(transport.CertOptions{Domain: "ex.org"}); err != nil {
		t.Error(err)
	}
	if err := verify(transport.CertOptions{Domain: "consul"}); err == nil {
		t.Error("a certificate outside the constraint is valid")
	}
}

func TestNamesAreCheckedBeforeUse(t *testing.T) {
	ca := newAuthority(t)
	long := strings.Repeat("a", 63)
	for _, bad := range []string{
		"a b", "a/b", "a\"b", "a\nb", "a'b", "a,b", "a*", "*a", "a..b", ".a", "é", "\x00", long + "a",
		strings.Join([]string{long, long, long, long}, "."),
	} {
		server := transport.CertOptions{Role: transport.ServerCert}
		for what, edit := range map[string]func(*transport.CertOptions){
			"node":       func(o *transport.CertOptions) { o.Node = bad },
			"datacenter": func(o *transport.CertOptions) { o.Datacenter = bad },
			"domain":     func(o *transport.CertOptions) { o.Domain = bad },
			"name":       func(o *transport.CertOptions) { o.AdditionalDNS = []string{bad} },
		} {
			opts := server
			edit(&opts)
			if _, _, err := transport.NewCert(ca.cert, ca.key, opts); err == nil {
				t.Errorf("%s %q was taken", what, bad)
			}
		}
		if _, _, err := transport.NewCA(transport.CAOptions{Domain: bad}); err == nil {
			t.Errorf("CA domain %q was taken", bad)
		}
	}
	for name, opts := range map[string]transport.CAOptions{
		"name":       {CommonName: "a\nb"},
		"quotes":     {CommonName: `a"b`},
		"long name":  {CommonName: strings.Repeat("a", 65)},
		"constraint": {NameConstraint: true, AdditionalNameConstraints: []string{"a/b"}},
		"alone":      {AdditionalNameConstraints: []string{"foo.com"}},
		"cluster id": {ClusterID: "a/b"},
		"days":       {Days: -1},
		"many days":  {Days: 1 << 40},
	} {
		if _, _, err := transport.NewCA(opts); err == nil {
			t.Errorf("CA %s: was taken", name)
		}
	}
	for name, opts := range map[string]transport.CertOptions{
		"no role":            {},
		"node of a client":   {Role: transport.ClientCert, Node: "n1"},
		"star amid the node": {Role: transport.ServerCert, Node: "*.a"},
		"dotted datacenter":  {Role: transport.ServerCert, Datacenter: "a.b"},
		"all names":          {Role: transport.ServerCert, AdditionalDNS: []string{"*"}},
		"days":               {Role: transport.ServerCert, Days: -1},
		"address":            {Role: transport.ServerCert, AdditionalIPs: []net.IP{{1, 2}}},
	} {
		if _, _, err := transport.NewCert(ca.cert, ca.key, opts); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
}

func TestCAOfAnotherKindSigns(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "RSA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for kind, data := range map[string][]byte{"RSA PRIVATE KEY": x509.MarshalPKCS1PrivateKey(key), "PRIVATE KEY": pkcs8} {
		ca := authority{cert, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data})}
		if err := load(t, ca.server(t)).CheckServerNames(); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestWrongCAIsRefused(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	opts := transport.CertOptions{Role: transport.ServerCert}
	leaf, leafKey, err := transport.NewCert(ca.cert, ca.key, opts)
	if err != nil {
		t.Fatal(err)
	}
	old := expiredCA(t)
	for name, a := range map[string]authority{
		"another's key":  {ca.cert, other.key},
		"no CA":          {leaf, leafKey},
		"no certificate": {ca.key, ca.key},
		"no key":         {ca.cert, ca.cert},
		"junk key":       {ca.cert, []byte("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n")},
		"expired":        old,
	} {
		if _, _, err := transport.NewCert(a.cert, a.key, opts); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}
