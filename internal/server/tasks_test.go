package server_test

import (
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/testkit"
	"isthmus/internal/wire"
)

func TestStatesOfVanishedDatacentersArePruned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testkit.NewServer(t)
		synctest.Wait() // it leads
		in := wire.FederationRequest{Op: wire.FederationUpsert, State: &api.FederationState{Datacenter: "gone"}}
		if _, _, err := wire.FederationApply.Call(t.Context(), c, rpc.Header{}, in); err != nil {
			t.Fatal(err)
		}
		names := func() (out []string) {
			t.Helper()
			list, _, err := wire.FederationList.Call(t.Context(), c, rpc.Header{}, wire.DCQuery{})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range list {
				out = append(out, f.Datacenter)
				if f.UpdatedAt.IsZero() || f.PrimaryModifyIndex == 0 {
					t.Errorf("%s has no time or index: %+v", f.Datacenter, f)
				}
			}
			return out
		}
		time.Sleep(59 * time.Minute)
		synctest.Wait()
		if got := names(); len(got) != 2 {
			t.Errorf("within the hour: %v, want the own datacenter and the one that vanished", got)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := names(); len(got) != 1 || got[0] != "dc1" {
			t.Errorf("after an hour: %v, want the own datacenter alone", got)
		}
	})
}
