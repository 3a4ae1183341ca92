package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// facilityNames are the facilities of the system's log in the order of their
// numbers; four numbers have no name.
var facilityNames = []string{
	"KERN", "USER", "MAIL", "DAEMON", "AUTH", "SYSLOG", "LPR", "NEWS", "UUCP", "CRON", "AUTHPRIV", "FTP", "", "", "", "",
	"LOCAL0", "LOCAL1", "LOCAL2", "LOCAL3", "LOCAL4", "LOCAL5", "LOCAL6", "LOCAL7",
}

// Severities of the system's log.
const (
	severityError   = 3
	severityWarning = 4
	severityInfo    = 6
	severityDebug   = 7
)

// syslogPaths are where systems listen for their log.
var syslogPaths = []string{"/dev/log", "/var/run/syslog", "/var/run/log"}

// syslogName is what the lines of this program are found by.
const syslogName = "consul"

// Syslog is the system's log.
type Syslog struct {
	paths    []string
	facility int

	mu   sync.Mutex
	conn net.Conn
}

// OpenSyslog connects to the system's log.
func OpenSyslog(facility string) (*Syslog, error) {
	return openSyslog(facility, syslogPaths)
}

func openSyslog(facility string, paths []string) (*Syslog, error) {
	number := slices.Index(facilityNames, strings.ToUpper(facility))
	if number < 0 || facility == "" {
		return nil, fmt.Errorf("open syslog: %q is no facility", facility)
	}
	s := &Syslog{paths: paths, facility: number}
	if err := s.dial(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Syslog) dial() error {
	var all error
	for _, path := range s.paths {
		for _, network := range []string{"unixgram", "unix"} {
			conn, err := net.Dial(network, path) //nolint:noctx // a socket of this machine, which answers at once
			if err == nil {
				s.conn = conn
				return nil
			}
			all = errors.Join(all, err)
		}
	}
	return fmt.Errorf("open syslog: %w", all)
}

// Close ends the connection.
func (s *Syslog) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return nil
	}
	if err := s.conn.Close(); err != nil {
		return fmt.Errorf("close syslog: %w", err)
	}
	return nil
}

// send writes a line. A system's log that was restarted is dialled again.
func (s *Syslog) send(severity int, text string) error {
	line := fmt.Appendf(nil, "<%d>%s %s[%d]: %s\n", s.facility<<3|severity, time.Now().Format(time.Stamp), syslogName, os.Getpid(), text)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		if _, err := s.conn.Write(line); err == nil {
			return nil
		}
		_ = s.conn.Close() // it is broken
		s.conn = nil
	}
	if err := s.dial(); err != nil {
		return err
	}
	if _, err := s.conn.Write(line); err != nil {
		return fmt.Errorf("write syslog: %w", err)
	}
	return nil
}

// Handler returns a handler that sends records, as text or JSON, with the severity
// of their level. The system's log knows the time by itself.
func (s *Syslog) Handler(json bool) slog.Handler {
	line := &bytes.Buffer{}
	return &syslogHandler{syslog: s, mu: &sync.Mutex{}, line: line, to: newHandler(line, LevelTrace, json)}
}

type syslogHandler struct {
	syslog *Syslog
	to     slog.Handler

	mu   *sync.Mutex
	line *bytes.Buffer // what to has written
}

// Enabled implements slog.Handler.
func (*syslogHandler) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (h *syslogHandler) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	h.line.Reset()
	err := h.to.Handle(ctx, r)
	text := strings.TrimSuffix(h.line.String(), "\n")
	h.mu.Unlock()
	if err != nil {
		return err //nolint:wrapcheck // passed on
	}
	severity := severityDebug
	switch {
	case r.Level >= slog.LevelError:
		severity = severityError
	case r.Level >= slog.LevelWarn:
		severity = severityWarning
	case r.Level >= slog.LevelInfo:
		severity = severityInfo
	}
	return h.syslog.send(severity, text)
}

// WithAttrs implements slog.Handler.
func (h *syslogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &syslogHandler{syslog: h.syslog, to: h.to.WithAttrs(attrs), mu: h.mu, line: h.line}
}

// WithGroup implements slog.Handler.
func (h *syslogHandler) WithGroup(name string) slog.Handler {
	return &syslogHandler{syslog: h.syslog, to: h.to.WithGroup(name), mu: h.mu, line: h.line}
}
