package dns

import (
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"isthmus/internal/rpc"
)

// Config is what a front is made of.
type Config struct {
	Datacenter string
	// Domain and AltDomain are what is answered for; AltDomain may be empty.
	Domain, AltDomain string
	// TranslateWAN answers with WAN addresses for other datacenters.
	TranslateWAN bool
	Caller       rpc.Caller
	Settings     Settings
	Log          *slog.Logger
}

// Settings are what may change while the front runs.
type Settings struct {
	// AllowStale lets any server answer, and MaxStale is how old its answer may be
	// before the leader is asked.
	AllowStale bool
	MaxStale   time.Duration
	// UseCache lets the agent's cache answer, with what is no older than
	// CacheMaxAge; 0 is any age.
	UseCache    bool
	CacheMaxAge time.Duration

	NodeTTL time.Duration
	// ServiceTTL is by name; a name that ends in * is a prefix, and the longest
	// that fits decides.
	ServiceTTL  map[string]time.Duration
	OnlyPassing bool
	// UDPAnswerLimit is how many records an answer of 512 bytes may have, and
	// ARecordLimit how many addresses any answer; 0 is no limit.
	UDPAnswerLimit, ARecordLimit int
	// EnableTruncate marks answers from which something was left out.
	EnableTruncate     bool
	DisableCompression bool
	NodeMetaTXT        bool // add a node's metadata to its answers
	SOA                SOA

	// Recursors are the addresses, with a port or without, of who answers for
	// everything else.
	Recursors       []string
	RecursorTimeout time.Duration
	RandomRecursor  bool // ask the recursors in a random order
}

// SOA are the figures of the zone's record, in seconds.
type SOA struct{ Refresh, Retry, Expire, MinTTL uint32 }

// Front answers questions. Serve lets it.
type Front struct {
	cfg      Config
	domains  []domain
	settings atomic.Pointer[Settings]
	ready    readyAnswers
	// local and remote bound how many questions are under way, so that those to a
	// datacenter that does not answer leave room for all others.
	local, remote chan struct{}
}

// domain is a suffix that is answered for.
type domain struct {
	text string // lower case, with a dot at the end
	wire []byte
}

// How many questions may wait for servers at a time: for those of the own
// datacenter and for recursors, and for those of other datacenters.
const (
	maxLocal  = 4096
	maxRemote = 1024
)

// New returns a front.
func New(cfg Config) *Front {
	f := &Front{
		cfg: cfg, local: make(chan struct{}, maxLocal), remote: make(chan struct{}, maxRemote),
		ready: readyAnswers{by: map[string]*readyAnswer{}, asked: map[string]struct{}{}},
	}
	for _, name := range []string{cfg.Domain, cfg.AltDomain} {
		if name = strings.ToLower(strings.Trim(name, ".")); name != "" {
			f.domains = append(f.domains, domain{name + ".", wireName(name + ".")})
		}
	}
	f.Set(cfg.Settings)
	return f
}

// Set changes the settings for the questions to come.
func (f *Front) Set(s Settings) {
	f.settings.Store(&s)
	f.ready.forget()
}

// domainOf finds the domain that a name in lower case is in, and what stands
// before it.
func (f *Front) domainOf(name string) (d domain, rest string, ok bool) {
	for _, one := range f.domains {
		if len(one.text) <= len(d.text) {
			continue // the longest decides
		}
		if name == one.text {
			d, rest, ok = one, "", true
		} else if before, found := strings.CutSuffix(name, "."+one.text); found {
			d, rest, ok = one, before, true
		}
	}
	return d, rest, ok
}

// serviceTTL is the TTL of a service's records in seconds.
func (s *Settings) serviceTTL(service string) uint32 {
	if ttl, ok := s.ServiceTTL[service]; ok {
		return seconds(ttl)
	}
	var found time.Duration
	longest := -1
	for name, ttl := range s.ServiceTTL {
		if prefix, ok := strings.CutSuffix(name, "*"); ok && strings.HasPrefix(service, strings.ToLower(prefix)) && len(prefix) > longest {
			found, longest = ttl, len(prefix)
		}
	}
	return seconds(found)
}

func seconds(d time.Duration) uint32 {
	return uint32(min(max(d/time.Second, 0), 1<<31-1))
}
