package main

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"isthmus/internal/testkit"
)

// TestSecondSignalStopsAtOnce: an agent that leaves goes on answering for a while,
// unless it is told again.
func TestSecondSignalStopsAtOnce(t *testing.T) {
	f := newFleet(t)
	f.servers(1, 1, "")
	settings := f.clientSettings()
	settings["performance"] = map[string]any{"leave_drain_time": "10m"}
	client := f.agent("client", "", settings)
	state := func(want int) {
		t.Helper()
		testkit.Eventually(t, func() error {
			var members []struct {
				Name   string
				Status int
			}
			if err := f.get(1, 1, "/v1/agent/members", &members); err != nil {
				return err
			}
			for _, m := range members {
				if m.Name == "client" && m.Status == want {
					return nil
				}
			}
			return fmt.Errorf("members are %v, want the client in state %d", members, want)
		})
	}
	state(1)
	if err := client.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	state(3)
	select {
	case <-client.done:
		t.Fatal("the client did not wait for what is under way")
	default:
	}
	if err := client.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-client.done:
	case <-time.After(20 * time.Second):
		t.Fatal("the client does not stop at the second signal")
	}
}
