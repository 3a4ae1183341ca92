package main

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// benchStart measures the time from the start of the program until it says over HTTP
// who leads, and its memory when it has been idle for a while.
func benchStart(b *testing.B) {
	for _, row := range []struct {
		name   string
		launch func(r *rival)
	}{
		{"dev", func(r *rival) {
			r.proc = r.fleet.run(r.name, r.binary, "agent", "-dev", "-bind", r.ip(), "-client", r.ip(), "-node", "bench", "-log-level", "error")
		}},
		{"server", func(r *rival) { r.launch(nil) }},
	} {
		b.Run(row.name, func(b *testing.B) {
			const rounds, idle = 9, 10 * time.Second
			rivals, f := newRivals(b), figures{}
			for b.Loop() {
				for range rounds {
					for _, r := range rivals {
						start := time.Now()
						row.launch(r)
						f.note("ms-to-leader", r, untilLeader(b, r).Sub(start).Seconds()*1000)
					}
					lapse(idle)
					for _, r := range rivals {
						f.note("idle-MiB", r, r.memory()/1024)
						r.stop()
					}
				}
			}
			f.report(b)
		})
	}
}

// untilLeader asks who leads, again and again, until the rival knows.
func untilLeader(b *testing.B, r *rival) time.Time {
	b.Helper()
	const pause = 200 * time.Microsecond
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); lapse(pause) {
		e, err := dialExchange(r.addr())
		if err != nil {
			continue
		}
		for time.Now().Before(end) {
			var answer strings.Builder
			e.body = &answer
			if err := e.do(rawRequest(http.MethodGet, "/v1/status/leader", "")); err != nil && !strings.Contains(err.Error(), " 500 ") {
				break // it does not serve yet
			}
			if strings.Contains(answer.String(), r.ip()) {
				e.conn.Close()
				return time.Now()
			}
			lapse(pause)
		}
		e.conn.Close()
	}
	b.Fatalf("%s has no leader", r.name)
	return time.Time{}
}
