package rpc

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"isthmus/api"
	"isthmus/internal/telemetry"
	"isthmus/internal/transport"
)

// ServerInfo is a server as the router knows it. Whoever watches the members of
// a pool makes it from theirs; the router knows no gossip.
type ServerInfo struct {
	Datacenter string
	Name       string // node name
	ID         string // node id, the server's id in consensus
	Addr       string // host:port of its RPC port, as its own datacenter reaches it
	Build      string // compatibility level, such as 1.16.4
	FedStates  bool   // serves federation states (tag ft_fs)
	Alive      bool
}

func (s ServerInfo) target() transport.Target {
	return transport.Target{Datacenter: s.Datacenter, Node: s.Name, Addr: s.Addr}
}

// Observer is told of servers as they come, go and change, and when the order in
// which a datacenter's servers are asked is drawn anew. It takes note and returns: it
// must not call the router, which holds a lock meanwhile so that news stay in order.
type Observer interface {
	AddServer(s ServerInfo)
	RemoveServer(s ServerInfo)
	Rebalanced(datacenter string)
}

// Router keeps the servers of each datacenter and chooses whom to ask. No
// datacenter is ever marked as down: each call tries, so the first contact that
// works is the end of an outage.
type Router struct {
	// Nodes counts the members of the own datacenter, and is set before Run. Nil
	// means that their number is not known.
	Nodes func() int

	own  string
	pool *Pool
	log  *slog.Logger

	look chan string // datacenters whose leader is to be asked for

	mu        sync.RWMutex
	dcs       map[string][]ServerInfo // in the order in which they are asked; slices are never changed in place
	leaders   map[string]leader       // of other datacenters
	observers []Observer
}

// leader is where the leader of a datacenter was last known to be.
type leader struct {
	addr string
	at   time.Time
}

// lookAgain is how old that may be before it is asked for again.
const lookAgain = 5 * time.Second

// statusLeader is asked of any server.
var statusLeader = Method[struct{}, string]{Name: "Status.Leader"}

// NewRouter returns a router for a node of the datacenter own.
func NewRouter(own string, pool *Pool, log *slog.Logger) *Router {
	return &Router{
		own: own, pool: pool, log: log, look: make(chan string, 1),
		dcs: map[string][]ServerInfo{}, leaders: map[string]leader{},
	}
}

// Observe tells o of every server known now and from now on.
func (r *Router) Observe(o Observer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.observers = append(r.observers, o)
	for _, list := range r.dcs {
		for _, s := range list {
			o.AddServer(s)
		}
	}
}

// AddServer makes a server known, or known anew with what changed. A new one
// takes a random place, so that the calls of many nodes spread.
func (r *Router) AddServer(s ServerInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := slices.Clone(r.dcs[s.Datacenter])
	if at := slices.IndexFunc(list, func(o ServerInfo) bool { return o.Name == s.Name }); at >= 0 {
		if list[at] == s {
			return
		}
		list[at] = s
	} else {
		list = slices.Insert(list, rand.IntN(len(list)+1), s) //nolint:gosec // spreads load, hides nothing
	}
	r.dcs[s.Datacenter] = list
	for _, o := range r.observers {
		o.AddServer(s)
	}
}

// RemoveServer forgets a server.
func (r *Router) RemoveServer(s ServerInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.dcs[s.Datacenter]
	at := slices.IndexFunc(list, func(o ServerInfo) bool { return o.Name == s.Name })
	if at < 0 {
		return
	}
	gone := list[at]
	list = slices.Delete(slices.Clone(list), at, at+1)
	if len(list) == 0 {
		delete(r.dcs, s.Datacenter)
	} else {
		r.dcs[s.Datacenter] = list
	}
	for _, o := range r.observers {
		o.RemoveServer(gone)
	}
}

// Datacenters returns the known datacenters, the own one first.
func (r *Router) Datacenters() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.SortedFunc(maps.Keys(r.dcs), func(a, b string) int {
		if (a == r.own) != (b == r.own) {
			if a == r.own {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
}

// Servers returns the servers of a datacenter in the order in which they are
// asked. The caller must not change it.
func (r *Router) Servers(datacenter string) []ServerInfo {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.dcs[datacenter]
}

// ServerAt finds a server of the own datacenter by its RPC address.
func (r *Router) ServerAt(addr string) (ServerInfo, bool) {
	for _, s := range r.Servers(r.own) {
		if s.Addr == addr {
			return s, true
		}
	}
	return ServerInfo{}, false
}

// Server returns the caller that asks one server.
func (r *Router) Server(s ServerInfo) Caller { return r.pool.To(s.target()) }

// To returns the caller that asks any server of a datacenter.
func (r *Router) To(datacenter string) Caller { return route{r, datacenter} }

type route struct {
	router     *Router
	datacenter string
}

// Call asks the servers one after the other until one answers. A request that
// may have reached a server is repeated only when it is a read.
func (t route) Call(ctx context.Context, req *Request) (Meta, error) {
	list := aliveFirst(t.router.Servers(t.datacenter))
	if len(list) == 0 {
		return Meta{}, t.router.unknown(t.datacenter)
	}
	if t.datacenter != t.router.own && !req.Header.AllowStale {
		list = t.router.leaderFirst(t.datacenter, list)
	}
	if t.datacenter != t.router.own {
		telemetry.RPCCrossDC.Count(t.datacenter)
	}
	var failures []error
	for _, s := range list {
		meta, err := t.router.Server(s).Call(ctx, req)
		if err == nil || answered(err) {
			return meta, err
		}
		t.router.failed(s)
		var unsent *NotSentError
		if ctx.Err() != nil || req.Write && !errors.As(err, &unsent) {
			return meta, err
		}
		failures = append(failures, err)
	}
	err := errors.Join(failures...)
	if len(failures) == 1 {
		err = failures[0]
	}
	if t.datacenter == t.router.own {
		return Meta{}, err
	}
	return Meta{}, api.Known(api.Unreachable, err)
}

// leaderFirst puts the leader of another datacenter first, for a request that only
// a leader answers: that saves the hop from whichever server would pass it on. What
// is known of the leader may be old or wrong, which costs that hop and no more.
func (r *Router) leaderFirst(datacenter string, list []ServerInfo) []ServerInfo {
	r.mu.RLock()
	known := r.leaders[datacenter]
	r.mu.RUnlock()
	if time.Since(known.at) > lookAgain && len(list) > 1 {
		select {
		case r.look <- datacenter:
		default: // Run is busy with another
		}
	}
	at := slices.IndexFunc(list, func(s ServerInfo) bool { return s.Addr == known.addr && s.Alive })
	if at <= 0 {
		return list
	}
	return slices.Concat(list[at:at+1], list[:at], list[at+1:])
}

// findLeader asks a server of a datacenter for its leader.
func (r *Router) findLeader(ctx context.Context, datacenter string) {
	ctx, cancel := context.WithTimeout(ctx, lookAgain)
	defer cancel()
	h := Header{Datacenter: datacenter, AllowStale: true}
	addr, _, err := statusLeader.Call(ctx, r.To(datacenter), h, struct{}{})
	if err != nil {
		addr = "" // any server will do
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaders[datacenter] = leader{addr, time.Now()}
}

// aliveFirst puts servers last that gossip holds for dead. They are asked all the
// same: gossip may be behind.
func aliveFirst(list []ServerInfo) []ServerInfo {
	if !slices.ContainsFunc(list, func(s ServerInfo) bool { return !s.Alive }) {
		return list
	}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b ServerInfo) int {
		switch {
		case a.Alive == b.Alive:
			return 0
		case a.Alive:
			return -1
		}
		return 1
	})
	return list
}

// answered tells whether err is a server's answer rather than a failure to get
// one.
func answered(err error) bool {
	var remote *RemoteError
	return errors.As(err, &remote)
}

// unknown is the error for a datacenter without servers.
func (r *Router) unknown(datacenter string) error {
	if datacenter == r.own {
		return api.Known(api.NoServers, nil)
	}
	return api.Known(api.NoPath, nil)
}

// failed moves a server to the end of its list.
func (r *Router) failed(s ServerInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.dcs[s.Datacenter]
	at := slices.IndexFunc(list, func(o ServerInfo) bool { return o.Name == s.Name })
	if at < 0 || len(list) < 2 {
		return
	}
	moved := slices.Concat(list[:at], list[at+1:], list[at:at+1])
	r.dcs[s.Datacenter] = moved
}

// Run draws the order of every list anew from time to time, so that load stays
// spread after servers came and went, and finds out who leads elsewhere.
func (r *Router) Run(ctx context.Context) error {
	t := time.NewTimer(r.untilRebalance())
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case dc := <-r.look:
			r.findLeader(ctx, dc)
		case <-t.C:
			r.Rebalance()
			t.Reset(r.untilRebalance())
		}
	}
}

// untilRebalance is how long the present order stays. It grows with the nodes that
// each server has, so that in a large datacenter few move at a time.
func (r *Router) untilRebalance() time.Duration {
	const least, spread, each = 2 * time.Minute, time.Minute, 15625 * time.Microsecond
	wait := least + rand.N(spread) //nolint:gosec // spreads load, hides nothing
	if servers := len(r.Servers(r.own)); r.Nodes != nil && servers > 0 {
		wait += time.Duration(r.Nodes()) * each / time.Duration(servers)
	}
	return wait
}

// Rebalance draws the order of every list anew.
func (r *Router) Rebalance() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for dc, list := range r.dcs {
		list = slices.Clone(list)
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] }) //nolint:gosec // spreads load, hides nothing
		r.dcs[dc] = list
		for _, o := range r.observers {
			o.Rebalanced(dc)
		}
	}
}
