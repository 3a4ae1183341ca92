package gossip

import "net"

// ServePackets takes the packets of a connection that carries them in frames (see Frame) as if they had come by
// UDP, from the connection's remote address. It returns, and has closed conn, when the connection or the pool ends,
// after a malformed frame, and when nothing came for two minutes.
func (p *Pool) ServePackets(conn net.Conn) { p.transport.servePackets(conn) }

// ServeStream takes a connection as if it had come by TCP. The pool closes it. It does not wait for that.
func (p *Pool) ServeStream(conn net.Conn) { p.transport.serveStream(conn) }
