package clients

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/grafana/dskit/kv/codec"
	"github.com/grafana/dskit/kv/consul"
	"github.com/prometheus/client_golang/prometheus"
)

// ring is a client as the rings of Loki, Mimir and Tempo use it.
func ring(t *testing.T, consistent bool) *consul.Client {
	t.Helper()
	client, err := consul.NewClient(consul.Config{
		Host: os.Getenv("CONSUL_HTTP_ADDR"), HTTPClientTimeout: 20 * time.Second, ConsistentReads: consistent,
		CasRetryDelay: time.Millisecond, MaxCasRetries: 100,
	}, codec.String{}, log.NewNopLogger(), prometheus.NewRegistry())
	must(t, err)
	return client
}

// next returns what comes out of a channel, or fails.
func next[T any](t *testing.T, what string, in <-chan T) T {
	t.Helper()
	select {
	case v := <-in:
		return v
	case <-time.After(within):
		t.Fatalf("%s does not come", what)
		panic("unreachable")
	}
}

func TestDskit(t *testing.T) {
	kv := agent(t).KV()
	t.Cleanup(func() { _, _ = kv.DeleteTree("dskit/", nil) })
	// A missing key gives an index to wait with.
	_, meta, err := kv.Get("dskit/ring", nil)
	must(t, err)
	if meta.LastIndex < 1 {
		t.Errorf("a missing key has index %d", meta.LastIndex)
	}
	for _, consistent := range []bool{false, true} {
		t.Run(fmt.Sprintf("consistent=%v", consistent), func(t *testing.T) {
			testRing(t, ring(t, consistent), fmt.Sprintf("dskit/%v/", consistent))
		})
	}
}

func testRing(t *testing.T, c *consul.Client, prefix string) {
	t.Helper()
	ctx := t.Context()
	key := prefix + "ring"
	if _, err := c.Get(ctx, key); err != nil && !errors.Is(err, consul.ErrNotFound) {
		t.Fatal(err)
	}

	// One watches the key from before it is there, one all keys beside it.
	values, others := make(chan string), make(chan string)
	watching, stop := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	watch := func(out chan<- string, v string) bool {
		select {
		case out <- v:
			return true
		case <-watching.Done():
			return false
		}
	}
	watchers.Go(func() {
		c.WatchKey(watching, key, func(v any) bool { return watch(values, fmt.Sprint(v)) })
	})
	watchers.Go(func() {
		c.WatchPrefix(watching, prefix, func(k string, v any) bool { return watch(others, fmt.Sprint(k, "=", v)) })
	})
	defer watchers.Wait()
	defer stop()

	must(t, c.CAS(ctx, key, func(in any) (any, bool, error) {
		if in != nil {
			t.Errorf("the key holds %v already", in)
		}
		return "first", true, nil
	}))
	if got := next(t, "the first value", values); got != "first" {
		t.Errorf("the watch saw %q", got)
	}
	if got := next(t, "the first key", others); got != key+"=first" {
		t.Errorf("the watch of the prefix saw %q", got)
	}

	// Members that join at once all find their place: each write is compared.
	const members = 8
	var joined sync.WaitGroup
	for i := range members {
		joined.Go(func() {
			err := c.CAS(ctx, key, func(in any) (any, bool, error) { return fmt.Sprintf("%s %d", in, i), true, nil })
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait := make(chan struct{})
	go func() { joined.Wait(); close(wait) }()
	last := ""
	for done := false; !done || len(last) != len("first")+2*members; {
		select {
		case last = <-values:
		case <-others:
		case <-wait:
			wait, done = nil, true
		case <-time.After(within):
			t.Fatalf("the watch saw %q at last", last)
		}
	}
	got, err := c.Get(ctx, key)
	must(t, err)
	if got != last {
		t.Errorf("the key holds %q, and the watch saw %q", got, last)
	}

	// An update that says that there is nothing to change writes nothing.
	before := last
	must(t, c.CAS(ctx, key, func(any) (any, bool, error) { return nil, false, nil }))
	must(t, c.Put(ctx, prefix+"a", "x"))
	keys, err := c.List(ctx, prefix)
	must(t, err)
	if want := []string{prefix + "a", key}; !slices.Equal(keys, want) {
		t.Errorf("the keys are %v, want %v", keys, want)
	}
	for got := ""; got != prefix+"a=x"; {
		got = next(t, "the other key", others)
	}
	must(t, c.Delete(ctx, prefix+"a"))
	if keys, err := c.List(ctx, prefix); err != nil || len(keys) != 1 {
		t.Errorf("the keys are %v (%v)", keys, err)
	}
	must(t, c.Put(ctx, key, "end"))
	if got := next(t, "the last value", values); got != "end" {
		t.Errorf("after %q the watch saw %q", before, got)
	}
}
