package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/testkit"
	"isthmus/internal/transport"
	"isthmus/internal/wire"
)

// caRoots reads the roots that a datacenter trusts, and the one in use.
func (f *fleet) caRoots(dc int) (api.CARoots, *api.CARoot, error) {
	var roots api.CARoots
	if err := f.get(dc, 1, "/v1/connect/ca/roots", &roots); err != nil {
		return roots, nil, err
	}
	for _, r := range roots.Roots {
		if r.ID == roots.ActiveRootID && r.Active {
			return roots, r, nil
		}
	}
	return roots, nil, fmt.Errorf("no root is active: %+v", roots)
}

// certificate parses one certificate of a PEM text.
func certificate(t *testing.T, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no PEM: %s", text)
	}
	return testkit.Must(x509.ParseCertificate(block.Bytes))
}

// keyID writes what a certificate calls its key as the API does.
func keyID(cert *x509.Certificate) string {
	return strings.ReplaceAll(fmt.Sprintf("% x", cert.SubjectKeyId), " ", ":")
}

// hasIntermediate waits until a secondary has an intermediate of its own under the
// root that its primary uses, and returns that root.
func (f *fleet) hasIntermediate(t *testing.T, root string) *x509.Certificate {
	t.Helper()
	var own *api.CARoot
	testkit.Eventually(t, func() error {
		primary, active, err := f.caRoots(1)
		if err != nil {
			return err
		}
		secondary, mine, err := f.caRoots(2)
		switch {
		case err != nil:
			return err
		case root != "" && active.ID != root || mine.ID != active.ID || mine.RootCert != active.RootCert:
			return fmt.Errorf("the secondary has root %s, the primary %s, want %s", mine.ID, active.ID, root)
		case secondary.TrustDomain != primary.TrustDomain:
			return fmt.Errorf("trust domain %s, want %s", secondary.TrustDomain, primary.TrustDomain)
		case len(mine.IntermediateCerts) != len(active.IntermediateCerts)+1:
			return fmt.Errorf("%d intermediates beside the %d of the primary", len(mine.IntermediateCerts), len(active.IntermediateCerts))
		}
		own = mine
		return nil
	})
	top := certificate(t, own.RootCert)
	cert := certificate(t, own.IntermediateCerts[len(own.IntermediateCerts)-1])
	pool := x509.NewCertPool()
	pool.AddCert(top)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Errorf("the intermediate: %v", err)
	}
	if got := keyID(cert); got != own.SigningKeyID {
		t.Errorf("signing key %s, want that of the intermediate, %s", own.SigningKeyID, got)
	}
	if !cert.IsCA || cert.MaxPathLen != 0 || !cert.MaxPathLenZero || len(cert.URIs) != 1 || cert.URIs[0].Path != "" {
		t.Errorf("the intermediate may be used for more than it should: %+v", cert)
	}
	return top
}

// reconfigure changes the reference's configuration, which makes a new root.
func (f *fleet) reconfigure(t *testing.T, config map[string]any) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"Provider": "consul", "Config": config})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.do(http.MethodPut, 1, 1, "/v1/connect/ca/configuration", body); err != nil {
		t.Fatal(err)
	}
}

func TestOurSecondarysIntermediateIsSignedByTheReference(t *testing.T) {
	f, ref := newFleet(t), reference(t)
	f.servers(1, 1, ref)
	f.gateway(1, 1)
	f.servers(2, 1, "")
	f.gateway(2, 1)
	before := f.hasIntermediate(t, "")

	// It follows when the reference changes its root.
	f.reconfigure(t, map[string]any{"PrivateKeyType": "ec", "PrivateKeyBits": 384})
	var next string
	testkit.Eventually(t, func() error {
		roots, _, err := f.caRoots(1)
		if next = roots.ActiveRootID; err == nil && len(roots.Roots) != 2 {
			err = fmt.Errorf("%d roots, want two", len(roots.Roots))
		}
		return err
	})
	after := f.hasIntermediate(t, next)
	if after.Equal(before) {
		t.Error("the root is the same as before its change")
	}
	roots, _, err := f.caRoots(2)
	if err != nil || len(roots.Roots) != 2 {
		t.Errorf("got %d roots, %v; want the old one still trusted", len(roots.Roots), err)
	}
	for _, r := range roots.Roots {
		if !r.Active && (!certificate(t, r.RootCert).Equal(before) || len(r.IntermediateCerts) != 1) {
			t.Errorf("got %+v, want the old root with the intermediate that signed under it", r)
		}
	}
}

func TestReferencesSecondarysIntermediateIsSignedByUs(t *testing.T) {
	f, ref := newFleet(t), reference(t)
	f.servers(1, 1, "")
	f.gateway(1, 1)
	f.servers(2, 1, ref)
	f.gateway(2, 1)
	root := f.hasIntermediate(t, "")

	// What the reference signs with it leads to our root.
	var leaf struct{ CertPEM string }
	testkit.Eventually(t, func() error { return f.get(2, 1, "/v1/agent/connect/ca/leaf/web", &leaf) })
	first, rest := pem.Decode([]byte(leaf.CertPEM))
	if first == nil {
		t.Fatalf("no PEM: %q", leaf.CertPEM)
	}
	cert := testkit.Must(x509.ParseCertificate(first.Bytes))
	top, between := x509.NewCertPool(), x509.NewCertPool()
	top.AddCert(root)
	between.AppendCertsFromPEM(rest)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: top, Intermediates: between}); err != nil {
		t.Errorf("a leaf of the reference's secondary: %v", err)
	}
	f.keepsSecrets(t)
}

// keepsSecrets checks that no key is in a log or an answer about the authority.
func (f *fleet) keepsSecrets(t *testing.T) {
	t.Helper()
	for _, p := range f.all {
		if b, err := os.ReadFile(p.log); err != nil || bytes.Contains(b, []byte("PRIVATE KEY")) {
			t.Errorf("the log of %s holds a key, or is not there: %v", p.name, err)
		}
	}
	for _, path := range []string{
		"/v1/connect/ca/roots", "/v1/connect/ca/roots?pem=true", "/v1/connect/ca/configuration", "/v1/agent/connect/ca/roots",
		"/v1/agent/self", "/v1/agent/metrics",
	} {
		if b, err := f.do(http.MethodGet, 1, 1, path, nil); err != nil || bytes.Contains(b, []byte("PRIVATE KEY")) || bytes.Contains(b, []byte("SigningKey\"")) {
			t.Errorf("%s: %v, or it shows a key:\n%s", path, err, b)
		}
	}
}

func TestRestartKeepsRootAndTrustDomain(t *testing.T) {
	f := newFleet(t)
	s := f.servers(1, 1, "")[0]
	read := func() (all []string) {
		t.Helper()
		testkit.Eventually(t, func() error {
			_, _, err := f.caRoots(1)
			return err
		})
		for _, path := range []string{"/v1/connect/ca/roots", "/v1/connect/ca/roots?pem=true", "/v1/connect/ca/configuration"} {
			all = append(all, string(testkit.Must(f.do(http.MethodGet, 1, 1, path, nil))))
		}
		return all
	}
	before := read()
	f.keepsSecrets(t)
	s.signal(syscall.SIGTERM)
	s.start()
	if after := read(); !slices.Equal(before, after) {
		t.Errorf("after the restart\n%s\nwant\n%s", after, before)
	}
}

// request makes a request for a certificate.
func request(t *testing.T, key any, names ...string) string {
	t.Helper()
	in := &x509.CertificateRequest{}
	for _, name := range names {
		if u, err := url.Parse(name); err == nil && u.Scheme != "" {
			in.URIs = append(in.URIs, u)
		} else {
			in.DNSNames = append(in.DNSNames, name)
		}
	}
	return string(pem.EncodeToMemory(&pem.Block{
		Type: "CERTIFICATE REQUEST", Bytes: testkit.Must(x509.CreateCertificateRequest(rand.Reader, in, key)),
	}))
}

// caller calls the first server of dc1 as another server would.
func (f *fleet) caller(t *testing.T) rpc.Caller {
	t.Helper()
	tls := testkit.Must(transport.NewTLS(transport.TLSConfig{
		CAFile: filepath.Join(f.dir, "ca.pem"), CertFile: filepath.Join(f.dir, "dc1s1.pem"), KeyFile: filepath.Join(f.dir, "dc1s1-key.pem"),
		VerifyOutgoing: true, Domain: "consul", Datacenter: "dc1", NodeName: "s1",
	}))
	pool := rpc.NewPool(&transport.Direct{TLS: tls}, time.Minute, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = pool.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return pool.To(transport.Target{Datacenter: "dc1", Addr: net.JoinHostPort(f.addr(1, 1), "8300")})
}

// signed asks for certificates with all kinds of requests. It returns what each
// came to: an error, or the certificate without what differs each time.
func (f *fleet) signed(t *testing.T) map[string]string {
	t.Helper()
	var domain string
	testkit.Eventually(t, func() error {
		roots, _, err := f.caRoots(1)
		domain = roots.TrustDomain
		return err
	})
	small := testkit.Must(rsa.GenerateKey(rand.Reader, 1024))
	big := testkit.Must(rsa.GenerateKey(rand.Reader, 2048))
	ec := testkit.Must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	wide := testkit.Must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	right := "spiffe://" + domain
	_, rest, _ := strings.Cut(request(t, ec, right), "\n")
	c := f.caller(t)
	out := map[string]string{}
	for name, csr := range map[string]string{
		"right": request(t, ec, right), "RSA": request(t, big, right), "P-384": request(t, wide, right),
		"capitals": request(t, ec, "spiffe://"+strings.ToUpper(domain)), "small key": request(t, small, right),
		"no name": request(t, ec), "another cluster": request(t, ec, "spiffe://11111111-2222-3333-4444-555555555555.consul"),
		"a service": request(t, ec, right+"/ns/default/dc/dc2/svc/web"), "two names": request(t, ec, right, right),
		"and a DNS name": request(t, ec, right, "example.com"), "not SPIFFE": request(t, ec, "https://"+domain),
		"empty": "", "no PEM": "x", "a certificate": "-----BEGIN CERTIFICATE-----\n" + rest, "broken": "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
	} {
		got, _, err := wire.CASignIntermediate.Call(t.Context(), c, rpc.Header{Datacenter: "dc1"}, wire.SignRequest{CSR: csr})
		if err != nil {
			out[name] = "refused: " + err.Error()
			continue
		}
		cert := certificate(t, got)
		out[name] = fmt.Sprint(cert.Subject, cert.URIs, cert.DNSNames, cert.KeyUsage, cert.ExtKeyUsage, cert.IsCA, cert.MaxPathLen,
			cert.MaxPathLenZero, cert.NotAfter.Sub(cert.NotBefore), cert.SignatureAlgorithm, cert.PublicKeyAlgorithm, extensions(cert.Extensions))
		out[name] = strings.ReplaceAll(out[name], domain, "DOMAIN")
	}
	return out
}

func extensions(list []pkix.Extension) (out []string) {
	for _, e := range list {
		out = append(out, fmt.Sprint(e.Id, e.Critical))
	}
	slices.Sort(out)
	return out
}

// TestIntermediatesAreSignedAsByTheReference sends both the same requests. Ours is
// as strict about names as about clusters: an intermediate that it signs has the
// cluster's name and no other.
func TestIntermediatesAreSignedAsByTheReference(t *testing.T) {
	ours, theirs := newFleet(t), newFleet(t)
	theirs.servers(1, 1, reference(t))
	ours.servers(1, 1, "")
	want, got := theirs.signed(t), ours.signed(t)
	for _, name := range []string{"a service", "and a DNS name", "small key"} {
		want[name] = "refused"
	}
	for _, name := range []string{"capitals", "no name"} {
		want[name] = want["right"]
	}
	for name := range want {
		if strings.HasPrefix(want[name], "refused") && strings.HasPrefix(got[name], "refused") {
			continue
		}
		if got[name] != want[name] {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got[name], want[name])
		}
	}
	ours.keepsSecrets(t)
}
