package mesh

import (
	"context"
	"iter"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// Gateway follows what one mesh gateway depends on.
type Gateway struct {
	Datacenter string
	Domain     string // without dots around it
	// Caller is the source. It need not answer more than the methods of package
	// wire that this package names: what it has none of, it says with
	// api.NotBuilt.
	Caller rpc.Caller
	Token  string
	// Proxy yields the gateway's registration now and after every change, nil
	// while there is none. It ends with its context at the latest.
	Proxy func(ctx context.Context) iter.Seq[*api.NodeService]
	Log   *slog.Logger
}

const (
	settle        = 50 * time.Millisecond // changes within it make one snapshot
	listEvery     = 30 * time.Second      // the list of datacenters cannot be waited for
	listRetry     = time.Second
	kindSidecar   = "connect-proxy"
	watchServers  = "own servers"
	watchStates   = "federation states"
	watchServices = "services of the mesh"
	watchRoots    = "roots of the mesh"
)

// Snapshots yields the snapshot once all of it is known, and again after every
// change, until ctx is done. Changes that come together make one snapshot, and
// what makes no difference makes none. While the gateway is not registered, what
// was yielded last stands.
func (g *Gateway) Snapshots(ctx context.Context) iter.Seq[*Snapshot] {
	return func(yield func(*Snapshot) bool) {
		ctx, cancel := context.WithCancel(ctx)
		f := &follower{Gateway: g, edits: make(chan edit), stops: map[string]context.CancelFunc{}}
		defer f.watches.Wait()
		defer cancel()
		p := &partial{datacenter: g.Datacenter, domain: g.Domain, remote: map[string]*remote{}}
		f.begin(ctx)

		var last *Snapshot
		var due <-chan time.Time // from the first change until it is taken over
		for {
			select {
			case <-ctx.Done():
				return
			case change := <-f.edits:
				change(p)
				f.reconcile(ctx, p)
				if due == nil {
					due = time.After(settle)
				}
			case <-due:
				due = nil
				s, complete := p.snapshot()
				if !complete || reflect.DeepEqual(s, last) {
					continue
				}
				last = s
				if !yield(s) {
					return
				}
			}
		}
	}
}

// edit puts what a watch has learned into what is known.
type edit func(p *partial)

// follower is one run of Snapshots. Watches send edits to the one goroutine that
// owns the partial snapshot and starts and stops watches.
type follower struct {
	*Gateway

	edits   chan edit
	watches sync.WaitGroup
	stops   map[string]context.CancelFunc // of the watches that come and go
}

// send returns false when ctx is done first.
func (f *follower) send(ctx context.Context, change edit) bool {
	select {
	case <-ctx.Done():
		return false
	case f.edits <- change:
		return true
	}
}

// header is that of a read which any server of a datacenter may answer.
func (f *follower) header(datacenter string) rpc.Header {
	return rpc.Header{Datacenter: datacenter, Token: f.Token, AllowStale: true}
}

// begin starts the watches that every gateway has.
func (f *follower) begin(ctx context.Context) {
	f.watches.Go(func() {
		for proxy := range f.Proxy(ctx) {
			if !f.send(ctx, func(p *partial) { p.proxy = proxy }) {
				return
			}
		}
	})
	f.watches.Go(func() { f.datacenters(ctx) })
	f.watches.Go(func() {
		watch(ctx, f, wire.CARoots, f.header(""), wire.DCQuery{}, topic[api.CARoots]{
			what: watchRoots,
			take: func(roots api.CARoots, _ rpc.Meta) edit {
				return func(p *partial) { p.trust.set(roots.TrustDomain) }
			},
			absent: func(p *partial) { p.trust.known = true },
		})
	})
	f.watches.Go(func() {
		in := wire.DumpQuery{ServiceKind: kindSidecar, UseServiceKind: true}
		watch(ctx, f, wire.ServiceDump, f.header(""), in, topic[wire.DumpReply]{
			what: watchServices,
			take: func(out wire.DumpReply, _ rpc.Meta) edit {
				services := serviceEndpoints(out.Nodes)
				return func(p *partial) { p.services.set(services) }
			},
			absent: func(p *partial) { p.services.known = true },
		})
	})
}

// reconcile starts the watches that p calls for and stops those it does not.
func (f *follower) reconcile(ctx context.Context, p *partial) {
	if p.exposes() {
		f.start(ctx, watchServers, f.servers)
		f.start(ctx, watchStates, f.states)
	} else if p.proxy != nil && f.stops[watchStates] != nil {
		f.stop(watchServers)
		f.stop(watchStates)
		p.forgetServers()
	}
	for dc, r := range p.remote {
		f.start(ctx, dumpOf(dc), func(ctx context.Context) { f.dump(ctx, dc, r) })
	}
	for name := range f.stops {
		if dc, ok := strings.CutPrefix(name, dumpOf("")); ok && p.remote[dc] == nil {
			f.stop(name)
		}
	}
}

// dumpOf names the watch of a datacenter's gateways.
func dumpOf(datacenter string) string { return "gateways of " + datacenter }

func (f *follower) start(ctx context.Context, name string, run func(context.Context)) {
	if f.stops[name] != nil {
		return
	}
	ctx, f.stops[name] = context.WithCancel(ctx)
	f.watches.Go(func() { run(ctx) })
}

func (f *follower) stop(name string) {
	f.stops[name]()
	delete(f.stops, name)
}

// datacenters reads the list of datacenters again and again.
func (f *follower) datacenters(ctx context.Context) {
	retry := listRetry
	for {
		list, _, err := wire.CatalogDatacenters.Call(ctx, f.Caller, f.header(""), wire.Empty{})
		wait := listEvery
		if err == nil {
			retry = listRetry
			if !f.send(ctx, func(p *partial) { p.list(list) }) {
				return
			}
		} else if ctx.Err() == nil {
			f.Log.Debug("datacenters are not listed", "err", err)
			wait, retry = retry, min(2*retry, listEvery)
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

func (f *follower) servers(ctx context.Context) {
	in := wire.ServiceQuery{ServiceName: api.ConsulService}
	watch(ctx, f, wire.HealthServiceNodes, f.header(""), in, topic[[]*api.Instance]{
		what: watchServers,
		take: func(rows []*api.Instance, _ rpc.Meta) edit {
			servers := serverEndpoints(rows)
			return func(p *partial) {
				if ctx.Err() == nil {
					p.servers.set(servers)
				}
			}
		},
	})
}

func (f *follower) states(ctx context.Context) {
	watch(ctx, f, wire.FederationGateways, f.header(""), wire.DCQuery{}, topic[map[string][]api.CheckServiceNode]{
		what: watchStates,
		take: func(states map[string][]api.CheckServiceNode, _ rpc.Meta) edit {
			return func(p *partial) {
				if ctx.Err() == nil {
					p.state(states)
				}
			}
		},
	})
}

// dump follows the gateways that another datacenter answers with. r is its own:
// what comes after the datacenter is gone lands nowhere.
func (f *follower) dump(ctx context.Context, datacenter string, r *remote) {
	in := wire.DumpQuery{ServiceKind: api.MeshGateway, UseServiceKind: true}
	watch(ctx, f, wire.ServiceDump, f.header(datacenter), in, topic[wire.DumpReply]{
		what: dumpOf(datacenter), far: true,
		take: func(out wire.DumpReply, meta rpc.Meta) edit {
			return func(p *partial) {
				p.now++
				r.dumped(out.Nodes, meta.Index, p.now)
			}
		},
		failed: func(*partial) { r.failing = true },
	})
}

// topic is what becomes of the answers of a watch.
type topic[Out any] struct {
	what   string
	far    bool // out of reach now and then, which is nothing to warn of
	take   func(Out, rpc.Meta) edit
	absent edit // the source has no such thing, which is an answer too; nil: it must have it
	failed edit // may be nil
}

// watch follows one thing until ctx is done.
func watch[In, Out any](ctx context.Context, f *follower, m rpc.Method[In, Out], h rpc.Header, in In, t topic[Out]) {
	failing := false
	for update, err := range m.Watch(ctx, f.Caller, h, in) {
		var change edit
		switch {
		case err == nil:
			failing, change = false, t.take(update.Out, update.Meta)
		case isAbsent(err):
			change = t.absent
		default:
			change = t.failed
		}
		if err != nil && !failing {
			failing = true
			level := slog.LevelWarn
			if t.far || t.absent != nil && isAbsent(err) {
				level = slog.LevelDebug
			}
			f.Log.Log(ctx, level, "not followed", "of", t.what, "err", err)
		}
		if change != nil && !f.send(ctx, change) {
			return
		}
		// A source that does not wait for changes is not asked without pause.
		if err == nil && !sleep(ctx, settle) {
			return
		}
	}
}

// isAbsent tells whether an error says that the source has no such feature: it
// is not built, of an older version, switched off, or not there yet. A secondary
// has no certificate authority before it reached the primary, for which it needs
// its gateways.
func isAbsent(err error) bool {
	if api.CodeOf(err) == api.NotBuilt {
		return true
	}
	text := err.Error()
	return strings.Contains(text, "Connect must be enabled") || strings.Contains(text, "CA has not finished initializing") ||
		strings.Contains(text, "can't find method") || strings.Contains(text, "can't find service")
}

// sleep returns false when ctx is done first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
