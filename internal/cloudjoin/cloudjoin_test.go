package cloudjoin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// logged is a logger with what it wrote, and what the libraries wrote to the
// standard one.
func logged(t *testing.T) (*slog.Logger, *bytes.Buffer) {
	t.Helper()
	var b bytes.Buffer
	before := log.Writer()
	log.SetOutput(&b)
	t.Cleanup(func() { log.SetOutput(before) })
	return slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})), &b
}

// redirected sends every request to srv, whichever host it is for, and tells that
// host in a header.
type redirected struct {
	to   *url.URL
	next http.RoundTripper
}

func (r redirected) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("X-Asked-Host", req.URL.Host)
	req.URL.Scheme, req.URL.Host, req.Host = r.to.Scheme, r.to.Host, r.to.Host
	return r.next.RoundTrip(req)
}

// divert serves what goes over the default transport until the test is over.
func divert(t *testing.T, h http.HandlerFunc) {
	t.Helper()
	srv := httptest.NewServer(h)
	to, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	before := http.DefaultTransport
	own := &http.Transport{}
	http.DefaultTransport = redirected{to, own}
	t.Cleanup(func() {
		http.DefaultTransport = before
		own.CloseIdleConnections()
		srv.Close()
	})
}

const linodeToken = "lin/t0ken+1"

// linodeList is an answer of GET /v4/linode/instances.
const linodeList = `{"data": [
	{"id": 123, "label": "a", "region": "us-east", "tags": ["consul"], "status": "running"},
	{"id": 124, "label": "b", "region": "us-east", "tags": ["consul"], "status": "running"}
], "page": 1, "pages": 1, "results": 2}`

// linodeIPs is an answer of GET /v4/linode/instances/{id}/ips.
func linodeIPs(n string) string {
	return fmt.Sprintf(`{
	"ipv4": {
		"public": [{"address": "97.107.143.%[1]s", "type": "ipv4", "public": true, "prefix": 24, "region": "us-east"}],
		"private": [{"address": "192.168.133.%[1]s", "type": "ipv4", "public": false, "prefix": 17, "region": "us-east"}],
		"shared": [], "reserved": []
	},
	"ipv6": {
		"link_local": {"address": "fe80::%[1]s", "type": "ipv6", "public": false, "prefix": 64, "region": "us-east"},
		"slaac": {"address": "2600:3c03::%[1]s", "type": "ipv6", "public": true, "prefix": 64, "region": "us-east"},
		"global": []
	}
}`, n)
}

func TestLinodeAddressesOfTheTypeAsked(t *testing.T) {
	for kind, want := range map[string][]string{
		"":           {"192.168.133.123", "192.168.133.124"},
		"private_v4": {"192.168.133.123", "192.168.133.124"},
		"public_v4":  {"97.107.143.123", "97.107.143.124"},
		"private_v6": {"fe80::123", "fe80::124"},
		"public_v6":  {"2600:3c03::123", "2600:3c03::124"},
	} {
		t.Run("type "+kind, func(t *testing.T) {
			divert(t, func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("X-Asked-Host"); got != "api.linode.com" {
					t.Errorf("asked %s", got)
				}
				if got := r.Header.Get("Authorization"); got != "Bearer "+linodeToken {
					t.Errorf("authorized by %q", got)
				}
				w.Header().Set("Content-Type", "application/json")
				rest, _ := strings.CutPrefix(r.URL.Path, "/v4/linode/instances")
				if rest != "" {
					_, _ = io.WriteString(w, linodeIPs(strings.Trim(strings.TrimSuffix(rest, "/ips"), "/")))
					return
				}
				var filter map[string]string
				if err := json.Unmarshal([]byte(r.Header.Get("X-Filter")), &filter); err != nil {
					t.Errorf("filter: %v", err)
				}
				if filter["region"] != "us-east" || filter["tags"] != "consul" || len(filter) != 2 {
					t.Errorf("filter %v, want region and tag as they are set", filter)
				}
				_, _ = io.WriteString(w, linodeList)
			})
			logger, lines := logged(t)
			setting := "provider=linode region=us-east tag_name=consul api_token=" + linodeToken
			if kind != "" {
				setting += " address_type=" + kind
			}
			got, err := Addrs(t.Context(), setting, logger)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("got %v, %v, want %v", got, err, want)
			}
			if !strings.Contains(lines.String(), "us-east") || strings.Contains(lines.String(), linodeToken) {
				t.Errorf("logged %s", lines)
			}
		})
	}
}

// keystone is an identity service and two compute services, one a region.
type keystone struct {
	t    *testing.T
	url  string
	auth struct {
		Auth struct {
			Identity struct {
				Methods  []string
				Password struct {
					User struct {
						Name, Password string
						Domain         struct{ Name string }
					}
				}
			}
			Scope struct{ Project struct{ ID string } }
		}
	}
	query url.Values
}

func newKeystone(t *testing.T) *keystone {
	t.Helper()
	k := &keystone{t: t}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v3/auth/tokens", k.authenticate)
	mux.HandleFunc("GET /compute/{region}/servers/detail", k.servers)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	k.url = srv.URL
	return k
}

func (k *keystone) authenticate(w http.ResponseWriter, r *http.Request) {
	if err := json.NewDecoder(r.Body).Decode(&k.auth); err != nil {
		k.t.Errorf("authentication: %v", err)
	}
	w.Header().Set("Content-Type", "application/json")
	if secret := k.auth.Auth.Identity.Password.User.Password; secret != osPassword {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprintf(w, `{"error": {"code": 401, "title": "Unauthorized", "message": "no user with password %s"}}`, secret)
		return
	}
	w.Header().Set("X-Subject-Token", "gAAAA-issued")
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintf(w, `{"token": {
		"methods": ["password"], "expires_at": "2099-01-01T00:00:00.000000Z", "issued_at": "2024-01-01T00:00:00.000000Z",
		"catalog": [{"type": "compute", "name": "nova", "id": "c1", "endpoints": [
			{"id": "e1", "interface": "public", "region": "RegionOne", "region_id": "RegionOne", "url": "%[1]s/compute/one/"},
			{"id": "e2", "interface": "public", "region": "north", "region_id": "north", "url": "%[1]s/compute/north/"}
		]}]
	}}`, k.url)
}

func (k *keystone) servers(w http.ResponseWriter, r *http.Request) {
	k.query = r.URL.Query()
	if got := r.Header.Get("X-Auth-Token"); got != "gAAAA-issued" {
		k.t.Errorf("compute was asked with token %q", got)
	}
	if got := r.PathValue("region"); got != "north" {
		k.t.Errorf("asked the servers of %s", got)
	}
	w.Header().Set("Content-Type", "application/json")
	if k.query.Get("marker") == "" {
		_, _ = fmt.Fprintf(w, `{"servers": [
			{"id": "s1", "status": "ACTIVE", "metadata": {"role": "consul"}, "addresses": {"net": [
				{"addr": "10.0.0.1", "version": 4, "OS-EXT-IPS:type": "fixed"},
				{"addr": "203.0.113.1", "version": 4, "OS-EXT-IPS:type": "floating"}]}},
			{"id": "s2", "status": "ACTIVE", "metadata": {"role": "other"}, "addresses": {"net": [
				{"addr": "10.0.0.2", "version": 4, "OS-EXT-IPS:type": "fixed"}]}}
		], "servers_links": [{"rel": "next", "href": "%s/compute/north/servers/detail?marker=s2&project_id=%s"}]}`, k.url, k.query.Get("project_id"))
		return
	}
	_, _ = io.WriteString(w, `{"servers": [{"id": "s3", "status": "ACTIVE", "metadata": {"role": "consul"}, "addresses": {"net": [
		{"addr": "10.0.0.3", "version": 4, "OS-EXT-IPS:type": "fixed"}]}}]}`)
}

const osPassword = `p=ss "word"`

func openStack(k *keystone, password string) string {
	return "provider=os auth_url=" + k.url + "/v3 user_name=scout password=" + password +
		" region=north domain_name=branch project_id=p-17 tag_key=role tag_value=consul"
}

func TestOpenStackAddressesOfTaggedServers(t *testing.T) {
	k := newKeystone(t)
	logger, lines := logged(t)
	got, err := Addrs(t.Context(), openStack(k, `"p=ss \"word\""`), logger)
	if err != nil || !slices.Equal(got, []string{"10.0.0.1", "10.0.0.3"}) {
		t.Errorf("got %v, %v, want the fixed addresses of the servers with the tag, of both pages", got, err)
	}
	a := k.auth.Auth
	if u := a.Identity.Password.User; u.Name != "scout" || u.Password != osPassword || u.Domain.Name != "branch" ||
		!slices.Equal(a.Identity.Methods, []string{"password"}) {
		t.Errorf("authenticated as %+v by %v", u, a.Identity.Methods)
	}
	if a.Scope.Project.ID != "p-17" || k.query.Get("project_id") != "p-17" {
		t.Errorf("project %q, query %v", a.Scope.Project.ID, k.query)
	}
	if strings.Contains(lines.String(), osPassword) || !strings.Contains(lines.String(), "p-17") {
		t.Errorf("logged %s", lines)
	}
}

func TestErrorsHideSecrets(t *testing.T) {
	k := newKeystone(t)
	divert(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprintf(w, `{"errors": [{"reason": "Invalid Token %s, %s"}]}`, linodeToken, url.QueryEscape(linodeToken))
	})
	for setting, secret := range map[string]string{
		openStack(k, "wr0ng"):                               "wr0ng",
		"provider=linode region=x api_token=" + linodeToken: "t0ken",
		"provider=linode api_token=tok en region=x":         "en:",
		"provider=linode api_token":                         "\x00",
	} {
		logger, lines := logged(t)
		_, err := Addrs(t.Context(), setting, logger)
		if err == nil {
			t.Fatalf("%s: no error", setting)
		}
		if strings.Contains(err.Error(), secret) || strings.Contains(lines.String(), secret) {
			t.Errorf("%q is in %q or in the log %s", secret, err, lines)
		}
	}
}

func TestRedactorHidesEveryForm(t *testing.T) {
	hide := newRedactor(map[string]string{"api_token": "a b/c", "password": "a b", "region": "us", "tag_key": "k", "secret_access_key": `q"q`, "token": ""})
	got := hide.Replace(`a b/c a+b%2Fc a%20b%2Fc a b q\"q us k`)
	if want := "*** *** *** *** *** us k"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWrongSettingsAreToldInPlainWords(t *testing.T) {
	logger, _ := logged(t)
	for setting, want := range map[string]string{
		"provider=nimbus tag_key=a": `discovery provider "nimbus" is not known (known: aliyun, aws, azure, `,
		"tag_key=a":                 `discovery provider "" is not known`,
		"":                          `discovery provider "" is not known`,
		"provider=aws tag_key":      "read discovery setting: tag_key: missing '='",
		"provider=aws region=":      "read discovery setting: region: missing value",
		"provider=aws provider=gce": "read discovery setting: provider: duplicate key",
	} {
		_, err := Addrs(t.Context(), setting, logger)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", setting, err, want)
		}
	}
}

func TestNamesHasEveryProvider(t *testing.T) {
	want := []string{
		"aliyun", "aws", "azure", "digitalocean", "gce", "k8s", "linode", "mdns", "os", "packet", "scaleway", "softlayer",
		"tencentcloud", "triton", "vsphere",
	}
	if got := Names(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for setting, want := range map[string]bool{"provider=aws tag_key=x": true, "10.0.0.1:8301": false, "server.example": false} {
		if Is(setting) != want {
			t.Errorf("%q: got %v", setting, !want)
		}
	}
}

func TestSilentProviderIsGivenUp(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	divert(t, func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-release
		w.WriteHeader(http.StatusForbidden)
	})
	defer close(release) // before the server is closed, which waits for its handlers
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	_, err := Addrs(ctx, "provider=linode api_token=x", slog.New(slog.DiscardHandler))
	if !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "discover with provider linode: ") {
		t.Errorf("got %v", err)
	}
}
