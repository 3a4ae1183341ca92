package federation

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestPaceLetsABurstThroughAndThenOneInEachInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pace{every: time.Second, burst: 3}
		start := time.Now()
		want := []int{0, 0, 0, 1, 2, 3}
		for i, seconds := range want {
			if !p.wait(t.Context()) {
				t.Fatal("gave up")
			}
			if got := time.Since(start); got != time.Duration(seconds)*time.Second {
				t.Errorf("round %d began after %s, want %d s", i, got, seconds)
			}
		}
		time.Sleep(time.Minute) // rounds are given back, but no more than the burst
		start = time.Now()
		for range 4 {
			p.wait(t.Context())
		}
		if got := time.Since(start); got != time.Second {
			t.Errorf("four rounds after a quiet minute took %s, want 1 s", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if p.wait(ctx) {
			t.Error("a round began although the context is done")
		}
	})
}
