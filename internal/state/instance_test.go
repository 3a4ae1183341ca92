package state

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"isthmus/api"
	"isthmus/internal/store"
)

// plainly joins all instances anew.
func plainly(r store.Reader) []api.CheckServiceNode {
	var out []api.CheckServiceNode
	for row := range services.All(r) {
		node := nodes.Get(r, row.at)
		if node == nil {
			continue
		}
		all := slices.Collect(checksByOwner.Get(r, ownerKey(row.node, "")))
		all = append(all, slices.Collect(checksByOwner.Get(r, row.own))...)
		if all == nil {
			all = []*api.HealthCheck{}
		}
		out = append(out, api.CheckServiceNode{Node: node, Service: row.NodeService, Checks: all})
	}
	return out
}

func kept(r store.Reader) []api.CheckServiceNode {
	var out []api.CheckServiceNode
	for i := range AllInstances(r) {
		out = append(out, i.CheckServiceNode)
	}
	return out
}

func TestJoinedInstancesAreThoseOfTheirParts(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 11))
		pick := func(words ...string) string { return words[r.IntN(len(words))] }
		s := New()
		for index := uint64(2); index < 200; index++ {
			entry := randomEntry(t, r)
			if r.IntN(2) == 0 { // checks of nodes, and such that go over to another instance
				var err error
				if entry, err = Register.Entry("dc1", &api.Registration{
					Node: pick("n1", "n2"), Address: "192.0.2.1", SkipNodeUpdate: true,
					Check: &api.HealthCheck{CheckID: pick("c1", "c2"), ServiceID: pick("", "web1", "web2"), Status: pick(api.Passing, api.Critical)},
				}); err != nil {
					t.Fatal(err)
				}
			}
			s.Apply(index, entry)
			if want, got := plainly(s.View()), kept(s.View()); !reflect.DeepEqual(got, want) {
				t.Fatalf("seed %d, entry %d: kept %v, should be %v", seed, index, got, want)
			}
		}
		again := New()
		if err := again.Restore(300, bytes.NewReader(snapshot(t, s))); err != nil {
			t.Fatal(err)
		}
		if want, got := plainly(again.View()), kept(again.View()); !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: restored %v, should be %v", seed, got, want)
		}
	}
}

// TestReadersOfAServiceWakeForItsPartsAlone changes one thing at a time and looks
// who hears of it.
func TestReadersOfAServiceWakeForItsPartsAlone(t *testing.T) {
	s, index := New(), uint64(1)
	apply := func(in *api.Registration) {
		t.Helper()
		entry, err := Register.Entry("dc1", in)
		if err != nil {
			t.Fatal(err)
		}
		index++
		if err, failed := s.Apply(index, entry).(error); failed {
			t.Fatal(err)
		}
	}
	service := func(node, id, name string) {
		apply(&api.Registration{Node: node, Address: "192.0.2.1", SkipNodeUpdate: true, Service: &api.NodeService{ID: id, Service: name}})
	}
	check := func(node, id, of, status string) {
		apply(&api.Registration{Node: node, Address: "192.0.2.1", SkipNodeUpdate: true, Check: &api.HealthCheck{CheckID: id, ServiceID: of, Status: status}})
	}
	service("n1", "web", "web")
	service("n1", "api", "api")
	service("n2", "api", "api")
	check("n1", "c-web", "web", api.Passing)
	check("n1", "c-api", "api", api.Passing)
	for _, c := range []struct {
		what string
		do   func()
		wake bool
	}{
		{"a check of another service on the node", func() { check("n1", "c-api", "api", api.Critical) }, false},
		{"the first check of another node", func() { check("n2", "c-node", "", api.Passing) }, false},
		{"a check of another node", func() { check("n2", "c-node", "", api.Critical) }, false},
		{"another service on the node", func() { service("n1", "db", "db") }, false},
		{"a service of which the name is a part", func() { service("n1", "web2", "web2") }, false},
		{"another node", func() { apply(&api.Registration{Node: "n2", Address: "192.0.2.2"}) }, false},
		{"a check that is as it was", func() { check("n1", "c-web", "web", api.Passing) }, false},
		{"its check", func() { check("n1", "c-web", "web", api.Critical) }, true},
		{"the first check of its node", func() { check("n1", "c-node", "", api.Passing) }, true},
		{"its node", func() { apply(&api.Registration{Node: "n1", Address: "192.0.2.7"}) }, true},
		{"a second instance", func() { service("n2", "web", "web") }, true},
	} {
		tx := s.Read()
		for range Instances(tx, "web") {
		}
		changed := tx.Changed()
		c.do()
		woken := false
		select {
		case <-changed:
			woken = true
		default: // a change is told before Apply returns
		}
		if woken != c.wake {
			t.Errorf("%s: woken is %t", c.what, woken)
		}
		tx.Release()
		after := s.Read()
		for range Instances(after, "web") {
		}
		if moved := after.Index() == index; moved != c.wake {
			t.Errorf("%s: a read of web has index %d of %d", c.what, after.Index(), index)
		}
	}
}
