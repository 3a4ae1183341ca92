package node

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// diary notes what parts do, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, s)
}

// part runs until its context is done.
func (d *diary) part(name string) part {
	return part{name, func(ctx context.Context) error {
		<-ctx.Done()
		d.note(name)
		return nil
	}}
}

func TestStagesStopInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &diary{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- stages{{d.part("storage")}, {d.part("cluster")}, {d.part("front")}}.run(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if want := []string{"front", "cluster", "storage"}; !slices.Equal(d.lines, want) {
			t.Errorf("stopped %v, want %v", d.lines, want)
		}
	})
}

func TestPartThatFailsStopsTheNode(t *testing.T) {
	for at, want := range [][]string{{"front", "cluster"}, {"front", "storage"}, {"cluster", "storage"}} {
		synctest.Test(t, func(t *testing.T) {
			d := &diary{}
			fail := make(chan struct{})
			parts := []part{d.part("storage"), d.part("cluster"), d.part("front")}
			parts[at].run = func(context.Context) error {
				<-fail
				return errors.New("the disk is gone")
			}
			done := make(chan error)
			go func() { done <- stages{{parts[0]}, {parts[1]}, {parts[2]}}.run(t.Context()) }()
			synctest.Wait()
			close(fail)
			err := <-done
			if err == nil || !strings.Contains(err.Error(), parts[at].name+": the disk is gone") {
				t.Errorf("got %v, want it to name the part", err)
			}
			if !slices.Equal(d.lines, want) {
				t.Errorf("when %s fails, stopped %v, want %v", parts[at].name, d.lines, want)
			}
		})
	}
}

func TestPartMayEndBeforeTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &diary{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		once := part{"join", func(context.Context) error { return nil }}
		go func() { done <- stages{{once, d.part("pool")}}.run(ctx) }()
		synctest.Wait()
		if len(d.lines) > 0 {
			t.Errorf("stopped %v although nothing failed", d.lines)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
