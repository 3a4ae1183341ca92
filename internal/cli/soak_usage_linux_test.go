package cli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	usageEvery  = 5 * time.Second
	ticksSecond = 100 // of the kernel's clock of processor time
)

// soakUsage samples what the processes use and count.
type soakUsage struct {
	mu    sync.Mutex
	procs map[int]*procUsage // by process
	order []int
}

// procUsage is what one process used.
type procUsage struct {
	node       *demoNode
	rss        []rssSample
	ticks      uint64             // of processor time
	counts     map[string]float64 // the last values of what a server counted
	goroutines float64
}

type rssSample struct {
	at    time.Time
	bytes uint64
}

func newSoakUsage() *soakUsage { return &soakUsage{procs: map[int]*procUsage{}} }

// watch samples until ctx is done.
func (u *soakUsage) watch(ctx context.Context, s *soak) {
	tick := time.NewTicker(usageEvery)
	defer tick.Stop()
	for {
		u.sample(ctx, s)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (u *soakUsage) sample(ctx context.Context, s *soak) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for pid, n := range s.run.processes.pids() {
		rss, ticks, ok := readUsage(pid)
		if !ok {
			continue // it has just ended
		}
		p := u.procs[pid]
		if p == nil {
			p = &procUsage{node: n, counts: map[string]float64{}}
			u.procs[pid] = p
			u.order = append(u.order, pid)
		}
		p.rss = append(p.rss, rssSample{time.Now(), rss})
		p.ticks = ticks
		if n.server {
			_ = p.ask(ctx, s.load.http[n]) // a server that starts or stops is asked next time
		}
	}
}

// readUsage reads the resident memory and the processor time of a process.
func readUsage(pid int) (rss, ticks uint64, ok bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	status, err := os.ReadFile(dir + "/statm")
	if err != nil {
		return 0, 0, false
	}
	pages := strings.Fields(string(status))
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil || len(pages) < 2 {
		return 0, 0, false
	}
	// The name of the program stands in parentheses and may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const user, system = 11, 12
	if len(fields) <= system {
		return 0, 0, false
	}
	number := func(text string) uint64 {
		n, _ := strconv.ParseUint(text, 10, 64) // the kernel writes numbers
		return n
	}
	return number(pages[1]) * uint64(os.Getpagesize()), number(fields[user]) + number(fields[system]), true
}

// ask reads the counters of a server.
func (p *procUsage) ask(ctx context.Context, client *http.Client) error {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.node.at(demoHTTPPort)+"/v1/agent/metrics?format=prometheus", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return p.read(resp.Body)
}

// read takes over dials by protocol and the number of goroutines.
func (p *procUsage) read(r io.Reader) error {
	counts := map[string]float64{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name := lines.Text()
		at := strings.LastIndexByte(name, ' ') // labels may hold spaces as well
		v, err := strconv.ParseFloat(name[at+1:], 64)
		if err != nil {
			continue
		}
		_, protocol, _ := strings.Cut(name, `protocol="`)
		protocol, _, _ = strings.Cut(protocol, `"`)
		switch {
		case strings.HasPrefix(name, "consul_federation_dial_count{"):
			counts[protocol] += v
		case strings.HasPrefix(name, "consul_federation_dial_failure{"):
			counts[protocol+", failed"] += v
		case strings.HasPrefix(name, "consul_runtime_num_goroutines"):
			p.goroutines = v
		}
	}
	p.counts = counts
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read metrics: %w", err)
	}
	return nil
}

func TestSoakReadsCountersOfServers(t *testing.T) {
	var p procUsage
	err := p.read(strings.NewReader(`# TYPE consul_federation_dial summary
consul_federation_dial{datacenter="dc1",gateway="a b",protocol="rpc",quantile="0.5"} NaN
consul_federation_dial_count{datacenter="dc1",gateway="a b",protocol="rpc"} 3
consul_federation_dial_count{datacenter="dc2",gateway="c",protocol="rpc"} 4
consul_federation_dial_failure{datacenter="dc2",protocol="rpc"} 1
consul_runtime_num_goroutines 55
`))
	if err != nil || p.counts["rpc"] != 7 || p.counts["rpc, failed"] != 1 || p.goroutines != 55 {
		t.Errorf("got %v, %v, %v", p.counts, p.goroutines, err)
	}
	rss, _, ok := readUsage(os.Getpid())
	if !ok || rss == 0 {
		t.Errorf("of this process: %d, %v", rss, ok)
	}
}
