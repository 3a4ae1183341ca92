package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

const (
	// Pauses between attempts for as long as they fail.
	firstRetry = 250 * time.Millisecond
	lastRetry  = 15 * time.Second

	// smallCluster is the size up to which the pause between comparisons stays as
	// configured. It grows by once itself for each doubling above.
	smallCluster = 128

	// pushesAtOnce are the calls on their way to the servers. The protocol has no
	// call for many services, so that this is the batch: what the leader has at
	// the same time it writes to its log together.
	pushesAtOnce = 64
	checksAtOnce = 128 // in one call, so that no log entry grows without limit
)

// runSync keeps the catalog equal to the agent until ctx is done.
func (a *Agent) runSync(ctx context.Context) error {
	retry := firstRetry
	var nextCompare time.Time
	for ctx.Err() == nil {
		compare := !time.Now().Before(nextCompare)
		refused, err := a.syncOnce(ctx, compare)
		if problem := errors.Join(err, refused); problem != nil && ctx.Err() == nil {
			a.logBehind(ctx, problem, retry)
			// Who failed together shall not return together.
			nextCompare = time.Now().Add(retry/2 + rand.N(retry/2)) //nolint:gosec // spreads load, hides nothing
			retry = min(2*retry, lastRetry)
		} else if compare {
			retry, nextCompare = firstRetry, time.Now().Add(a.pause())
		}
		changed, next := a.changed, a.nextDue(nextCompare)
		if err != nil { // there is nobody to push to: changes wait too
			changed, next = nil, nextCompare
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-changed:
		case <-a.kicked:
			retry, nextCompare = firstRetry, time.Time{}
		}
		timer.Stop()
	}
	return nil
}

// logBehind tells of the first failure in a row.
func (a *Agent) logBehind(ctx context.Context, err error, retry time.Duration) {
	level := slog.LevelDebug
	if retry == firstRetry {
		level = slog.LevelWarn
	}
	a.log.Log(ctx, level, "catalog is behind", "err", err)
}

// pause is how long until the next comparison: the interval for the size of the
// cluster, less up to a quarter, so that agents do not compare all at once.
func (a *Agent) pause() time.Duration {
	scale := 1.0
	if a.cfg.NumNodes != nil {
		if n := a.cfg.NumNodes(); n > smallCluster {
			scale += math.Ceil(math.Log2(float64(n) / smallCluster))
		}
	}
	d := time.Duration(scale * float64(a.cfg.SyncInterval))
	return d - rand.N(d/4+1) //nolint:gosec // spreads load, hides nothing
}

// nextDue is when the next output must be pushed, at the latest limit.
func (a *Agent) nextDue(limit time.Time) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.waiting) > 0 && !a.waiting[0].valid() {
		a.waiting = a.waiting[1:]
	}
	if len(a.waiting) > 0 && a.waiting[0].due.Before(limit) {
		return a.waiting[0].due
	}
	return limit
}

// valid tells whether the output still waits. The caller holds Agent.mu.
func (w *waiting) valid() bool { return w.check.due.Equal(w.due) }

// endWaits has the outputs pushed that have waited long enough. The caller holds
// a.mu.
func (a *Agent) endWaits(now time.Time) {
	for len(a.waiting) > 0 && !now.Before(a.waiting[0].due) {
		if w := &a.waiting[0]; w.valid() {
			w.check.due = time.Time{}
			a.unsyncedChecks[w.check] = struct{}{}
		}
		a.waiting = a.waiting[1:]
	}
}

// syncOnce pushes what the catalog lacks. Unless it compares first, that is what
// has changed since the last time. What servers refuse is no error of the whole:
// it is returned apart, and counts as pushed until the next comparison, so that it
// does not keep other changes back.
func (a *Agent) syncOnce(ctx context.Context, compare bool) (refused, err error) {
	if compare {
		if err := a.compare(ctx); err != nil {
			return nil, err
		}
	}
	if err := a.pushNode(ctx); err != nil {
		return nil, err
	}
	return a.push(ctx)
}

// push sends every change of services and checks.
func (a *Agent) push(ctx context.Context) (refused, err error) {
	calls := a.pending()
	verdicts := make([]error, len(calls))
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var started atomic.Int64
	work := func() {
		for ctx.Err() == nil {
			i := int(started.Add(1)) - 1
			if i >= len(calls) {
				return
			}
			verdict, err := a.settle(ctx, calls[i])
			if err != nil {
				stop(err) // nobody is there: the others need not try
			}
			verdicts[i] = verdict
		}
	}
	var others sync.WaitGroup
	for range min(pushesAtOnce, len(calls)) - 1 {
		others.Go(work)
	}
	work() // most of the time there is one change only
	others.Wait()
	a.renewEmpty()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx) // the first one; later ones may only tell of the stop
	}
	return errors.Join(verdicts...), nil
}

// renewEmpty replaces what lists nothing any more: a map that was large once takes
// as long to walk when it is empty, and every change walks these.
func (a *Agent) renewEmpty() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.unsyncedServices) == 0 {
		a.unsyncedServices = map[*service]struct{}{}
	}
	if len(a.unsyncedChecks) == 0 {
		a.unsyncedChecks = map[*check]struct{}{}
	}
	if len(a.goneServices) == 0 {
		a.goneServices = map[string]goneService{}
	}
	if len(a.goneChecks) == 0 {
		a.goneChecks = map[string]goneCheck{}
	}
}

// settle makes a call, and notes that it was made if somebody answered. What
// servers refuse is the verdict.
func (a *Agent) settle(ctx context.Context, c *call) (verdict, err error) {
	verdict = a.send(ctx, c)
	if verdict != nil && !answered(verdict) {
		return nil, verdict
	}
	a.done(c)
	if api.CodeOf(verdict) == api.NotAllowed {
		// Asking soon again would only be refused again.
		a.log.Warn("catalog change is not allowed", "call", c, "err", verdict)
		return nil, nil
	}
	return verdict, nil
}

// answered tells whether an error is a server's verdict on this one request.
func answered(err error) bool {
	switch api.CodeOf(err) {
	case api.Invalid, api.NotFound, api.NotAllowed, api.TooLarge, api.ACLDisabled:
		return true
	case api.Internal:
		remote, ok := errors.AsType[*rpc.RemoteError](err)
		return ok && remote != nil
	default:
		return false
	}
}

// call is one change of the catalog on its way.
type call struct {
	token      string
	register   *api.Registration // nil for a removal
	deregister api.Deregistration
	service    *service // that register holds, if any
	checks     []sent
	along      []string // the checks that go with the service that deregister names
}

// sent is a check as it is being registered.
type sent struct {
	check *check
	row   *api.HealthCheck
}

// send makes a call.
func (a *Agent) send(ctx context.Context, c *call) error {
	h := rpc.Header{Datacenter: a.cfg.Datacenter, Token: c.token}
	if h.Token == "" {
		h.Token = a.cfg.Token
	}
	var err error
	if c.register != nil {
		_, _, err = wire.CatalogRegister.Call(ctx, a.cfg.Caller, h, *c.register)
	} else {
		_, _, err = wire.CatalogDeregister.Call(ctx, a.cfg.Caller, h, c.deregister)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c, err)
	}
	return nil
}

// String says what a call is about.
func (c *call) String() string {
	switch {
	case c.register == nil && c.deregister.ServiceID != "":
		return fmt.Sprintf("deregister service %q", c.deregister.ServiceID)
	case c.register == nil:
		return fmt.Sprintf("deregister check %q", c.deregister.CheckID)
	case c.register.Service != nil:
		return fmt.Sprintf("register service %q", c.register.Service.ID)
	case len(c.checks) > 0:
		return fmt.Sprintf("register %d checks of service %q", len(c.checks), c.checks[0].check.of)
	}
	return "register the node"
}

// done notes that the catalog has what a call brought, unless that has changed
// again.
func (a *Agent) done(c *call) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.unsyncedServices, c.service)
	for _, s := range c.checks {
		if s.check.row == s.row {
			delete(a.unsyncedChecks, s.check)
			s.check.due = time.Time{}
		}
	}
	if c.register != nil {
		return
	}
	delete(a.goneServices, c.deregister.ServiceID)
	delete(a.goneChecks, c.deregister.CheckID)
	for _, id := range c.along {
		delete(a.goneChecks, id)
	}
}

// pushNode registers the node alone, when the catalog does not know it as it is.
func (a *Agent) pushNode(ctx context.Context) error {
	a.mu.Lock()
	node := a.node
	a.mu.Unlock()
	if node.synced {
		return nil
	}
	in := a.registration(node)
	in.SkipNodeUpdate = false
	if err := a.send(ctx, &call{register: in}); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if sameNode(&a.node, &node) {
		a.node.synced = true
	}
	return nil
}

// registration begins a registration with what identifies the node.
func (a *Agent) registration(node nodeInfo) *api.Registration {
	return &api.Registration{
		Datacenter: a.cfg.Datacenter, ID: a.cfg.NodeID, Node: a.cfg.Node, Address: a.cfg.Address,
		TaggedAddresses: node.tagged, NodeMeta: node.meta, SkipNodeUpdate: true,
	}
}

// tokenOf is the token of a service, if it has one. The caller holds a.mu.
func (a *Agent) tokenOf(serviceID string) string {
	if s := a.services[serviceID]; s != nil {
		return s.token
	}
	return ""
}

// pending lists the calls that would make the catalog equal to the agent.
func (a *Agent) pending() []*call {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, g := range a.goneChecks {
		if whole, ok := a.goneServices[g.serviceID]; ok {
			whole.checks = append(whole.checks, id)
			a.goneServices[g.serviceID] = whole
			delete(a.goneChecks, id)
		}
	}
	var calls []*call
	for id, g := range a.goneServices {
		calls = append(calls, &call{token: g.token, along: g.checks, deregister: api.Deregistration{
			Datacenter: a.cfg.Datacenter, Node: a.cfg.Node, ServiceID: id,
		}})
	}
	for id, g := range a.goneChecks {
		calls = append(calls, &call{token: g.token, deregister: api.Deregistration{
			Datacenter: a.cfg.Datacenter, Node: a.cfg.Node, CheckID: id,
		}})
	}
	a.endWaits(time.Now())
	byService := map[string][]sent{}
	for c := range a.unsyncedChecks {
		byService[c.of] = append(byService[c.of], sent{c, c.row})
	}
	for s := range a.unsyncedServices {
		calls = append(calls, a.calls(s, byService[s.row.ID])...)
		delete(byService, s.row.ID)
	}
	for _, all := range byService {
		calls = append(calls, a.calls(nil, all)...)
	}
	return calls
}

// calls registers a service, if there is one, together with checks. The caller
// holds a.mu.
func (a *Agent) calls(s *service, all []sent) []*call {
	slices.SortFunc(all, func(x, y sent) int { return strings.Compare(x.row.CheckID, y.row.CheckID) })
	var calls []*call
	for len(calls) == 0 || len(all) > 0 {
		part := all[:min(len(all), checksAtOnce)]
		all = all[len(part):]
		c := &call{register: a.registration(a.node), checks: part}
		if len(part) > 0 {
			c.token = a.tokenOf(part[0].check.of)
		}
		if s != nil {
			// The later parts repeat the service, since they may arrive first.
			c.service, c.token, c.register.Service = s, s.token, s.row
		}
		for _, p := range part {
			c.register.Checks = append(c.register.Checks, p.row)
		}
		calls = append(calls, c)
	}
	return calls
}
