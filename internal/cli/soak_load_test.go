package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// soakKind is a kind of request.
type soakKind int

const (
	staleRead soakKind = iota
	consistentRead
	acrossWrite
)

func (k soakKind) String() string { return [...]string{"stale reads", "consistent reads", "writes"}[k] }

// Load of a soak, for each way between two datacenters. Requests start at their
// pace whether or not earlier ones were answered, so a slow answer hides nothing.
var soakPace = [...]time.Duration{
	staleRead:      time.Second / 30,
	consistentRead: time.Second / 2,
	acrossWrite:    time.Second / 2,
}

const (
	writeBar = 10 * time.Second // the deadline of a write
	soakSeed = "soak/seed"      // the key that is read
	soakKeys = "soak/written/"  // where writes go
)

// soakResult is how a request went.
type soakResult struct {
	kind  soakKind
	way   way
	asked string // the server that was asked last
	begun time.Time
	took  time.Duration
	err   string // empty when it was answered as it must be
}

func (r *soakResult) ended() time.Time { return r.begun.Add(r.took) }

// soakLoad sends requests across and remembers all results.
type soakLoad struct {
	servers map[string][]*demoNode // by datacenter
	http    map[*demoNode]*http.Client

	mu      sync.Mutex
	results []soakResult
	acked   map[string]string // datacenter and key to value, of writes that were acknowledged
}

func newSoakLoad(r *demoRun) *soakLoad {
	l := &soakLoad{servers: map[string][]*demoNode{}, http: map[*demoNode]*http.Client{}, acked: map[string]string{}}
	for _, n := range r.servers("") {
		l.servers[n.dc] = append(l.servers[n.dc], n)
		l.http[n] = askFrom(r.network.space(n))
		l.http[n].Transport.(*http.Transport).MaxIdleConnsPerHost = 64
	}
	return l
}

// seed writes the key that is read into each datacenter, and waits until each
// server there has it and reads it from all the others.
func (l *soakLoad) seed(ctx context.Context) error {
	for dc, servers := range l.servers {
		req := soakRequest{method: http.MethodPut, path: soakSeed, dc: dc, body: seedOf(dc), want: "true"}
		if err := l.ask(ctx, servers[0], req); err != nil {
			return fmt.Errorf("write %s into %s: %w", soakSeed, dc, err)
		}
	}
	for n := range l.http {
		for dc := range l.servers {
			req := soakRequest{method: http.MethodGet, path: soakSeed, dc: dc, query: "&raw&stale", want: seedOf(dc)}
			var err error
			late := eventually(ctx, func() bool {
				err = l.ask(ctx, n, req)
				return err == nil
			})
			if late != nil {
				return fmt.Errorf("read %s of %s by %s: %w", soakSeed, dc, n.name, err)
			}
		}
	}
	return nil
}

func seedOf(dc string) string { return "seeded in " + dc }

// run sends requests between all datacenters until ctx is done, and returns when
// the last one has ended.
func (l *soakLoad) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for from := range l.servers {
		for to := range l.servers {
			if from == to {
				continue
			}
			for kind := range soakPace {
				running.Go(func() { l.stream(ctx, soakKind(kind), way{from, to}) })
			}
		}
	}
}

// machine is the key in the timeline of the times in which the machine did not let
// this process run.
type machine struct{}

const (
	machineLook  = 100 * time.Millisecond
	machineStall = 500 * time.Millisecond // late by so much, and what takes seconds says nothing of the federation
)

// watchMachine marks the times in which a timer was late, and as much time after
// each for what was held up to end.
func watchMachine(ctx context.Context, t *timeline) {
	tick := time.NewTicker(machineLook)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		if late := now.Sub(last); late > machineLook+machineStall {
			t.add(machine{}, span{last, now.Add(late)})
		}
		last = now
	}
}

// stream starts requests of one kind at their pace.
func (l *soakLoad) stream(ctx context.Context, kind soakKind, w way) {
	var under sync.WaitGroup
	defer under.Wait()
	tick := time.NewTicker(soakPace[kind])
	defer tick.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		under.Go(func() { l.request(context.WithoutCancel(ctx), kind, w, turn) })
	}
}

// request makes one request and notes how it went. As a client does, it asks
// another server when one cannot be talked to.
func (l *soakLoad) request(ctx context.Context, kind soakKind, w way, turn int) {
	req := soakRequest{method: http.MethodGet, path: soakSeed, dc: w.to, query: "&raw", want: seedOf(w.to)}
	limit := readBar
	switch kind {
	case staleRead:
		req.query += "&stale"
	case acrossWrite:
		limit = writeBar
		req = soakRequest{
			method: http.MethodPut, path: fmt.Sprintf("%s%s/%06d", soakKeys, w.from, turn), dc: w.to,
			body: fmt.Sprintf("%s %d", w, turn), want: "true",
		}
	default: // a read that the leader answers
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	begun := time.Now()
	asked, err := l.any(ctx, w.from, turn, kind, req)
	result := soakResult{kind: kind, way: w, asked: asked.name, begun: begun, took: time.Since(begun)}
	if err != nil {
		result.err = strings.Join(strings.Fields(err.Error()), " ")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.results = append(l.results, result)
	if kind == acrossWrite && err == nil {
		l.acked[w.to+" "+req.path] = req.body
	}
}

// any asks the servers of a datacenter in turn until one can be talked to. A
// write is sent once.
func (l *soakLoad) any(ctx context.Context, dc string, turn int, kind soakKind, req soakRequest) (asked *demoNode, err error) {
	servers := l.servers[dc]
	for i := range servers {
		asked = servers[(turn+i)%len(servers)]
		err = l.ask(ctx, asked, req)
		if _, answered := errors.AsType[*wrongAnswerError](err); err == nil || answered || ctx.Err() != nil || kind == acrossWrite {
			break
		}
	}
	return asked, err
}

// soakRequest is what a server is asked, and the answer that is right.
type soakRequest struct {
	method, path, dc, query, body string

	want string
}

// wrongAnswerError is any other answer.
type wrongAnswerError struct {
	status int
	body   string
}

func (a *wrongAnswerError) Error() string { return fmt.Sprintf("answer %d: %s", a.status, a.body) }

func (l *soakLoad) ask(ctx context.Context, n *demoNode, r soakRequest) error {
	url := "http://" + n.at(demoHTTPPort) + "/v1/kv/" + r.path + "?dc=" + r.dc + r.query
	req, err := http.NewRequestWithContext(ctx, r.method, url, strings.NewReader(r.body))
	if err != nil {
		return err
	}
	resp, err := l.http[n].Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(string(body)); resp.StatusCode != http.StatusOK || got != r.want {
		return &wrongAnswerError{resp.StatusCode, got}
	}
	return nil
}
