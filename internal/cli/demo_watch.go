package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	consul "github.com/hashicorp/consul/api"
)

const (
	askLimit   = 10 * time.Second       // of any question to a node
	lookLimit  = 2 * time.Second        // of one that is answered at once
	probeEvery = 100 * time.Millisecond // between two reads from another datacenter
	probeKey   = "demo/probe"
	probeKept  = 1000 // reads that failed or were slow, of which a probe knows
	slowRead   = 50 * time.Millisecond
)

// askFrom is an HTTP client that connects from inside a space.
func askFrom(s *space) *http.Client {
	return &http.Client{Timeout: askLimit, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) { return s.dial(ctx, network, addr) },
	}}
}

// client makes the client of a server.
func client(n *demoNode, s *space) (*consul.Client, error) {
	c, err := consul.NewClient(&consul.Config{Address: n.at(demoHTTPPort), Scheme: "http", HttpClient: askFrom(s)})
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", n.name, err)
	}
	return c, nil
}

// demoView is what a node says.
type demoView struct {
	answers bool

	// Of a server.
	leads    bool
	leader   string         // address, as seen by it
	alive    int            // servers of all datacenters on the WAN
	gateways map[string]int // by datacenter whose record it has
	route    string         // to the other datacenters

	// Of a gateway.
	bytes uint64
}

// view asks a node.
func (r *demoRun) view(ctx context.Context, n *demoNode) demoView {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	if !n.server {
		sum, err := r.relayed(ctx, n)
		return demoView{answers: err == nil, bytes: sum}
	}
	var (
		v      demoView
		states map[string][]consul.ServiceEntry
		status federation
		q      = (&consul.QueryOptions{AllowStale: true}).WithContext(ctx)
		raw    = r.clients[n].Raw()
	)
	members, err := r.clients[n].Agent().MembersOpts(consul.MembersOpts{WAN: true})
	if err != nil {
		return v
	}
	v.answers = true
	for _, m := range members {
		if memberStatus(m) == "alive" {
			v.alive++
		}
	}
	leader, err := r.clients[n].Status().LeaderWithQueryOptions(q)
	if err != nil {
		return v
	}
	v.leader, v.leads = leader, leader == n.at(demoServerPort)
	if _, err := raw.Query("/v1/internal/federation-states/mesh-gateways", &states, q); err == nil {
		v.gateways = map[string]int{}
		for dc, gateways := range states {
			v.gateways[dc] = len(gateways)
		}
	}
	if _, err := raw.Query("/v1/federation/status", &status, q); err == nil {
		v.route = routes(n, &status)
	}
	return v
}

// routes is how a server reaches the other datacenters, in a word when it is the
// same to all.
func routes(n *demoNode, status *federation) string {
	var out []string
	for _, s := range status.Servers {
		if s.Node != n.name {
			continue
		}
		for _, dc := range s.Datacenters {
			if dc.Name != n.dc && (len(out) == 0 || out[len(out)-1] != dc.Route) {
				out = append(out, dc.Route)
			}
		}
	}
	return strings.Join(out, ", ")
}

// views asks all nodes at the same time.
func (r *demoRun) views(ctx context.Context) map[*demoNode]demoView {
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		out = map[*demoNode]demoView{}
	)
	for _, n := range r.nodes {
		wg.Go(func() {
			v := r.view(ctx, n)
			mu.Lock()
			out[n] = v
			mu.Unlock()
		})
	}
	wg.Wait()
	return out
}

// relayed asks a gateway how many bytes it relayed.
func (r *demoRun) relayed(ctx context.Context, n *demoNode) (uint64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.at(demoAdminPort)+"/metrics", nil)
	if err != nil {
		return 0, fmt.Errorf("ask %s: %w", n.name, err)
	}
	resp, err := r.plain[n].Do(req)
	if err != nil {
		return 0, fmt.Errorf("ask %s: %w", n.name, err)
	}
	defer func() { _ = resp.Body.Close() }()
	return sumMetric(resp.Body, "isthmus_gateway_bytes_total")
}

// sumMetric adds up the values of a metric in the text that Prometheus reads.
func sumMetric(r io.Reader, name string) (uint64, error) {
	var sum uint64
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		n, err := strconv.ParseUint(rest[strings.LastIndexByte(rest, ' ')+1:], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", name, err)
		}
		sum += n
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	return sum, nil
}

// probe reads a key of another datacenter again and again, as a client would:
// when its server does not answer, it asks the next one.
type probe struct {
	from, to string
	ask      []*consul.Client // the servers of from

	mu    sync.Mutex
	bad   []badRead // the last ones that failed or were slow
	last  time.Duration
	error error // of the last read
}

// badRead is a read that failed or took long.
type badRead struct {
	begun, ended time.Time
	failed       bool
}

func (p *probe) name() string { return p.from + " → " + p.to }

// run reads until ctx is done.
func (p *probe) run(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for turn := 0; ctx.Err() == nil; {
		begun := time.Now()
		err := readKey(ctx, p.ask[turn%len(p.ask)], p.to)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			turn++
		}
		p.note(begun, time.Now(), err)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// readKey reads the key that is probed. That there is none is an answer as well.
func readKey(ctx context.Context, c *consul.Client, dc string) error {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	if _, _, err := c.KV().Get(probeKey, (&consul.QueryOptions{Datacenter: dc}).WithContext(ctx)); err != nil {
		return fmt.Errorf("read a key of %s: %w", dc, err)
	}
	return nil
}

func (p *probe) note(begun, ended time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last, p.error = ended.Sub(begun), err
	if err == nil && p.last < slowRead {
		return
	}
	if len(p.bad) == probeKept {
		p.bad = p.bad[1:]
	}
	p.bad = append(p.bad, badRead{begun, ended, err != nil})
}

// now says how the last read went.
func (p *probe) now() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.error != nil {
		return "fail: " + strings.Join(strings.Fields(rootCause(p.error)), " ")
	}
	return fmt.Sprintf("work, %.1f ms", float64(p.last.Microseconds())/1000)
}

// rootCause is the innermost text of an error, which says most in one line.
func rootCause(err error) string {
	if status, ok := errors.AsType[consul.StatusError](err); ok {
		return status.Body
	}
	return err.Error()
}

// since says how reads went after a moment.
func (p *probe) since(t time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var (
		failed, slowest time.Duration
		count           int
		until           = t
	)
	for _, b := range p.bad {
		if b.ended.Before(t) {
			continue
		}
		if !b.failed {
			slowest = max(slowest, b.ended.Sub(b.begun))
			continue
		}
		count++
		if b.begun.Before(until) {
			b.begun = until
		}
		// From the end of a read that failed to the begin of the next one that
		// fails, nothing worked either.
		if gap := b.begun.Sub(until); count > 1 && gap <= 2*probeEvery {
			b.begun = until
		}
		failed += b.ended.Sub(b.begun)
		until = b.ended
	}
	switch {
	case count > 0:
		return fmt.Sprintf("%s failed for %.2f s (reads: %d)", p.name(), failed.Seconds(), count)
	case slowest > 0:
		return fmt.Sprintf("%s never failed, the slowest took %.2f s", p.name(), slowest.Seconds())
	default:
		return p.name() + " never failed"
	}
}
