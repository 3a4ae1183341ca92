package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"isthmus/internal/testkit"
)

// instances is how many instances of a service the health rows read.
const instances = 100

// putInstances registers them, each on a node of its own with a check of the node and
// one of the service, so that an answer has about 104 KiB. The nodes are external ones:
// those that gossip checks are taken away when they are no members.
func putInstances(r *rival) {
	r.fleet.t.Helper()
	for i := range instances {
		r.put("/v1/catalog/register", fmt.Sprintf(`{
			"ID": "6e0f0a42-0000-4000-8000-%012d", "Node": "node-%04d", "Address": "10.0.0.%d", "Datacenter": "dc1",
			"TaggedAddresses": {"lan": "10.0.0.%[3]d", "wan": "10.0.0.%[3]d"},
			"NodeMeta": {"rack": "r%[4]d"},
			"Service": {
				"ID": "web-%04[2]d", "Service": "web", "Address": "10.1.0.%[3]d", "Port": 8080,
				"Tags": ["v%[4]d", "http"], "Meta": {"version": "%[4]d"},
				"Weights": {"Passing": 1, "Warning": 1}
			},
			"Checks": [
				{"Node": "node-%04[2]d", "CheckID": "node-health", "Name": "alive", "Status": "passing"},
				{"Node": "node-%04[2]d", "CheckID": "service:web-%04[2]d", "Name": "web", "Status": "passing",
				 "ServiceID": "web-%04[2]d", "Output": "HTTP GET /health: 200 OK"}
			]}`, i, i, i+1, i%2))
		r.put("/v1/coordinate/update", fmt.Sprintf(
			`{"Node": "node-%04d", "Coord": {"Vec": [0.%03d,0,0,0,0,0,0,0], "Error": 0.1, "Adjustment": 0, "Height": 0.00001}}`, i, i))
	}
	testkit.Eventually(r.fleet.t, func() error {
		var nodes []any
		body, err := r.call(http.MethodGet, "/v1/coordinate/nodes", nil)
		if err == nil {
			err = json.Unmarshal(body, &nodes)
		}
		if err == nil && len(nodes) < instances {
			err = fmt.Errorf("%d nodes have coordinates", len(nodes))
		}
		return err
	})
}

func benchHealth(b *testing.B) {
	rivals := newRivals(b)
	for _, r := range rivals {
		r.serve()
		putInstances(r)
	}
	for _, row := range []struct {
		name, query string
		want        int
		headers     []string
	}{
		{"plain", "", instances, nil},
		{"passing", "?passing", instances, nil},
		{"filter-half", "?filter=Service.Meta.version+%3D%3D+%220%22", instances / 2, nil},
		{"filter-all", "?filter=Service.Service+%3D%3D+%22web%22", instances, nil},
		{"cached", "?cached", instances, nil},
		{"near", "?near=node-0050", instances, nil},
		{"gzip", "", instances, []string{"Accept-Encoding: gzip"}},
	} {
		b.Run(row.name, func(b *testing.B) {
			path := "/v1/health/service/web" + row.query
			raw := rawRequest(http.MethodGet, path, "", row.headers...)
			sizes := map[string]int64{}
			for _, r := range rivals {
				var found []any
				body, err := r.call(http.MethodGet, path, nil)
				if err == nil {
					err = json.Unmarshal(body, &found)
				}
				if err != nil || len(found) != row.want {
					b.Fatalf("%s answers %d instances, want %d, %v", r.name, len(found), row.want, err)
				}
				e, err := dialExchange(r.addr())
				if err != nil {
					b.Fatal(err)
				}
				if err := e.do(raw); err != nil {
					b.Fatal(err)
				}
				e.conn.Close()
				sizes[r.name] = e.size
			}
			compare(b, rivals, 16, burnt, func(int, int) []byte { return raw })
			b.ReportMetric(float64(sizes["ours"]), "ours-bytes")
			b.ReportMetric(float64(sizes["ref"]), "ref-bytes")
		})
	}
}

// benchRegister writes new services of nodes that exist. There are some nodes and names,
// because the reference takes longer for a node that has many services.
func benchRegister(b *testing.B) {
	const nodes, names = 500, 200
	rivals := newRivals(b)
	for _, r := range rivals {
		r.serve()
		for i := range nodes {
			r.put("/v1/catalog/register", fmt.Sprintf(`{"Node": "node-%d", "Address": "10.0.0.1"}`, i))
		}
	}
	var ids atomic.Int64
	// Both get the same number, because the more there is, the more a snapshot and a
	// collection of garbage take.
	compare(b, rivals, 64, amount{answers: 8000}, func(int, int) []byte {
		id := ids.Add(1)
		return rawRequest(http.MethodPut, "/v1/catalog/register", fmt.Sprintf(
			`{"Node": "node-%d", "Address": "10.0.0.1", "Service": {"ID": "web-%d", "Service": "web-%d", "Tags": ["a", "b"], "Port": 8080}}`,
			id%nodes, id, id%names))
	})
}

// benchServices registers services on one agent until the catalog has them.
func benchServices(b *testing.B) {
	for _, count := range []int{500, 2000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			rivals, f := newRivals(b), figures{}
			for b.Loop() {
				for range benchRounds {
					for _, r := range rivals {
						r.serve()
						r.settle()
						profiled := r.profile(b)
						before, start := r.cpu(), time.Now()
						putServices(r, count, "")
						took := time.Since(start)
						profiled()
						r.settle()
						f.note("us/service", r, (r.cpu()-before).Seconds()*1e6/float64(count))
						f.note("services/s", r, float64(count)/took.Seconds())
						r.stop()
					}
				}
			}
			f.report(b)
		})
	}
}

// putServices registers services on an agent, four at a time, and waits until the
// catalog has them all. What it asks meanwhile costs the server little.
func putServices(r *rival, count int, check string) {
	r.fleet.t.Helper()
	var clients sync.WaitGroup
	for worker := range 4 {
		clients.Go(func() {
			for i := worker; i < count; i += 4 {
				body := fmt.Sprintf(`{"ID": "svc-%d", "Name": "svc-%d", "Port": 8080, "Tags": ["a", "b"], "Meta": {"version": "1"}%s}`, i, i, check)
				if _, err := r.call(http.MethodPut, "/v1/agent/service/register", []byte(body)); err != nil {
					r.fleet.t.Error(err)
					return
				}
			}
		})
	}
	clients.Wait()
	for end := time.Now().Add(time.Minute); ; lapse(100 * time.Millisecond) {
		body, err := r.call(http.MethodGet, "/v1/catalog/services", nil)
		if err == nil && strings.Count(string(body), `"svc-`) == count {
			return
		}
		if time.Now().After(end) {
			r.fleet.t.Fatalf("%s: the catalog has %d services, want %d, %v", r.name, strings.Count(string(body), `"svc-`), count, err)
		}
	}
}

// ttlChecks is how many checks send heartbeats.
const ttlChecks = 500

func benchTTL(b *testing.B) {
	rivals := newRivals(b)
	for _, r := range rivals {
		r.serve()
		for i := range ttlChecks {
			r.put("/v1/agent/check/register", fmt.Sprintf(`{"ID": "ttl-%d", "Name": "ttl %d", "TTL": "1h", "Status": "passing"}`, i, i))
			r.put(fmt.Sprintf("/v1/agent/check/pass/ttl-%d", i), "")
		}
	}
	const conns = 16
	// Each worker has its own checks, so that nobody else changes their state.
	beat := func(state func(n int) string) func(worker, n int) []byte {
		return func(worker, n int) []byte {
			own := ttlChecks / conns
			return rawRequest(http.MethodPut, fmt.Sprintf("/v1/agent/check/%s/ttl-%d", state(n/own), worker*own+n%own), "")
		}
	}
	b.Run("heartbeat", func(b *testing.B) {
		compare(b, rivals, conns, burnt, beat(func(int) string { return "pass" }))
	})
	b.Run("change", func(b *testing.B) {
		compare(b, rivals, conns, burnt, beat(func(turn int) string { return [2]string{"fail", "pass"}[turn%2] }))
	})
}

// benchAgentMemory compares the memory of an idle client agent with that of one with
// 500 services and a TTL check for each.
func benchAgentMemory(b *testing.B) {
	const services, idle = 500, 10 * time.Second
	f := figures{}
	rivals := newRivals(b)
	clients := make([]*rival, len(rivals))
	for i, r := range rivals {
		r.serve()
		c := *r
		c.node = i + 3
		clients[i] = &c
	}
	for b.Loop() {
		for range benchRounds {
			before := make([]float64, len(clients))
			for i, c := range clients {
				c.launch(map[string]any{
					"server": false, "bootstrap_expect": 0, "node_name": fmt.Sprintf("client-%d", c.starts),
					"retry_join": []string{rivals[i].ip()}, "retry_interval": "1s",
				})
			}
			for _, c := range clients {
				c.await("/v1/catalog/nodes", fmt.Sprintf("%q", fmt.Sprintf("client-%d", c.starts-1)))
			}
			lapse(idle)
			for i, c := range clients {
				before[i] = c.memory()
				putServices(c, services, `, "Check": {"TTL": "1h", "Status": "passing"}`)
			}
			lapse(idle)
			for i, c := range clients {
				f.note("idle-MiB", c, before[i]/1024)
				f.note("more-MiB", c, (c.memory()-before[i])/1024)
				c.put("/v1/agent/leave", "")
				<-c.proc.done
			}
		}
	}
	f.report(b)
}
