package local

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"isthmus/api"
	"isthmus/internal/checks"
	"isthmus/internal/rpc"
)

// defaultSyncInterval is the pause between two comparisons with the catalog.
const defaultSyncInterval = time.Minute

// Config says what an agent is and how it behaves.
type Config struct {
	Node            string
	NodeID          string
	Datacenter      string
	Address         string
	TaggedAddresses map[string]string
	Meta            map[string]string

	Caller rpc.Caller // whoever answers for the catalog
	Token  string     // for services and checks without a token of their own, and for the node

	// Dir keeps the services and checks that were registered with the agent, so
	// that they survive a restart. Empty keeps none.
	Dir string

	// SyncInterval is the longest pause between two comparisons with the catalog
	// in a small cluster; a large one takes longer. Zero is a minute.
	SyncInterval time.Duration
	NumNodes     func() int // the size of the cluster; may be nil

	// CheckUpdateInterval is how long a change of a check's output alone waits
	// until it is pushed. Zero does not wait.
	CheckUpdateInterval time.Duration
	DiscardOutput       bool // keep no output of checks
	MaxCheckOutput      int  // bytes of output of a check that are kept; zero is 4096

	Sidecars Sidecars

	Scripts  Scripts            // whose checks may run commands
	CheckTLS func() *tls.Config // see checks.Env; may be nil

	Log *slog.Logger
}

// Agent holds the services and checks of one node.
type Agent struct {
	cfg  Config
	mute atomic.Bool // keep no output of checks
	disk disk
	log  *slog.Logger

	changed   chan struct{} // something is to be pushed; one waiting signal is enough
	kicked    chan struct{} // a comparison is wanted now; one waiting signal is enough
	startable chan struct{} // unstarted is not empty; one waiting signal is enough
	reapable  chan struct{} // the reaper has to wake sooner; one waiting signal is enough

	// edit serialises what changes the set of services and checks, so that the
	// files tell the same as the memory. It is held while they are written, but
	// not while the disk is waited for. No reader ever takes it. It is taken
	// before mu.
	edit    sync.Mutex
	orphans []keptCheck // kept checks that wait for their configured service
	ignored bool        // a kept service could not be used

	mu        sync.Mutex
	node      nodeInfo
	services  map[string]*service
	checks    map[string]*check
	checksOf  map[string][]*check // by id of their service; empty for those of the node
	unstarted []*check
	critical  map[*check]time.Time                  // checks that take their service along, and since when they are critical
	nextReap  time.Time                             // when the reaper wakes next; zero when it waits for nothing
	followers map[string]map[chan struct{}]struct{} // by id of a service
	aliases   map[string]map[chan struct{}]struct{} // as followers, of its checks

	// What the catalog lacks or has differently, so that a change costs the same
	// beside ten services and beside ten thousand.
	unsyncedServices map[*service]struct{}
	unsyncedChecks   map[*check]struct{}
	waiting          []waiting // outputs that are to be pushed later, the earliest first
	// What was removed here and may still be in the catalog.
	goneServices map[string]goneService
	goneChecks   map[string]goneCheck
}

// waiting is an output that waits, unless its check has another due time by now.
type waiting struct {
	check *check
	due   time.Time
}

// nodeInfo is what the catalog shall know of the node besides its name.
type nodeInfo struct {
	tagged map[string]string
	meta   map[string]string
	synced bool
}

// goneService is what is left of a removed service.
type goneService struct {
	token  string
	checks []string // those that go with it
}

// goneCheck is what is left of a check that was removed, but not its service.
type goneCheck struct {
	token     string
	serviceID string
}

// origin is where a service or check comes from.
type origin int

const (
	fromAPI    origin = iota // kept on disk
	fromConfig               // replaced as a whole by SetConfigured
)

// service is one service. It is replaced, not changed, except for the fields
// that say so.
type service struct {
	asked  *api.NodeService // as it was registered
	row    *api.NodeService // as the catalog shall have it; replaced when the catalog's tags win
	token  string
	origin origin // changes
}

// New returns an agent that holds what Dir keeps. What cannot be read there is
// logged and left as it is.
func New(cfg Config) (*Agent, error) {
	if cfg.Node == "" || cfg.Caller == nil || cfg.Log == nil {
		return nil, errors.New("local: a node name, a caller and a logger are needed")
	}
	if cfg.SyncInterval <= 0 {
		cfg.SyncInterval = defaultSyncInterval
	}
	a := &Agent{
		cfg: cfg, log: cfg.Log,
		changed: make(chan struct{}, 1), kicked: make(chan struct{}, 1), startable: make(chan struct{}, 1),
		reapable: make(chan struct{}, 1),
		node:     nodeInfo{tagged: cfg.TaggedAddresses, meta: cfg.Meta},
		services: map[string]*service{}, checks: map[string]*check{}, checksOf: map[string][]*check{},
		critical:         map[*check]time.Time{},
		unsyncedServices: map[*service]struct{}{}, unsyncedChecks: map[*check]struct{}{},
		goneServices: map[string]goneService{}, goneChecks: map[string]goneCheck{},
		followers: map[string]map[chan struct{}]struct{}{}, aliases: map[string]map[chan struct{}]struct{}{},
	}
	a.SetDiscardOutput(cfg.DiscardOutput)
	if err := a.load(); err != nil {
		return nil, fmt.Errorf("load services and checks: %w", err)
	}
	return a, nil
}

// Run runs the checks and keeps the catalog equal to the agent until ctx is done.
// It may be called once.
func (a *Agent) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.runChecks(ctx) })
	g.Go(func() error { return a.runReaper(ctx) })
	g.Go(func() error { return a.runSync(ctx) })
	return errors.Join(g.Wait(), a.disk.close())
}

// Sync has the agent compared with the catalog now, also when it waits after an
// error.
func (a *Agent) Sync() { signal(a.kicked) }

// SetDiscardOutput says whether the output of results to come is thrown away.
func (a *Agent) SetDiscardOutput(on bool) { a.mute.Store(on) }

// SetNode replaces what the catalog knows of the node.
func (a *Agent) SetNode(taggedAddresses, meta map[string]string) {
	a.mu.Lock()
	same := maps.Equal(a.node.tagged, taggedAddresses) && maps.Equal(a.node.meta, meta)
	if !same {
		a.node = nodeInfo{tagged: maps.Clone(taggedAddresses), meta: maps.Clone(meta)}
	}
	a.mu.Unlock()
	if !same {
		signal(a.changed)
	}
}

// Services returns the services by id. They are shared: nobody may change them.
func (a *Agent) Services() map[string]*api.NodeService {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make(map[string]*api.NodeService, len(a.services))
	for id, s := range a.services {
		all[id] = s.row
	}
	return all
}

// Service returns a service, or nil. It is shared: nobody may change it.
func (a *Agent) Service(id string) *api.NodeService {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.services[id]; s != nil {
		return s.row
	}
	return nil
}

// Checks returns the checks by id. They are shared: nobody may change them.
func (a *Agent) Checks() map[string]*api.HealthCheck {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make(map[string]*api.HealthCheck, len(a.checks))
	for id, c := range a.checks {
		all[id] = c.row
	}
	return all
}

// UpdateTTL sets the state of a TTL check.
func (a *Agent) UpdateTTL(checkID, status, output string) error {
	if !validStatus(status) {
		return api.Errorf(api.Invalid, "Invalid check status: '%s'", status)
	}
	a.edit.Lock()
	defer a.edit.Unlock()
	a.mu.Lock()
	c := a.checks[checkID]
	a.mu.Unlock()
	if c == nil {
		return unknownCheck(checkID)
	}
	ttl, ok := c.runner.(*checks.TTL)
	if !ok {
		return api.Errorf(api.Internal, "CheckID %q does not have associated TTL", checkID)
	}
	ttl.Update(status, output)
	a.mu.Lock()
	row := c.row
	a.mu.Unlock()
	return a.disk.keepState(checkID, checkState{
		Status: row.Status, Output: row.Output, Expires: time.Now().Add(time.Duration(c.def.TTL)),
	})
}

func validStatus(status string) bool {
	return status == api.Passing || status == api.Warning || status == api.Critical
}

// signal leaves a signal in c, unless one waits there already.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
