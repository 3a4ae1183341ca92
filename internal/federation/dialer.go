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
	rounds     = 3                      // in which silent gateways are tried
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
	by := []telemetry.Label{{Name: "datacenter", Value: to.Datacenter}, {Name: "protocol", Value: p.Name}}
	if err != nil {
		telemetry.Count([]string{"federation", "dial_failure"}, by...)
		return nil, fmt.Errorf("dial %s through mesh gateways: %w", name, err)
	}
	telemetry.Since([]string{"federation", "dial"}, start, append(by, telemetry.Label{Name: "gateway", Value: via.Addr})...)
	return d.routed(conn, via), nil
}

// attempt is the outcome of dialling through one gateway.
type attempt struct {
	at   int
	conn net.Conn
	err  error
}

// race tries the gateways in order: the next at once when one fails, and beside
// it when it is slow. Behind the last one those that are silent are tried anew,
// since they may have chosen a silent gateway on the other side, and will choose
// another one. The first to lead to the server wins.
func (d *Dialer) race(ctx context.Context, list []Candidate, name string, p transport.Proto) (net.Conn, Candidate, error) {
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan attempt, rounds*len(list)) // so that late ones do not wait for a reader
	list = slices.Clone(list)
	started, ended, most := 0, 0, rounds*len(list)
	silent := make([]int, 0, len(list)) // attempts that are under way
	start := func() {
		at, addr := started, list[started].Addr
		started++
		silent = append(silent, at)
		go func() {
			conn, err := d.tls.Upgrade(ctx, addr, name, p)
			results <- attempt{at, conn, err}
		}()
	}
	start()
	slow := time.NewTimer(raceAfter)
	defer slow.Stop()
	var errs []error
	for ended < len(list) {
		select {
		case <-slow.C:
			if started == len(list) && started < most && len(silent) > 0 {
				list = append(list, list[silent[0]])
				silent = silent[1:] // the new attempt stands for it
			}
			if started < len(list) {
				start()
				slow.Reset(raceAfter)
			}
		case r := <-results:
			ended++
			silent = slices.DeleteFunc(silent, func(at int) bool { return at == r.at })
			if r.err == nil {
				d.won(list, r.at, name)
				cancel()
				go discard(results, started-ended)
				return r.conn, list[r.at], nil
			}
			d.lost(ctx, list[r.at].Addr, name, r.err)
			errs = append(errs, r.err)
			if started < len(list) && ctx.Err() == nil {
				start()
				slow.Reset(raceAfter)
			} else if ctx.Err() != nil && ended == started {
				cancel()
				return nil, Candidate{}, errors.Join(errs...)
			}
		}
	}
	cancel()
	return nil, Candidate{}, errors.Join(errs...)
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
		if slow != list[winner] && !d.locator.failedLately(slow.Addr, name) {
			d.locator.failed(slow.Addr, "", errSlow)
			d.supersede(func(r *routed) bool { return r.via == slow })
		}
	}
}

var errSlow = errors.New("no answer while another gateway already led to the server")

// lost records a failure. It is the gateway's own when it could not be connected
// to, and else that of the way behind it.
func (d *Dialer) lost(ctx context.Context, gateway, name string, err error) {
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return // the caller went away
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		name = ""
	}
	d.locator.failed(gateway, name, err)
}

// routed is a connection through a gateway. It tells when there is a better way.
type routed struct {
	net.Conn

	dialer     *Dialer
	via        Candidate
	superseded chan struct{}
	closed     sync.Once
}

// Superseded implements rpc.Superseded.
func (r *routed) Superseded() <-chan struct{} { return r.superseded }

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

func (d *Dialer) routed(conn net.Conn, via Candidate) net.Conn {
	r := &routed{Conn: conn, dialer: d, via: via, superseded: make(chan struct{})}
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
// tries the own ones, and once they lead to the primary it supersedes the others.
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
		if d.detouring() && d.ownWorks(ctx) {
			n := d.supersede(func(r *routed) bool { return !r.via.Own })
			d.cfg.Log.Info("connections move to the own mesh gateways", "connections", n)
		}
	}
}

func (d *Dialer) detouring() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for r := range d.open {
		if !r.via.Own {
			return true
		}
	}
	return false
}

// ownWorks dials the primary through the own gateways alone.
func (d *Dialer) ownWorks(ctx context.Context) bool {
	name := transport.Target{Datacenter: d.cfg.Primary}.ServerName(d.cfg.Domain)
	own := d.locator.Via(false, name)
	if len(own) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	conn, _, err := d.race(ctx, own, name, transport.RPCMulti)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
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
