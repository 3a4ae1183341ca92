package node

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"isthmus/internal/testkit"
)

// The states of a member, as numbers of the API.
const (
	memberLeft   = 3
	memberFailed = 4
)

// eventuallyMember waits until a node shows a member in a state; 0 is that it shows
// none.
func (r *running) eventuallyMember(query, name string, want int) {
	r.t.Helper()
	testkit.Eventually(r.t, func() error {
		var members []struct {
			Name   string
			Status int
		}
		if err := r.get("/v1/agent/members"+query, &members); err != nil {
			return err
		}
		got := 0
		for _, m := range members {
			if m.Name == name {
				got = m.Status
			}
		}
		if got != want {
			return fmt.Errorf("member %s is in state %d, want %d", name, got, want)
		}
		return nil
	})
}

func (r *running) put(path string) error {
	status, body, err := r.do(http.MethodPut, path)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: %d %s", path, status, body)
	}
	return err
}

const fastLAN = `gossip_lan { probe_interval = "100ms" probe_timeout = "100ms" gossip_interval = "50ms" suspicion_mult = 2 }
performance { leave_drain_time = "10ms" }
`

func clientOf(t *testing.T, name string) *running {
	t.Helper()
	return startNode(t, fastLAN, "-data-dir", t.TempDir(), "-node", name)
}

func TestMembersThatLeaveHaveLeftAndOthersHaveFailed(t *testing.T) {
	server := dev(t, fastLAN)
	leaves, fails, pruned := clientOf(t, "leaves"), clientOf(t, "fails"), clientOf(t, "pruned")
	for _, c := range []*running{leaves, fails, pruned} {
		if err := c.put("/v1/agent/join/" + server.addr); err != nil {
			t.Fatal(err)
		}
	}
	if err := leaves.put("/v1/agent/leave"); err != nil {
		t.Fatal(err)
	}
	server.eventuallyMember("", "leaves", memberLeft)
	if err := leaves.stop(); err != nil { // it has stopped already
		t.Error(err)
	}

	if err := errors.Join(fails.stop(), pruned.stop()); err != nil {
		t.Error(err)
	}
	server.eventuallyMember("", "fails", memberFailed)
	server.eventuallyMember("", "pruned", memberFailed)
	if err := errors.Join(server.put("/v1/agent/force-leave/fails"), server.put("/v1/agent/force-leave/pruned?prune")); err != nil {
		t.Error(err)
	}
	server.eventuallyMember("", "fails", memberLeft)
	server.eventuallyMember("", "pruned", 0)
	server.eventually("/v1/catalog/nodes", `"n1"`)
	testkit.Eventually(t, func() error {
		_, body, err := server.do(http.MethodGet, "/v1/catalog/nodes")
		if err == nil && strings.Contains(body, "fails") {
			err = fmt.Errorf("a node that was made to leave is still in the catalog: %s", body)
		}
		return err
	})
}

func TestServersOfAnotherDatacenterJoinAndAreMadeToLeave(t *testing.T) {
	const fastWAN = `gossip_wan { probe_interval = "100ms" probe_timeout = "100ms" gossip_interval = "50ms" suspicion_mult = 2 }
		performance { leave_drain_time = "10ms" }`
	one := dev(t, fastWAN)
	two := startNode(t, fastWAN, "-dev", "-datacenter", "dc2", "-node", "n2")
	testkit.Eventually(t, func() error { return one.put("/v1/agent/join/" + two.addr + "?wan=1") })
	one.eventuallyMember("?wan=1", "n2.dc2", 1)
	if err := two.stop(); err != nil {
		t.Error(err)
	}
	one.eventuallyMember("?wan=1", "n2.dc2", memberFailed)
	if err := one.put("/v1/agent/force-leave/n2.dc2?wan=1&prune=1"); err != nil {
		t.Error(err)
	}
	one.eventuallyMember("?wan=1", "n2.dc2", 0)
	status, body, err := one.do(http.MethodPut, "/v1/agent/force-leave/nobody.dc2?wan=1")
	if err != nil || status != http.StatusInternalServerError || !strings.Contains(body, "No node found") {
		t.Errorf("got %d %s, %v", status, body, err)
	}
}
