package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"isthmus/internal/testkit"
)

// BenchmarkDiscovery compares a server of ours with one of the reference: both have
// the same settings, run as programs of their own and answer the same load, in turns.
// What counts most is the processor time a server takes for an answer. Run it with
// -benchtime=1x, and a row alone with -bench BenchmarkDiscovery/health/plain. Each
// figure is the median of the rounds, and a ratio says how many times better ours is.
// ISTHMUS_BENCH_PROFILE names a directory for profiles of ours; figures taken with it are
// not to be believed.
func BenchmarkDiscovery(b *testing.B) {
	reference(b)
	b.Run("health", benchHealth)
	b.Run("register", benchRegister)
	b.Run("services", benchServices)
	b.Run("ttl", benchTTL)
	b.Run("agentmemory", benchAgentMemory)
	b.Run("watchers", benchWatchers)
	b.Run("start", benchStart)
}

// benchRounds is how often the two take turns.
const benchRounds = 5

// rival is one of the two that are compared.
type rival struct {
	name   string
	binary string
	node   int // the last number of its address
	fleet  *fleet
	proc   *process
	starts int
}

// newRivals makes ours and the reference. Neither runs yet.
func newRivals(b *testing.B) []*rival {
	b.Helper()
	f := newFleet(b)
	return []*rival{
		{name: "ours", binary: installed(b, ownBinary(b)), node: 1, fleet: f},
		{name: "ref", binary: installed(b, reference(b)), node: 2, fleet: f},
	}
}

// ownBinary builds the program as it is released: a test binary holds more than the
// program does, which shows in memory and in the time to start.
func ownBinary(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "isthmus")
	cmd := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "isthmus/cmd/isthmus")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return path
}

// installed is a copy of a program that the system knows from disk alone, as after it
// was booted. How a file came into the page cache says how much of it a process maps
// at a time, by half of its memory.
func installed(b *testing.B, program string) string {
	b.Helper()
	content, err := os.ReadFile(program)
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), filepath.Base(program))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		b.Fatal(err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync())
	const dontNeed = 4 // POSIX_FADV_DONTNEED
	if _, _, failed := syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, dontNeed, 0, 0); failed != 0 {
		err = errors.Join(err, failed)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		b.Fatal(err)
	}
	return path
}

// settings are those of a lone server with its data on disk; the two differ in
// addresses and paths only.
func (r *rival) settings() map[string]any {
	return map[string]any{
		"server": true, "bootstrap_expect": 1, "datacenter": "dc1", "node_name": "bench", "log_level": "error",
		"data_dir":  filepath.Join(r.fleet.dir, fmt.Sprintf("%s-data-%d", r.name, r.starts)),
		"bind_addr": r.ip(), "client_addr": r.ip(), "enable_debug": true, "disable_update_check": true,
		"performance": map[string]any{"raft_multiplier": 1},
		"limits":      map[string]any{"http_max_conns_per_client": 15000},
		"ports":       map[string]any{"grpc": -1, "grpc_tls": -1},
	}
}

// launch starts the rival with an empty data directory, with settings changed by with.
func (r *rival) launch(with map[string]any) {
	r.fleet.t.Helper()
	r.starts++
	settings := r.settings()
	maps.Copy(settings, with)
	r.proc = r.fleet.agent(fmt.Sprintf("%s-%d", r.name, r.starts), r.binary, settings)
}

// serve starts a server and waits until it leads and knows itself.
func (r *rival) serve() {
	r.fleet.t.Helper()
	r.launch(nil)
	r.await("/v1/catalog/nodes", `"lan_ipv4"`)
}

func (r *rival) stop() {
	r.fleet.t.Helper()
	r.proc.signal(syscall.SIGKILL)
}

// call makes one request and returns the body of a 200.
func (r *rival) call(method, path string, body []byte) ([]byte, error) {
	return r.fleet.do(method, 1, r.node, path, body)
}

// put makes a request that must be answered well.
func (r *rival) put(path, body string) {
	r.fleet.t.Helper()
	if _, err := r.call(http.MethodPut, path, []byte(body)); err != nil {
		r.fleet.t.Fatal(err)
	}
}

// await asks until the answer holds a text.
func (r *rival) await(path, text string) {
	r.fleet.t.Helper()
	testkit.Eventually(r.fleet.t, func() error {
		body, err := r.call(http.MethodGet, path, nil)
		if err == nil && !bytes.Contains(body, []byte(text)) {
			err = fmt.Errorf("%s answers %.200s without %s", path, body, text)
		}
		return err
	})
}

func (r *rival) ip() string { return r.fleet.addr(1, r.node) }

func (r *rival) addr() string { return net.JoinHostPort(r.ip(), "8500") }

// cpu is the processor time that the rival has used, in steps of 10 ms.
func (r *rival) cpu() time.Duration {
	r.fleet.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.proc.cmd.Process.Pid))
	if err != nil {
		r.fleet.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	ticks := 0
	for _, field := range fields[11:13] { // in user mode and in the kernel
		n, err := strconv.Atoi(field)
		if err != nil {
			r.fleet.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// memory is the rival's resident memory in KiB.
func (r *rival) memory() float64 {
	r.fleet.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.proc.cmd.Process.Pid))
	if err != nil {
		r.fleet.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		r.fleet.t.Fatal(err)
	}
	return float64(kib)
}

// settle waits until the rival has used no processor time for a while: what it does
// after an answer is part of what the answer costs.
func (r *rival) settle() {
	r.fleet.t.Helper()
	const quiet, limit = 400 * time.Millisecond, 20 * time.Second
	for last, end := r.cpu(), time.Now().Add(limit); time.Now().Before(end); {
		lapse(quiet)
		now := r.cpu()
		if now-last <= 10*time.Millisecond {
			return
		}
		last = now
	}
}

func lapse(d time.Duration) { <-time.After(d) }

// profile takes profiles of ours under load, if that is asked for. It
// returns what waits for its end.
func (r *rival) profile(b *testing.B) (wait func()) {
	b.Helper()
	dir := os.Getenv("ISTHMUS_BENCH_PROFILE")
	if dir == "" || r.name != "ours" {
		return func() {}
	}
	var taking sync.WaitGroup
	taking.Go(func() {
		for _, kind := range [][2]string{{"cpu", "profile?seconds=4"}, {"heap", "heap"}} {
			body, err := r.call(http.MethodGet, "/debug/pprof/"+kind[1], nil)
			if err == nil {
				name := strings.ReplaceAll(b.Name(), "/", "-") + "." + kind[0] + ".pprof"
				err = os.WriteFile(filepath.Join(dir, name), body, 0o600)
			}
			if err != nil {
				b.Error(err)
			}
		}
	})
	return taking.Wait
}

// figures collects what the rounds measured, by unit and rival.
type figures map[string]map[string][]float64

func (f figures) note(unit string, r *rival, v float64) {
	if f[unit] == nil {
		f[unit] = map[string][]float64{}
	}
	f[unit][r.name] = append(f[unit][r.name], v)
}

// report makes medians and their ratios the benchmark's metrics, and logs every round.
func (f figures) report(b *testing.B) {
	b.Helper()
	units := make([]string, 0, len(f))
	for unit := range f {
		units = append(units, unit)
	}
	slices.Sort(units)
	for _, unit := range units {
		ours, ref := median(f[unit]["ours"]), median(f[unit]["ref"])
		b.ReportMetric(ours, "ours-"+unit)
		b.ReportMetric(ref, "ref-"+unit)
		better := ref / ours
		if strings.HasSuffix(unit, "/s") {
			better = ours / ref
		}
		if !math.IsInf(better, 0) && !math.IsNaN(better) {
			b.ReportMetric(better, "ratio-"+unit)
		}
		b.Logf("%s %s: ours %s, reference %s", b.Name(), unit, rounded(f[unit]["ours"]), rounded(f[unit]["ref"]))
	}
	b.ReportMetric(0, "ns/op") // the time of all rounds says nothing
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

func rounded(list []float64) string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = strconv.FormatFloat(v, 'g', 4, 64)
	}
	return strings.Join(texts, " ")
}

// burnt is enough for a clock that ticks 100 times a second.
var burnt = amount{cpu: time.Second}

// compare loads the two in turns and notes the processor time of a request and the
// rate of requests.
func compare(b *testing.B, rivals []*rival, conns int, enough amount, request func(worker, n int) []byte) {
	b.Helper()
	f := figures{}
	for _, r := range rivals {
		load(b, r, conns, amount{cpu: 100 * time.Millisecond}, request) // connections, caches and code are warm
	}
	for b.Loop() {
		for range benchRounds {
			for _, r := range rivals {
				n, cpu, took := load(b, r, conns, enough, request)
				f.note("us/op", r, cpu.Seconds()*1e6/float64(n))
				f.note("ops/s", r, float64(n)/took.Seconds())
			}
		}
	}
	f.report(b)
}
