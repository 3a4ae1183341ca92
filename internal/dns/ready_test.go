package dns

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"isthmus/api"
)

// run runs a front's keeper of ready answers until the test ends.
func run(t *testing.T, f *Front) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	synctest.Wait()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestReadyAnswersAreThoseOfTheServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers(t)
		f := New(config(s))
		run(t, f)
		for _, line := range []string{
			"one.service.consul. A", "one.service.consul. SRV", "same.service.consul. SRV edns=4096", "n1.node.consul. A", "N1.Node.CONSUL. TXT edns=4096",
			"One.Service.Consul. SRV edns=4096", "primary.web.service.consul. A", "six.service.consul. A", "big.service.consul. SRV edns=4096",
			"big.service.consul. SRV count edns=600", "big.service.consul. A count", "web.connect.dc1.consul. SRV", "fat.service.consul. SRV",
			"n1.node.consul. MX",
		} {
			q := parseQuestion(t, line)
			want := show(answerOf(t, f, q.msg(t), false), q)
			answerOf(t, f, q.msg(t), false)
			synctest.Wait()
			calls := s.calls.Load()
			for range 3 {
				if got := show(answerOf(t, f, q.msg(t), false), q); got != want {
					t.Errorf("%s: got\n%s\nfrom servers came\n%s", line, got, want)
				}
			}
			if s.calls.Load() != calls {
				t.Errorf("%s: servers were asked again", line)
			}
		}
	})
}

func TestReadyAnswersFollowTheCatalog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers(t)
		f := New(config(s))
		run(t, f)
		count := func() int { return len(lookupOf(t, f, "one.service.consul.", dns.TypeA).Answer) }
		if count()+count() != 2 {
			t.Fatal("not found")
		}
		synctest.Wait()
		s.register(&api.Registration{Node: "n2", Address: "10.1.0.2", Service: &api.NodeService{ID: "one2", Service: "one", Address: "10.7.7.7"}})
		synctest.Wait()
		if calls := s.calls.Load(); count() != 2 || s.calls.Load() != calls {
			t.Errorf("%d answers after a new instance came", count())
		}
		s.remove("dc1", "one")
		synctest.Wait()
		if m := lookupOf(t, f, "one.service.consul.", dns.TypeA); m.Rcode != dns.RcodeNameError || len(m.Ns) != 1 {
			t.Errorf("got %v after the last went", m)
		}
		// With other settings, answers are made anew.
		set := usual()
		set.NodeTTL = time.Minute
		lookupOf(t, f, "n2.node.consul.", dns.TypeA)
		lookupOf(t, f, "n2.node.consul.", dns.TypeA)
		synctest.Wait()
		f.Set(set)
		if m := lookupOf(t, f, "n2.node.consul.", dns.TypeA); m.Answer[0].Header().Ttl != 60 {
			t.Errorf("got %v", m)
		}
		// Where the servers cannot be asked, nothing old is told.
		lookupOf(t, f, "n2.node.consul.", dns.TypeA)
		synctest.Wait()
		s.err = errors.New("broken")
		s.remove("dc1", "none")
		synctest.Wait()
		if m := lookupOf(t, f, "n2.node.consul.", dns.TypeA); m.Rcode != dns.RcodeServerFailure {
			t.Errorf("got %v", m)
		}
		// What nobody asks for any more is dropped.
		<-time.After(3 * readySweep)
		synctest.Wait()
		if n := len(f.ready.by); n != 0 {
			t.Errorf("%d answers are kept", n)
		}
	})
}

func TestFewAnswersAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers(t)
		for i := range maxReady + 50 {
			s.register(&api.Registration{Node: fmt.Sprint("x", i), Address: "10.0.0.1"})
		}
		f := New(config(s))
		run(t, f)
		for range 2 {
			for i := range maxReady + 50 {
				lookupOf(t, f, fmt.Sprintf("x%d.node.consul.", i), dns.TypeA)
			}
		}
		if n := len(f.ready.by); n != maxReady {
			t.Errorf("%d answers are kept", n)
		}
		for i := range 3 * maxAsked {
			lookupOf(t, f, fmt.Sprintf("y%d.node.consul.", i), dns.TypeA)
		}
		if n := len(f.ready.asked); n > maxAsked {
			t.Errorf("%d questions are remembered", n)
		}
	})
}

func TestWhatMustBeNewIsNotKept(t *testing.T) {
	for name, change := range map[string]func(*Settings){
		"leader":    func(s *Settings) { s.AllowStale = false },
		"max_stale": func(s *Settings) { s.MaxStale = time.Second },
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := config(newServers(t))
			change(&cfg.Settings)
			f := New(cfg)
			run(t, f)
			for range 3 {
				lookupOf(t, f, "one.service.consul.", dns.TypeA)
			}
			if n := len(f.ready.by); n != 0 {
				t.Errorf("%s: %d answers are kept", name, n)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		f := New(config(newServers(t)))
		run(t, f)
		for range 3 {
			for _, name := range []string{"none.service.consul.", "ext.service.consul.", "web.service.dc2.consul.", "0a000001.addr.consul.", "consul."} {
				lookupOf(t, f, name, dns.TypeA)
			}
		}
		if n := len(f.ready.by); n != 0 {
			t.Errorf("%d answers are kept", n)
		}
	})
}
