package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// How long a connection may be without a question, how long one may take to arrive
// and its answer to leave, and how many connections there may be.
const (
	idleWithin = 10 * time.Second
	sendWithin = 5 * time.Second
	maxConns   = 4096
)

// ServeUDP answers the questions that come over conn, which it closes, until ctx
// is done.
func (f *Front) ServeUDP(ctx context.Context, conn *net.UDPConn) error {
	ctx, cancel := context.WithCancel(ctx)
	var under sync.WaitGroup
	defer under.Wait()
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer cancel()
	p := packets{conn: conn}
	if err := p.prepare(); err != nil {
		return fmt.Errorf("serve DNS on %s: %w", conn.LocalAddr(), err)
	}
	var sc scratch
	buf := make([]byte, maxMessage)
	for {
		n, from, err := p.read(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("serve DNS on %s: %w", conn.LocalAddr(), err)
		case err != nil:
			continue // such as the echo of an answer that did not arrive
		}
		out, done := f.prepare(&sc, buf[:n], false)
		if done {
			if out != nil {
				p.write(out, from, p.source())
			}
			continue
		}
		select {
		case f.local <- struct{}{}:
		default:
			continue // whoever asked will ask again
		}
		raw, source := slices.Clone(buf[:n]), slices.Clone(p.source())
		under.Go(func() {
			defer func() { <-f.local }()
			var own scratch
			out, done := f.prepare(&own, raw, false)
			if !done {
				out = f.respond(ctx, &own, raw)
			}
			if out != nil {
				p.write(out, from, source)
			}
		})
	}
}

// packets is a socket for UDP. One that listens on any address answers from the
// address that was asked.
type packets struct {
	conn   *net.UDPConn
	anyone bool
	oob    []byte
	n      int // how much of oob is filled
}

func (p *packets) prepare() error {
	at, ok := p.conn.LocalAddr().(*net.UDPAddr)
	if !ok || !at.IP.IsUnspecified() {
		return nil
	}
	p.anyone = true
	p.oob = make([]byte, 128)
	// A socket for both families takes both options, one for a single family its own.
	err4 := ipv4.NewPacketConn(p.conn).SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true)
	err6 := ipv6.NewPacketConn(p.conn).SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true)
	if err4 != nil && err6 != nil {
		return errors.Join(err4, err6)
	}
	return nil
}

func (p *packets) read(buf []byte) (int, netip.AddrPort, error) {
	if !p.anyone {
		n, from, err := p.conn.ReadFromUDPAddrPort(buf)
		return n, from, err //nolint:wrapcheck // looked at by the caller alone
	}
	n, oobn, _, from, err := p.conn.ReadMsgUDPAddrPort(buf, p.oob)
	p.n = oobn
	return n, from, err //nolint:wrapcheck // looked at by the caller alone
}

// source makes of the address that was asked the one to answer from.
func (p *packets) source() []byte {
	if !p.anyone || p.n == 0 {
		return nil
	}
	var v4 ipv4.ControlMessage
	if err := v4.Parse(p.oob[:p.n]); err == nil && v4.Dst != nil {
		return (&ipv4.ControlMessage{Src: v4.Dst, IfIndex: v4.IfIndex}).Marshal()
	}
	var v6 ipv6.ControlMessage
	if err := v6.Parse(p.oob[:p.n]); err == nil && v6.Dst != nil {
		return (&ipv6.ControlMessage{Src: v6.Dst, IfIndex: v6.IfIndex}).Marshal()
	}
	return nil
}

// write sends an answer. One that cannot be sent is lost, as any may be.
func (p *packets) write(out []byte, to netip.AddrPort, source []byte) {
	_, _, _ = p.conn.WriteMsgUDPAddrPort(out, source, to) //nolint:dogsled // nothing is left to do
}

// ServeTCP answers the questions that come over connections to ln, which it
// closes, until ctx is done.
func (f *Front) ServeTCP(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var conns sync.WaitGroup
	defer conns.Wait()
	defer func() { _ = ln.Close() }()
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
	defer cancel()
	slots := make(chan struct{}, maxConns)
	for {
		conn, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("serve DNS on %s: %w", ln.Addr(), err)
		case err != nil:
			f.cfg.Log.Warn("connection is not accepted", "err", err)
			select { // there may be no file descriptors for a while
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = conn.Close()
			continue
		}
		conns.Go(func() {
			defer func() { <-slots }()
			f.serveConn(ctx, conn)
		})
	}
}

const acceptPause = 50 * time.Millisecond

// serveConn answers one question after the other.
func (f *Front) serveConn(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	var (
		sc     scratch
		length [2]byte
		buf    []byte
	)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(idleWithin))
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		buf = slices.Grow(buf[:0], int(binary.BigEndian.Uint16(length[:])))[:binary.BigEndian.Uint16(length[:])]
		if _, err := io.ReadFull(conn, buf); err != nil {
			return
		}
		out, done := f.prepare(&sc, buf, true)
		if !done {
			out = f.respond(ctx, &sc, buf)
		}
		if out == nil {
			return // that was no question
		}
		_ = conn.SetWriteDeadline(time.Now().Add(sendWithin))
		frame := net.Buffers{binary.BigEndian.AppendUint16(nil, uint16(len(out))), out} //nolint:gosec // a message is no longer
		if _, err := frame.WriteTo(conn); err != nil {
			return
		}
	}
}
