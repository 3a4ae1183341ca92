package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// systemd tells the service manager how far this process is, when it asked for that
// by NOTIFY_SOCKET.
type systemd struct {
	socket   string        // empty: nobody wants to know
	watchdog time.Duration // within which it wants to hear again; 0 is any time
	log      *slog.Logger

	stop  sync.Once
	mu    sync.Mutex
	ready bool
}

// newSystemd reads what the service manager left in the environment.
func newSystemd(log *slog.Logger) *systemd {
	s := &systemd{socket: os.Getenv("NOTIFY_SOCKET"), log: log}
	micros, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	pid := os.Getenv("WATCHDOG_PID")
	if err == nil && micros > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		s.watchdog = time.Duration(micros) * time.Microsecond
	}
	return s
}

func (s *systemd) tell(lines ...string) {
	if s.socket == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.socket, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(strings.Join(lines, "\n")))
		_ = conn.Close()
	}
	if err != nil {
		s.log.Warn("the service manager is not told", "state", lines[0], "err", err)
	}
}

// run tells that the process serves once it does, and again and again that it
// lives. serves waits until then, or until ctx is done.
func (s *systemd) run(ctx context.Context, serves func(ctx context.Context)) error {
	if s.socket == "" {
		return nil
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if serves(ctx); ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ready = true
		s.tell("READY=1", "STATUS=serving")
	})
	defer s.stopping()
	if s.watchdog <= 0 {
		<-ctx.Done()
		return nil
	}
	for {
		s.tell("WATCHDOG=1")
		if !pause(ctx, s.watchdog/2) {
			return nil
		}
	}
}

// stopping tells, once, that the process is about to end.
func (s *systemd) stopping() { s.stop.Do(func() { s.tell("STOPPING=1") }) }

// reloading tells that settings are being read anew; call what it returns when they
// were.
func (s *systemd) reloading() (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ready {
		return func() {}
	}
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // this clock is always there
	s.tell("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/int64(time.Microsecond)))
	return func() { s.tell("READY=1") }
}

// serves waits until this node serves: a server that knows a leader, and a client
// that knows a server. A client that joins nobody by itself waits for its operator.
func (n *Node) serves(ctx context.Context) {
	var known <-chan struct{} = n.joined
	switch {
	case n.server != nil:
		known = n.server.log.LeaderKnown()
	case len(n.cfg.RetryJoin) == 0:
		return
	}
	select {
	case <-known:
	case <-ctx.Done():
	}
}
