package state

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"isthmus/api"
	"isthmus/internal/ca"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// randomEntry makes one of the commands that a log may hold.
func randomEntry(t *testing.T, r *rand.Rand) []byte {
	t.Helper()
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	var entry []byte
	var err error
	switch r.IntN(6) {
	case 0:
		in := &api.Registration{
			Datacenter: "dc1", Node: pick("n1", "n2", "N1"), Address: pick("192.0.2.1", "192.0.2.2"), NodeMeta: map[string]string{"a": pick("1", "2"), "b": "3"},
		}
		if r.IntN(2) == 0 {
			in.Service = &api.NodeService{ID: pick("web1", "web2", "gw"), Service: pick("web", "api"), Kind: pick("", api.MeshGateway), Port: r.IntN(3)}
			in.Checks = []*api.HealthCheck{{CheckID: pick("c1", "c2"), ServiceID: in.Service.ID, Status: pick(api.Passing, api.Critical)}}
		}
		entry, err = Register.Entry("dc1", in)
	case 1:
		entry, err = Deregister.Entry("dc1", &api.Deregistration{Node: pick("n1", "n2"), ServiceID: pick("", "web1", "gw"), CheckID: pick("", "c1")})
	case 2:
		in := &wire.KVRequest{Op: pick(wire.KVSet, wire.KVCAS, wire.KVDelete, wire.KVDeleteCAS, wire.KVDeleteTree, "nonsense")}
		in.DirEnt = api.KVPair{Key: pick("a", "a/b", "a/c", "b"), Value: []byte(pick("1", "2")), Flags: r.Uint64N(2)}
		in.DirEnt.ModifyIndex = r.Uint64N(20)
		entry, err = KVApply.Entry("dc1", in)
	case 3:
		in := &CARequest{
			Op:            pick(CASetRoots, CASetConfig, CASetState, CADeleteState, CASetRootsConfig, CANextSerial, "nonsense"),
			Config:        &api.CAConfiguration{ClusterID: pick("a", "b"), Provider: "consul", Config: map[string]any{"RootCertTTL": "1h", "PrivateKeyBits": 256}},
			ProviderState: &ca.State{ID: pick("s1", "s2"), PrivateKey: ca.Secret(pick("k1", "k2"))},
			Roots:         []*api.CARoot{{ID: pick("r1", "r2"), Active: true}, {ID: "r3", RotatedOutAt: time.Unix(r.Int64N(3), 0).UTC()}},
		}
		if r.IntN(3) > 0 {
			in.Index = r.Uint64N(300)
		}
		entry, err = CAApply.Entry("dc1", in)
	case 4:
		in := []*api.NodeCoordinate{nil, {Node: pick("n1", "N1", "n2"), Segment: pick("", "s"), Coord: &api.NetworkCoordinate{Vec: []float64{r.Float64()}, Error: float64(r.IntN(2))}}, {Node: "n1"}}
		entry, err = CoordinateUpdate.Entry("dc1", &in)
	default:
		state := &api.FederationState{Datacenter: pick("dc1", "dc2"), UpdatedAt: time.Unix(r.Int64N(100), 0).UTC()}
		entry, err = FederationApply.Entry("dc1", &wire.FederationRequest{Op: pick(wire.FederationUpsert, wire.FederationDelete), State: state})
	}
	if err != nil {
		t.Fatal(err)
	}
	return entry
}

func snapshot(t *testing.T, s *State) []byte {
	t.Helper()
	write, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSameLogGivesTheSameBytesAndASnapshotGivesThemBack(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 7))
		a, b := New(), New()
		for index := uint64(2); index < 300; index++ {
			entry := randomEntry(t, r)
			ra, rb := a.Apply(index, entry), b.Apply(index, entry)
			if fmt.Sprint(ra) != fmt.Sprint(rb) {
				t.Fatalf("seed %d: entry %d gave %v and %v", seed, index, ra, rb)
			}
		}
		want := snapshot(t, a)
		if !bytes.Equal(want, snapshot(t, b)) {
			t.Fatalf("seed %d: the same log gave different snapshots", seed)
		}
		c := New()
		c.Apply(2, randomEntry(t, r)) // must vanish
		if err := c.Restore(299, bytes.NewReader(want)); err != nil {
			t.Fatal(err)
		}
		if got := snapshot(t, c); !bytes.Equal(got, want) {
			t.Fatalf("seed %d: restored state differs", seed)
		}
		// Going on from a snapshot and from the log must be the same.
		for index := uint64(300); index < 350; index++ {
			entry := randomEntry(t, r)
			a.Apply(index, entry)
			c.Apply(index, entry)
		}
		if !bytes.Equal(snapshot(t, a), snapshot(t, c)) {
			t.Fatalf("seed %d: a restored server goes another way", seed)
		}
	}
}

func TestBrokenSnapshotChangesNothing(t *testing.T) {
	s := New()
	r := rand.New(rand.NewPCG(1, 1))
	for index := uint64(2); index < 60; index++ {
		s.Apply(index, randomEntry(t, r))
	}
	whole := snapshot(t, s)
	before := snapshot(t, s)
	broken := map[string][]byte{
		"cut short":       whole[:len(whole)-3],
		"unknown record":  append(slices.Clone(whole), 99, 0x80),
		"no header":       {},
		"record is a nil": append(slices.Clone(whole), 2, 0xc1),
	}
	for name, b := range broken {
		if err := s.Restore(100, bytes.NewReader(b)); err == nil {
			t.Errorf("%s: no error", name)
		}
		if !bytes.Equal(snapshot(t, s), before) {
			t.Errorf("%s: the state changed", name)
		}
	}
}

func TestEntriesKeepTheirBytes(t *testing.T) {
	at := time.Unix(1700000000, 0).UTC()
	for want, got := range map[string]func() ([]byte, error){
		"0284aa4461746163656e746572a3646331a6446972456e7487ab437265617465496e64657800a5466c61677300a34b6579a16ba94c6f636b496e64657800ab4d6f64696679496e64657800a753657373696f6ea0a556616c7565a176a24f70a3736574a5546f6b656ea0": func() ([]byte, error) {
			return KVApply.Entry("dc1", &wire.KVRequest{Op: wire.KVSet, DirEnt: api.KVPair{Key: "k", Value: []byte("v")}})
		},
		"1e84aa4461746163656e746572a3646331a24f70a6757073657274a5537461746586ab437265617465496e64657800aa4461746163656e746572a3646332ac4d6573684761746577617973c0ab4d6f64696679496e64657800b25072696d6172794d6f64696679496e64657800a9557064617465644174af010000000edce5e80000000000ffffa5546f6b656ea0": func() ([]byte, error) {
			return FederationApply.Entry("dc1", &wire.FederationRequest{
				Op: wire.FederationUpsert, State: &api.FederationState{Datacenter: "dc2", UpdatedAt: at},
			})
		},
		"0d87a6436f6e666967c0aa4461746163656e746572a3646331a5496e64657800a24f70b27365742d70726f76696465722d7374617465ad50726f7669646572537461746586ab437265617465496e64657800a24944a169b0496e7465726d65646961746543657274a163ab4d6f64696679496e64657800aa507269766174654b6579a16ba8526f6f7443657274a172a5526f6f7473c0a5546f6b656ea0": func() ([]byte, error) {
			return CAApply.Entry("dc1", &CARequest{Op: CASetState, ProviderState: &ca.State{ID: "i", PrivateKey: "k", RootCert: "r", IntermediateCert: "c"}})
		},
		"0186a7436865636b4944a0aa4461746163656e746572a3646331a44e6f6465a16ea8506565724e616d65a0a9536572766963654944a0a5546f6b656ea0": func() ([]byte, error) {
			return Deregister.Entry("dc1", &api.Deregistration{Node: "n"})
		},
	} {
		b, err := got()
		if err != nil {
			t.Fatal(err)
		}
		if hex.EncodeToString(b) != want {
			t.Errorf("got  %x\nwant %s", b, want)
		}
	}
}

func TestUnknownEntryStopsUnlessItMayBeIgnored(t *testing.T) {
	s := New()
	if got := s.Apply(2, []byte{100 | ignorable, 0x80}); got != nil {
		t.Errorf("got %v, want nothing", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("an unknown entry was passed over: this server would differ from its peers")
		}
	}()
	s.Apply(3, []byte{100, 0x80})
}

func TestIndexesStayWhenNothingDiffers(t *testing.T) {
	s := New()
	in := &api.Registration{
		Datacenter: "dc1", Node: "n1", Address: "192.0.2.1",
		Service: &api.NodeService{ID: "web", Service: "web", Port: 80},
		Checks:  []*api.HealthCheck{{CheckID: "c", ServiceID: "web", Status: api.Passing}},
	}
	for index := uint64(5); index < 8; index++ {
		entry, err := Register.Entry("dc1", in)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Apply(index, entry); got != (wire.Empty{}) {
			t.Fatal(got)
		}
	}
	tx := s.Read()
	for c := range Instances(tx, "web") {
		for name, got := range map[string]uint64{"node": c.Node.ModifyIndex, "service": c.Service.ModifyIndex, "check": c.Checks[0].ModifyIndex} {
			if got != 5 {
				t.Errorf("%s changed at %d, want 5", name, got)
			}
		}
	}
	if tx.Index() != 5 {
		t.Errorf("index %d, want 5", tx.Index())
	}
}

func TestNodeNameOfALivingNodeIsReserved(t *testing.T) {
	s := New()
	register := func(index uint64, id string, checks ...*api.HealthCheck) any {
		entry, err := Register.Entry("dc1", &api.Registration{Datacenter: "dc1", ID: id, Node: "n1", Address: "192.0.2.1", Checks: checks})
		if err != nil {
			t.Fatal(err)
		}
		return s.Apply(index, entry)
	}
	register(2, "id-1", &api.HealthCheck{CheckID: api.SerfHealth, Status: api.Passing})
	if err, ok := register(3, "id-2").(error); !ok || api.CodeOf(err) != api.Invalid {
		t.Errorf("got %v, want a refusal: n1 is alive under another id", err)
	}
	register(4, "id-1", &api.HealthCheck{CheckID: api.SerfHealth, Status: api.Critical})
	if err, failed := register(5, "id-2").(error); failed {
		t.Errorf("got %v, want the name to be free once its node is dead", err)
	}
	if n := Node(s.Read(), "N1"); n == nil || n.ID != "id-2" {
		t.Errorf("got %+v, want the node with its new id", n)
	}
}

func FuzzRestore(f *testing.F) {
	s := New()
	write, err := s.Snapshot()
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	head, err := rpc.Marshal(snapshotHeader{LastIndex: 3})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(head, 2, 0x81, 0xa3, 'K', 'e', 'y', 0xa1, 'a'))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = New().Restore(1, bytes.NewReader(b))
	})
}

func FuzzApply(f *testing.F) {
	for _, c := range commands {
		f.Add([]byte{c.number(), 0x80})
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		if len(b) == 0 || b[0] > 2 && b[0] != 13 && b[0] != 30 {
			return
		}
		if _, err := rpc.ReadValue(bufio.NewReader(bytes.NewReader(b[1:])), nil, 1<<20); err != nil {
			return // a log entry is whole: its checksum says so
		}
		New().Apply(2, b)
	})
}
