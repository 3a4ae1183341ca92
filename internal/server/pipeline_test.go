package server_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/testkit"
	"isthmus/internal/wire"
)

func TestEveryMethodIsBound(t *testing.T) {
	bound := testkit.NewServer(t).Handlers().Names()
	for _, m := range wire.Methods() {
		if !slices.Contains(bound, m.Name) {
			t.Errorf("%s is declared and not bound", m.Name)
		}
	}
	if len(bound) != len(wire.Methods()) {
		t.Errorf("%d methods are bound and %d listed in wire.Methods", len(bound), len(wire.Methods()))
	}
}

func register(t *testing.T, c rpc.Caller, node, service string, port int) uint64 {
	t.Helper()
	_, meta, err := wire.CatalogRegister.Call(t.Context(), c, rpc.Header{}, api.Registration{
		Node: node, Address: "192.0.2.7", Service: &api.NodeService{ID: service, Service: service, Port: port},
		Check: &api.HealthCheck{CheckID: service + "-alive", Status: api.Passing, ServiceID: service},
	})
	if err != nil {
		t.Fatal(err)
	}
	return meta.Index
}

func TestBlockedReadWakesOnItsServiceOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testkit.NewServer(t)
		register(t, c, "n1", "api", 81)
		seen := register(t, c, "n1", "web", 80)

		woke := make(chan rpc.Meta, 1)
		go func() {
			h := rpc.Header{MinIndex: seen, MaxWait: time.Hour}
			_, meta, err := wire.HealthServiceNodes.Call(t.Context(), c, h, wire.ServiceQuery{ServiceName: "web"})
			if err != nil {
				t.Error(err)
			}
			woke <- meta
		}()
		synctest.Wait() // the read is parked
		register(t, c, "n1", "web", 80)
		register(t, c, "n1", "api", 82)
		register(t, c, "n2", "db", 5432)
		synctest.Wait()
		if len(woke) > 0 {
			t.Fatal("woke without a change of its service")
		}
		want := register(t, c, "n1", "web", 88)
		if got := <-woke; got.Index != want {
			t.Errorf("woke at index %d, want %d", got.Index, want)
		}
	})
}

func TestReaderOfAMissingKeyWakesWhenItAppears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testkit.NewServer(t)
		put := func(key string) {
			in := wire.KVRequest{Op: wire.KVSet, DirEnt: api.KVPair{Key: key, Value: []byte(key)}}
			if _, _, err := wire.KVApply.Call(t.Context(), c, rpc.Header{}, in); err != nil {
				t.Fatal(err)
			}
		}
		put("a/1")
		_, meta, err := wire.KVGet.Call(t.Context(), c, rpc.Header{}, wire.KeyQuery{Key: "a/2"})
		if err != nil || meta.Index == 0 {
			t.Fatalf("got index %d, %v; want one above 0", meta.Index, err)
		}
		woke := make(chan int, 1)
		go func() {
			h := rpc.Header{MinIndex: meta.Index, MaxWait: time.Hour}
			got, _, err := wire.KVGet.Call(t.Context(), c, h, wire.KeyQuery{Key: "a/2"})
			if err != nil {
				t.Error(err)
			}
			woke <- len(got)
		}()
		synctest.Wait()
		put("a/3") // changes the shape of the branch the search ended in
		put("b")
		synctest.Wait()
		if len(woke) > 0 {
			t.Fatal("woke although the key is still missing")
		}
		put("a/2")
		if got := <-woke; got != 1 {
			t.Errorf("got %d entries, want the one that appeared", got)
		}
	})
}

func TestBlockingReadEndsWithItsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testkit.NewServer(t)
		seen := register(t, c, "n1", "web", 80)
		start := time.Now()
		h := rpc.Header{MinIndex: seen, MaxWait: 16 * time.Second}
		got, meta, err := wire.HealthServiceNodes.Call(t.Context(), c, h, wire.ServiceQuery{ServiceName: "web"})
		if err != nil || len(got) != 1 || meta.Index != seen {
			t.Errorf("got %d instances at %d, %v; want the unchanged one at %d", len(got), meta.Index, err, seen)
		}
		if took := time.Since(start); took < 16*time.Second || took > 17*time.Second {
			t.Errorf("waited %s, want the wait of 16 s and at most a sixteenth more", took)
		}
	})
}

// TestIndexOfAFormerLifeIsNotWaitedFor reads on in a datacenter that was built anew
// since.
func TestIndexOfAFormerLifeIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testkit.NewServer(t)
		at := register(t, c, "n1", "web", 80)
		start := time.Now()
		h := rpc.Header{MinIndex: at + 1000, MaxWait: time.Hour}
		got, meta, err := wire.HealthServiceNodes.Call(t.Context(), c, h, wire.ServiceQuery{ServiceName: "web"})
		if err != nil || len(got) != 1 || meta.Index != at {
			t.Errorf("got %d instances at %d, %v; want what there is at %d", len(got), meta.Index, err, at)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("answered after %s", took)
		}
	})
}

func TestKVConditions(t *testing.T) {
	c := testkit.NewServer(t)
	apply := func(op, key, value string, index uint64) bool {
		t.Helper()
		e := api.KVPair{Key: key, Value: []byte(value)}
		e.ModifyIndex = index
		ok, _, err := wire.KVApply.Call(t.Context(), c, rpc.Header{}, wire.KVRequest{Op: op, DirEnt: e})
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	get := func(key string) *api.KVPair {
		t.Helper()
		list, _, err := wire.KVGet.Call(t.Context(), c, rpc.Header{}, wire.KeyQuery{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			return nil
		}
		return list[0]
	}
	if !apply(wire.KVCAS, "k", "1", 0) || apply(wire.KVCAS, "k", "2", 0) {
		t.Error("index 0 must write only what is missing")
	}
	first := get("k")
	if apply(wire.KVCAS, "k", "2", first.ModifyIndex+1) || !apply(wire.KVCAS, "k", "2", first.ModifyIndex) {
		t.Error("only the index of the last change must write")
	}
	second := get("k")
	if second.CreateIndex != first.CreateIndex || second.ModifyIndex <= first.ModifyIndex {
		t.Errorf("indexes went from %+v to %+v", first.RaftIndex, second.RaftIndex)
	}
	apply(wire.KVSet, "k", "2", 0)
	if same := get("k"); same.ModifyIndex != second.ModifyIndex {
		t.Error("writing the same value changed the index")
	}
	if apply(wire.KVDeleteCAS, "k", "", first.ModifyIndex) || !apply(wire.KVDeleteCAS, "k", "", second.ModifyIndex) || get("k") != nil {
		t.Error("delete-cas must delete only at the index of the last change")
	}
	if !apply(wire.KVDeleteCAS, "k", "", 5) {
		t.Error("delete-cas of what is gone must say true")
	}
}
