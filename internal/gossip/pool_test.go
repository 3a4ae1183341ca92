package gossip

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// expect waits until the events of n that tell of name are exactly these, in order.
func expect(t *testing.T, n *node, name string, want ...string) {
	t.Helper()
	var got []string
	eventually(t, strings.Join(want, ", "), func() bool {
		got = slices.DeleteFunc(n.seen(), func(e string) bool { return !strings.HasSuffix(e, " "+name) })
		for i := range got {
			got[i] = strings.TrimSuffix(got[i], " "+name)
		}
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		t.Fatalf("events of %s: got %v, want %v", name, got, want)
	}
}

func TestTwoNodesSeeEachOther(t *testing.T) {
	ca, cb := config(t, "a"), config(t, "b")
	ca.Tags = map[string]string{"role": "consul"}
	a, b := start(t, ca), start(t, cb)
	join(t, b, a)
	eventually(t, "both alive", func() bool {
		return a.status("b") == StatusAlive && b.status("a") == StatusAlive
	})
	want := Member{
		Name: "a", Addr: a.net.Addr(), Port: uint16(a.net.Port()), Tags: ca.Tags, Status: StatusAlive,
		ProtocolMin: 1, ProtocolMax: 5, ProtocolCur: 2, DelegateMin: 2, DelegateMax: 5, DelegateCur: 4,
	}
	for _, got := range []Member{b.Members()[0], a.Local()} {
		if got.Tags["role"] != "consul" {
			t.Errorf("tags are %v", got.Tags)
		}
		got.Tags, want.Tags = nil, nil
		if got.Name != want.Name || got.Addr != want.Addr || got.Port != want.Port || got.Status != want.Status ||
			got.ProtocolMin != want.ProtocolMin || got.ProtocolMax != want.ProtocolMax ||
			got.ProtocolCur != want.ProtocolCur || got.DelegateMin != want.DelegateMin ||
			got.DelegateMax != want.DelegateMax || got.DelegateCur != want.DelegateCur {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if a.NumNodes() != 2 || a.Stats()["members"] != "2" {
		t.Errorf("got %d nodes, stats %v, want 2", a.NumNodes(), a.Stats())
	}
	eventually(t, "coordinate", func() bool {
		c, ok := a.Coordinate("b")
		return ok && len(c.Vec) == 8
	})
	if _, ok := a.Coordinate("nobody"); ok {
		t.Error("a coordinate of nobody")
	}
}

func TestEventsTellTheLifeOfAMemberInOrder(t *testing.T) {
	a, b, c := start(t, config(t, "a")), start(t, config(t, "b")), start(t, config(t, "c"))
	join(t, b, a)
	join(t, c, a)
	expect(t, b, "c", "member-join")
	if err := c.SetTags(map[string]string{"port": "8300"}); err != nil {
		t.Fatal(err)
	}
	expect(t, b, "c", "member-join", "member-update")
	c.stop() // Without a word.
	expect(t, b, "c", "member-join", "member-update", "member-failed")
	if got := b.status("c"); got != StatusFailed {
		t.Errorf("c is %v, want failed", got)
	}
	expect(t, a, "c", "member-join", "member-update", "member-failed")
	if err := a.ForceLeave("c", false); err != nil {
		t.Fatal(err)
	}
	expect(t, b, "c", "member-join", "member-update", "member-failed", "member-leave")
	if err := a.ForceLeave("c", true); err != nil {
		t.Fatal(err)
	}
	expect(t, b, "c", "member-join", "member-update", "member-failed", "member-leave", "member-reap")
	if got := b.status("c"); got != StatusNone {
		t.Errorf("c is %v, want forgotten", got)
	}
}

func TestLeavingIsNotFailing(t *testing.T) {
	a, b := start(t, config(t, "a")), start(t, config(t, "b"))
	join(t, b, a)
	expect(t, a, "b", "member-join")
	if err := b.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.stop()
	expect(t, a, "b", "member-join", "member-leave")
	if got := a.status("b"); got != StatusLeft {
		t.Errorf("b is %v, want left", got)
	}
}

// A leave is finished before the pool shuts down: the library panics on the reverse.
func TestStoppingDuringALeaveFinishesIt(t *testing.T) {
	a, b := start(t, config(t, "a")), start(t, config(t, "b"))
	join(t, b, a)
	expect(t, a, "b", "member-join")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Leave(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want canceled", err)
	}
	b.stop()
	expect(t, a, "b", "member-join", "member-leave")
	if err := b.Leave(t.Context()); !errors.Is(err, errStopped) {
		t.Errorf("leave when stopped got %v", err)
	}
	if _, err := b.Join(t.Context(), []string{a.addr()}); !errors.Is(err, errStopped) {
		t.Errorf("join when stopped got %v", err)
	}
}

func TestFailedMemberIsForgottenAfterTheReconnectTimeout(t *testing.T) {
	ca := config(t, "a")
	ca.ReconnectTimeout = 200 * time.Millisecond
	a, b := start(t, ca), start(t, config(t, "b"))
	join(t, b, a)
	expect(t, a, "b", "member-join")
	b.stop()
	expect(t, a, "b", "member-join", "member-failed", "member-reap")
}

func TestUserEventReachesEveryMemberOnce(t *testing.T) {
	nodes := make([]*node, 3)
	for i := range nodes {
		cfg := config(t, string(rune('a'+i)))
		cfg.UserEventSize = 64
		nodes[i] = start(t, cfg)
		if i > 0 {
			join(t, nodes[i], nodes[0])
		}
	}
	for _, n := range nodes {
		eventually(t, "three members", func() bool { return n.NumNodes() == 3 })
	}
	if err := nodes[1].UserEvent("deploy", make([]byte, 64), false); err == nil {
		t.Error("sent an event above the limit")
	}
	for _, payload := range []string{"1", "2"} {
		if err := nodes[1].UserEvent("deploy", []byte(payload), false); err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			want := "user deploy=" + payload
			eventually(t, want, func() bool { return slices.Contains(n.seen(), want) })
		}
	}
	for _, n := range nodes {
		got := slices.DeleteFunc(n.seen(), func(e string) bool { return !strings.HasPrefix(e, "user ") })
		if !slices.Equal(got, []string{"user deploy=1", "user deploy=2"}) {
			t.Errorf("got %v, want each event once", got)
		}
	}
}

func TestMergeVetoKeepsMembersOut(t *testing.T) {
	onlyServers := func(members []Member) error {
		for _, m := range members {
			if m.Tags["role"] != "consul" {
				return errors.New("not a server: " + m.Name)
			}
		}
		return nil
	}
	server := func(name string) *node {
		cfg := config(t, name)
		cfg.Tags = map[string]string{"role": "consul"}
		cfg.Merge = onlyServers
		return start(t, cfg)
	}
	a, b := server("a"), server("b")
	client := start(t, config(t, "client")) // It has no tags, and no veto of its own.
	// The other side refuses after it has answered, so the client itself sees no error.
	join(t, client, a)
	join(t, b, a)
	eventually(t, "both servers", func() bool { return a.NumNodes() == 2 && b.NumNodes() == 2 })
	if n, err := a.Join(t.Context(), []string{client.addr()}); n != 0 || err == nil {
		t.Errorf("joined the client: %d, %v", n, err)
	}
	if a.status("client") != StatusNone || b.status("client") != StatusNone {
		t.Error("the client got in")
	}
}

// Even a veto against all must not keep a node out of its own pool, where the library would miss it.
func TestMergeVetoDoesNotConcernOneself(t *testing.T) {
	cfg := config(t, "a")
	cfg.Merge = func([]Member) error { return errors.New("no") }
	a := start(t, cfg)
	if got := a.Local().Status; got != StatusAlive {
		t.Errorf("got %v, want alive", got)
	}
}

func TestRestartedNodeFindsItsPoolAgain(t *testing.T) {
	for _, leave := range []bool{false, true} {
		a := start(t, config(t, "a"))
		cb := config(t, "b")
		cb.SnapshotPath = filepath.Join(t.TempDir(), "serf", "local.snapshot")
		cb.RejoinAfterLeave = leave
		b := start(t, cb)
		join(t, b, a)
		expect(t, b, "a", "member-join")
		expect(t, a, "b", "member-join")
		if leave {
			if err := b.Leave(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		b.stop()
		var err error
		if cb.Net, err = Listen("127.0.0.1", cb.Net.Port(), cb.Log); err == nil {
			b = start(t, cb)
		} else { // Somebody else got the port.
			cb.Net = config(t, "b").Net
			b = start(t, cb)
		}
		eventually(t, "member again", func() bool { return b.status("a") == StatusAlive })
	}
}

func TestIPv6(t *testing.T) {
	listen := func(name string) Config {
		cfg := config(t, name)
		if err := cfg.Net.Close(); err != nil {
			t.Fatal(err)
		}
		var err error
		if cfg.Net, err = Listen("::1", 0, cfg.Log); err != nil {
			t.Skip("no IPv6 here: ", err)
		}
		return cfg
	}
	ca := listen("a")
	ca.RequireNodeNames = true
	cb := listen("b")
	cb.RequireNodeNames = true
	a, b := start(t, ca), start(t, cb)
	addr := "a/" + netip.AddrPortFrom(a.net.Addr(), uint16(a.net.Port())).String()
	if n, err := b.Join(t.Context(), []string{addr}); n != 1 || err != nil {
		t.Fatalf("got %d, %v", n, err)
	}
	eventually(t, "both alive", func() bool { return a.status("b") == StatusAlive && b.status("a") == StatusAlive })
	if _, err := b.Join(t.Context(), []string{strings.TrimPrefix(addr, "a/")}); err == nil {
		t.Error("joined without the name that is required")
	}
}

func TestBadConfigIsRefusedAndNetClosed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := touch(file); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"name is empty":     func(c *Config) { c.Name = "" },
		"event size":        func(c *Config) { c.UserEventSize = 10 << 10 },
		"keyring":           func(c *Config) { c.Keyring = [][]byte{[]byte("short")} },
		"advertise address": func(c *Config) { c.AdvertiseAddr = "here" },
		"can reach":         func(c *Config) { c.AdvertiseAddr = "0.0.0.0" },
		"advertise port":    func(c *Config) { c.AdvertisePort = 1 << 16 },
		"snapshot":          func(c *Config) { c.SnapshotPath = filepath.Join(file, "below") },
		"read keyring":      func(c *Config) { c.KeyringFile = file },
		"tags":              func(c *Config) { c.Tags = map[string]string{"big": strings.Repeat("x", 600)} },
	} {
		cfg := config(t, "a")
		change(&cfg)
		if p, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v, want an error with %q", p, err, want)
		}
		if again, err := Listen("127.0.0.1", cfg.Net.Port(), cfg.Log); err != nil {
			t.Errorf("%s: port still in use: %v", want, err)
		} else if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := New(Config{Name: "a"}); err == nil {
		t.Error("made a pool that listens on nothing")
	}
	if _, err := Listen("localhost", 0, nil); err == nil {
		t.Error("listened on a name")
	}
	if _, err := Listen("127.0.0.1", -1, nil); err == nil {
		t.Error("listened on port -1")
	}
}

func TestMembersOutsideTheAllowedNetworksStayOut(t *testing.T) {
	cfg := config(t, "a")
	cfg.Allowed = []netip.Prefix{netip.PrefixFrom(cfg.Net.Addr(), 32)}
	a, near := start(t, cfg), start(t, config(t, "near"))
	far := config(t, "far")
	far.AdvertiseAddr = "127.0.0.99"
	outside := start(t, far)
	join(t, near, a)
	_, _ = outside.Join(t.Context(), []string{a.addr()})
	expect(t, a, "near", "member-join")
	for _, m := range a.Members() {
		if m.Name == "far" {
			t.Errorf("a member is %+v", m)
		}
	}
}
