package main

import (
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkRemoteRead reads a key of the other datacenter through two gateways,
// three servers a side: ours, and the reference's servers behind our gateways, in
// turns. Run it with -benchtime=1x; the figures are medians of the rounds.
func BenchmarkRemoteRead(b *testing.B) {
	ref := reference(b)
	fleets := map[string]*fleet{"ours": newFleet(b), "reference": newFleet(b)}
	for name, f := range fleets {
		binary := ""
		if name == "reference" {
			binary = ref
		}
		for dc := 1; dc <= 2; dc++ {
			f.servers(dc, 3, binary)
			f.gateway(dc, 1)
		}
		f.federated(3)
		if err := f.put(1, 1, 1, "k", "0123456789012345678901234567890123456789"); err != nil {
			b.Fatal(err)
		}
	}
	const rounds = 5
	figures := map[string][]float64{}
	note := func(name string, v float64) { figures[name] = append(figures[name], v) }
	for b.Loop() {
		for range rounds {
			for name, f := range fleets {
				p50, p99 := latency(b, f)
				note(name+"-p50-ms", p50)
				note(name+"-p99-ms", p99)
				note(name+"-reads/s", throughput(b, f, 8))
			}
		}
	}
	for name, list := range figures {
		slices.Sort(list)
		b.ReportMetric(list[len(list)/2], name)
	}
	for round := range figures["ours-reads/s"] {
		note("ratio", figures["ours-reads/s"][round]/figures["reference-reads/s"][round])
	}
	slices.Sort(figures["ratio"])
	b.ReportMetric(figures["ratio"][rounds/2], "reads-ratio")
}

func remoteURL(f *fleet) string {
	return "http://" + net.JoinHostPort(f.addr(2, 1), "8500") + "/v1/kv/k?dc=dc1"
}

func readOnce(b *testing.B, client *http.Client, url string) {
	b.Helper()
	resp, err := client.Get(url)
	if err != nil {
		b.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b.Error(resp.Status)
	}
}

// latency returns two percentiles of reads by one client, in milliseconds.
func latency(b *testing.B, f *fleet) (p50, p99 float64) {
	b.Helper()
	const reads = 2000
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	url := remoteURL(f)
	for range 50 {
		readOnce(b, client, url)
	}
	took := make([]time.Duration, reads)
	for i := range took {
		start := time.Now()
		readOnce(b, client, url)
		took[i] = time.Since(start)
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
	return ms(took[reads/2]), ms(took[reads*99/100])
}

// throughput returns reads a second by as many clients.
func throughput(b *testing.B, f *fleet, clients int) float64 {
	b.Helper()
	const window = 2 * time.Second
	url := remoteURL(f)
	end := time.Now().Add(window)
	counts := make([]int, clients)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for time.Now().Before(end) {
				readOnce(b, client, url)
				counts[i]++
			}
		})
	}
	wg.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	return float64(total) / window.Seconds()
}
