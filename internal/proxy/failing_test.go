package proxy

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestAddressesThatFailedAreTriedLastAndTheNewestFailureAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := failing{until: map[string]time.Time{}}
		order := func() []string {
			all := []string{"b", "a", "c", "d"}
			f.last(all)
			return all
		}
		f.add("a")
		<-time.After(time.Second)
		f.add("b")
		if got := order(); !slices.Equal(got, []string{"c", "d", "a", "b"}) {
			t.Errorf("got %v", got)
		}
		<-time.After(failingFor - time.Second + 1)
		if got := order(); !slices.Equal(got, []string{"a", "c", "d", "b"}) {
			t.Errorf("once the first is forgotten: got %v", got)
		}
		<-time.After(time.Second)
		if got := order(); !slices.Equal(got, []string{"b", "a", "c", "d"}) {
			t.Errorf("once all are forgotten: got %v", got)
		}
	})
}
