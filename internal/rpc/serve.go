package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"isthmus/internal/telemetry"
)

// Size limits of what comes from outside, in bytes.
const (
	maxHeader = 4 << 10
	maxBody   = 64 << 20 // of a request
	maxReply  = 1 << 30  // of an answer: a whole table may come in one
)

// Server answers connections from a set of handlers.
type Server struct {
	Handlers *Handlers
	Log      *slog.Logger
}

// ServeMulti answers a connection that carries many streams.
func (s *Server) ServeMulti(ctx context.Context, conn net.Conn) {
	telemetry.RPCAccept.Count()
	session, err := yamux.Server(conn, yamuxConfig())
	if err != nil {
		s.Log.Error("no session", "err", err)
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = session.Close() })
	defer stop()
	var streams sync.WaitGroup
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			break
		}
		streams.Go(func() { s.ServeSingle(ctx, stream) })
	}
	_ = session.Close()
	streams.Wait()
}

// ServeSingle answers one request after the other until the peer hangs up.
func (s *Server) ServeSingle(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	c := &serverConn{conn: conn, r: bufio.NewReader(conn), handlers: s.Handlers}
	for ctx.Err() == nil {
		if err := c.answer(ctx); err != nil {
			if !hungUp(err) && ctx.Err() == nil {
				s.Log.Debug("connection ended", "remote", conn.RemoteAddr(), "err", err)
			}
			return
		}
	}
}

func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, yamux.ErrStreamClosed) || errors.Is(err, yamux.ErrSessionShutdown) || errors.Is(err, yamux.ErrConnectionReset)
}

// serverConn is the answering end of one stream.
type serverConn struct {
	conn     net.Conn
	r        *bufio.Reader
	handlers *Handlers
	in, out  []byte // reused between requests
}

// keepBuffer is the largest buffer that stays with an idle stream.
const keepBuffer = 64 << 10

// answer reads a request and writes its answer. Errors of the method go to the
// peer; the error returned is the connection's.
func (c *serverConn) answer(ctx context.Context) error {
	var err error
	if c.in, err = ReadValue(c.r, c.in[:0], maxHeader); err != nil {
		return err
	}
	seq, name, _, err := decodeRPCHeader(c.in, "ServiceMethod")
	if err != nil {
		return err
	}
	if c.in, err = ReadValue(c.r, c.in[:0], maxBody); err != nil {
		return fmt.Errorf("request %s: %w", name, err)
	}
	reply, err := c.call(ctx, name)
	text := ""
	if err != nil {
		text = err.Error()
		reply = []byte{0x80}
	}
	c.out = append(appendResponseHeader(c.out[:0], seq, name, text), reply...)
	_, err = c.conn.Write(c.out)
	if cap(c.in) > keepBuffer {
		c.in = nil
	}
	if cap(c.out) > keepBuffer {
		c.out = nil
	}
	return err //nolint:wrapcheck // told apart by the caller
}

// call answers the request whose body is in c.in.
func (c *serverConn) call(ctx context.Context, name string) ([]byte, error) {
	h, err := c.handlers.lookup(name)
	if err != nil {
		return nil, err
	}
	r := Request{Desc: h.desc}
	r.In, r.Out = h.types()
	if !h.desc.Bare {
		if r.Header, err = decodeHeader(c.in, h.desc.Route); err != nil {
			return nil, fmt.Errorf("decode request of %s: %w", name, err)
		}
	}
	if err := Unmarshal(c.in, r.In); err != nil {
		return nil, err
	}
	var meta Meta
	telemetry.RPCRequest.Count()
	if r.Header.MinIndex > 0 {
		meta, err = c.park(ctx, h, &r)
	} else {
		meta, err = h.serve(ctx, &r)
	}
	if err != nil {
		telemetry.RPCError.Count()
		return nil, err
	}
	return encodeReply(nil, h.desc, &meta, r.Out)
}

// park answers a request that may wait long. It listens meanwhile, so that a
// peer that hangs up ends the wait.
func (c *serverConn) park(ctx context.Context, h handler, r *Request) (Meta, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		// More bytes mean the next request, which waits its turn. A deadline is
		// how this goroutine itself is told to stop.
		if _, err := c.r.Peek(1); err != nil && !isTimeout(err) {
			cancel()
		}
	}()
	meta, err := h.serve(ctx, r)
	_ = c.conn.SetReadDeadline(time.Unix(1, 0))
	<-listening
	_ = c.conn.SetReadDeadline(time.Time{})
	return meta, err
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// decodeRPCHeader reads the head of a request or response. extra names the
// string field wanted beside the sequence number.
func decodeRPCHeader(b []byte, extra string) (seq uint64, method, errText string, err error) {
	err = each(b, func(name, v []byte) (err error) {
		var n int64
		switch string(name) {
		case "Seq":
			n, err = integer(v)
			seq = uint64(max(n, 0))
		case extra:
			method, _, err = text(v)
		case "Error":
			errText, _, err = text(v)
		}
		return err
	})
	return seq, method, errText, err
}

func appendRequestHeader(b []byte, seq uint64, method string) []byte {
	b = appendMapLen(b, 2)
	b = appendUint(appendText(b, "Seq"), seq)
	return appendText(appendText(b, "ServiceMethod"), method)
}

func appendResponseHeader(b []byte, seq uint64, method, errText string) []byte {
	b = appendMapLen(b, 3)
	b = appendText(appendText(b, "Error"), errText)
	b = appendUint(appendText(b, "Seq"), seq)
	return appendText(appendText(b, "ServiceMethod"), method)
}

// yamuxConfig finds a dead connection within seconds, so that calls move on to
// another gateway or server.
func yamuxConfig() *yamux.Config {
	cfg := yamux.DefaultConfig()
	cfg.LogOutput = io.Discard
	cfg.EnableKeepAlive = true
	cfg.KeepAliveInterval = time.Second
	cfg.ConnectionWriteTimeout = 4 * time.Second
	cfg.StreamOpenTimeout = 30 * time.Second
	cfg.StreamCloseTimeout = 10 * time.Second
	return cfg
}
