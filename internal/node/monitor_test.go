package node

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestLogIsFollowedWhileTheNodeRuns reads lines as they come, at a level that is
// finer than the log's own.
func TestLogIsFollowedWhileTheNodeRuns(t *testing.T) {
	r := dev(t, `log_level = "error"`)
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	follow := func(query string) *bufio.Scanner {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.addr+":8500/v1/agent/monitor"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return bufio.NewScanner(resp.Body)
	}
	text, asJSON := follow("?loglevel=debug"), follow("?loglevel=warn&logjson")
	said := make(chan struct{})
	go func() { // until both have followed: the answer may begin a little before
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			r.Node.log.Debug("fine")
			r.Node.log.Warn("coarse", "n", 1)
			select {
			case <-said:
				return
			case <-tick.C:
			}
		}
	}()
	defer close(said)
	for seen := false; !seen && text.Scan(); {
		seen = strings.Contains(text.Text(), "msg=fine") && strings.Contains(text.Text(), "level=debug")
	}
	if err := text.Err(); err != nil || !strings.Contains(text.Text(), "fine") {
		t.Errorf("got %q, %v", text.Text(), err)
	}
	var line map[string]any
	if !asJSON.Scan() {
		t.Fatal(asJSON.Err())
	}
	if err := json.Unmarshal(asJSON.Bytes(), &line); err != nil || line["@message"] != "coarse" || line["n"] != 1.0 {
		t.Errorf("got %s, %v; want the first line to be of the level", asJSON.Bytes(), err)
	}
	if strings.Contains(r.log.String(), "coarse") {
		t.Error("following has changed the log itself")
	}
}
