package httpapi

import (
	"context"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
	"unicode"

	"isthmus/api"
	"isthmus/internal/gossip"
	"isthmus/internal/rpc"
)

// Local is the services and checks of this node.
type Local interface {
	AddService(def api.ServiceDefinition, replaceExistingChecks bool) error
	RemoveService(id string) error
	AddCheck(def api.CheckType, serviceID string) error
	RemoveCheck(id string) error
	UpdateTTL(checkID, status, output string) error
	// SetMaintenance is about the node when no service is named.
	SetMaintenance(serviceID string, on bool, reason string) error
	Service(id string) *api.NodeService
	Services() map[string]*api.NodeService
	Checks() map[string]*api.HealthCheck
	// Follow yields a service, or nil, and again after each change of it.
	Follow(ctx context.Context, id string) iter.Seq[*api.NodeService]
}

// Pool is a gossip pool that this node is a member of.
type Pool interface {
	Members() []gossip.Member
	Local() gossip.Member
	Join(ctx context.Context, addrs []string) (int, error)
	ForceLeave(name string, prune bool) error
}

// Peer is a server of the own datacenter.
type Peer struct {
	rpc.Caller

	Node string
}

// Config is what the routes need of the node. Fields said to be optional may be
// nil.
type Config struct {
	Datacenter string
	Primary    string // datacenter
	Node       string
	NodeID     string
	Build      string // the version of the protocol's reference that this node is compatible with
	Version    string // of this program
	Server     bool

	Caller  rpc.Caller    // answers the methods of package wire
	Servers func() []Peer // of the own datacenter; optional: only Caller is asked
	Local   Local
	LAN     Pool
	WAN     Pool // optional: a client has none
	// Federated says that datacenters are joined through mesh gateways, so that
	// nobody may join the WAN pool by hand.
	Federated bool

	// XDS are the ports on which this node configures proxies; 0 for one that is off.
	XDS struct{ Plaintext, TLS int }
	// Proxies are those that this node configures at the moment; optional.
	Proxies func() any

	Leave    func(ctx context.Context) error
	Reload   func() error
	Stats    func() map[string]map[string]string                                                         // optional
	Coord    func() any                                                                                  // optional: where this node stands in the pool's coordinates
	Settings any                                                                                         // shown by /v1/agent/self, without secrets
	Metrics  Metrics                                                                                     // optional
	Monitor  func(ctx context.Context, level slog.Level, json bool, write func(line []byte) error) error // optional

	// TranslateWAN shows the addresses that nodes and instances of other datacenters
	// have in the WAN.
	TranslateWAN bool

	MaxValueSize    uint64            // of a key's value; 0 is DefaultMaxValueSize
	ResponseHeaders map[string]string // added to each answer
	EnableDebug     bool              // serves profiles under /debug/pprof/
	Pretty          bool              // indents JSON also when not asked to
	// AllowUnprintable admits control characters in paths, such as those of keys.
	AllowUnprintable bool

	Log *slog.Logger
}

// DefaultMaxValueSize is how long a key's value may be, in bytes.
const DefaultMaxValueSize = 512 * 1024

// EnvoyVersions are the versions of Envoy that proxies are tested with, the newest
// first.
var EnvoyVersions = []string{"1.40.0", "1.36.2"}

// Metrics is what this process measured.
type Metrics interface {
	Summary() (any, error)
	// WritePrometheus returns false when that format is off.
	WritePrometheus(w io.Writer) (bool, error)
}

// API answers HTTP requests.
type API struct {
	cfg     Config
	table   table
	filters filters
	topics  topics
}

// New makes an API from what a node is made of.
func New(cfg Config) *API {
	if cfg.MaxValueSize == 0 {
		cfg.MaxValueSize = DefaultMaxValueSize
	}
	all := routes()
	if cfg.EnableDebug {
		all = append(all, debugRoutes()...)
	}
	return &API{cfg: cfg, table: newTable(all)}
}

// request is a request with what the routes need beside it.
type request struct {
	*http.Request

	api   *API
	w     http.ResponseWriter
	rest  string // of the path, after a pattern that ends in a slash
	query url.Values
	place *place
	begin time.Time
	// parking is set when the request is evaluated for all who wait for the same.
	parking *parking
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	for name, value := range a.cfg.ResponseHeaders {
		header.Set(name, value)
	}
	p := r.URL.Path
	if !a.cfg.AllowUnprintable && unprintable(p) {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if clean := cleaned(p); clean != p {
		redirect(w, r, clean)
		return
	}
	found, rest := a.table.find(p)
	if found == nil {
		if next, _ := a.table.find(p + "/"); next != nil && next.pattern == p+"/" {
			redirect(w, r, p+"/")
			return
		}
		notFound(w, p)
		return
	}
	a.known(header)
	serve, ok := found.methods[r.Method]
	if !ok {
		header.Set("Allow", found.allow)
		if r.Method != http.MethodOptions {
			writeError(w, http.StatusMethodNotAllowed, "method "+r.Method+" not allowed")
		}
		return
	}
	q := &request{Request: r, api: a, w: w, rest: rest, place: found, begin: time.Now()}
	if r.URL.RawQuery != "" {
		q.query = r.URL.Query()
	}
	err := q.enterprise()
	if err == nil && q.await(serve) {
		return
	}
	if err == nil {
		err = serve(q)
	}
	if err != nil {
		a.fail(q, err)
	}
	a.measure(found, r.Method, q.begin, err == nil)
}

// known sets what each answer of a known route has.
func (a *API) known(h http.Header) {
	h["Vary"] = headerVary
	h["X-Consul-Default-Acl-Policy"] = headerPolicy
	if a.cfg.TranslateWAN {
		h["X-Consul-Translate-Addresses"] = headerTrue
	}
}

// Header values that never change are shared by all answers.
var (
	headerVary   = []string{"Accept-Encoding"}
	headerPolicy = []string{"allow"}
	headerTrue   = []string{"true"}
	headerJSON   = []string{"application/json"}
)

// enterprise refuses the parameters of editions that divide a datacenter.
func (q *request) enterprise() error {
	for _, p := range [...]struct{ name, what string }{{"ns", "Namespaces"}, {"partition", "Partitions"}} {
		if v := q.query.Get(p.name); v != "" && v != "default" {
			return api.Errorf(api.Invalid, "Invalid query parameter: %q - %s are a Consul Enterprise feature", p.name, p.what)
		}
	}
	return nil
}

func unprintable(p string) bool {
	for i := range len(p) {
		if c := p[i]; c < ' ' || c >= 0x7f {
			return strings.ContainsFunc(p, func(r rune) bool { return !unicode.IsPrint(r) })
		}
	}
	return false
}

// cleaned returns the path without empty, "." and ".." elements.
func cleaned(p string) string {
	if p == "" || p[0] != '/' {
		return path.Clean("/" + p)
	}
	if !strings.Contains(p, "//") && !strings.Contains(p, "/.") {
		return p
	}
	clean := path.Clean(p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}

func redirect(w http.ResponseWriter, r *http.Request, to string) {
	u := url.URL{Path: to, RawQuery: r.URL.RawQuery}
	http.Redirect(w, r, u.String(), http.StatusMovedPermanently)
}

func notFound(w http.ResponseWriter, p string) {
	text := "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'\n"
	if strings.HasPrefix(p, "/v1/") {
		text = "Invalid URL path: not a recognized HTTP API endpoint\n"
	}
	writeError(w, http.StatusNotFound, text)
}
