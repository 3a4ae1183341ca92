package state

import (
	"reflect"
	"testing"

	"isthmus/api"
	"isthmus/internal/wire"
)

func TestUsageCountsWhatThereIs(t *testing.T) {
	s := New()
	apply := func(entry []byte, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		s.Apply(s.LastIndex()+1, entry)
	}
	for _, svc := range []*api.NodeService{
		{ID: "consul", Service: api.ConsulService},
		{ID: "web1", Service: "web", Port: 80},
		{ID: "web2", Service: "web", Port: 81, Connect: api.ServiceConnect{Native: true}},
		{ID: "gateway", Service: "gateway", Kind: api.MeshGateway},
	} {
		apply(Register.Entry("dc1", &api.Registration{Node: "n1", Address: "192.0.2.1", Service: svc}))
	}
	for _, key := range []string{"a", "b"} {
		apply(KVApply.Entry("dc1", &wire.KVRequest{Op: wire.KVSet, DirEnt: api.KVPair{Key: key}}))
	}
	want := Usage{
		Nodes: 1, Services: 3, Instances: 4, KVEntries: 2, Billable: 2,
		Mesh: map[string]int{api.MeshGateway: 1, Native: 1},
	}
	if got := UsageOf(s.View()); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestOperationsAreTold(t *testing.T) {
	s := New()
	entry, err := KVApply.Entry("dc1", &wire.KVRequest{Op: wire.KVDelete, DirEnt: api.KVPair{Key: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, op := s.Do(1, entry); op != string(wire.KVDelete) || Number(entry) != KVApply.ID {
		t.Errorf("got %q of %d, want %q of %d", op, Number(entry), wire.KVDelete, KVApply.ID)
	}
}
