package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"isthmus/internal/testkit"
)

// The gateway beside HAProxy and Envoy, each in a process of its own with two
// threads and the same load, in turns. One iteration is a round; the table has
// medians:
//
//	go test ./internal/proxy -run '^$' -bench BesideOthers -benchtime 5x
const (
	benchRoleEnv    = "ISTHMUS_PROXY_BENCH_ROLE"    // set in the child process
	benchBackendEnv = "ISTHMUS_PROXY_BENCH_BACKEND" // where the child routes to
	benchProfileEnv = "ISTHMUS_PROXY_BENCH_PROFILE" // where the child writes a CPU profile, if set

	benchNames    = 100
	benchStreams  = 2
	benchBulk     = 1 << 30 // bytes of each stream
	benchTLSBulk  = 1 << 29
	benchConns    = 4000
	benchClients  = 8
	benchMessages = 4000
	benchIdle     = 3000
	clockTick     = 10 * time.Millisecond // USER_HZ is 100 wherever Linux runs
)

func benchName(i int) string { return fmt.Sprintf("node-%d.server.dc1.consul", i) }

// benchRole is the main function of the child process: a gateway until SIGTERM.
func benchRole() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if path := os.Getenv(benchProfileEnv); path != "" {
		f, err := os.Create(path)
		if err != nil {
			panic(err)
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			panic(err)
		}
		defer pprof.StopCPUProfile()
	}
	var routes []Route
	for i := range benchNames {
		routes = append(routes, Route{Name: "s", Match: benchName(i), Addrs: []string{os.Getenv(benchBackendEnv)}})
	}
	table, err := NewRoutes(routes)
	if err != nil {
		panic(err)
	}
	g := New(Config{DrainTimeout: time.Second})
	g.SetRoutes(table)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	_, _ = fmt.Fprintln(os.Stdout, ln.Addr())
	if err := g.Serve(ctx, ln); err != nil {
		panic(err)
	}
	return 0
}

// benchTarget is one proxy, or none at all.
type benchTarget struct {
	name, addr string
	pid        int // 0 for none
	results    map[string][]float64
}

func (p *benchTarget) record(figure string, value float64) {
	p.results[figure] = append(p.results[figure], value)
}

func startGateway(b *testing.B, backend string) *benchTarget {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), benchRoleEnv+"=gateway", benchBackendEnv+"="+backend, "GOMAXPROCS=2")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	run(b, cmd)
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return &benchTarget{name: "isthmus", addr: strings.TrimSpace(addr), pid: cmd.Process.Pid}
}

func startHAProxy(b *testing.B, path, backend, name, option string) *benchTarget {
	b.Helper()
	dir := b.TempDir()
	var names strings.Builder
	for i := range benchNames {
		fmt.Fprintf(&names, "%s s\n", benchName(i))
	}
	addr := closedAddr(b)
	config := fmt.Sprintf(`
global
  nbthread 2
  maxconn 4000
defaults
  mode tcp
  %s
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend f
  bind %s
  tcp-request inspect-delay 5s
  tcp-request content accept if { req_ssl_hello_type 1 }
  use_backend %%[req.ssl_sni,lower,map_str(%s/names,none)]
backend none
backend s
  server s %s
`, option, addr, dir, backend)
	for file, text := range map[string]string{"names": names.String(), "config": config} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	cmd := exec.CommandContext(b.Context(), path, "-db", "-q", "-f", filepath.Join(dir, "config"))
	cmd.Stderr = os.Stderr
	run(b, cmd)
	awaitListener(addr)
	return &benchTarget{name: name, addr: addr, pid: cmd.Process.Pid}
}

func run(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
}

// cpu is the time a process has spent, user and system.
func (p *benchTarget) cpu(b *testing.B) time.Duration {
	b.Helper()
	if p.pid == 0 {
		return 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		b.Fatal(err)
	}
	// The fields behind the command, which ends with the last parenthesis.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	ticks := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick
}

// memoryMiB is the memory a process has (VmRSS), or the most it has had (VmHWM).
func (p *benchTarget) memoryMiB(b *testing.B, field string) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), field+":")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(kib) / 1024
}

func BenchmarkBesideOthers(b *testing.B) {
	haproxy, err := exec.LookPath("haproxy")
	if err != nil {
		b.Skip("haproxy is not installed")
	}
	envoy := testkit.Envoy(b)
	hello := helloFor(b, benchName(benchNames/2), tls.VersionTLS13)
	plain := func(c *net.TCPConn) { benchAnswer(c, len(hello)) }
	for _, part := range []struct {
		name   string
		answer func(*net.TCPConn)
		load   func(*benchTarget, *testing.B, []byte)
	}{
		{"bulk", plain, (*benchTarget).bulk},
		{"TLS bulk", benchTLSAnswer, (*benchTarget).tlsBulk},
		{"connections", plain, (*benchTarget).connections},
		{"ping-pong", plain, (*benchTarget).pingPong},
		{"idle", plain, (*benchTarget).idle},
	} {
		b.Run(part.name, func(b *testing.B) {
			addr := backend(b, part.answer)
			targets := []*benchTarget{
				{name: "direct", addr: addr},
				startHAProxy(b, haproxy, addr, "haproxy", ""),
				startHAProxy(b, haproxy, addr, "haproxy splice", "option splice-auto"),
				startEnvoy(b, envoy, addr),
				startGateway(b, addr),
			}
			for _, p := range targets {
				p.results = make(map[string][]float64)
			}
			for b.Loop() {
				for _, p := range targets {
					part.load(p, b, hello)
				}
			}
			for _, p := range targets {
				p.report(b)
			}
		})
	}
}

// report logs the median of each figure.
func (p *benchTarget) report(b *testing.B) {
	b.Helper()
	if p.pid != 0 {
		p.record("peak MiB", p.memoryMiB(b, "VmHWM"))
	}
	line := fmt.Sprintf("%-15s", p.name)
	for _, figure := range slices.Sorted(maps.Keys(p.results)) {
		values := slices.Sorted(slices.Values(p.results[figure]))
		line += fmt.Sprintf("  %8.4g %s", values[len(values)/2], figure)
	}
	b.Log(line)
}

// The plain backend answers the hello with one byte and does what the next byte
// says: take all there is and say when it has ended, or send back messages.
const (
	benchTake = 'T'
	benchEcho = 'E'
	benchSize = 64 // of a message
)

func benchAnswer(c *net.TCPConn, helloLen int) {
	if _, err := io.ReadFull(c, make([]byte, helloLen)); err != nil {
		return
	}
	what := []byte{'.'}
	if _, err := c.Write(what); err != nil {
		return
	}
	if _, err := io.ReadFull(c, what); err != nil {
		return
	}
	if what[0] == benchTake {
		swallow(c)
		_, _ = c.Write(what)
		return
	}
	for buf := make([]byte, benchSize); ; {
		if _, err := io.ReadFull(c, buf); err != nil {
			return
		}
		if _, err := c.Write(buf); err != nil {
			return
		}
	}
}

func swallow(r io.Reader) {
	for buf := make([]byte, 256<<10); ; {
		if _, err := r.Read(buf); err != nil {
			return
		}
	}
}

func benchTLSAnswer(c *net.TCPConn) {
	s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{testCert()}})
	swallow(s)
	_, _ = s.Write([]byte{'.'})
}

// open is a connection that has been answered and told what it is for.
func (p *benchTarget) open(hello []byte, what string) (*net.TCPConn, error) {
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		return nil, err
	}
	tcp, _ := c.(*net.TCPConn)
	if _, err := c.Write(hello); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		return nil, err
	}
	_, err = io.WriteString(c, what)
	return tcp, err
}

// measure yields how long work took, and how much of the proxy's CPU.
func (p *benchTarget) measure(b *testing.B, workers int, work func() error) (took, cpu time.Duration) {
	b.Helper()
	errs := make([]error, workers)
	began, before := time.Now(), p.cpu(b)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = work() })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		b.Fatal(p.name, err)
	}
	return time.Since(began), p.cpu(b) - before
}

func (p *benchTarget) bulk(b *testing.B, hello []byte) {
	b.Helper()
	took, cpu := p.measure(b, benchStreams, func() error {
		c, err := p.open(hello, string(benchTake))
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		return sendAll(c, benchBulk)
	})
	p.recordBulk(took, cpu, float64(benchStreams*benchBulk)/1e9)
}

func (p *benchTarget) recordBulk(took, cpu time.Duration, gigabytes float64) {
	p.record("Gbit/s", 8*gigabytes/took.Seconds())
	if p.pid != 0 {
		p.record("s/GB", cpu.Seconds()/gigabytes)
	}
}

func (p *benchTarget) tlsBulk(b *testing.B, _ []byte) {
	b.Helper()
	took, cpu := p.measure(b, benchStreams, func() error {
		c, err := tls.Dial("tcp", p.addr, &tls.Config{ServerName: benchName(1), InsecureSkipVerify: true})
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		return sendAll(c, benchTLSBulk)
	})
	p.recordBulk(took, cpu, float64(benchStreams*benchTLSBulk)/1e9)
}

// sendAll sends so many bytes and waits until they have been taken.
func sendAll(c interface {
	io.ReadWriter
	CloseWrite() error
}, n int,
) error {
	chunk := make([]byte, 128<<10)
	for ; n > 0; n -= len(chunk) {
		if _, err := c.Write(chunk); err != nil {
			return err
		}
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	_, err := io.ReadFull(c, chunk[:1])
	return err
}

func (p *benchTarget) connections(b *testing.B, hello []byte) {
	b.Helper()
	took, cpu := p.measure(b, benchClients, func() error {
		for range benchConns / benchClients {
			c, err := p.open(hello, "")
			if err != nil {
				return err
			}
			_ = c.Close()
		}
		return nil
	})
	p.record("conn/s", benchConns/took.Seconds())
	if p.pid != 0 {
		p.record("us/conn", float64(cpu.Microseconds())/benchConns)
	}
}

func (p *benchTarget) pingPong(b *testing.B, hello []byte) {
	b.Helper()
	c, err := p.open(hello, string(benchEcho))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	times := make([]float64, 0, benchMessages)
	_, cpu := p.measure(b, 1, func() error {
		buf := make([]byte, benchSize)
		for range benchMessages {
			began := time.Now()
			if _, err := c.Write(buf); err != nil {
				return err
			}
			if _, err := io.ReadFull(c, buf); err != nil {
				return err
			}
			times = append(times, float64(time.Since(began).Nanoseconds())/1e3)
		}
		return nil
	})
	slices.Sort(times)
	p.record("p50 us", times[len(times)/2])
	if p.pid != 0 {
		p.record("us/msg", float64(cpu.Microseconds())/benchMessages)
	}
}

// idle holds streams that have been answered and then say nothing. Only the first
// round tells: a process keeps the memory it has had.
func (p *benchTarget) idle(b *testing.B, hello []byte) {
	b.Helper()
	if p.pid == 0 || len(p.results) > 0 {
		return
	}
	before := p.memoryMiB(b, "VmRSS")
	for range benchIdle {
		c, err := p.open(hello, string(benchEcho))
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = c.Close() }()
	}
	p.record("KiB/stream", (p.memoryMiB(b, "VmRSS")-before)*1024/benchIdle)
}
