package dns

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkAgainstReference compares the CPU time that an agent of ours and one of
// the reference take for an answer, in turns. Both run as programs of their own,
// with 10 instances of a service.
func BenchmarkAgainstReference(b *testing.B) {
	binary := os.Getenv("ISTHMUS_REFERENCE")
	if binary == "" {
		b.Skip("skipped: ISTHMUS_REFERENCE does not name the reference's binary")
	}
	ours := filepath.Join(b.TempDir(), "isthmus")
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-o", ours, "isthmus/cmd/isthmus").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	const rounds, length = 5, time.Second
	agents := []*agent{startAgent(b, binary, "127.61.1.1"), startAgent(b, ours, "127.61.1.2")}
	for i := range benchQuestions {
		b.Run(benchName(i), func(b *testing.B) {
			raw := benchQuery(b, i)
			cost := make([][]float64, len(agents))
			rate := make([][]float64, len(agents))
			for _, a := range agents {
				a.load(b, raw, length/5) // both have answered it by then
			}
			for b.Loop() {
				for range rounds {
					for k, a := range agents {
						begin := a.cpu(b)
						n := a.load(b, raw, length)
						cost[k] = append(cost[k], float64((a.cpu(b)-begin).Nanoseconds())/1000/float64(n))
						rate[k] = append(rate[k], float64(n)/length.Seconds())
					}
				}
			}
			for k, name := range []string{"reference", "ours"} {
				b.ReportMetric(median(cost[k]), name+"-cpu-us/answer")
				b.ReportMetric(median(rate[k]), name+"-answers/s")
			}
			b.ReportMetric(median(cost[0])/median(cost[1]), "times")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

type agent struct {
	pid  int
	addr string
}

// startAgent starts an agent in development mode with the services of the benchmark.
func startAgent(b *testing.B, binary, ip string) *agent {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), binary, "agent", "-dev", "-bind", ip, "-client", ip, "-log-level", "error", "-node", "bench")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	await(b, "http://"+ip+":8500/v1/catalog/nodes", "lan_ipv4")
	for i := range 10 {
		put(b, "http://"+ip+":8500/v1/catalog/register", fmt.Appendf(nil, `{"Node":"node-%04d","Address":"10.0.0.%d","Service":{"ID":"web","Service":"web","Port":%d}}`, i, i+1, 8080+i))
	}
	await(b, "http://"+ip+":8500/v1/health/service/web", "node-0009")
	return &agent{cmd.Process.Pid, ip + ":8600"}
}

// load asks the agent from 16 sockets for some time, one question at a time each, and
// returns how many answers came.
func (a *agent) load(b *testing.B, raw []byte, length time.Duration) int64 {
	b.Helper()
	var (
		clients sync.WaitGroup
		n       atomic.Int64
		until   = time.Now().Add(length)
	)
	for range 16 {
		conn, err := net.Dial("udp", a.addr)
		if err != nil {
			b.Fatal(err)
		}
		clients.Go(func() {
			defer conn.Close()
			buf := make([]byte, maxMessage)
			for time.Now().Before(until) {
				_ = conn.SetDeadline(time.Now().Add(time.Second))
				if _, err := conn.Write(raw); err != nil {
					return
				}
				if _, err := conn.Read(buf); err == nil && buf[3]&0xf == 0 {
					n.Add(1)
				}
			}
		})
	}
	clients.Wait()
	if n.Load() == 0 {
		b.Fatal("no answer came")
	}
	return n.Load()
}

// cpu is the processor time that the agent has used.
func (a *agent) cpu(b *testing.B) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", a.pid))
	if err != nil {
		b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		b.Fatal(err)
	}
	system, err := strconv.Atoi(fields[12])
	if err != nil {
		b.Fatal(err)
	}
	const tick = 10 * time.Millisecond
	return time.Duration(user+system) * tick
}
