//go:build linux

package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// parkedAs tells the test binary to be the server of BenchmarkParked: "parked", or
// "goroutines", whose handlers wait themselves.
const parkedAs = "ISTHMUS_PARK_SERVER"

// benchServer has requests wait until all are woken.
type benchServer struct {
	lot *lot // nil when handlers wait themselves

	mu      sync.Mutex
	changed *sync.Cond
	count   int
	slots   []*slot
	wake    chan struct{}
	body    []byte
}

func (s *benchServer) wait(w http.ResponseWriter, r *http.Request) {
	// An owner that is told of a hang-up would take the slot out here.
	seat := s.lot.take(w, r, func() {})
	s.mu.Lock()
	s.count++
	wake := s.wake
	if seat != nil {
		s.slots = append(s.slots, seat)
	}
	s.changed.Broadcast()
	s.mu.Unlock()
	if seat != nil {
		return
	}
	select {
	case <-wake:
		header := w.Header()
		maps.Copy(header, benchHeader)
		header["Content-Length"] = []string{strconv.Itoa(len(s.body))}
		_, _ = w.Write(s.body)
	case <-r.Context().Done():
	}
}

var benchHeader = http.Header{
	"Content-Type": headerJSON, "X-Consul-Index": {"12345"}, "X-Consul-Knownleader": {"true"},
	"X-Consul-Lastcontact": {"0"}, "X-Consul-Query-Backend": headerBackend, "Vary": {"Accept-Encoding"},
}

// ServeHTTP serves the requests that wait and those that steer the benchmark.
func (s *benchServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.URL.Query().Get("n"))
	switch r.URL.Path {
	case "/wait":
		s.wait(w, r)
	case "/parked": // answers once n requests wait
		s.mu.Lock()
		for s.count < n {
			s.changed.Wait()
		}
		s.mu.Unlock()
	case "/wake": // with n bytes
		s.mu.Lock()
		slots, wake := s.slots, s.wake
		s.slots, s.wake, s.count = nil, make(chan struct{}), 0
		s.body = bytes.Repeat([]byte{'x'}, n)
		s.mu.Unlock()
		close(wake)
		for _, seat := range slots {
			seat.answer(http.StatusOK, benchHeader, s.body)
		}
	case "/usage":
		if n > 0 {
			debug.FreeOSMemory()
		}
		status, _ := os.ReadFile("/proc/self/status")
		_, rss, _ := strings.Cut(string(status), "VmRSS:")
		_, _ = fmt.Fprintf(w, "%s %d", strings.Fields(rss)[0], ownCPU().Microseconds())
	}
}

func ownCPU() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestParkServerProcess is no test but the server process of BenchmarkParked. It
// ends with its standard input.
func TestParkServerProcess(t *testing.T) {
	as := os.Getenv(parkedAs)
	if as == "" {
		t.Skip("runs in a process of its own")
	}
	s := &benchServer{wake: make(chan struct{})}
	s.changed = sync.NewCond(&s.mu)
	ln := listenOn(t, "tcp", "127.0.0.1:0")
	srv := &http.Server{Handler: s, ReadHeaderTimeout: headWithin, IdleTimeout: idleWithin}
	if as == "parked" {
		l, err := newLot(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		s.lot = l
		l.serveAgain(context.Background(), s)
		go func() { _ = l.run(context.Background()) }()
		go func() { _ = srv.Serve(l.listener()) }()
	}
	go func() { _ = srv.Serve(ln) }()
	fmt.Println("listening", ln.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// benchClient is many connections in one goroutine: an epoll loop that reads
// answers into one buffer, so that the client takes little of the processors.
type benchClient struct {
	b      *testing.B
	addr   string
	epoll  int
	left   map[int32]int // bytes of an answer to come
	buffer [64 << 10]byte
}

var benchRequest = []byte("GET /wait?index=12344&wait=300s HTTP/1.1\r\nHost: 127.0.0.1:8500\r\n" +
	"User-Agent: bench\r\nAccept-Encoding: identity\r\n\r\n")

func (c *benchClient) ask(fd int) {
	if n, err := unix.Write(fd, benchRequest); n != len(benchRequest) {
		c.b.Fatal(n, err)
	}
}

func (c *benchClient) connect(n int) {
	to, err := netip.ParseAddrPort(c.addr)
	if err != nil {
		c.b.Fatal(err)
	}
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
		}
		if err == nil {
			err = unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
		}
		if err != nil {
			c.b.Fatal(err)
		}
		c.left[int32(fd)] = 0
		c.ask(fd)
	}
}

// collect reads n answers, and asks again at once if it shall. It returns when the
// half and the last was there.
func (c *benchClient) collect(n int, again bool) (half, last time.Duration) {
	start := time.Now()
	var events [256]unix.EpollEvent
	for done := 0; done < n; {
		got, err := unix.EpollWait(c.epoll, events[:], 10_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || got == 0 {
			c.b.Fatalf("%d of %d answers: %v", done, n, err)
		}
		for _, e := range events[:got] {
			if !c.read(e.Fd) {
				continue
			}
			if again {
				c.ask(int(e.Fd))
			}
			if done++; done == n/2 {
				half = time.Since(start)
			}
		}
	}
	return half, time.Since(start)
}

// read reads what is there, and tells whether that was the end of an answer.
func (c *benchClient) read(fd int32) bool {
	n, err := unix.Read(int(fd), c.buffer[:])
	if err != nil || n == 0 {
		c.b.Fatal("connection ended", err)
	}
	if c.left[fd] == 0 {
		head, _, whole := bytes.Cut(c.buffer[:n], []byte("\r\n\r\n"))
		_, length, _ := bytes.Cut(head, []byte("Content-Length: "))
		length, _, _ = bytes.Cut(length, []byte("\r\n"))
		body, err := strconv.Atoi(string(length))
		if !whole || err != nil {
			c.b.Fatalf("got %q", c.buffer[:n])
		}
		c.left[fd] = len(head) + 4 + body
	}
	c.left[fd] -= n
	return c.left[fd] == 0
}

func (c *benchClient) close() {
	for fd := range c.left {
		_ = unix.Close(int(fd))
	}
	_ = unix.Close(c.epoll)
}

// steer sends one of the requests that steer the server, over one connection.
func (c *benchClient) steer(path string, n int) string {
	res, err := http.Get("http://" + c.addr + path + "?n=" + strconv.Itoa(n))
	if err != nil {
		c.b.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.b.Fatal(err)
	}
	return string(body)
}

// usage returns the server's resident KiB and its processor time.
func (c *benchClient) usage(free bool) (float64, time.Duration) {
	n := 0
	if free {
		n = 1
	}
	var rss float64
	var cpu int64
	if _, err := fmt.Sscan(c.steer("/usage", n), &rss, &cpu); err != nil {
		c.b.Fatal(err)
	}
	return rss, time.Duration(cpu) * time.Microsecond
}

func startBenchServer(b *testing.B, as string) string {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestParkServerProcess$", "-test.timeout=0")
	cmd.Env = append(os.Environ(), parkedAs+"="+as)
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if addr, ok := strings.CutPrefix(lines.Text(), "listening "); ok {
			return addr
		}
	}
	b.Fatal("the server did not start")
	return ""
}

// BenchmarkParked has 5,000 connections wait in a process of their own and wakes
// them all. It reports what a connection takes of the server's resident memory at
// first, after the rounds, and once the garbage is given back; the milliseconds
// until half of them and the last one have the answer when clients ask again at
// once, and until the last one has when they do not ("alone"); and the server's
// processor time for each: "wake" is the answer alone, "park" the next request,
// "round" both when clients ask again at once.
func BenchmarkParked(b *testing.B) {
	for _, as := range []string{"parked", "goroutines"} {
		for _, size := range []int{3 << 10, 30 << 10} {
			b.Run(fmt.Sprintf("%s/%dKiB", as, size>>10), func(b *testing.B) { benchmarkParked(b, as, size) })
		}
	}
}

func benchmarkParked(b *testing.B, as string, size int) {
	b.Helper()
	const conns = 5000
	addr := startBenchServer(b, as)
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		b.Fatal(err)
	}
	c := &benchClient{b: b, addr: addr, epoll: epoll, left: map[int32]int{}}
	defer c.close()
	c.steer("/parked", 0)
	before, _ := c.usage(true)
	c.connect(conns)
	c.steer("/parked", conns)
	first, _ := c.usage(false)
	var halves, lasts, alone []time.Duration
	var wake, park, round time.Duration
	var rounds time.Duration
	turn := func(again bool) {
		woken := make(chan struct{})
		go func() {
			defer close(woken)
			c.steer("/wake", size)
		}()
		half, last := c.collect(conns, again)
		<-woken
		if again {
			halves, lasts = append(halves, half), append(lasts, last)
		} else {
			alone = append(alone, last)
		}
	}
	for b.Loop() {
		rounds++
		_, start := c.usage(false)
		turn(true)
		c.steer("/parked", conns)
		_, both := c.usage(false)
		turn(false)
		_, woken := c.usage(false)
		for fd := range c.left {
			c.ask(int(fd))
		}
		c.steer("/parked", conns)
		_, end := c.usage(false)
		round, wake, park = round+both-start, wake+woken-both, park+end-woken
	}
	later, _ := c.usage(false)
	held, _ := c.usage(true)
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / conns / float64(rounds) }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric((first-before)/conns, "KiB/conn")
	b.ReportMetric((later-before)/conns, "KiB-later/conn")
	b.ReportMetric((held-before)/conns, "KiB-held/conn")
	for unit, all := range map[string][]time.Duration{"ms-half": halves, "ms-last": lasts, "ms-last-alone": alone} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1e3, unit)
	}
	b.ReportMetric(each(wake), "µs-wake/conn")
	b.ReportMetric(each(park), "µs-park/conn")
	b.ReportMetric(each(round), "µs-round/conn")
}
