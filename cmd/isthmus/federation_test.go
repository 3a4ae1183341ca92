package main

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"isthmus/internal/testkit"
	"isthmus/internal/wire"
)

func TestThreeServersEachFederate(t *testing.T) {
	f := newFleet(t)
	one, two := f.servers(1, 3, ""), f.servers(2, 3, "")
	f.gateway(1, 1)
	f.gateway(2, 1)
	f.federated(3)

	t.Run("blocking read is woken from the other datacenter", func(t *testing.T) {
		if err := f.put(1, 1, 1, "watched", "before"); err != nil {
			t.Fatal(err)
		}
		resp, err := f.client.Get("http://" + f.addr(2, 1) + ":8500/v1/kv/watched?dc=dc1")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		index := resp.Header.Get("X-Consul-Index")
		woke := make(chan error, 1)
		go func() {
			got, err := f.do(http.MethodGet, 2, 2, "/v1/kv/watched?raw&dc=dc1&wait=25s&index="+index, nil)
			if err == nil && string(got) != "after" {
				err = fmt.Errorf("got %q", got)
			}
			woke <- err
		}()
		if err := f.put(1, 2, 1, "watched", "after"); err != nil {
			t.Fatal(err)
		}
		if err := <-woke; err != nil {
			t.Error(err)
		}
	})

	t.Run("a killed leader of either side is replaced", func(t *testing.T) {
		for dc, servers := range map[int][]*process{1: one, 2: two} {
			var leader string
			if err := f.get(dc, 1, "/v1/status/leader", &leader); err != nil {
				t.Fatal(err)
			}
			at := slices.IndexFunc([]int{1, 2, 3}, func(n int) bool { return strings.HasPrefix(leader, f.addr(dc, n)+":") })
			servers[at].signal(syscall.SIGKILL)
			start := time.Now()
			testkit.Eventually(t, func() error { return f.put(3-dc, 1, dc, "after-the-leader", leader) })
			t.Logf("leader of dc%d killed: the next write from dc%d after %s", dc, 3-dc, time.Since(start))
			servers[at].start()
			f.federated(3)
		}
	})

	t.Run("all servers of the secondary come back with what they had", func(t *testing.T) {
		if err := f.put(2, 1, 2, "kept", "yes"); err != nil {
			t.Fatal(err)
		}
		for _, p := range two {
			p.signal(syscall.SIGKILL)
		}
		for _, p := range two {
			p.start()
		}
		f.federated(3)
		if got, err := f.read(1, 1, 2, "kept"); err != nil || got != "yes" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestGatewaysFailAndReturn(t *testing.T) {
	f := newFleet(t)
	f.servers(1, 1, "")
	f.servers(2, 1, "")
	p1, p2 := f.gateway(1, 1), f.gateway(1, 2)
	s1 := f.gateway(2, 1)
	s2 := f.gateway(2, 2)
	f.federated(1)
	if err := f.put(1, 1, 1, "k", "v"); err != nil {
		t.Fatal(err)
	}
	// reads returns how long reads across failed, once they work again.
	reads := func(t *testing.T) time.Duration {
		t.Helper()
		start := time.Now()
		testkit.Eventually(t, func() error {
			_, err := f.read(2, 1, 1, "k")
			return err
		})
		return time.Since(start)
	}

	// settled waits until the secondary's server uses its own gateways alone.
	settled := func(t *testing.T) {
		t.Helper()
		testkit.Eventually(t, func() error {
			var status struct{ Servers []wire.ServerView }
			if err := f.get(2, 1, "/v1/federation/status", &status); err != nil {
				return err
			}
			own, far := 0, 0
			for _, dc := range status.Servers[0].Datacenters {
				for _, g := range dc.Gateways {
					if g.Own {
						own += g.Connections
					} else {
						far += g.Connections
					}
				}
			}
			if own == 0 || far > 0 {
				return fmt.Errorf("%d connections through own gateways, %d through the primary's", own, far)
			}
			return nil
		})
	}
	t.Run("one of two is killed", func(t *testing.T) {
		settled(t)
		s1.signal(syscall.SIGKILL)
		for range 50 {
			if _, err := f.read(2, 1, 1, "k"); err != nil {
				t.Fatalf("a read failed although a gateway works: %v", err)
			}
		}
		s1.start()
	})
	t.Run("one of two stalls", func(t *testing.T) {
		settled(t)
		for _, p := range []*process{s1, p1} {
			p.signal(syscall.SIGSTOP)
			t.Logf("%s stalled: reads work after %s", p.name, reads(t))
			p.signal(syscall.SIGCONT)
			settled(t)
		}
	})
	t.Run("one direction is cut", func(t *testing.T) {
		settled(t)
		s1.signal(syscall.SIGSTOP)
		s2.signal(syscall.SIGSTOP)
		t.Logf("from the secondary, reads work after %s: the primary's gateways are used", reads(t))
		short := &http.Client{Timeout: time.Second}
		if resp, err := short.Get("http://" + f.addr(1, 1) + ":8500/v1/kv/from-dc2?dc=dc2"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				t.Error("a read into the secondary works although none of its gateways does")
			}
		}
		s1.signal(syscall.SIGCONT)
		s2.signal(syscall.SIGCONT)
		f.federated(1)
	})
	t.Run("all own gateways are down, then back", func(t *testing.T) {
		settled(t)
		s1.signal(syscall.SIGKILL)
		s2.signal(syscall.SIGKILL)
		t.Logf("own gateways down: reads work after %s", reads(t))
		s1.start()
		testkit.Eventually(t, func() error {
			b, err := f.do(http.MethodGet, 2, 1, "/v1/federation/status", nil)
			if err == nil && !strings.Contains(string(b), `"Route":"own gateway"`) {
				err = fmt.Errorf("the own gateway is not the route again: %s", b)
			}
			return err
		})
		s2.start()
	})
	t.Run("all gateways of the primary are down, then back", func(t *testing.T) {
		p1.signal(syscall.SIGKILL)
		p2.signal(syscall.SIGKILL)
		if _, err := f.read(2, 1, 1, "k"); err == nil {
			t.Error("a read works without any gateway of the primary")
		}
		if _, err := f.read(2, 1, 2, "from-dc2"); err != nil {
			t.Errorf("a local read fails with the primary: %v", err)
		}
		p2.start()
		t.Logf("gateways of the primary back: reads work after %s", reads(t))
		p1.start()
		f.federated(1)
	})
	t.Run("all gateways of the primary are replaced at once", func(t *testing.T) {
		p1.signal(syscall.SIGKILL)
		p2.signal(syscall.SIGKILL)
		f.gateway(1, 3) // what was replicated does not know it; the settings do
		t.Logf("at a new address: reads work after %s", reads(t))
		f.federated(1)
		settled(t)
		p1.start()
		p2.start()
	})
	t.Run("the WAN is cut until all hold each other for dead, and healed", func(t *testing.T) {
		cut := slices.DeleteFunc(slices.Clone(f.all), func(p *process) bool { return !strings.Contains(p.name, "-gw") })
		for _, p := range cut {
			p.signal(syscall.SIGSTOP)
		}
		for dc := 1; dc <= 2; dc++ {
			testkit.Eventually(t, func() error { return f.alive(dc, 1, 1) })
		}
		for _, p := range cut {
			p.signal(syscall.SIGCONT)
		}
		start := time.Now()
		f.federated(1)
		t.Logf("federated again %s after the WAN was healed", time.Since(start))
	})
}

func TestSecondariesReachEachOther(t *testing.T) {
	f := newFleet(t)
	for dc := 1; dc <= 3; dc++ {
		f.servers(dc, 1, "")
		f.gateway(dc, 1)
	}
	testkit.Eventually(t, func() error {
		for dc := 1; dc <= 3; dc++ {
			if err := f.alive(dc, 1, 3); err != nil {
				return err
			}
			if err := f.published(dc, 1, 3); err != nil {
				return err
			}
			for to := 1; to <= 3; to++ {
				if err := f.put(dc, 1, to, "k", "v"); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func TestKilledServerHasEveryAcknowledgedWrite(t *testing.T) {
	f := newFleet(t)
	s := f.servers(1, 1, "")[0]
	testkit.Eventually(t, func() error { return f.put(1, 1, 1, "first", "1") })
	written := make(chan int, 1)
	go func() {
		n := 0
		for f.put(1, 1, 1, fmt.Sprintf("w/%06d", n), "x") == nil {
			n++
		}
		written <- n
	}()
	testkit.Eventually(t, func() error {
		var keys []string
		if err := f.get(1, 1, "/v1/kv/w/?keys", &keys); err != nil {
			return err
		}
		if len(keys) < 300 {
			return fmt.Errorf("%d keys yet", len(keys))
		}
		return nil
	})
	s.signal(syscall.SIGKILL)
	n := <-written
	s.start()
	testkit.Eventually(t, func() error {
		var keys []string
		if err := f.get(1, 1, "/v1/kv/w/?keys", &keys); err != nil {
			return err
		}
		if len(keys) < n {
			return fmt.Errorf("%d keys are there, %d were acknowledged", len(keys), n)
		}
		return nil
	})
}

func TestRestartUsesTheReplicatedGatewaysAtOnce(t *testing.T) {
	f := newFleet(t)
	f.servers(1, 1, "")
	f.gateway(1, 1)
	two := f.servers(2, 1, "")[0]
	f.gateway(2, 1)
	f.federated(1)
	two.signal(syscall.SIGKILL)
	settings := f.settings(2, 1, 1)
	delete(settings, "primary_gateways") // nothing but what was replicated tells of a gateway
	f.agent("dc2-s1", "", settings)
	f.federated(1)
}

func TestDottedNodeNameFederates(t *testing.T) {
	f := newFleet(t)
	f.agent("one", "", f.named("a.b.c", 1, 1, 1))
	f.gateway(1, 1)
	f.agent("two", "", f.named("a.b.c", 2, 1, 1)) // equal names in two datacenters
	f.gateway(2, 1)
	f.federated(1)
}

func TestServerWhoseCertificateLacksItsNameDoesNotStart(t *testing.T) {
	f := newFleet(t)
	settings := f.named("right", 1, 1, 1)
	settings["node_name"] = "wrong"
	p := f.agent("server", "", settings)
	<-p.done
	b, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"wrong.server.dc1.consul", "isthmus tls cert create -server"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the refusal does not say %q: %s", want, b)
		}
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
}

func TestDataDirectoryOfTheReferenceIsRefusedWithTheStepToTake(t *testing.T) {
	f, ref := newFleet(t), reference(t)
	settings := f.settings(1, 1, 1)
	p := f.agent("server", ref, settings)
	testkit.Eventually(t, func() error { return f.put(1, 1, 1, "k", "v") })
	p.signal(syscall.SIGKILL)
	p = f.agent("server-again", "", settings)
	<-p.done
	b, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), "raft.db") || p.cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("exit code %d, and: %s", p.cmd.ProcessState.ExitCode(), b)
	}
	t.Logf("%s", b)
}

func TestRestartedPrimaryFindsItsSecondaryAgain(t *testing.T) {
	f := newFleet(t)
	one := f.servers(1, 1, "")[0]
	f.gateway(1, 1)
	f.servers(2, 1, "")
	f.gateway(2, 1)
	f.federated(1)
	one.signal(syscall.SIGKILL)
	one.start()
	start := time.Now()
	f.federated(1)
	t.Logf("federated again %s after the restart", time.Since(start))
}

func TestServersFederateWithoutGatewaysWhereTheyReachEachOther(t *testing.T) {
	f := newFleet(t)
	for dc := 1; dc <= 2; dc++ {
		settings := f.settings(dc, 1, 1)
		delete(settings, "connect")
		delete(settings, "primary_gateways")
		if dc == 2 {
			settings["retry_join_wan"] = []string{f.addr(1, 1)}
		}
		f.agent(fmt.Sprintf("dc%d-s1", dc), "", settings)
	}
	testkit.Eventually(t, func() error {
		for dc := 1; dc <= 2; dc++ {
			if err := f.alive(dc, 1, 2); err != nil {
				return err
			}
			if err := f.put(dc, 1, 3-dc, "k", "v"); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestEqualNamesAndPrivateAddressesInTwoDatacenters(t *testing.T) {
	f := newFleet(t)
	for dc := 1; dc <= 2; dc++ {
		settings := f.settings(dc, 1, 1)
		settings["advertise_addr_wan"] = "10.0.0.1" // each is known elsewhere as s1 at this address
		f.agent(fmt.Sprintf("dc%d-s1", dc), "", settings)
		f.gateway(dc, 1)
	}
	f.federated(1)
	var members []struct{ Name, Addr string }
	if err := f.get(1, 1, "/v1/agent/members?wan=1", &members); err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		if m.Addr != "10.0.0.1" {
			t.Errorf("%s is known at %s, so this test shows nothing", m.Name, m.Addr)
		}
	}
	for dc := 1; dc <= 2; dc++ { // what is asked of one datacenter is answered by it
		if err := f.put(3-dc, 1, dc, "who", fmt.Sprint("dc", dc)); err != nil {
			t.Error(err)
		}
	}
	for dc := 1; dc <= 2; dc++ {
		if got, err := f.read(dc, 1, dc, "who"); err != nil || got != fmt.Sprint("dc", dc) {
			t.Errorf("dc%d holds %q, %v", dc, got, err)
		}
	}
}
