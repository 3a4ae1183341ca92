package federation

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/internal/gossip"
)

func TestLostDatacentersAreJoinedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wan := []gossip.Member{
			member("self.dc1", "consul", "dc1", "192.0.2.1", gossip.StatusAlive),
			member("s.dc2", "consul", "dc2", "192.0.2.9", gossip.StatusAlive),
			member("s.dc3", "consul", "dc3", "192.0.2.9", gossip.StatusFailed),
		}
		known := []string{"dc1", "dc2", "dc3"}
		var mu sync.Mutex // guards what follows
		var joined []string
		up := false
		changed := make(chan struct{}, 1)
		r := Reach{
			Own: "dc1", Datacenters: func() []string { return known },
			WAN: func() []gossip.Member {
				mu.Lock()
				defer mu.Unlock()
				return slices.Clone(wan)
			},
			Probe: func(context.Context, string) error { return nil },
			Join: func(_ context.Context, addrs []string) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				joined = append(joined, addrs...)
				if !up {
					return 0, errors.New("no mesh gateway is known yet")
				}
				wan[2].Status = gossip.StatusAlive
				return 1, nil
			},
			Changed: changed, Interval: 30 * time.Second, Log: slog.New(slog.DiscardHandler),
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(joined) < 4 || slices.ContainsFunc(joined, func(a string) bool { return a != "*.dc3/192.0.2.2" }) {
			t.Fatalf("joined %v, want dc3 alone, again and again", joined)
		}
		up, joined = true, nil
		changed <- struct{}{} // a gateway is known now: no interval is waited out
		synctest.Wait()
		if len(joined) != 1 {
			t.Errorf("joined %v at once, want dc3", joined)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(joined) != 1 {
			t.Errorf("joined %v although nothing is missing", joined)
		}
		mu.Lock()
		wan[1].Status = gossip.StatusFailed
		wan[2].Status = gossip.StatusAlive
		mu.Unlock()
		time.Sleep(2 * lookEvery)
		synctest.Wait()
		if !slices.Contains(joined, "*.dc2/192.0.2.2") {
			t.Errorf("joined %v, want dc2, which was lost", joined)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestJoiningGivesUpAfterTheAttemptsThatAreSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := Reach{
			Own: "dc2", Datacenters: func() []string { return []string{"dc1"} }, WAN: func() []gossip.Member { return nil },
			Probe:    func(context.Context, string) error { return errors.New("refused") },
			Join:     func(context.Context, []string) (int, error) { return 0, errors.New("joined past the probe") },
			Interval: time.Second, Most: 3, Log: slog.New(slog.DiscardHandler),
		}
		if err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "after 3 attempts: refused") {
			t.Errorf("got %v", err)
		}
	})
}

// TestSilentDatacenterHoldsUpNoOther loses three datacenters of which one returns.
func TestSilentDatacenterHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		joined := make(chan string, 1)
		r := Reach{
			Own: "dc1", Datacenters: func() []string { return []string{"dc2", "dc3", "dc4"} },
			WAN: func() []gossip.Member { return nil },
			Probe: func(ctx context.Context, dc string) error {
				if dc == "dc4" {
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			},
			Join: func(_ context.Context, addrs []string) (int, error) {
				select {
				case joined <- addrs[0]:
				default:
				}
				return 1, nil
			},
			Interval: 30 * time.Second, Log: slog.New(slog.DiscardHandler),
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		start := time.Now()
		go func() { done <- r.Run(ctx) }()
		if got := <-joined; got != "*.dc4/192.0.2.2" || time.Since(start) > 0 {
			t.Errorf("joined %s after %s, want dc4 at once", got, time.Since(start))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
