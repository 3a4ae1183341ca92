package checks

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/net/http2"

	"isthmus/api"
)

// newH2Ping returns a check that opens an HTTP/2 connection and passes when a
// ping on it is answered.
func newH2Ping(def *api.CheckType, report Report, env *Env) (Runner, error) {
	target := def.H2PING
	return newPoll(def, func(ctx context.Context) (status, output string) {
		var d dialer = &net.Dialer{}
		if def.H2PingUseTLS {
			d = &tls.Dialer{Config: tlsFor(env.base(), def, http2.NextProtoTLS)}
		}
		conn, err := d.DialContext(ctx, "tcp", target)
		if err != nil {
			return api.Critical, "Failed to dial to " + target + ": " + err.Error()
		}
		defer func() { _ = conn.Close() }()
		err = pingH2(ctx, conn)
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		if err != nil {
			return api.Critical, "HTTP2 ping failed: " + err.Error()
		}
		return api.Passing, "HTTP2 ping was successful"
	}, report, env), nil
}

// maxFrame is how long frames may be of a server that was not told otherwise.
const maxFrame = 16 << 10

// pingH2 begins to speak HTTP/2 and waits for the answer to a ping.
func pingH2(ctx context.Context, conn net.Conn) error {
	// Once ctx is done, whatever waits on the connection ends.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	data := [8]byte{'i', 's', 't', 'h', 'm', 'u', 's'}
	framer := http2.NewFramer(conn, conn)
	framer.SetMaxReadFrameSize(maxFrame)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return err //nolint:wrapcheck // shown to the user
	}
	if err := framer.WriteSettings(); err != nil {
		return err //nolint:wrapcheck // shown to the user
	}
	if err := framer.WritePing(false, data); err != nil {
		return err //nolint:wrapcheck // shown to the user
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return err //nolint:wrapcheck // shown to the user
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				err = framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if frame.IsAck() && frame.Data == data {
				return nil
			}
		case *http2.GoAwayFrame:
			err = fmt.Errorf("the server goes away: %s", frame.ErrCode)
		}
		if err != nil {
			return err
		}
	}
}
