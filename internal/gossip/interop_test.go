package gossip

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// referenceMember is a row of the reference's /v1/agent/members.
type referenceMember struct {
	Name                                  string
	Tags                                  map[string]string
	Status                                Status
	ProtocolMin, ProtocolMax, ProtocolCur uint8
	DelegateMin, DelegateMax, DelegateCur uint8
}

// runReference runs the reference until the test ends, and yields how to ask it for the members of a pool, which the
// query selects.
func runReference(t *testing.T, query string, args ...string) func() []referenceMember {
	t.Helper()
	binary := os.Getenv("ISTHMUS_REFERENCE")
	if binary == "" {
		t.Skip("ISTHMUS_REFERENCE does not name the reference binary")
	}
	ports := freePorts(t, 4)
	web := ports[0]
	args = append([]string{
		"agent", "-data-dir", t.TempDir(), "-bind", "127.0.0.2", "-client", "127.0.0.2", "-node", "reference",
		"-http-port", web, "-dns-port", "-1", "-grpc-port", "-1", "-grpc-tls-port", "-1",
		"-serf-lan-port", ports[1], "-serf-wan-port", ports[2], "-server-port", ports[3],
		"-hcl", `disable_update_check=true retry_interval="1s" retry_interval_wan="1s"`,
	}, args...)
	cmd := exec.CommandContext(t.Context(), binary, args...)
	if os.Getenv("GOSSIP_TEST_LOG") != "" {
		cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // Ended by the test's context at the latest.
		_ = cmd.Wait()         // It was killed.
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return func() []referenceMember {
		r, err := client.Get("http://127.0.0.2:" + web + "/v1/agent/members" + query)
		if err != nil {
			return nil // Not up yet.
		}
		defer func() { _ = r.Body.Close() }() // It was read.
		var members []referenceMember
		if json.NewDecoder(r.Body).Decode(&members) != nil {
			return nil
		}
		return members
	}
}

// freePorts finds ports that differ from each other.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	ports := make([]string, n)
	for i := range ports {
		l, err := Listen("127.0.0.2", 0, testLog(t))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }() // Nothing was received.
		ports[i] = strconv.Itoa(l.Port())
	}
	return ports
}

func serverTags(dc string) map[string]string {
	return map[string]string{
		"role": "consul", "dc": dc, "id": "11111111-2222-3333-4444-555555555555", "segment": "", "vsn": "2",
		"vsn_min": "2", "vsn_max": "3", "raft_vsn": "3", "build": "1.16.4:", "port": "8300", "wan_join_port": "8302",
		"grpc_port": "8502", "acls": "0", "ft_fs": "1", "ft_si": "1",
	}
}

func TestReferenceClientJoinsOurPool(t *testing.T) {
	secret, key := newKey(t)
	cfg := config(t, "ours")
	cfg.Keyring = [][]byte{key}
	cfg.Tags = serverTags("dc1")
	ours := start(t, cfg)
	members := runReference(t, "", "-retry-join", ours.addr(), "-encrypt", secret, "-datacenter", "dc1")

	eventually(t, "the reference is alive here", func() bool { return ours.status("reference") == StatusAlive })
	var us, them referenceMember
	eventually(t, "we are alive there", func() bool {
		for _, m := range members() {
			switch m.Name {
			case "ours":
				us = m
			case "reference":
				them = m
			}
		}
		return us.Status == StatusAlive && them.Status == StatusAlive
	})
	if us.Tags["ft_fs"] != "1" || us.Tags["id"] != cfg.Tags["id"] {
		t.Errorf("our tags are %v there", us.Tags)
	}
	// The versions we speak are those that the reference speaks.
	us.Name, us.Tags, them.Name, them.Tags = "", nil, "", nil
	got, err := json.Marshal(us)
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(them)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("our versions are %s, want %s", got, want)
	}
	eventually(t, "its coordinate", func() bool { _, ok := ours.Coordinate("reference"); return ok })
	if r, err := ours.ListKeys(0); err != nil || r.Keys[secret] != 2 {
		t.Errorf("keys are %+v, %v", r, err)
	}
	if err := ours.Leave(t.Context()); err != nil {
		t.Error(err)
	}
	eventually(t, "we have left there", func() bool {
		for _, m := range members() {
			if m.Name == "ours" {
				return m.Status == StatusLeft
			}
		}
		return false
	})
}

func TestReferenceServerJoinsOurWANPool(t *testing.T) {
	secret, key := newKey(t)
	cfg := config(t, "ours.dc2")
	cfg.WAN = true
	cfg.Keyring = [][]byte{key}
	cfg.Tags = serverTags("dc2")
	ours := start(t, cfg)
	members := runReference(t, "?wan=1", "-server", "-bootstrap", "-retry-join-wan", ours.addr(), "-encrypt", secret,
		"-datacenter", "dc1")
	eventually(t, "the reference is alive here", func() bool { return ours.status("reference.dc1") == StatusAlive })
	eventually(t, "we are alive there", func() bool {
		for _, m := range members() {
			if m.Name == "ours.dc2" {
				return m.Status == StatusAlive
			}
		}
		return false
	})
}
