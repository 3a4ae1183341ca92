package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// authorityTargets are asked of a reference with the service mesh on, in this
// order. What it answered stands in authorityFile.
var authorityTargets = []string{
	"/v1/connect/ca/roots", "/v1/connect/ca/roots?pretty", "/v1/connect/ca/roots?pem", "/v1/connect/ca/roots?pem=false",
	"/v1/connect/ca/roots?pem=true", "/v1/connect/ca/roots?pem=x", "/v1/connect/ca/roots?dc=nope", "/v1/connect/ca/roots?stale",
	"/v1/connect/ca/configuration", "/v1/connect/ca/configuration?pretty", "/v1/connect/ca/configuration?dc=nope",
	"/v1/agent/connect/ca/roots", "/v1/agent/connect/ca/roots?pem=true",
}

const authorityFile = "testdata/authority.json"

// told is an answer of the reference.
type told struct {
	Target string
	Status int
	Header http.Header
	Body   string
}

func recordedAuthority(t *testing.T) []told {
	t.Helper()
	b, err := os.ReadFile(authorityFile)
	if err != nil {
		t.Fatal(err)
	}
	var list []told
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// TestReferenceStillShowsItsAuthorityAsRecorded asks the reference itself, and with
// -update writes the file.
func TestReferenceStillShowsItsAuthorityAsRecorded(t *testing.T) {
	if os.Getenv("ISTHMUS_REFERENCE") == "" {
		t.Skip("skipped: ISTHMUS_REFERENCE does not name the reference's binary")
	}
	addr := startReference(t, os.Getenv("ISTHMUS_REFERENCE"), "-hcl=connect { enabled = true }")
	awaitPart(t, "http://"+addr+"/v1/agent/connect/ca/roots", "RootCert")
	var live []told
	for _, target := range authorityTargets {
		res, err := http.Get("http://" + addr + target)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		res.Header.Del("Date")
		live = append(live, told{target, res.StatusCode, res.Header, string(b)})
	}
	if *update {
		b, err := json.MarshalIndent(live, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(authorityFile, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	same := func(body string) string {
		return regexp.MustCompile(`-----BEGIN [^"]*|([0-9a-f]{2}:){19,31}[0-9a-f]{2}`).ReplaceAllString(timeless([]byte(body)), "…")
	}
	for i, want := range recordedAuthority(t) {
		if got := live[i]; got.Status != want.Status || same(got.Body) != same(want.Body) || !maps.EqualFunc(steady(got.Header), steady(want.Header), slices.Equal) {
			t.Errorf("%s: got %d, %v\n%s\nrecorded was %d, %v\n%s", want.Target, got.Status, got.Header, got.Body, want.Status, want.Header, want.Body)
		}
	}
}

// TestAuthorityIsShownAsByTheReference lets a fake server say what the reference's
// did.
func TestAuthorityIsShownAsByTheReference(t *testing.T) {
	recorded := recordedAuthority(t)
	body := func(target string, into any) {
		i := slices.IndexFunc(recorded, func(r told) bool { return r.Target == target })
		if err := json.Unmarshal([]byte(recorded[i].Body), into); err != nil {
			t.Fatal(err)
		}
	}
	var roots api.CARoots
	var cfg api.CAConfiguration
	body("/v1/connect/ca/roots", &roots)
	body("/v1/connect/ca/configuration", &cfg)
	for _, want := range recorded {
		t.Run(want.Target, func(t *testing.T) {
			index, _ := strconv.ParseUint(want.Header.Get("X-Consul-Index"), 10, 64)
			meta := rpc.Meta{Index: index, KnownLeader: true}
			err := error(nil)
			if want.Status == http.StatusInternalServerError {
				meta, err = rpc.Meta{}, errNoPath
			}
			f := fakeCaller{}
			on(f, wire.CARoots, func(h rpc.Header, _ *wire.DCQuery) (api.CARoots, rpc.Meta, error) {
				meta.Cached, meta.Hit = h.UseCache, h.UseCache
				return roots, meta, err
			})
			on(f, wire.CAConfiguration, func(rpc.Header, *wire.DCQuery) (api.CAConfiguration, rpc.Meta, error) { return cfg, rpc.Meta{}, err })
			w := do(t, New(config(f)), http.MethodGet, want.Target, "")
			if w.Code != want.Status || w.Body.String() != want.Body {
				t.Errorf("got %d\n%s\nwant %d\n%s", w.Code, w.Body, want.Status, want.Body)
			}
			if got, want := decisive(w.Header(), w.Code), decisive(want.Header, want.Status); !maps.EqualFunc(got, want, slices.Equal) {
				t.Errorf("got headers\n%v\nwant\n%v", got, want)
			}
		})
	}
}

func TestChainOfASecondaryHasAllCertificates(t *testing.T) {
	f := fakeCaller{}
	on(f, wire.CARoots, func(rpc.Header, *wire.DCQuery) (api.CARoots, rpc.Meta, error) {
		return api.CARoots{ActiveRootID: "b", Roots: []*api.CARoot{
			{ID: "a", RootCert: "A\n"}, {ID: "b", RootCert: "B", IntermediateCerts: []string{"C\n", "D"}, Active: true},
		}}, rpc.Meta{Index: 3}, nil
	})
	w := do(t, New(config(f)), http.MethodGet, "/v1/connect/ca/roots?pem=1", "")
	if w.Body.String() != "A\nB\nC\nD\n" || w.Header().Get("X-Consul-Index") != "3" {
		t.Errorf("got %q, %v", w.Body, w.Header())
	}
}

func TestConfigurationCannotBeChangedYet(t *testing.T) {
	w := do(t, New(config(fakeCaller{})), http.MethodPut, "/v1/connect/ca/configuration", "{}")
	if w.Code != http.StatusNotImplemented || !strings.Contains(w.Body.String(), "not built") {
		t.Errorf("got %d, %s", w.Code, w.Body)
	}
}

func TestErrorsOfTheAuthorityKeepTheirTexts(t *testing.T) {
	f := fakeCaller{}
	f[wire.CARoots.Name] = func(context.Context, *rpc.Request) (rpc.Meta, error) {
		return rpc.Meta{}, errors.New("CA has not finished initializing")
	}
	for _, target := range []string{"/v1/connect/ca/roots", "/v1/agent/connect/ca/roots"} {
		w := do(t, New(config(f)), http.MethodGet, target, "")
		if w.Code != http.StatusInternalServerError || w.Body.String() != "CA has not finished initializing" {
			t.Errorf("%s: got %d, %s", target, w.Code, w.Body)
		}
		if told := w.Header().Get("X-Consul-Index") != ""; told != (target == "/v1/connect/ca/roots") {
			t.Errorf("%s: got headers %v", target, w.Header())
		}
	}
}
