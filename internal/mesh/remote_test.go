package mesh

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"isthmus/api"
)

var quiet = slog.New(slog.DiscardHandler)

func constant(p *api.NodeService) func(context.Context) iter.Seq[*api.NodeService] {
	return func(context.Context) iter.Seq[*api.NodeService] { return slices.Values([]*api.NodeService{p}) }
}

// rows are gateways.
type rows = []api.CheckServiceNode

// unhealthy is a gateway with a critical check that changed at an index.
func unhealthy(c api.CheckServiceNode, at uint64) api.CheckServiceNode {
	c.Checks = []*api.HealthCheck{{Status: api.Critical, RaftIndex: api.RaftIndex{CreateIndex: at, ModifyIndex: at}}}
	return c
}

func TestNewerOfTwoSourcesWins(t *testing.T) {
	// Steps of what is heard of a datacenter, in their order.
	type step struct {
		dump, state rows
		index       uint64 // of the dump
		first       bool   // reading of the states
		failed      bool   // the dump's watch
		gone        bool   // the state
	}
	dump := func(index uint64, r ...api.CheckServiceNode) step { return step{dump: r, index: index} }
	state := func(r ...api.CheckServiceNode) step { return step{state: r} }
	first := func(r ...api.CheckServiceNode) step { return step{state: r, first: true} }
	fails, gone := step{failed: true}, step{gone: true}
	a, b := gateway("a", "old", 50, 50), gateway("b", "b", 60, 60)
	movedA := gateway("a", "new", 50, 200)  // registered anew under its id
	otherA := gateway("a", "new", 200, 200) // registered after it was gone
	thirdA := gateway("a", "third", 300, 300)
	rebuilt := gateway("a", "rebuilt", 30, 30) // in a log that counts from the start

	for name, c := range map[string]struct {
		steps []step
		want  []string
	}{
		"nothing":                    {nil, nil},
		"state alone":                {[]step{first(a)}, []string{"old"}},
		"dump alone":                 {[]step{dump(60, a)}, []string{"old"}},
		"dump fails before it tells": {[]step{first(a), fails}, []string{"old"}},
		"state is taken back":        {[]step{first(a), gone}, nil},
		"empty dump, as its token means nothing there": {[]step{first(a), dump(90)}, []string{"old"}},
		"state is taken back, the dump stays":          {[]step{first(a), dump(60, a, b), gone}, []string{"old", "b"}},

		"moved, the dump hangs":                     {[]step{first(a), dump(60, a), state(movedA)}, []string{"new"}},
		"moved and registered anew, the dump hangs": {[]step{first(a), dump(60, a), state(otherA)}, []string{"new"}},
		"moved and registered anew, the dump fails": {[]step{first(a), dump(60, a), fails, state(otherA)}, []string{"new"}},
		"one of two moved, the dump hangs":          {[]step{first(a, b), dump(60, a, b), state(otherA, b)}, []string{"new", "b"}},
		"added, then the other moved, while the dump hangs": {
			[]step{first(a), dump(60, a), state(a, gateway("b", "b", 70, 70)), state(otherA, gateway("b", "b", 70, 70))}, []string{"new", "b"},
		},
		"moved before the states are read, the dump hangs, then fails": {[]step{dump(60, a), first(otherA), fails}, []string{"old", "new"}},
		"health changed, the dump hangs":                               {[]step{first(a), dump(60, a), state(unhealthy(gateway("a", "sick", 50, 50), 70))}, []string{"sick"}},
		"moved on, the dump is back":                                   {[]step{first(a), dump(60, a), state(movedA), dump(300, thirdA)}, []string{"third"}},
		"moved, the dump lists it first":                               {[]step{first(a), dump(200, movedA)}, []string{"new"}},

		"state lags behind a dump":                          {[]step{first(a), dump(60, a), dump(210, otherA), dump(310, thirdA), state(otherA)}, []string{"third"}},
		"state lags, the gateway has just started":          {[]step{first(a), dump(310, thirdA)}, []string{"third"}},
		"state lags, and is read after the dump":            {[]step{dump(310, thirdA), first(a)}, []string{"third"}},
		"state lags, and the dump fails after":              {[]step{first(a), dump(310, thirdA), fails}, []string{"old", "third"}},
		"removed, the state lags":                           {[]step{first(a, b), dump(90, a)}, []string{"old"}},
		"dump of a server that lags":                        {[]step{first(movedA), dump(60, a)}, []string{"new"}},
		"dump of a server that lags, after a better one":    {[]step{first(a), dump(200, otherA), dump(60, a), state(otherA)}, []string{"new"}},
		"dump of a server that lags, after all told better": {[]step{first(a), dump(60, a), dump(200, otherA), state(otherA), dump(60, a)}, []string{"new"}},

		"rebuilt, the dump hangs":                      {[]step{first(a), dump(5000, a), state(rebuilt)}, []string{"rebuilt"}},
		"rebuilt, the dump fails":                      {[]step{first(a), dump(5000, a), fails, state(rebuilt)}, []string{"rebuilt"}},
		"rebuilt, the dump fails after":                {[]step{first(a), dump(5000, a), state(rebuilt), fails}, []string{"rebuilt"}},
		"rebuilt, the dump tells it first":             {[]step{first(movedA), dump(5000, movedA), dump(31, rebuilt)}, []string{"rebuilt"}},
		"rebuilt, the dump tells it, the state lags":   {[]step{first(a), dump(60, a), dump(31, rebuilt), state(a, b)}, []string{"rebuilt"}},
		"rebuilt, and both tell it":                    {[]step{first(a), dump(5000, a), dump(31, rebuilt), state(rebuilt)}, []string{"rebuilt"}},
		"rebuilt before the gateway started":           {[]step{first(movedA), dump(31, rebuilt)}, []string{"rebuilt"}},
		"rebuilt before, the dump is heard first":      {[]step{dump(31, rebuilt), first(movedA)}, []string{"rebuilt"}},
		"rebuilt, moved, the dump hangs":               {[]step{first(a), dump(31, rebuilt), state(rebuilt), state(gateway("a", "new", 40, 40))}, []string{"new"}},
		"rebuilt, its log is longer than the old dump": {[]step{first(a), dump(60, a), state(gateway("a", "late", 50, 5000)), dump(150, gateway("a", "rebuilt", 149, 149))}, []string{"rebuilt"}},
		"rebuilt twice": {
			[]step{first(a), dump(60, a), state(rebuilt), dump(31, rebuilt), state(gateway("a", "again", 20, 20))}, []string{"again"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := &remote{}
			for i, s := range c.steps {
				now := uint64(i + 1)
				switch {
				case s.failed:
					r.failing = true
				case s.gone:
					r.stated(nil, now, false)
				case s.state != nil:
					r.stated(s.state, now, s.first)
				default:
					r.dumped(s.dump, s.index, now)
				}
			}
			got := hosts(r.gateways())
			slices.Sort(got)
			slices.Sort(c.want)
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// far is a datacenter that changes at random and is heard of at random.
type far struct {
	rng   *rand.Rand
	index uint64
	now   []api.CheckServiceNode
	past  []rows
	names int
}

// change does to the gateways what operators do.
func (f *far) change() {
	f.past = append(f.past, slices.Clone(f.now))
	f.index += 1 + f.rng.Uint64N(5)
	f.names++
	node := fmt.Sprintf("n%d", f.rng.IntN(3))
	i := slices.IndexFunc(f.now, func(c api.CheckServiceNode) bool { return c.Node.Node == node })
	fresh := gateway(node, fmt.Sprintf("host%d", f.names), f.index, f.index)
	switch {
	case i < 0:
		f.now = append(slices.Clone(f.now), fresh)
	case f.rng.IntN(3) == 0 && len(f.now) > 1:
		f.now = slices.Delete(slices.Clone(f.now), i, i+1)
	case f.rng.IntN(2) == 0: // under its id
		fresh.Service.CreateIndex = f.now[i].Service.CreateIndex
		fallthrough
	default:
		f.now = slices.Clone(f.now)
		f.now[i] = fresh
	}
}

// rebuild makes it anew with logs that count from the start.
func (f *far) rebuild() {
	f.past = append(f.past, f.now)
	f.now, f.index = nil, 10+f.rng.Uint64N(20)
	f.change()
}

func TestWhatIsTrueIsFoundWhateverCameBefore(t *testing.T) {
	for seed := range uint64(5000) {
		f := &far{rng: rand.New(rand.NewPCG(seed, 1)), index: 100}
		f.change()
		r := &remote{}
		var now uint64
		for range 3 + f.rng.IntN(12) {
			now++
			switch f.rng.IntN(7) {
			case 0, 1:
				f.change()
			case 2:
				if f.rng.IntN(4) == 0 {
					f.rebuild()
				}
			case 3:
				r.dumped(f.now, f.index, now)
			case 4:
				r.failing = true
			case 5:
				r.stated(f.now, now, now == 1)
			case 6: // late, as what is replicated is
				r.stated(f.past[f.rng.IntN(len(f.past))], now, now == 1)
			}
		}
		truth := hosts(gatewayEndpoints(sorted(f.now)))
		dumped, stated := *r, *r

		// The dump is cut, the state comes.
		stated.failing = true
		stated.stated(f.now, now+1, false)
		if got := hosts(stated.gateways()); !subset(truth, got) {
			t.Fatalf("seed %d: state tells %v, got %v", seed, truth, got)
		}
		// The dump answers: it is true, unless a state proves to be of later changes.
		stated.dumped(f.now, f.index, now+2)
		if got := hosts(stated.gateways()); !reflect.DeepEqual(got, truth) {
			t.Fatalf("seed %d: both tell %v, got %v", seed, truth, got)
		}
		// Only the dump has heard of what is now.
		dumped.dumped(f.now, f.index, now+1)
		if got := hosts(dumped.gateways()); !reflect.DeepEqual(got, truth) {
			t.Fatalf("seed %d: dump tells %v, got %v", seed, truth, got)
		}
	}
}

func subset(a, b []string) bool {
	return !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
}

func BenchmarkSnapshotOf100Datacenters(b *testing.B) {
	p := &partial{datacenter: "dc1", domain: "consul", proxy: gatewayProxy(true), remote: map[string]*remote{}}
	p.trust.set("1.consul")
	p.services.set(nil)
	own := servers(make(rows, 50)...)
	for i := range own {
		own[i].CheckServiceNode = server(fmt.Sprintf("s%d", i), fmt.Sprintf("10.0.0.%d", i))
	}
	p.servers.set(serverEndpoints(own))
	told := map[string][]api.CheckServiceNode{}
	for i := range 100 {
		for n := range 3 {
			dc := fmt.Sprintf("dc%d", i+2)
			told[dc] = append(told[dc], gateway(fmt.Sprintf("n%d", n), fmt.Sprintf("203.0.%d.%d", i, n), 50, 50))
		}
	}
	p.state(told)
	for dc, r := range p.remote {
		p.now++
		r.dumped(told[dc], 60, p.now)
	}
	last, complete := p.snapshot()
	if !complete || len(last.Remote) != 100 {
		b.Fatal("not complete")
	}
	b.Run("change of states", func(b *testing.B) {
		b.ReportAllocs()
		changes := []rows{{gateway("n1", "203.0.113.8", 50, 69)}, {gateway("n1", "203.0.113.9", 50, 70)}}
		told["dc7"] = changes[0]
		p.state(told)
		last, _ = p.snapshot()
		for i := 1; b.Loop(); i++ {
			told["dc7"] = changes[i%2]
			p.state(told)
			if s, _ := p.snapshot(); reflect.DeepEqual(s, last) {
				b.Fatal("no change")
			} else {
				last = s
			}
		}
	})
	b.Run("nothing new", func(b *testing.B) {
		b.ReportAllocs()
		last, _ = p.snapshot()
		for b.Loop() {
			if s, _ := p.snapshot(); !reflect.DeepEqual(s, last) {
				b.Fatal("changed")
			}
		}
	})
}
