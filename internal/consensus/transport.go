package consensus

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	transportTimeout = 10 * time.Second
	transportPool    = 3
)

// A transport is the raft library's without its fast path for heartbeats: that
// one changes term and role beside the main loop and without a lock, so that
// servers can apply different entries (hashicorp/raft issue 695). Heartbeats
// queue like all else.
type transport struct{ *raft.NetworkTransport }

// SetHeartbeatHandler drops the handler.
func (transport) SetHeartbeatHandler(func(raft.RPC)) {}

// streams gives the library the connections of the mux and of the dialer. It
// knows all that are open, because the library leaves accepted ones open when
// it stops.
type streams struct {
	address string
	listen  <-chan net.Conn
	self    chan net.Conn // this server calling itself, see (*Log).campaign
	dial    func(context.Context, string) (net.Conn, error)
	ctx     context.Context //nolint:containedctx // the library's Dial has none; done when closed
	cancel  context.CancelFunc

	mu   sync.Mutex
	open map[*stream]struct{}
	wg   sync.WaitGroup // of the open ones
}

func newStreams(cfg *Config) *streams {
	ctx, cancel := context.WithCancel(context.Background())
	return &streams{
		address: cfg.Address, listen: cfg.Listen, dial: cfg.Dial, self: make(chan net.Conn),
		ctx: ctx, cancel: cancel, open: make(map[*stream]struct{}),
	}
}

// A stream tells its owner when the library closes it.
type stream struct {
	net.Conn
	owner *streams
	once  sync.Once
}

func (s *streams) track(c net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	t := &stream{Conn: c, owner: s}
	s.open[t] = struct{}{}
	s.wg.Add(1)
	return t, nil
}

func (t *stream) Close() error {
	t.once.Do(func() {
		t.owner.mu.Lock()
		delete(t.owner.open, t)
		t.owner.mu.Unlock()
		t.owner.wg.Done()
	})
	return t.Conn.Close()
}

func (s *streams) Accept() (net.Conn, error) {
	listen := s.listen
	for {
		select {
		case c, ok := <-listen:
			if ok {
				return s.track(c)
			}
			listen = nil // the mux stopped; wait for the end
		case c := <-s.self:
			return s.track(c)
		case <-s.ctx.Done():
			return nil, net.ErrClosed
		}
	}
}

func (s *streams) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	if string(address) == s.address {
		ours, theirs := net.Pipe()
		select {
		case s.self <- theirs:
			return s.track(ours)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c, err := s.dial(ctx, string(address))
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	return s.track(c)
}

// Close ends Accept and Dial, and the connections with them.
func (s *streams) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel()
	for t := range s.open {
		_ = t.Conn.Close() // the library then closes t
	}
	return nil
}

func (s *streams) Addr() net.Addr { return address(s.address) }

type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }
