package checks

import (
	"context"
	"log/slog"
	"net"

	"isthmus/api"
)

// newTCP returns a check that passes when a connection can be opened.
func newTCP(def *api.CheckType, report Report, log *slog.Logger) Runner {
	target := def.TCP
	return newPoll(def, func(ctx context.Context) (status, output string) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", target)
		if err != nil {
			return api.Critical, err.Error()
		}
		// The connection proved what it was opened for: how it ends says no more.
		_ = conn.Close()
		return api.Passing, "TCP connect " + target + ": Success"
	}, report, log)
}
