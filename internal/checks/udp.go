package checks

import (
	"context"
	"net"
	"time"

	"isthmus/api"
)

// newUDP returns a check that sends an empty datagram and passes when any answer
// comes.
func newUDP(def *api.CheckType, report Report, env *Env) (Runner, error) {
	target := def.UDP
	return newPoll(def, func(ctx context.Context) (status, output string) {
		if err := askUDP(ctx, target); err != nil {
			return api.Critical, err.Error()
		}
		return api.Passing, "UDP connect " + target + ": Success"
	}, report, env), nil
}

func askUDP(ctx context.Context, target string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", target)
	if err != nil {
		return err //nolint:wrapcheck // it says all that there is to tell
	}
	defer func() { _ = conn.Close() }()
	// Once ctx is done, whatever waits on the socket ends.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	if _, err := conn.Write(nil); err != nil {
		return err //nolint:wrapcheck // as above
	}
	_, err = conn.Read(make([]byte, 1))
	return err //nolint:wrapcheck // as above
}
