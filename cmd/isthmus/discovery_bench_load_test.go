package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// rawRequest makes the bytes of a request. The reference and ours get the same, but for
// the address.
func rawRequest(method, path, body string, headers ...string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: bench\r\n", method, path)
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	if body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	return b.Bytes()
}

// exchange is a kept connection that asks one thing at a time. It does less than
// net/http's client, which would take more of the machine than the server does.
type exchange struct {
	conn net.Conn
	in   *bufio.Reader
	body io.Writer // where bodies go
	size int64     // of the last body, as it came over the wire
}

func dialExchange(addr string) (*exchange, error) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &exchange{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), body: io.Discard}, nil
}

// do sends a request and reads the answer to its end.
func (e *exchange) do(request []byte) error {
	if err := e.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := e.conn.Write(request); err != nil {
		return err
	}
	line, err := e.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	status := string(bytes.TrimSpace(line))
	length, chunked := int64(0), false
	for {
		line, err := e.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			break
		}
		name, value, _ := strings.Cut(string(line), ": ")
		switch {
		case strings.EqualFold(name, "Content-Length"):
			if length, err = strconv.ParseInt(value, 10, 64); err != nil {
				return err
			}
		case strings.EqualFold(name, "Transfer-Encoding"):
			chunked = true
		}
	}
	if chunked {
		length, err = e.discardChunks()
	} else {
		_, err = io.CopyN(e.body, e.in, length)
	}
	e.size = length
	if err == nil && !strings.Contains(status, " 200 ") {
		err = fmt.Errorf("%.60s: %s", request, status)
	}
	return err
}

func (e *exchange) discardChunks() (total int64, err error) {
	for {
		line, err := e.in.ReadSlice('\n')
		if err != nil {
			return total, err
		}
		n, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 64)
		if err != nil {
			return total, err
		}
		if _, err := io.CopyN(e.body, e.in, n+2); err != nil || n == 0 {
			return total, err
		}
		total += n
	}
}

// amount says when a load is enough: when both are reached.
type amount struct {
	cpu     time.Duration
	answers int64
}

// load asks a rival over as many connections as fast as it answers, until it is enough. It returns how many answers came, what they cost, with what the
// server does afterwards, and how long it took.
func load(b *testing.B, r *rival, conns int, enough amount, request func(worker, n int) []byte) (answers int64, cpu, took time.Duration) {
	b.Helper()
	const limit = 20 * time.Second
	exchanges := make([]*exchange, conns)
	for i := range exchanges {
		e, err := dialExchange(r.addr())
		if err != nil {
			b.Fatal(err)
		}
		defer e.conn.Close()
		exchanges[i] = e
	}
	r.settle()
	var (
		workers sync.WaitGroup
		count   atomic.Int64
		done    atomic.Bool
	)
	profiled := r.profile(b)
	before, start := r.cpu(), time.Now()
	for i, e := range exchanges {
		workers.Go(func() {
			for n := 0; !done.Load(); n++ {
				if err := e.do(request(i, n)); err != nil {
					b.Error(err)
					done.Store(true)
					return
				}
				count.Add(1)
			}
		})
	}
	for !done.Load() && (r.cpu()-before < enough.cpu || count.Load() < enough.answers) && time.Since(start) < limit {
		lapse(20 * time.Millisecond)
	}
	profiled()
	done.Store(true)
	workers.Wait()
	took = time.Since(start)
	r.settle()
	if b.Failed() {
		b.FailNow()
	}
	return count.Load(), r.cpu() - before, took
}
