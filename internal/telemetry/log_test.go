package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAttributesMayHaveAnyName(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		var b bytes.Buffer
		log := NewLogs(&b, slog.LevelInfo, asJSON).Logger()
		log.Info("hello", "time", "2s", "level", "high", "msg", 3)
		if got := b.String(); !strings.Contains(got, "hello") || !strings.Contains(got, "2s") || !strings.Contains(got, "high") {
			t.Errorf("json %v: got %s", asJSON, got)
		}
	}
}

func TestJSONLinesHaveTheFieldNames(t *testing.T) {
	var b bytes.Buffer
	NewLogs(&b, slog.LevelDebug, true).Logger().With("component", "raft").Debug("hello", "n", 1)
	var line map[string]any
	if err := json.Unmarshal(b.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if line["@message"] != "hello" || line["@level"] != "debug" || line["component"] != "raft" || line["n"] != 1.0 {
		t.Errorf("got %v", line)
	}
	if _, err := time.Parse(time.RFC3339Nano, line["@timestamp"].(string)); err != nil {
		t.Error(err)
	}
}

func TestLevelChangesWhileRunning(t *testing.T) {
	var b bytes.Buffer
	logs := NewLogs(&b, slog.LevelWarn, false)
	log := logs.Logger()
	log.Info("before")
	logs.SetLevel(slog.LevelInfo)
	log.Info("after")
	if got := b.String(); strings.Contains(got, "before") || !strings.Contains(got, "after") {
		t.Errorf("got %s", got)
	}
}

func TestFollowerSeesItsLevelOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		logs := NewLogs(&b, slog.LevelError, false)
		log := logs.Logger().With("component", "x")
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		done := make(chan error)
		go func() {
			done <- logs.Follow(ctx, slog.LevelInfo, false, func(line []byte) error {
				got = append(got, string(line))
				return nil
			})
		}()
		synctest.Wait()
		log.Debug("too fine")
		log.Info("fine")
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		log.Info("gone")
		if len(got) != 1 || !strings.Contains(got[0], "component=x") || !strings.Contains(got[0], "fine") {
			t.Errorf("got %q", got)
		}
		if b.Len() > 0 {
			t.Errorf("the main log has %s", b.String())
		}
	})
}

func TestLogFileIsReplacedBySize(t *testing.T) {
	dir := t.TempDir()
	f, err := OpenFile(filepath.Join(dir, "a.log"), 10, 0, 2)
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		if _, err := f.Write([]byte("12345678\n")); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "a-*.log"))
	if err != nil || len(names) != 3 {
		t.Fatalf("got files %v, %v; want the current one and two old ones", names, err)
	}
	for _, name := range names {
		if b, err := os.ReadFile(name); err != nil || len(b) != 9 {
			t.Errorf("%s has %d bytes, %v", name, len(b), err)
		}
	}
}
