package telemetry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// LevelTrace is below debug.
const LevelTrace = slog.LevelDebug - 4

// Level reads the name of a level.
func Level(name string) (slog.Level, bool) {
	switch strings.ToLower(name) {
	case "trace":
		return LevelTrace, true
	case "debug":
		return slog.LevelDebug, true
	case "info":
		return slog.LevelInfo, true
	case "warn":
		return slog.LevelWarn, true
	case "err", "error":
		return slog.LevelError, true
	}
	return 0, false
}

// Logs is where log records go: a writer, and whoever follows for a while.
type Logs struct {
	level slog.LevelVar

	mu        sync.Mutex
	main      slog.Handler
	followers map[*follower]struct{}
}

// NewLogs writes records of a level and above to w, as lines of text or JSON, and
// hands them to other handlers.
func NewLogs(w io.Writer, level slog.Level, json bool, also ...slog.Handler) *Logs {
	l := &Logs{followers: map[*follower]struct{}{}}
	l.level.Set(level)
	l.main = newHandler(w, LevelTrace, json)
	if len(also) > 0 {
		l.main = slog.NewMultiHandler(append(also, l.main)...)
	}
	return l
}

// SetLevel changes the least level that is written.
func (l *Logs) SetLevel(level slog.Level) { l.level.Set(level) }

// Logger returns a logger that writes here.
func (l *Logs) Logger() *slog.Logger { return slog.New(&tee{logs: l, main: l.main}) }

// follower gets every record of its level for a while.
type follower struct {
	level slog.Level
	json  bool
	lines chan []byte
}

// followBuffer is how many lines a slow follower may be behind before it misses
// some: logging never waits.
const followBuffer = 512

// Follow hands lines of a level and above to write until ctx is done or write
// fails.
func (l *Logs) Follow(ctx context.Context, level slog.Level, json bool, write func([]byte) error) error {
	f := &follower{level, json, make(chan []byte, followBuffer)}
	l.mu.Lock()
	l.followers[f] = struct{}{}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.followers, f)
		l.mu.Unlock()
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case line := <-f.lines:
			if err := write(line); err != nil {
				return err
			}
		}
	}
}

// least is the least level that anybody wants.
func (l *Logs) least() slog.Level {
	level := l.level.Level()
	l.mu.Lock()
	defer l.mu.Unlock()
	for f := range l.followers {
		level = min(level, f.level)
	}
	return level
}

// tee is the handler of all loggers: it keeps their attributes and hands records
// to the writer and to the followers.
type tee struct {
	logs *Logs
	main slog.Handler
	with []func(slog.Handler) slog.Handler
}

// Enabled implements slog.Handler.
func (t *tee) Enabled(_ context.Context, level slog.Level) bool { return level >= t.logs.least() }

// Handle implements slog.Handler.
func (t *tee) Handle(ctx context.Context, r slog.Record) error {
	var err error
	if r.Level >= t.logs.level.Level() {
		err = t.main.Handle(ctx, r)
	}
	t.logs.mu.Lock()
	defer t.logs.mu.Unlock()
	for f := range t.logs.followers {
		if r.Level < f.level {
			continue
		}
		var line lineBuffer
		h := newHandler(&line, LevelTrace, f.json)
		for _, with := range t.with {
			h = with(h)
		}
		err = errors.Join(err, h.Handle(ctx, r))
		select {
		case f.lines <- line:
		default: // too slow
		}
	}
	return err //nolint:wrapcheck // passed on
}

// WithAttrs implements slog.Handler.
func (t *tee) WithAttrs(attrs []slog.Attr) slog.Handler {
	return t.also(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

// WithGroup implements slog.Handler.
func (t *tee) WithGroup(name string) slog.Handler {
	return t.also(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (t *tee) also(f func(slog.Handler) slog.Handler) slog.Handler {
	with := make([]func(slog.Handler) slog.Handler, len(t.with), len(t.with)+1)
	copy(with, t.with)
	return &tee{t.logs, f(t.main), append(with, f)}
}

type lineBuffer []byte

func (b *lineBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

// newHandler writes the keys that log shippers of the field know (@timestamp,
// @level, @message) as JSON, and a level in words as text.
func newHandler(w io.Writer, level slog.Level, json bool) slog.Handler {
	names := map[string]string{slog.TimeKey: "@timestamp", slog.LevelKey: "@level", slog.MessageKey: "@message"}
	rename := func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) > 0 {
			return a
		}
		// An attribute of a caller may have the name of one of these.
		switch {
		case a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime:
			a.Value = slog.StringValue(a.Value.Time().Format(time.RFC3339Nano))
		case a.Key == slog.LevelKey && a.Value.Kind() == slog.KindAny:
			level, _ := a.Value.Any().(slog.Level)
			name := strings.ToLower(level.String())
			if level <= LevelTrace {
				name = "trace"
			}
			a.Value = slog.StringValue(name)
		case a.Key == slog.MessageKey:
		default:
			return a
		}
		if json {
			a.Key = names[a.Key]
		}
		return a
	}
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: rename}
	if json {
		return slog.NewJSONHandler(w, opts)
	}
	return slog.NewTextHandler(w, opts)
}
