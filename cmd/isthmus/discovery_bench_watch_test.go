package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// watchers is how many blocking reads of one service are parked.
const watchers = 5000

func benchWatchers(b *testing.B) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		b.Fatal(err)
	}
	files.Cur = files.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Max < 2*watchers {
		b.Skipf("skipped: %d files may be open, %d are needed, %v", files.Max, 2*watchers, err)
	}
	rivals, f := newRivals(b), figures{}
	for b.Loop() {
		for range benchRounds {
			for _, r := range rivals {
				r.serve()
				watchRound(b, r, f)
				r.stop()
			}
		}
	}
	f.report(b)
}

func watchRound(b *testing.B, r *rival, f figures) {
	b.Helper()
	const changes, others = 20, 1000
	put := func(service, instance string, port int) {
		r.put("/v1/catalog/register", fmt.Sprintf(
			`{"Node": "node-1", "Address": "10.0.0.1", "Service": {"ID": %q, "Service": %q, "Port": %d}}`, instance, service, port))
	}
	for i := range 5 {
		put("web", fmt.Sprintf("web-%d", i), 80)
	}
	put("api", "api-1", 80)
	c := newCrowd(b, r)
	defer c.close()
	r.settle()
	idle := r.memory()
	c.park()
	r.settle()
	f.note("KiB/watcher", r, (r.memory()-idle)/watchers)
	c.forget() // those whose index was an old one have asked again

	profiled := r.profile(b)
	defer profiled()
	var cpu time.Duration
	var half, last []float64
	woken := 0
	for i := 0; i < changes && cpu < time.Second; i++ {
		before, start := r.cpu(), time.Now()
		put("web", "web-0", 1000+i)
		times := c.wait(watchers)
		half = append(half, times[len(times)/2].Sub(start).Seconds()*1000)
		last = append(last, times[len(times)-1].Sub(start).Seconds()*1000)
		woken += len(times)
		r.settle()
		cpu += r.cpu() - before
	}
	f.note("ms-to-half", r, median(half))
	f.note("ms-to-last", r, median(last))
	f.note("us/wake", r, cpu.Seconds()*1e6/float64(woken))

	before := r.cpu()
	for i := range others {
		put("api", "api-1", 1000+i)
	}
	r.settle()
	f.note("us/other-change", r, (r.cpu()-before).Seconds()*1e6/others)
	f.note("woken-by-others", r, float64(c.answers.Load()))
	if b.Failed() {
		b.FailNow()
	}
}

// crowd is the clients: connections without a goroutine each, because the machine's
// time is the server's.
type crowd struct {
	b       *testing.B
	host    string
	epoll   int
	conns   map[int32]*watcher
	answers atomic.Int64
	times   chan time.Time
	over    chan struct{}
	index   uint64
}

// watcher is one of them.
type watcher struct {
	fd    int
	index uint64 // of the last answer
	in    []byte // of the answer so far
}

func newCrowd(b *testing.B, r *rival) *crowd {
	b.Helper()
	epoll, err := syscall.EpollCreate1(0)
	if err != nil {
		b.Fatal(err)
	}
	c := &crowd{
		b: b, host: r.addr(), epoll: epoll, conns: make(map[int32]*watcher, watchers),
		times: make(chan time.Time, watchers), over: make(chan struct{}),
	}
	body, err := r.call(http.MethodGet, "/v1/health/service/web", nil)
	if err != nil {
		b.Fatal(err)
	}
	var rows []struct{ Service struct{ ModifyIndex uint64 } }
	if err := json.Unmarshal(body, &rows); err != nil {
		b.Fatal(err)
	}
	for _, row := range rows {
		c.index = max(c.index, row.Service.ModifyIndex)
	}
	addr := &syscall.SockaddrInet4{Port: 8500, Addr: [4]byte(net.ParseIP(r.ip()).To4())}
	for range watchers {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err == nil {
			c.conns[int32(fd)] = &watcher{fd: fd, index: c.index}
			err = syscall.Connect(fd, addr)
		}
		if err == nil {
			err = syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	go c.loop()
	return c
}

// park sends every watcher's first request.
func (c *crowd) park() {
	c.b.Helper()
	for _, w := range c.conns {
		if err := c.ask(w); err != nil {
			c.b.Fatal(err)
		}
	}
}

func (c *crowd) ask(w *watcher) error {
	_, err := syscall.Write(w.fd, fmt.Appendf(nil, "GET /v1/health/service/web?index=%d&wait=5m HTTP/1.1\r\nHost: %s\r\n\r\n", w.index, c.host))
	return err
}

// loop reads answers, and asks again for each.
func (c *crowd) loop() {
	defer close(c.over)
	events, buf := make([]syscall.EpollEvent, 256), make([]byte, 64<<10)
	for {
		n, err := syscall.EpollWait(c.epoll, events, 100)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return // it was closed
		}
		for _, e := range events[:n] {
			w := c.conns[e.Fd]
			size, err := syscall.Read(w.fd, buf)
			if err != nil || size == 0 {
				c.b.Errorf("a watcher's connection ended: %v", err)
				return
			}
			w.in = append(w.in, buf[:size]...)
			if !w.whole() {
				continue
			}
			w.in = w.in[:0]
			c.answers.Add(1)
			c.times <- time.Now()
			if err := c.ask(w); err != nil {
				c.b.Error(err)
				return
			}
		}
	}
}

// whole reports whether the whole answer is there, and takes its index.
func (w *watcher) whole() bool {
	header, body, ok := bytes.Cut(w.in, []byte("\r\n\r\n"))
	if !ok {
		return false
	}
	if length, ok := headerNumber(header, "Content-Length: "); ok {
		if uint64(len(body)) < length {
			return false
		}
	} else if !bytes.HasSuffix(body, []byte("0\r\n\r\n")) {
		return false
	}
	w.index, _ = headerNumber(header, "X-Consul-Index: ")
	return true
}

func headerNumber(header []byte, name string) (uint64, bool) {
	_, after, ok := bytes.Cut(header, []byte(name))
	if !ok {
		return 0, false
	}
	digits, _, _ := bytes.Cut(after, []byte("\r\n"))
	n, err := strconv.ParseUint(string(digits), 10, 64)
	return n, err == nil
}

// wait returns when as many answers have come, and when each of them did.
func (c *crowd) wait(count int) []time.Time {
	c.b.Helper()
	limit := time.After(30 * time.Second)
	var times []time.Time
	for len(times) < count {
		select {
		case at := <-c.times:
			times = append(times, at)
		case <-limit:
			c.b.Fatalf("%d of %d watchers woke", len(times), count)
		}
	}
	c.forget()
	return slices.Clip(times)
}

// forget counts anew.
func (c *crowd) forget() {
	c.answers.Store(0)
	for len(c.times) > 0 {
		<-c.times
	}
}

func (c *crowd) close() {
	_ = syscall.Close(c.epoll)
	<-c.over
	for _, w := range c.conns {
		_ = syscall.Close(w.fd)
	}
}
