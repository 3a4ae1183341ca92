package httpapi

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// listen serves h until the test ends; stop stops it and yields Serve's result.
func listen(t *testing.T, h http.Handler, most int) (addr string, stop func() error) {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, ln, h, ServeConfig{MaxConnsPerClient: func() int { return most }, Log: slog.New(slog.DiscardHandler)})
	}()
	stopped := false
	stop = func() error {
		cancel()
		if stopped {
			return nil
		}
		stopped = true
		return <-done
	}
	t.Cleanup(func() { _ = stop() })
	return ln.Addr().String(), stop
}

// parked is servers whose reads wait until their context ends.
func parked(waiting, ended chan struct{}) fakeCaller {
	f := fakeCaller{}
	f[wire.KVGet.Name] = func(ctx context.Context, _ *rpc.Request) (rpc.Meta, error) {
		waiting <- struct{}{}
		<-ctx.Done()
		close(ended)
		return rpc.Meta{}, ctx.Err()
	}
	return f
}

func TestAReaderThatGoesAwayEndsItsRead(t *testing.T) {
	waiting, ended := make(chan struct{}), make(chan struct{})
	addr, _ := listen(t, New(config(parked(waiting, ended))), 0)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /v1/kv/a?index=5 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-waiting
	_ = conn.Close()
	<-ended
}

func TestStoppingAnswersWhatIsUnderWay(t *testing.T) {
	waiting, ended := make(chan struct{}), make(chan struct{})
	f := parked(waiting, ended)
	release := make(chan struct{})
	on(f, wire.KVApply, func(rpc.Header, *wire.KVRequest) (bool, rpc.Meta, error) {
		waiting <- struct{}{}
		<-release
		return true, rpc.Meta{}, nil
	})
	addr, stop := listen(t, New(config(f)), 0)
	ask := func(method, target string) <-chan int {
		out := make(chan int, 1)
		go func() {
			req, _ := http.NewRequestWithContext(t.Context(), method, "http://"+addr+target, nil)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Error(err)
				out <- 0
				return
			}
			_ = res.Body.Close()
			out <- res.StatusCode
		}()
		<-waiting
		return out
	}
	read, write := ask("GET", "/v1/kv/a?index=5"), ask("PUT", "/v1/kv/a")
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	if got := <-read; got != http.StatusServiceUnavailable { // while the write still runs
		t.Errorf("read: got %d", got)
	}
	close(release)
	if got := <-write; got != http.StatusOK {
		t.Errorf("write: got %d", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestConnectionsOfAnAddressAreLimited(t *testing.T) {
	f := fakeCaller{}
	on(f, wire.KVGet, func(rpc.Header, *wire.KeyQuery) ([]*api.KVPair, rpc.Meta, error) { return nil, rpc.Meta{}, nil })
	addr, _ := listen(t, New(config(f)), 2)
	ask := func() (net.Conn, int) {
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "GET /v1/kv/a HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return conn, 0
		}
		_ = res.Body.Close()
		return conn, res.StatusCode
	}
	first, status := ask()
	if status != http.StatusNotFound {
		t.Fatalf("got %d", status)
	}
	second, _ := ask()
	defer func() { _ = second.Close() }()
	if third, status := ask(); status != http.StatusTooManyRequests && status != 0 {
		t.Errorf("third connection: got %d", status)
	} else {
		_ = third.Close()
	}
	_ = first.Close()
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, status := ask()
		_ = conn.Close()
		if status == http.StatusNotFound {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a closed connection still counts")
		}
	}
}
