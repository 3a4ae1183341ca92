package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"isthmus/internal/testkit"
)

// BenchmarkOutages measures how long a federation of three servers a side takes to
// work again after what goes wrong in practice. Run it with -benchtime=1x; each
// figure is the median of the rounds.
func BenchmarkOutages(b *testing.B) {
	const rounds = 3
	figures := map[string][]float64{}
	for b.Loop() {
		for range rounds {
			for name, took := range outages(b) {
				figures[name] = append(figures[name], took.Seconds())
			}
		}
	}
	for name, list := range figures {
		slices.Sort(list)
		b.ReportMetric(list[len(list)/2], name+"-s")
	}
}

func outages(b *testing.B) map[string]time.Duration {
	b.Helper()
	f := newFleet(b)
	took := map[string]time.Duration{}
	since := func(name string, start time.Time) { took[name] = time.Since(start) }
	start := time.Now()
	one := f.servers(1, 3, "")
	f.gateway(1, 1)
	two := f.servers(2, 3, "")
	f.gateway(2, 1)
	f.federated(3)
	since("start", start)

	// The leader of the primary is lost: the next write from the secondary.
	var leader string
	if err := f.get(1, 1, "/v1/status/leader", &leader); err != nil {
		b.Fatal(err)
	}
	at := slices.IndexFunc([]int{1, 2, 3}, func(n int) bool { return strings.HasPrefix(leader, f.addr(1, n)+":") })
	one[at].signal(syscall.SIGKILL)
	start = time.Now()
	testkit.Eventually(b, func() error { return f.put(2, 1, 1, "k", "v") })
	since("leader-lost", start)
	one[at].start()
	f.federated(3)

	// All servers of the secondary restart.
	for _, p := range two {
		p.signal(syscall.SIGKILL)
	}
	start = time.Now()
	for _, p := range two {
		p.start()
	}
	f.federated(3)
	since("secondary-restarted", start)

	// The WAN is cut for 20 s: both gateways stop relaying.
	gateways := f.all[slices.IndexFunc(f.all, func(p *process) bool { return p.name == "dc1-gw1" })]
	other := f.all[slices.IndexFunc(f.all, func(p *process) bool { return p.name == "dc2-gw1" })]
	gateways.signal(syscall.SIGSTOP)
	other.signal(syscall.SIGSTOP)
	<-time.After(20 * time.Second)
	gateways.signal(syscall.SIGCONT)
	other.signal(syscall.SIGCONT)
	start = time.Now()
	f.federated(3)
	since("wan-cut-healed", start)

	// The primary's gateway moves to another address: traffic from the secondary.
	gateways.signal(syscall.SIGKILL)
	start = time.Now()
	f.gateway(1, 2)
	testkit.Eventually(b, func() error {
		_, err := f.read(2, 1, 1, "k")
		return err
	})
	since("primary-gateway-moved", start)
	testkit.Eventually(b, func() error {
		body, err := f.do(http.MethodGet, 2, 1, "/v1/federation/status", nil)
		if err == nil && !strings.Contains(string(body), f.gatewayAddr(1, 2)) {
			err = fmt.Errorf("the new gateway is not known: %s", body)
		}
		return err
	})
	since("primary-gateway-moved-known", start)
	f.stop()
	f.all = nil
	return took
}
