package state

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"isthmus/api"
	"isthmus/internal/ca"
)

// change applies a change of the authority.
func change(t *testing.T, s *State, in CARequest) any {
	t.Helper()
	entry, err := CAApply.Entry("dc1", &in)
	if err != nil {
		t.Fatal(err)
	}
	return s.Apply(max(s.LastIndex(), 1)+1, entry)
}

func TestRootsChangeOnlyAtTheirIndex(t *testing.T) {
	s := New()
	first := []*api.CARoot{{ID: "a", Active: true}}
	both := []*api.CARoot{{ID: "a"}, {ID: "b", Active: true}}
	config := &api.CAConfiguration{ClusterID: "c"}
	steps := []struct {
		in   CARequest
		done bool
		ids  []string
	}{
		{CARequest{Op: CASetRootsConfig, Index: 7, Roots: first, Config: config}, false, nil},
		{CARequest{Op: CASetRootsConfig, Roots: first, Config: config}, true, []string{"a"}},
		{CARequest{Op: CASetRoots, Roots: both}, false, []string{"a"}},
		{CARequest{Op: CASetRoots, Index: 3, Roots: both}, true, []string{"a", "b"}},
		{CARequest{Op: CASetRoots, Index: 5, Roots: both[1:]}, true, []string{"b"}},
	}
	for i, step := range steps {
		if got := change(t, s, step.in); got != (CAResult{Done: step.done}) {
			t.Errorf("step %d: got %v, want %v", i, got, step.done)
		}
		var ids []string
		for r := range CARoots(s.Read()) {
			ids = append(ids, r.ID)
		}
		if !slices.Equal(ids, step.ids) {
			t.Errorf("step %d: roots %v, want %v", i, ids, step.ids)
		}
		if c := CAConfig(s.Read()); (c != nil) != (i > 0) {
			t.Errorf("step %d: got the configuration %v", i, c)
		}
	}
	for name, bad := range map[string][]*api.CARoot{
		"none": nil, "none is active": {{ID: "x"}}, "two are active": {{ID: "x", Active: true}, {ID: "y", Active: true}},
		"no id": {{Active: true}}, "nil": {nil},
	} {
		if _, failed := change(t, s, CARequest{Op: CASetRoots, Index: CARootsIndex(s.Read()), Roots: bad}).(error); !failed {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestUnchangedRootWakesNobody writes the same root beside another one.
func TestUnchangedRootWakesNobody(t *testing.T) {
	s := New()
	same := &api.CARoot{ID: "a", Active: true, IntermediateCerts: []string{"x"}}
	change(t, s, CARequest{Op: CASetRoots, Roots: []*api.CARoot{same}})
	index := CARootsIndex(s.Read())
	change(t, s, CARequest{Op: CASetRoots, Index: index, Roots: []*api.CARoot{same}})
	if got := CARootsIndex(s.Read()); got != index {
		t.Errorf("index %d, want %d", got, index)
	}
	change(t, s, CARequest{Op: CASetRoots, Index: index, Roots: []*api.CARoot{same, {ID: "b"}}})
	for r := range CARoots(s.Read()) {
		if r.ID == "a" && r.ModifyIndex != index {
			t.Errorf("root a changed at %d, want %d", r.ModifyIndex, index)
		}
	}
}

func TestConfigurationChangesOnlyAtItsIndex(t *testing.T) {
	s := New()
	set := func(index uint64) any {
		c := &api.CAConfiguration{ClusterID: "c", Provider: "consul"}
		c.ModifyIndex = index
		return change(t, s, CARequest{Op: CASetConfig, Config: c})
	}
	if got := set(0); got != (CAResult{Done: true}) {
		t.Fatal(got)
	}
	first := *CAConfig(s.Read())
	if _, failed := set(first.ModifyIndex + 1).(error); !failed {
		t.Error("no error at another index")
	}
	if got := set(first.ModifyIndex); got != (CAResult{Done: true}) {
		t.Error(got)
	}
	if c := CAConfig(s.Read()); c.CreateIndex != first.CreateIndex || c.ModifyIndex <= first.ModifyIndex {
		t.Errorf("indexes went from %+v to %+v", first.RaftIndex, c.RaftIndex)
	}
	if _, failed := change(t, s, CARequest{Op: CASetConfig}).(error); !failed {
		t.Error("no error without a configuration")
	}
}

func TestSerialNumbersAreNeverDrawnTwice(t *testing.T) {
	s := New()
	for want := uint64(1); want < 6; want++ {
		if got := change(t, s, CARequest{Op: CANextSerial}); got != (CAResult{Done: true, Serial: want}) {
			t.Fatalf("got %v, want %d", got, want)
		}
		b := snapshot(t, s)
		s = New() // and not after a restore either
		if err := s.Restore(9, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestProviderStatesComeAndGo(t *testing.T) {
	s := New()
	change(t, s, CARequest{Op: CASetState, ProviderState: &ca.State{ID: "i", PrivateKey: "k"}})
	if got := CAState(s.Read(), "i"); got == nil || got.PrivateKey != "k" {
		t.Errorf("got %v", got)
	}
	change(t, s, CARequest{Op: CADeleteState, ProviderState: &ca.State{ID: "i"}})
	if got := CAState(s.Read(), "i"); got != nil {
		t.Errorf("got %v after it was deleted", got)
	}
	for _, bad := range []*ca.State{nil, {}} {
		if _, failed := change(t, s, CARequest{Op: CASetState, ProviderState: bad}).(error); !failed {
			t.Errorf("%v: no error", bad)
		}
	}
}

// TestReferencesRecordsAreUnderstood restores what the reference wrote of its
// authority, without the record that holds the key. A root is written again byte
// by byte as it was.
func TestReferencesRecordsAreUnderstood(t *testing.T) {
	b, err := os.ReadFile("testdata/reference-ca.snapshot")
	if err != nil {
		t.Fatal(err)
	}
	s := New()
	if err := s.Restore(18, bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	tx := s.Read()
	roots := slices.Collect(CARoots(tx))
	cfg := CAConfig(tx)
	if len(roots) != 1 || roots[0].SerialNumber != 7 || roots[0].NotAfter.Year() != 2036 || roots[0].CreateIndex != 9 {
		t.Errorf("got the roots %+v", roots)
	}
	if cfg == nil || cfg.ClusterID != "e29fb68f-201b-8651-bad4-198ad4272f5e" || cfg.Config["LeafCertTTL"] != "72h" || cfg.ModifyIndex != 9 {
		t.Errorf("got the configuration %+v", cfg)
	}
	again := snapshot(t, s)
	at := bytes.IndexByte(b, 13)
	end := at + bytes.Index(b[at:], []byte("SigningKeyID\xda")) + len("SigningKeyID") + 3 + 95 // its last field: a text of 95 bytes
	if !bytes.Contains(again, b[at:end]) {
		t.Errorf("the root is written\n%x\nwant\n%x", again, b[at:end])
	}
	if got := change(t, s, CARequest{Op: CANextSerial}); got != (CAResult{Done: true, Serial: 11}) {
		t.Errorf("the next serial number is %v, want 11", got)
	}
}
