package gossip

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestLibraryLinesKeepTheirLevel(t *testing.T) {
	for line, want := range map[string]string{
		"[DEBUG] memberlist: x\n": "",
		"[TRACE] serf: x\n":       "",
		"[INFO] serf: x\n":        `level=INFO msg="gossip library" text="serf: x"`,
		"[WARN] serf: x\n":        `level=WARN msg="gossip library" text="serf: x"`,
		"[ERR] serf: x\n":         `level=ERROR msg="gossip library" text="serf: x"`,
		"[ERROR] serf: x\n":       `level=ERROR msg="gossip library" text="serf: x"`,
		"Err: x\n":                `level=WARN msg="gossip library" text="Err: x"`,
		"[OTHER] x\n":             `level=WARN msg="gossip library" text="[OTHER] x"`,
		"[\n":                     `level=WARN msg="gossip library" text=[`,
	} {
		var buf bytes.Buffer
		newLibraryLog(slog.New(slog.NewTextHandler(&buf, nil))).Print(line)
		got := buf.String()
		if want == "" && got != "" || !strings.HasSuffix(strings.TrimSpace(got), want) {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}
