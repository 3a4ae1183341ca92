package federation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"isthmus/api"
	"isthmus/internal/telemetry"
	"isthmus/internal/transport"
)

// Upgrader opens a connection to a gateway and makes TLS with the server behind
// it (transport.TLS.Upgrade).
type Upgrader interface {
	Upgrade(ctx context.Context, addr, serverName string, p transport.Proto) (net.Conn, error)
}

// Times of dialling.
const (
	raceAfter  = 500 * time.Millisecond // a gateway that is silent for so long gets a rival
	againAfter = 250 * time.Millisecond // the same, once all have been tried
	rounds     = 4                      // in which silent gateways are tried
	dialLimit  = 10 * time.Second       // for connecting and the handshake, over all gateways
	probeEvery = 2 * time.Second        // while connections go the longer way
)

// Dialer reaches servers of the own datacenter directly and all others through
// mesh gateways.
type Dialer struct {
	cfg     DialerConfig
	locator *Locator
	direct  transport.Dialer
	tls     Upgrader

	mu        sync.Mutex
	open      map[*routed]struct{} // connections through gateways that nothing superseded yet
	wakeProbe chan struct{}
}

// DialerConfig is what a dialer is told of its node.
type DialerConfig struct {
	Datacenter, Primary, Domain string
	Log                         *slog.Logger
}

// NewDialer returns a dialer over a locator.
func NewDialer(cfg DialerConfig, locator *Locator, direct transport.Dialer, tls Upgrader) *Dialer {
	return &Dialer{
		cfg: cfg, locator: locator, direct: direct, tls: tls,
		open: map[*routed]struct{}{}, wakeProbe: make(chan struct{}, 1),
	}
}

// Dial implements transport.Dialer.
func (d *Dialer) Dial(ctx context.Context, to transport.Target, p transport.Proto) (net.Conn, error) {
	if to.Datacenter == d.cfg.Datacenter {
		return d.direct.Dial(ctx, to, p) //nolint:wrapcheck // says whom it dialled
	}
	if p.ALPN == "" {
		return nil, fmt.Errorf("dial %s: connections of type %s cannot be routed through a mesh gateway", to.Datacenter, p.Name)
	}
	name := to.ServerName(d.cfg.Domain)
	toPrimary := to.Datacenter == d.cfg.Primary
	list := d.locator.Via(toPrimary, name)
	if len(list) == 0 {
		return nil, api.Known(api.Unreachable, errors.New("no mesh gateway is known yet"))
	}
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	start := time.Now()
	conn, via, err := d.race(ctx, list, name, p)
	if err != nil {
		telemetry.FederationFailed.Count(to.Datacenter, p.Name)
		return nil, fmt.Errorf("dial %s through mesh gateways: %w", name, err)
	}
	telemetry.FederationDial.Since(start, to.Datacenter, p.Name, via.Addr)
	return d.routed(conn, via, name), nil
}

// race tries the gateways in order: the next at once when one fails, and beside
// it when it is slow. Behind the last one those that are silent are tried anew,
// since they may have chosen a silent gateway on the other side, and will choose
// another one. The first to lead to the server wins. When one has answered that it
// does not lead there, the silent ones are not waited for beyond their second try:
// the server may be dead, and its caller has others.
func (d *Dialer) race(ctx context.Context, list []Candidate, name string, p transport.Proto) (net.Conn, Candidate, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &race{dialer: d, name: name, proto: p, list: slices.Clone(list), once: len(list)}
	r.results = make(chan attempt, rounds*r.once) // so that late ones do not wait for a reader
	r.start(ctx)
	slow := time.NewTimer(raceAfter)
	defer slow.Stop()
	for r.ended < r.started {
		select {
		case <-slow.C:
			if r.hopeless() {
				for _, at := range r.silent {
					d.blame(r.list[at], name)
				}
				go discard(r.results, r.started-r.ended)
				return nil, Candidate{}, errors.Join(append(r.errs, fmt.Errorf("the other gateways: %w", errSilent))...)
			}
			pause := raceAfter
			if r.again() {
				pause = againAfter
			}
			r.start(ctx)
			slow.Reset(pause)
		case a := <-r.results:
			r.end(a)
			if a.err == nil {
				d.won(r.list, a.at, name)
				go discard(r.results, r.started-r.ended)
				return a.conn, r.list[a.at], nil
			}
			r.answered = d.lost(ctx, r.list[a.at].Addr, name, a.err) || r.answered
			r.errs = append(r.errs, a.err)
			if ctx.Err() == nil && r.start(ctx) {
				slow.Reset(raceAfter)
			}
		}
	}
	return nil, Candidate{}, errors.Join(r.errs...)
}

// race is where a race stands.
type race struct {
	dialer *Dialer
	name   string
	proto  transport.Proto

	list           []Candidate // what was and is to be tried, in order
	once           int         // attempts of the first round
	started, ended int
	silent         []int // attempts under way that nothing was tried anew for
	results        chan attempt
	answered       bool // a gateway said that it does not lead to the server
	errs           []error
}

// attempt is the outcome of dialling through one gateway.
type attempt struct {
	at   int
	conn net.Conn
	err  error
}

// start makes the next attempt, if there is any left.
func (r *race) start(ctx context.Context) bool {
	if r.started == len(r.list) {
		return false
	}
	at, addr := r.started, r.list[r.started].Addr
	r.started++
	r.silent = append(r.silent, at)
	go func() {
		conn, err := r.dialer.tls.Upgrade(ctx, addr, r.name, r.proto)
		r.results <- attempt{at, conn, err}
	}()
	return true
}

// again lines the gateway up that was silent longest, once all were tried.
func (r *race) again() bool {
	if r.started < len(r.list) || r.started == rounds*r.once || len(r.silent) == 0 {
		return false
	}
	r.list = append(r.list, r.list[r.silent[0]])
	r.silent = r.silent[1:] // the new attempt stands for it
	return true
}

// hopeless tells whether those that are silent are not worth waiting for.
func (r *race) hopeless() bool {
	return r.answered && r.started == len(r.list) && r.started > r.once
}

func (r *race) end(a attempt) {
	r.ended++
	r.silent = slices.DeleteFunc(r.silent, func(at int) bool { return at == a.at })
}

// discard closes what the losers of a race still bring.
func discard(results <-chan attempt, n int) {
	for range n {
		if r := <-results; r.conn != nil {
			_ = r.conn.Close()
		}
	}
}

// won records a success. Gateways that started before the winner and are silent
// still are to blame themselves, since the server did answer: connections through
// them are superseded too.
func (d *Dialer) won(list []Candidate, winner int, name string) {
	d.locator.succeeded(list[winner].Addr, name)
	for _, slow := range list[:winner] {
		if slow != list[winner] {
			d.blame(slow, name)
		}
	}
}

// blame holds its silence against a gateway: connections through it give way.
func (d *Dialer) blame(slow Candidate, name string) {
	if !d.locator.failedLately(slow.Addr, name) {
		d.locator.failed(slow.Addr, "", errSilent)
		d.supersede(func(r *routed) bool { return r.via == slow })
	}
}

var errSilent = errors.New("no answer")

// lost records a failure. It is the gateway's own when it could not be connected
// to, and else that of the way behind it, of which the gateway has answered.
func (d *Dialer) lost(ctx context.Context, gateway, name string, err error) (answered bool) {
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return false // the caller went away
	}
	var op *net.OpError
	answered = !errors.As(err, &op) || op.Op != "dial"
	if !answered {
		name = ""
	}
	d.locator.failed(gateway, name, err)
	return answered
}

// routed is a connection through a gateway. It tells when there is a better way.
type routed struct {
	net.Conn

	dialer     *Dialer
	via        Candidate
	name       string // of the server behind it
	superseded chan struct{}
	closed     sync.Once
}

// Superseded implements rpc.Superseded.
func (r *routed) Superseded() <-chan struct{} { return r.superseded }

// Silent implements rpc.Silent. Whether the gateway or what is behind it fell
// silent cannot be told apart, and connections that give way lose nothing.
func (r *routed) Silent() { r.dialer.blame(r.via, "") }

// Close closes the connection and forgets it.
func (r *routed) Close() error {
	r.closed.Do(func() {
		r.dialer.mu.Lock()
		delete(r.dialer.open, r)
		r.dialer.mu.Unlock()
		r.dialer.locator.opened(r.via.Addr, -1)
	})
	return r.Conn.Close() //nolint:wrapcheck // a plain wrapper
}

func (d *Dialer) routed(conn net.Conn, via Candidate, name string) net.Conn {
	r := &routed{Conn: conn, dialer: d, via: via, name: name, superseded: make(chan struct{})}
	d.mu.Lock()
	d.open[r] = struct{}{}
	d.mu.Unlock()
	d.locator.opened(via.Addr, 1)
	if !via.Own {
		select {
		case d.wakeProbe <- struct{}{}:
		default: // it is told already
		}
	}
	return r
}

// Run moves connections off the primary's gateways: while any goes that way it
// tries the own ones, server by server, and supersedes those to a server that the
// own ones lead to.
func (d *Dialer) Run(ctx context.Context) error {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	changed := d.locator.Changed()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-changed:
		case <-d.wakeProbe:
		}
		var probes sync.WaitGroup
		for name := range d.detours() {
			probes.Go(func() { d.straighten(ctx, name) })
		}
		probes.Wait()
	}
}

// detours are the servers to which connections go through the primary's gateways.
func (d *Dialer) detours() map[string]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string]bool{}
	for r := range d.open {
		if !r.via.Own {
			out[r.name] = true
		}
	}
	return out
}

// straighten dials a server of the primary through the own gateways alone, and if
// they lead to it supersedes its other connections. That they lead to another
// server would say nothing: the next dial would fail and take the longer way again.
func (d *Dialer) straighten(ctx context.Context, name string) {
	own := d.locator.Via(false, name)
	if len(own) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	conn, _, err := d.race(ctx, own, name, transport.RPCMulti)
	if err != nil {
		return
	}
	_ = conn.Close()
	n := d.supersede(func(r *routed) bool { return !r.via.Own && r.name == name })
	d.cfg.Log.Info("connections move to the own mesh gateways", "server", name, "connections", n)
}

// supersede tells the connections that which holds true of to give way, and
// returns their number.
func (d *Dialer) supersede(which func(*routed) bool) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for r := range d.open {
		if which(r) {
			delete(d.open, r)
			close(r.superseded)
			n++
		}
	}
	return n
}
