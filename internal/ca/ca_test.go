package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// memory is a Store without a log.
type memory struct {
	states map[string]*State
	serial uint64
	err    error
}

func (m *memory) Load(id string) *State { return m.states[id] }

func (m *memory) Save(_ context.Context, s *State) error {
	if m.err == nil {
		m.states[s.ID] = s
	}
	return m.err
}

func (m *memory) Serial(context.Context) (uint64, error) {
	m.serial++
	return m.serial, m.err
}

const cluster = "e29fb68f-201b-8651-bad4-198ad4272f5e"

func provider(settings Settings) *Builtin {
	return &Builtin{Settings: settings, ClusterID: cluster, Store: &memory{states: map[string]*State{}}}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestRootIsDescribedAsByTheReference compares with what the reference's API said
// of a root of its own.
func TestRootIsDescribedAsByTheReference(t *testing.T) {
	text, err := os.ReadFile("testdata/reference-root.pem")
	if err != nil {
		t.Fatal(err)
	}
	got, err := DescribeRoot(string(text), cluster)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != "13:9d:a5:79:a9:67:9a:66:db:dd:6c:31:06:85:90:e6:51:9a:f9:13" ||
		got.SigningKeyID != "3f:ef:be:0b:ad:be:6d:cc:5d:3e:ca:b2:42:bf:78:4e:f7:58:f6:0c:39:bb:23:d6:f0:e7:fd:9f:b5:e3:9f:b1" ||
		got.SerialNumber != 7 || got.PrivateKeyType != "ec" || got.PrivateKeyBits != 256 || !got.Active ||
		got.NotAfter.Format(time.RFC3339) != "2036-11-18T15:01:36Z" || got.RootCert != string(text) || got.ExternalTrustDomain != cluster {
		t.Errorf("got %+v", got)
	}

	// A root of ours has the same shape.
	ours := must(ParseCert(must(provider(DefaultSettings()).Root(t.Context()))))
	theirs := must(ParseCert(string(text)))
	if ours.KeyUsage != theirs.KeyUsage || ours.IsCA != theirs.IsCA || ours.MaxPathLen != theirs.MaxPathLen ||
		ours.NotAfter.Sub(ours.NotBefore) != theirs.NotAfter.Sub(theirs.NotBefore) || ours.SignatureAlgorithm != theirs.SignatureAlgorithm ||
		ours.URIs[0].String() != theirs.URIs[0].String() || len(ours.SubjectKeyId) != len(theirs.SubjectKeyId) ||
		string(ours.AuthorityKeyId) != string(ours.SubjectKeyId) {
		t.Errorf("got %+v, want the shape of %+v", ours, theirs)
	}
	for i := range theirs.Extensions {
		if a, b := ours.Extensions[i], theirs.Extensions[i]; !a.Id.Equal(b.Id) || a.Critical != b.Critical {
			t.Errorf("extension %d is %v %v, want %v %v", i, a.Id, a.Critical, b.Id, b.Critical)
		}
	}
	name := regexp.MustCompile(`^CN=pri-[a-z0-9]{7,8}\.consul\.ca\.e29fb68f\.consul$`)
	if !name.MatchString(ours.Subject.String()) || !name.MatchString(theirs.Subject.String()) {
		t.Errorf("got the name %s, want one like %s", ours.Subject, theirs.Subject)
	}
}

func TestIntermediateOfASecondaryLeadsToTheRoot(t *testing.T) {
	for name, settings := range map[string]Settings{
		"EC": {}, "RSA": {KeyType: "rsa", KeyBits: 2048}, "P-521": {KeyType: "ec", KeyBits: 521},
	} {
		t.Run(name, func(t *testing.T) {
			settings.LeafTTL, settings.IntermediateTTL, settings.RootTTL = time.Hour, 3*time.Hour, 4*time.Hour
			primary, secondary := provider(settings), provider(settings)
			root := must(primary.Root(t.Context()))
			if again := must(primary.Root(t.Context())); again != root {
				t.Error("the root was made twice")
			}
			if err := secondary.Renew(t.Context(), root, primary.SignIntermediate); err != nil {
				t.Fatal(err)
			}
			text, issuer := secondary.Intermediate()
			cert, err := CheckIntermediate(text, root)
			if err != nil || issuer != root {
				t.Fatal(err)
			}
			if cert.URIs[0].String() != "spiffe://"+cluster+".consul" || cert.Subject.String() != "" || !cert.MaxPathLenZero || cert.SerialNumber.Uint64() != 2 {
				t.Errorf("got %+v", cert)
			}
			if life := cert.NotAfter.Sub(cert.NotBefore); life != 3*time.Hour {
				t.Errorf("it lives %s, want 3h", life)
			}

			// It signs leaves and no further authority.
			state := secondary.Store.Load(secondary.stateID(false))
			key := must(parseKey(state.PrivateKey))
			roots, between := x509.NewCertPool(), x509.NewCertPool()
			roots.AppendCertsFromPEM([]byte(root))
			between.AddCert(cert)
			own := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
			below := must(authority(9, time.Now(), time.Now().Add(time.Hour), authorityURI(cluster), own.Public()))
			for _, signs := range []bool{false, true} {
				below.IsCA = signs
				made := must(ParseCert(must(sign(below, cert, own.Public(), key))))
				if signs {
					between.AddCert(made)
					below.IsCA = false
					made = must(ParseCert(must(sign(below, made, own.Public(), own))))
				}
				_, err := made.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
				if (err == nil) == signs {
					t.Errorf("below an authority under the intermediate: %v: got %v", signs, err)
				}
			}
		})
	}
}

func TestIntermediateThatIsNotWhatWasAskedForIsRefused(t *testing.T) {
	primary, other := provider(DefaultSettings()), provider(DefaultSettings())
	root, foreign := must(primary.Root(t.Context())), must(other.Root(t.Context()))
	refused := errors.New("refused")
	for name, sign := range map[string]func(context.Context, string) (string, error){
		"refusal":        func(context.Context, string) (string, error) { return "", refused },
		"another root":   other.SignIntermediate,
		"the root":       func(context.Context, string) (string, error) { return root, nil },
		"a foreign root": func(context.Context, string) (string, error) { return foreign, nil },
		"no certificate": func(context.Context, string) (string, error) { return "x", nil },
		"another's": func(ctx context.Context, _ string) (string, error) {
			return primary.SignIntermediate(ctx, must(newRequest(cluster, must(newKey("ec", 256)))))
		},
	} {
		secondary := provider(DefaultSettings())
		if err := secondary.Renew(t.Context(), root, sign); err == nil || name == "refusal" && !errors.Is(err, refused) {
			t.Errorf("%s: got %v", name, err)
		}
		if cert, _ := secondary.Intermediate(); cert != "" {
			t.Errorf("%s: it was kept", name)
		}
	}
}

func TestOldIntermediateStaysWhenTheNewOneIsNotStored(t *testing.T) {
	primary, secondary := provider(DefaultSettings()), provider(DefaultSettings())
	root := must(primary.Root(t.Context()))
	if err := secondary.Renew(t.Context(), root, primary.SignIntermediate); err != nil {
		t.Fatal(err)
	}
	before, _ := secondary.Intermediate()
	secondary.Store.(*memory).err = errors.New("no leader")
	if err := secondary.Renew(t.Context(), root, primary.SignIntermediate); err == nil {
		t.Error("no error although it was not stored")
	}
	if after, _ := secondary.Intermediate(); after != before {
		t.Error("the old one is gone")
	}
	broken := provider(DefaultSettings())
	broken.Store.(*memory).err = errors.New("no leader")
	if _, err := broken.Root(t.Context()); err == nil {
		t.Error("a root that was not stored was handed out")
	}
	if _, err := provider(DefaultSettings()).SignIntermediate(t.Context(), must(newRequest(cluster, must(newKey("ec", 256))))); err == nil {
		t.Error("signed without a root")
	}
}

func TestIntermediateDoesNotOutliveItsRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := Settings{LeafTTL: time.Hour, IntermediateTTL: 3 * time.Hour, RootTTL: 5 * time.Hour}
		primary, secondary := provider(s), provider(s)
		root := must(primary.Root(t.Context()))
		time.Sleep(4 * time.Hour)
		if err := secondary.Renew(t.Context(), root, primary.SignIntermediate); err != nil {
			t.Fatal(err)
		}
		text, _ := secondary.Intermediate()
		cert, top := must(ParseCert(text)), must(ParseCert(root))
		if !cert.NotAfter.Equal(top.NotAfter) || RenewAt(cert).After(cert.NotAfter) {
			t.Errorf("it ends at %s, the root at %s", cert.NotAfter, top.NotAfter)
		}
		time.Sleep(2 * time.Hour)
		if _, err := CheckIntermediate(text, root); err == nil {
			t.Error("an intermediate that is over was accepted")
		}
	})
}

func TestSettingsSurviveTheLog(t *testing.T) {
	for _, want := range []Settings{
		DefaultSettings(), {time.Hour, 3*time.Hour + time.Minute, 9 * time.Hour, "rsa", 4096},
	} {
		m := want.Map()
		if got, err := ParseSettings(m); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		var decoded map[string]any // in which numbers are floats
		if err := json.Unmarshal(must(json.Marshal(m)), &decoded); err != nil {
			t.Fatal(err)
		}
		if got, err := ParseSettings(decoded); err != nil || got != want {
			t.Errorf("through JSON: got %+v, %v, want %+v", got, err, want)
		}
	}
	want := map[string]any{"LeafCertTTL": "72h", "IntermediateCertTTL": "8760h", "RootCertTTL": "87600h"}
	if got := DefaultSettings().Map(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []map[string]any{{"LeafCertTTL": "x"}, {"RootCertTTL": true}, {"PrivateKeyType": 1}, {"PrivateKeyBits": "x"}} {
		if _, err := ParseSettings(bad); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
}

func TestUnusableSettingsAreRefused(t *testing.T) {
	for name, change := range map[string]func(s *Settings){
		"leaf_cert_ttl":         func(s *Settings) { s.LeafTTL = time.Minute },
		"is more":               func(s *Settings) { s.LeafTTL = 10000 * time.Hour },
		"intermediate_cert_ttl": func(s *Settings) { s.IntermediateTTL = 100 * time.Hour },
		"root_cert_ttl":         func(s *Settings) { s.RootTTL = time.Hour },
		"private_key_type":      func(s *Settings) { s.KeyType = "dsa" },
		"EC key":                func(s *Settings) { s.KeyBits = 100 },
		"RSA key":               func(s *Settings) { s.KeyType, s.KeyBits = "rsa", 1024 },
	} {
		s := DefaultSettings()
		change(&s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want an error with %s", err, name)
		}
	}
	for _, s := range []Settings{{}, {KeyType: "rsa"}, {KeyType: "ec", KeyBits: 384}} {
		s.LeafTTL, s.IntermediateTTL, s.RootTTL = defaultLeafTTL, defaultIntermediateTTL, defaultRootTTL
		if err := s.Check(); err != nil {
			t.Error(err)
		}
	}
}

func TestKeysArePrintedNowhere(t *testing.T) {
	b := provider(DefaultSettings())
	must(b.Root(t.Context()))
	s := b.Store.Load(b.stateID(true))
	if !strings.HasPrefix(string(s.PrivateKey), "-----BEGIN EC PRIVATE KEY-----") {
		t.Fatal("there is no key")
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%v %+v %#v %s %q %x %d", s, s, s, s.PrivateKey, s.PrivateKey, s.PrivateKey, s.PrivateKey)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "state", s, "key", s.PrivateKey)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "state", s, "key", s.PrivateKey)
	out.Write(must(json.Marshal(s)))
	body := strings.Split(string(s.PrivateKey), "\n")[1]
	if text := out.String(); strings.Contains(text, body) || strings.Contains(text, "PRIVATE") || strings.Contains(text, fmt.Sprintf("%x", body)) {
		t.Errorf("got %s", text)
	}
	if _, err := parseKey("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

func TestStatesAreFoundByTheReferencesIDs(t *testing.T) {
	b := provider(DefaultSettings())
	for primary, want := range map[bool]string{
		true:  "fb:50:9b:45:1a:65:15:c1:68:57:73:5f:da:cd:b8:0d:0f:e2:26:eb:68:66:43:11:85:9d:67:a9:7a:56:9c:b9",
		false: "ca:49:15:76:89:95:8d:cd:ed:16:56:8a:4b:60:1b:db:e6:84:d0:47:ee:7c:c5:10:99:78:8e:08:f9:55:1c:ca",
	} {
		if got := b.stateID(primary); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	key := must(newKey("ec", 256))
	f.Add(must(newRequest(cluster, key)))
	f.Add(must(newRoot(cluster, 1, key, time.Hour)))
	f.Add(string(must(encodeKey(key))))
	root := must(newRoot(cluster, 1, key, time.Hour))
	f.Fuzz(func(_ *testing.T, text string) {
		_, _ = ParseCert(text)
		_, _ = parseRequest(text, cluster)
		_, _ = parseKey(Secret(text))
		_, _ = DescribeRoot(text, cluster)
		_, _ = CheckIntermediate(text, root)
	})
}
