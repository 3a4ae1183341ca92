package mesh

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
)

type states = map[string][]api.CheckServiceNode

func TestThereIsNoSnapshotBeforeAllIsKnown(t *testing.T) {
	for _, missing := range []string{askRoots, askServices, askServers, askStates} {
		t.Run(missing, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := complete()
				late := s.answers[missing]
				s.fail(missing, errors.New("No cluster leader"))
				r := follow(t, s)
				r.proxies <- gatewayProxy(true)
				r.none(time.Minute)
				s.put(missing, late)
				select {
				case <-r.snapshots:
				case <-time.After(25 * time.Second): // of waiting between errors
					t.Error("no snapshot came")
				}
			})
		})
	}
	t.Run("registration", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := follow(t, complete())
			r.none(time.Minute)
			r.proxies <- nil
			r.none(time.Minute)
			r.proxies <- gatewayProxy(true)
			got := r.next()
			want := &Snapshot{
				Proxy: gatewayProxy(true), Datacenter: "dc1", Domain: "consul", TrustDomain: "1.consul",
				Servers:  []Endpoint{{Node: "s1", Host: "10.0.0.1", Port: 8300, Healthy: true, Weight: 1}},
				Services: map[string][]Endpoint{}, Remote: []Remote{},
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
			r.proxies <- nil // what was yielded stands
			r.none(time.Minute)
		})
	})
}

func TestSourceWithoutAMeshIsEnough(t *testing.T) {
	for _, err := range []error{
		api.Errorf(api.NotBuilt, "no route"),
		&rpc.RemoteError{Text: "rpc: can't find method ConnectCA.Roots"},
		&rpc.RemoteError{Text: "rpc: can't find service ConnectCA"},
		errors.New("Unexpected response code: 500 (Connect must be enabled in order to use this endpoint)"),
		&rpc.RemoteError{Text: "CA has not finished initializing"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := complete()
			s.fail(askRoots, err)
			s.fail(askServices, err)
			r, got := followed(t, s)
			if got.TrustDomain != "" || got.Services != nil || len(got.Servers) != 1 {
				t.Errorf("after %v: got %+v", err, got)
			}
			s.set(askRoots, api.CARoots{TrustDomain: "2.consul"})
			select {
			case got = <-r.snapshots:
			case <-time.After(25 * time.Second):
			}
			if got.TrustDomain != "2.consul" {
				t.Errorf("got %q once there is a mesh", got.TrustDomain)
			}
		})
	}
}

func TestOnlyGatewaysThatLeadToServersFollowServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := complete()
		s.set(askList, []string{"dc1", "dc2"})
		s.set(askStates, states{"dc3": {gateway("a", "203.0.113.3", 20, 20)}})
		r := follow(t, s)
		r.proxies <- gatewayProxy(false)
		got := r.next()
		if got.Servers != nil || s.count(s.calls, askServers)+s.count(s.calls, askStates) > 0 {
			t.Errorf("got %+v, want no servers and nobody asked for them", got)
		}
		r.wantRemotes(got, map[string][]string{"dc2": nil})

		r.proxies <- gatewayProxy(true)
		got = r.next()
		if len(got.Servers) != 1 {
			t.Errorf("got %+v, want servers", got)
		}
		r.wantRemotes(got, map[string][]string{"dc2": nil, "dc3": {"203.0.113.3"}})

		r.proxies <- gatewayProxy(false)
		got = r.next()
		if got.Servers != nil {
			t.Errorf("got %+v, want no servers any more", got)
		}
		r.wantRemotes(got, map[string][]string{"dc2": nil})
		synctest.Wait()
		if n := s.count(s.waiting, askServers) + s.count(s.waiting, askStates); n != 0 {
			t.Errorf("%d reads go on", n)
		}
	})
}

func TestChangesThatComeTogetherMakeOneSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := complete()
		r, _ := followed(t, s)
		for i := range 20 {
			s.set(askServers, servers(server("s1", fmt.Sprintf("10.0.1.%d", i))))
			synctest.Wait()
		}
		s.set(askRoots, api.CARoots{TrustDomain: "2.consul"})
		// The first and, as a watch takes a breath between answers, the last.
		got := r.next()
		if got.Servers[0].Host != "10.0.1.19" {
			got = r.next()
		}
		if got.Servers[0].Host != "10.0.1.19" || got.TrustDomain != "2.consul" {
			t.Errorf("got %+v", got)
		}
		r.none(time.Minute)
	})
}

func TestSteadyChangesAreNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := complete()
		r, _ := followed(t, s)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		seen := 0
		for i := range 100 { // for a second
			s.set(askServers, servers(server("s1", fmt.Sprintf("10.0.1.%d", i))))
			if i > 2 { // between those
				s.set(askRoots, api.CARoots{TrustDomain: fmt.Sprintf("%d.consul", i)})
			}
			select {
			case <-r.snapshots:
				seen++
			case <-tick.C:
			}
		}
		if seen < 5 || seen > 30 {
			t.Errorf("got %d snapshots in a second of changes", seen)
		}
	})
}

func TestEqualSnapshotsAreNotYieldedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := complete()
		s.set(askList, []string{"dc1", "dc2"})
		s.set(askGatewaysOf2, dumpReply(gateway("a", "203.0.113.2", 20, 20)))
		r, _ := followed(t, s)
		for what, a := range clone(s, s.answers) {
			s.set(what, a.value)
		}
		checked := server("s1", "10.0.0.1")
		checked.Checks = []*api.HealthCheck{{Status: api.Passing, Output: "new"}}
		s.set(askServers, servers(checked))
		r.proxies <- gatewayProxy(true)
		r.none(time.Hour)
	})
}

func TestErrorsLeaveNoGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := complete()
		s.set(askList, []string{"dc1", "dc2"})
		s.set(askStates, states{"dc3": {gateway("a", "203.0.113.3", 20, 20)}})
		s.set(askGatewaysOf2, dumpReply(gateway("a", "203.0.113.2", 20, 20)))
		r, _ := followed(t, s)
		before := map[string]answered{}
		for what, a := range clone(s, s.answers) {
			before[what] = a
			s.fail(what, errors.New("No cluster leader"))
		}
		r.none(10 * time.Minute)
		for what, n := range clone(s, s.calls) {
			if n > 60 {
				t.Errorf("%s was asked %d times in ten minutes of errors", what, n)
			}
		}
		for what, a := range before {
			s.put(what, a)
		}
		r.none(time.Minute)
		s.set(askServers, servers(server("s2", "10.0.0.2")))
		if got := r.next(); hosts(got.Servers)[0] != "10.0.0.2" {
			t.Errorf("got %+v after the errors", got)
		}
	})
}

func TestDatacentersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := complete()
		s.set(askList, []string{"dc1", "dc2"})
		s.set(askGatewaysOf2, dumpReply(gateway("a", "203.0.113.2", 20, 20)))
		r, got := followed(t, s)
		r.wantRemotes(got, map[string][]string{"dc2": {"203.0.113.2"}})

		// A new one is known by its state at once, and asked itself.
		s.set(askGatewaysOf3, dumpReply(gateway("a", "203.0.113.33", 20, 25)))
		s.set(askStates, states{"dc1": {gateway("own", "203.0.113.1", 20, 20)}, "dc3": {gateway("a", "203.0.113.3", 20, 20)}})
		for got = r.next(); !reflect.DeepEqual(remotes(got)["dc3"], []string{"203.0.113.33"}); got = r.next() {
			r.wantRemotes(got, map[string][]string{"dc2": {"203.0.113.2"}, "dc3": {"203.0.113.3"}})
		}
		r.wantRemotes(got, map[string][]string{"dc2": {"203.0.113.2"}, "dc3": {"203.0.113.33"}})

		// A server that has just started lists too few, once.
		s.set(askList, []string{"dc1"})
		r.none(listEvery)
		s.set(askList, []string{"dc1", "dc2"})
		r.none(3 * listEvery)

		s.set(askList, []string{"dc1"})
		select {
		case got = <-r.snapshots:
		case <-time.After(3 * listEvery):
		}
		r.wantRemotes(got, map[string][]string{"dc3": {"203.0.113.33"}})
		s.set(askStates, states{})
		r.wantRemotes(r.next(), map[string][]string{})
		synctest.Wait()
		if n := s.count(s.waiting, askGatewaysOf2) + s.count(s.waiting, askGatewaysOf3); n != 0 {
			t.Errorf("%d datacenters that are gone are still asked", n)
		}
		// That no goroutine is left at the end, the bubble checks.
	})
}

func TestUnreachableDatacenterHoldsNothingUp(t *testing.T) {
	for what, unreachable := range map[string]func(*source){
		"hangs": func(s *source) { s.hang(askGatewaysOf2) },
		"fails": func(s *source) { s.fail(askGatewaysOf2, api.Known(api.Unreachable, nil)) },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := complete()
				s.set(askList, []string{"dc1", "dc2", "dc3"})
				s.set(askGatewaysOf3, dumpReply(gateway("a", "203.0.113.3", 20, 20)))
				unreachable(s)
				r, got := followed(t, s)
				r.wantRemotes(got, map[string][]string{"dc2": nil, "dc3": {"203.0.113.3"}})
				s.set(askStates, states{"dc2": {gateway("a", "203.0.113.2", 20, 20)}})
				r.wantRemotes(r.next(), map[string][]string{"dc2": {"203.0.113.2"}, "dc3": {"203.0.113.3"}})
				r.none(10 * time.Minute)
				if n := s.count(s.calls, askGatewaysOf2); n > 60 {
					t.Errorf("asked %d times", n)
				}
			})
		})
	}
}

func TestSourceThatDoesNotWaitIsNotAskedWithoutPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := complete()
		s.put(askRoots, answered{value: api.CARoots{TrustDomain: "1.consul"}}) // at index 0
		r, _ := followed(t, s)
		before := s.count(s.calls, askRoots)
		r.none(10 * time.Second)
		if n := s.count(s.calls, askRoots) - before; n > 400 {
			t.Errorf("asked %d times in ten seconds", n)
		}
	})
}

func TestMovedGatewayIsFollowedWhileItsDumpHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := complete()
		s.set(askList, []string{"dc1", "dc2"})
		s.set(askStates, states{"dc2": {gateway("a", "203.0.113.2", 20, 20)}})
		s.set(askGatewaysOf2, dumpReply(gateway("a", "203.0.113.2", 20, 20)))
		r, got := followed(t, s)
		r.wantRemotes(got, map[string][]string{"dc2": {"203.0.113.2"}})
		s.hang(askGatewaysOf2)
		s.set(askStates, states{"dc2": {gateway("a", "203.0.113.22", 30, 30)}})
		start := time.Now()
		r.wantRemotes(r.next(), map[string][]string{"dc2": {"203.0.113.22"}})
		if d := time.Since(start); d > time.Second {
			t.Errorf("followed after %v", d)
		}
		s.set(askGatewaysOf2, dumpReply(gateway("a", "203.0.113.22", 30, 30)))
		r.none(time.Minute)
	})
}

func TestServicesOfTheMeshAreGrouped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sidecar := func(node, id, of string, w *api.Weights, checks ...*api.HealthCheck) api.CheckServiceNode {
			svc := &api.NodeService{Kind: kindSidecar, ID: id, Service: of + "-sidecar-proxy", Port: 21000, Weights: w}
			svc.Proxy.DestinationServiceName = of
			return api.CheckServiceNode{Node: &api.Node{Node: node, Address: "10.1.0." + node}, Service: svc, Checks: checks}
		}
		s := complete()
		warning, critical := &api.HealthCheck{Status: api.Warning}, &api.HealthCheck{Status: api.Critical}
		weights := &api.Weights{Passing: 10, Warning: 2}
		s.set(askServices, dumpReply(
			sidecar("2", "web-b", "web", weights, warning), sidecar("2", "web-a", "web", weights), sidecar("1", "web", "web", nil, critical),
			sidecar("1", "api", "api", nil), sidecar("1", "odd", "", nil), api.CheckServiceNode{}))
		_, got := followed(t, s)
		want := map[string][]Endpoint{
			"api": {{Node: "1", Host: "10.1.0.1", Port: 21000, Healthy: true}},
			"web": {
				{Node: "1", Host: "10.1.0.1", Port: 21000},
				{Node: "2", Host: "10.1.0.2", Port: 21000, Healthy: true, Weight: 10},
				{Node: "2", Host: "10.1.0.2", Port: 21000, Healthy: true, Weight: 2},
			},
		}
		if !reflect.DeepEqual(got.Services, want) {
			t.Errorf("got %+v, want %+v", got.Services, want)
		}
	})
}

func TestSnapshotsEndWithTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := complete()
		g := &Gateway{Datacenter: "dc1", Domain: "consul", Caller: s, Token: "secret", Log: quiet, Proxy: constant(gatewayProxy(true))}
		for range g.Snapshots(t.Context()) {
			break
		}
		for what, n := range clone(s, s.waiting) {
			if n != 0 {
				t.Errorf("%s is still asked", what)
			}
		}
	})
}

func TestWANAddress(t *testing.T) {
	tagged := map[string]api.ServiceAddress{"wan": {Address: "gw.example", Port: 443}}
	node := &api.Node{Node: "n", Address: "10.0.0.1", TaggedAddresses: map[string]string{"wan": "203.0.113.7"}}
	for name, c := range map[string]struct {
		node    *api.Node
		service api.NodeService
		host    string
		port    int
	}{
		"tagged":               {node, api.NodeService{Address: "10.0.0.2", Port: 8443, TaggedAddresses: tagged}, "gw.example", 443},
		"tagged without port":  {node, api.NodeService{Port: 8443, TaggedAddresses: map[string]api.ServiceAddress{"wan": {Address: "2001:db8::1"}}}, "2001:db8::1", 8443},
		"tag without address":  {node, api.NodeService{Address: "10.0.0.2", Port: 8443, TaggedAddresses: map[string]api.ServiceAddress{"wan": {Port: 1}}}, "10.0.0.2", 8443},
		"service":              {node, api.NodeService{Address: "10.0.0.2", Port: 8443}, "10.0.0.2", 8443},
		"node's WAN address":   {node, api.NodeService{Port: 8443}, "203.0.113.7", 8443},
		"node's only address":  {&api.Node{Node: "n", Address: "2001:db8::2"}, api.NodeService{Port: 8443}, "2001:db8::2", 8443},
		"not tagged lan":       {node, api.NodeService{Address: "10.0.0.2", Port: 1, TaggedAddresses: map[string]api.ServiceAddress{"lan": {Address: "10.9.9.9", Port: 2}}}, "10.0.0.2", 1},
		"nothing is an answer": {&api.Node{Node: "n"}, api.NodeService{}, "", 0},
	} {
		row := api.CheckServiceNode{Node: c.node, Service: &c.service, Checks: []*api.HealthCheck{{Status: api.Critical}}}
		want := []Endpoint{{Node: "n", Host: c.host, Port: c.port}}
		if got := gatewayEndpoints([]*api.CheckServiceNode{&row}); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}
