package gossip

import (
	"bytes"
	"context"
	"log"
	"log/slog"
)

// libraryLog is where the libraries write their lines, each with its level in brackets in front.
type libraryLog struct{ log *slog.Logger }

func newLibraryLog(to *slog.Logger) *log.Logger { return log.New(libraryLog{to}, "", 0) }

// Write logs one line.
func (l libraryLog) Write(line []byte) (int, error) {
	level, text := parseLine(line)
	if ctx := context.Background(); l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, "gossip library", "text", string(text))
	}
	return len(line), nil
}

// parseLine splits a line into its level and the rest. The libraries leave the level out of a few lines, all of which
// tell of a call that did not succeed.
func parseLine(line []byte) (slog.Level, []byte) {
	line = bytes.TrimSpace(line)
	if rest, ok := bytes.CutPrefix(line, []byte("[")); ok {
		if word, text, ok := bytes.Cut(rest, []byte("]")); ok {
			text = bytes.TrimSpace(text)
			switch string(word) {
			case "TRACE", "DEBUG":
				return slog.LevelDebug, text
			case "INFO":
				return slog.LevelInfo, text
			case "WARN":
				return slog.LevelWarn, text
			case "ERR", "ERROR":
				return slog.LevelError, text
			}
		}
	}
	return slog.LevelWarn, line
}
