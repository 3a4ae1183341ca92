package local

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
)

func hours(n int) api.Duration { return api.Duration(time.Duration(n) * time.Hour) }

func TestServiceDefaults(t *testing.T) {
	a := newAgent(t, newCatalog())
	must(t, a.AddService(api.ServiceDefinition{
		Name: "web", Address: "10.9.9.9", Port: 80, EnableTagOverride: true,
		TaggedAddresses: map[string]api.ServiceAddress{"lan_ipv4": {Address: "9.9.9.9", Port: 1}},
	}, false))
	must(t, a.AddService(api.ServiceDefinition{ID: "six", Name: "web", Address: "fd00::1", Port: 80, Weights: &api.Weights{Passing: 3}}, false))
	must(t, a.AddService(api.ServiceDefinition{
		ID: "gw", Name: "gw", Kind: "mesh-gateway", Port: 8443, Address: "host.example", Meta: map[string]string{"consul-wan-federation": "1"},
	}, false))
	proxy := `"Proxy":{"Mode":"","MeshGateway":{},"Expose":{}},"Connect":{},"PeerName":"","CreateIndex":0,"ModifyIndex":0`
	for id, want := range map[string]string{
		"web": `{"ID":"web","Service":"web","Tags":[],"Address":"10.9.9.9","TaggedAddresses":{"lan_ipv4":{"Address":"9.9.9.9","Port":1},` +
			`"wan_ipv4":{"Address":"10.9.9.9","Port":80}},"Meta":{},"Port":80,"Weights":{"Passing":1,"Warning":1},"EnableTagOverride":true,` + proxy + `}`,
		"six": `{"ID":"six","Service":"web","Tags":[],"Address":"fd00::1","TaggedAddresses":{"lan_ipv6":{"Address":"fd00::1","Port":80},` +
			`"wan_ipv6":{"Address":"fd00::1","Port":80}},"Meta":{},"Port":80,"Weights":{"Passing":3,"Warning":0},"EnableTagOverride":false,` + proxy + `}`,
		"gw": `{"Kind":"mesh-gateway","ID":"gw","Service":"gw","Tags":[],"Address":"host.example","Meta":{"consul-wan-federation":"1"},` +
			`"Port":8443,"Weights":{"Passing":1,"Warning":1},"EnableTagOverride":false,` + proxy + `}`,
	} {
		expectJSON(t, a.Services()[id], want)
	}
}

func expectJSON(t *testing.T, v any, want string) {
	t.Helper()
	got, err := json.Marshal(v)
	must(t, err)
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestCheckIDsAndShapes(t *testing.T) {
	a := newAgent(t, newCatalog())
	tcp := api.CheckType{TCP: "127.0.0.1:1", Name: "n2", Interval: api.Duration(10 * time.Second), Timeout: api.Duration(time.Second)}
	must(t, a.AddService(api.ServiceDefinition{
		Name: "web", Tags: []string{"a"}, Check: api.CheckType{TTL: hours(1), Notes: "nn"},
		Checks: []*api.CheckType{&tcp, {TTL: hours(1), CheckID: "own"}},
	}, false))
	must(t, a.AddService(api.ServiceDefinition{ID: "one", Name: "web", Checks: []*api.CheckType{{TTL: hours(1), Status: "passing"}}}, false))
	must(t, a.AddCheck(api.CheckType{Name: "my ttl", TTL: hours(1)}, ""))
	got := slices.Sorted(maps.Keys(a.Checks()))
	if want := []string{"my ttl", "own", "service:one", "service:web:1", "service:web:2"}; !slices.Equal(got, want) {
		t.Errorf("got the ids %v, want %v", got, want)
	}
	rest := `"ExposedPort":0,"Definition":{},"CreateIndex":0,"ModifyIndex":0}`
	for id, want := range map[string]string{
		"service:web:1": `{"Node":"n1","CheckID":"service:web:1","Name":"Service 'web' check","Status":"critical","Notes":"nn","Output":"",` +
			`"ServiceID":"web","ServiceName":"web","ServiceTags":["a"],"Type":"ttl","Interval":"","Timeout":"",` + rest,
		"service:web:2": `{"Node":"n1","CheckID":"service:web:2","Name":"n2","Status":"critical","Notes":"","Output":"",` +
			`"ServiceID":"web","ServiceName":"web","ServiceTags":["a"],"Type":"tcp","Interval":"10s","Timeout":"1s",` + rest,
		"service:one": `{"Node":"n1","CheckID":"service:one","Name":"Service 'web' check","Status":"passing","Notes":"","Output":"",` +
			`"ServiceID":"one","ServiceName":"web","ServiceTags":[],"Type":"ttl","Interval":"","Timeout":"",` + rest,
		"my ttl": `{"Node":"n1","CheckID":"my ttl","Name":"my ttl","Status":"critical","Notes":"","Output":"",` +
			`"ServiceID":"","ServiceName":"","ServiceTags":[],"Type":"ttl","Interval":"0s","Timeout":"0s",` + rest,
	} {
		expectJSON(t, a.Checks()[id], want)
	}
}

func TestServicesThatCannotBe(t *testing.T) {
	many := map[string]string{}
	for i := range 65 {
		many[fmt.Sprint("k", i)] = "1"
	}
	long := strings.Repeat("k", 513)
	a := newAgent(t, newCatalog(), func(cfg *Config) { cfg.Dir = t.TempDir() })
	for _, c := range []struct {
		def  api.ServiceDefinition
		code api.Code
		want string
	}{
		{api.ServiceDefinition{}, api.Invalid, "Missing service name"},
		{api.ServiceDefinition{Name: "a\x00"}, api.Invalid, "control character"},
		{api.ServiceDefinition{Name: "w", Port: 65536}, api.Invalid, "port 65536"},
		{api.ServiceDefinition{Name: "w", Port: -1}, api.Invalid, "port -1"},
		{api.ServiceDefinition{Name: "w", Address: "0.0.0.0"}, api.Invalid, "Invalid service address"},
		{api.ServiceDefinition{Name: "w", Address: "[::]"}, api.Invalid, "Invalid service address"},
		{api.ServiceDefinition{Name: "w", TaggedAddresses: map[string]api.ServiceAddress{"lan": {Port: -1}}}, api.Invalid, `tagged address "lan"`},
		{api.ServiceDefinition{Name: "w", Meta: map[string]string{"consul-x": "1"}}, api.Invalid, "Invalid Service Meta: Couldn't load metadata pair ('consul-x', '1'): Key prefix 'consul-' is reserved for internal use"},
		{api.ServiceDefinition{Name: "w", Meta: map[string]string{"consul-wan-federation": "1"}}, api.Invalid, "reserved"},
		{api.ServiceDefinition{Name: "w", Kind: "mesh-gateway", Port: 1, Meta: map[string]string{"consul-x": "1"}}, api.Invalid, "reserved"},
		{api.ServiceDefinition{Name: "w", Meta: map[string]string{"a b": "1"}}, api.Invalid, "Key contains invalid characters"},
		{api.ServiceDefinition{Name: "w", Meta: map[string]string{"": "1"}}, api.Invalid, "Key cannot be blank"},
		{api.ServiceDefinition{Name: "w", Meta: map[string]string{long[:129]: "1"}}, api.Invalid, "Key is too long (limit: 128 characters)"},
		{api.ServiceDefinition{Name: "w", Meta: map[string]string{"k": long}}, api.Invalid, "Value is too long (limit: 512 characters)"},
		{api.ServiceDefinition{Name: "w", Meta: many}, api.Invalid, "cannot contain more than 64 key/value pairs"},
		{api.ServiceDefinition{Name: "w", Weights: &api.Weights{Passing: -1}}, api.Invalid, "Invalid Weights: Passing must be greater than 0"},
		{api.ServiceDefinition{Name: "w", Weights: &api.Weights{Passing: 1, Warning: -1}}, api.Invalid, "Invalid Weights: Warning"},
		{api.ServiceDefinition{Name: "w", Weights: &api.Weights{Passing: 65536}}, api.Invalid, "Invalid Weights: DNS Weight must be between 0 and 65535"},
		{api.ServiceDefinition{Name: "w", Kind: "mesh-gateway"}, api.Invalid, "Port must be non-zero for a mesh-gateway"},
		{api.ServiceDefinition{Name: "w", Kind: "connect-proxy"}, api.Invalid, "Proxy.DestinationServiceName must be non-empty"},
		{api.ServiceDefinition{Name: "w", Connect: &api.ServiceConnect{SidecarService: &api.ServiceDefinition{}}}, api.Internal, "auto-assignment disabled"},
		{api.ServiceDefinition{Name: "w", Check: api.CheckType{TCP: "x:1"}}, api.Invalid, "Invalid check: Interval must be > 0"},
		{api.ServiceDefinition{Name: "w", Check: api.CheckType{TTL: 1, Status: "x"}}, api.Invalid, "Status for checks must 'passing', 'warning', 'critical'"},
		{api.ServiceDefinition{Name: "w", Check: api.CheckType{HTTP: "http://x"}}, api.Invalid, "Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks"},
		{
			api.ServiceDefinition{Name: "w", Checks: []*api.CheckType{{TTL: 1}, {ScriptArgs: []string{"x"}, Interval: 1}}},
			api.Internal,
			"Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true",
		},
	} {
		err := a.AddService(c.def, false)
		if err == nil || api.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %s", c.def, err, c.want)
		}
	}
	if len(a.Services()) > 0 || len(a.Checks()) > 0 {
		t.Errorf("something was registered: %v", a.Services())
	}
}

func TestChecksThatCannotBe(t *testing.T) {
	a := newAgent(t, newCatalog())
	tcp := api.CheckType{Name: "tcp", TCP: "127.0.0.1:1", Interval: hours(1)}
	must(t, a.AddCheck(tcp, ""))
	for want, err := range map[string]error{
		"1 Missing check name":                            a.AddCheck(api.CheckType{TTL: 1}, ""),
		"1 Bad check status":                              a.AddCheck(api.CheckType{Name: "x", TTL: 1, Status: "bogus"}, ""),
		"1 Invalid check: TTL must be > 0 for TTL checks": a.AddCheck(api.CheckType{Name: "x"}, ""),
		`2 ServiceID "nope" does not exist`:               a.AddCheck(api.CheckType{Name: "x", TTL: 1}, "nope"),
		"0 Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true": a.AddCheck(
			api.CheckType{Name: "x", ScriptArgs: []string{"true"}, Interval: 1}, ""),
		`2 Unknown service ID "x". Ensure that the service ID is passed, not the service name.`: a.RemoveService("x"),
		`2 Unknown check ID "x". Ensure that the check ID is passed, not the check name.`:       a.RemoveCheck("x"),
		`2 Unknown check ID "y". Ensure that the check ID is passed, not the check name.`:       a.UpdateTTL("y", api.Passing, ""),
		`1 Invalid check status: 'bogus'`:              a.UpdateTTL("tcp", "bogus", ""),
		`0 CheckID "tcp" does not have associated TTL`: a.UpdateTTL("tcp", api.Passing, ""),
	} {
		if err == nil || fmt.Sprint(int(api.CodeOf(err)), " ", err) != want {
			t.Errorf("got %d %v, want %s", api.CodeOf(err), err, want)
		}
	}
}

func TestRegisteredAgainAlikeChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		a := newAgent(t, c)
		start(t, a)
		def := web()
		def.Check.TTL = api.Duration(time.Minute)
		must(t, a.AddService(def, false))
		must(t, a.UpdateTTL("service:web1", api.Warning, "slow"))
		synctest.Wait()
		c.writes()
		advance(30 * time.Second)
		must(t, a.AddService(def, false))
		must(t, a.AddService(def, true))
		advance(29 * time.Second)
		c.expect(t)
		if got := a.Checks()["service:web1"]; got.Status != api.Warning || got.Output != "slow" {
			t.Errorf("got %+v", got)
		}
		advance(2 * time.Second) // the time went on
		if got := a.Checks()["service:web1"]; got.Status != api.Critical {
			t.Errorf("got %+v", got)
		}
	})
}

func TestChangedDefinitionKeepsTheState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		a := newAgent(t, c)
		start(t, a)
		must(t, a.AddService(web(), false))
		must(t, a.UpdateTTL("service:web1", api.Warning, "slow"))
		synctest.Wait()
		stopped := false
		old := a.checks["service:web1"]
		stop := old.stop
		old.stop = func() { stop(); stopped = true }
		def := web()
		def.Tags, def.Check.TTL = []string{"v2"}, hours(2)
		must(t, a.AddService(def, false))
		synctest.Wait()
		got := a.Checks()["service:web1"]
		if got.Status != api.Warning || got.Output != "slow" || !slices.Equal(got.ServiceTags, []string{"v2"}) {
			t.Errorf("got %+v", got)
		}
		expectSame(t, a, c)
		if !stopped {
			t.Error("the old check goes on")
		}
		advance(3 * time.Hour)
		if got := a.Checks()["service:web1"]; got.Output != "TTL expired (last output before timeout follows): slow" {
			t.Errorf("got %+v", got)
		}
	})
}

func TestReplacingChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		a := newAgent(t, c, func(cfg *Config) { cfg.Dir = t.TempDir() })
		start(t, a)
		must(t, a.AddService(web(), false))
		must(t, a.AddCheck(api.CheckType{Name: "more", TTL: hours(1)}, "web1"))
		bare := web()
		bare.Check = api.CheckType{}
		must(t, a.AddService(bare, false))
		if len(a.Checks()) != 2 {
			t.Errorf("got %v", a.Checks())
		}
		must(t, a.AddService(bare, true))
		synctest.Wait()
		if len(a.Checks()) != 0 {
			t.Errorf("got %v", a.Checks())
		}
		expectSame(t, a, c)
		if again := newAgent(t, c, func(cfg *Config) { cfg.Dir = a.cfg.Dir }); len(again.Checks()) != 0 || len(again.Services()) != 1 {
			t.Errorf("after a restart there are %v", again.Checks())
		}
	})
}

func TestServiceGoesWhenCriticalForTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		a := newAgent(t, c)
		start(t, a)
		def := web()
		def.Check = api.CheckType{TTL: hours(1000), Status: api.Passing, DeregisterCriticalServiceAfter: api.Duration(5 * time.Minute)}
		must(t, a.AddService(def, false))
		advance(time.Hour)
		for range 3 { // each time it recovers just in time
			must(t, a.UpdateTTL("service:web1", api.Critical, ""))
			advance(4 * time.Minute)
			must(t, a.UpdateTTL("service:web1", api.Critical, "still"))
			advance(59 * time.Second)
			must(t, a.UpdateTTL("service:web1", api.Warning, ""))
			advance(time.Minute)
		}
		if a.Service("web1") == nil {
			t.Fatal("removed too soon")
		}
		must(t, a.UpdateTTL("service:web1", api.Critical, ""))
		advance(5*time.Minute - time.Second)
		if a.Service("web1") == nil {
			t.Fatal("removed too soon")
		}
		advance(time.Second)
		if a.Service("web1") != nil || len(a.Checks()) > 0 {
			t.Error("not removed")
		}
		expectSame(t, a, c)
	})
}

func TestCriticalServiceStaysForAMinuteAtLeast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent(t, newCatalog())
		start(t, a)
		def := web()
		def.Check = api.CheckType{TTL: hours(1000), DeregisterCriticalServiceAfter: api.Duration(time.Second)}
		must(t, a.AddService(def, false)) // critical from the beginning
		advance(59 * time.Second)
		if a.Service("web1") == nil {
			t.Error("removed too soon")
		}
		advance(time.Second)
		if a.Service("web1") != nil {
			t.Error("not removed")
		}
	})
}

func TestConfiguredAreReplacedAsAWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		a := newAgent(t, c, func(cfg *Config) { cfg.Dir = t.TempDir() })
		start(t, a)
		must(t, a.AddService(api.ServiceDefinition{Name: "api"}, false))
		db := api.ServiceDefinition{Name: "db", Checks: []*api.CheckType{new(ttlCheck()), new(ttlCheck())}}
		single := CheckDefinition{CheckType: api.CheckType{Name: "disk", TTL: hours(1)}, ServiceID: "db"}
		must(t, a.SetConfigured([]api.ServiceDefinition{web(), db}, []CheckDefinition{single}))
		must(t, a.AddCheck(api.CheckType{Name: "extra", TTL: hours(1)}, "web1"))
		must(t, a.UpdateTTL("service:web1", api.Warning, "slow"))
		synctest.Wait()
		expectSame(t, a, c)
		c.writes()

		must(t, a.SetConfigured([]api.ServiceDefinition{web(), db}, []CheckDefinition{single}))
		synctest.Wait()
		c.expect(t) // nothing differs

		db.Checks = db.Checks[:1]
		must(t, a.SetConfigured([]api.ServiceDefinition{web(), db}, nil))
		synctest.Wait()
		if got, want := slices.Sorted(maps.Keys(a.Checks())), []string{"extra", "service:db", "service:web1"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		bad := []api.ServiceDefinition{{Name: "new"}, {}, {Name: "x", Port: -1}}
		err := a.SetConfigured(bad, []CheckDefinition{{CheckType: api.CheckType{Name: "y", TTL: 1}, ServiceID: "nope"}})
		for _, want := range []string{"Missing service name", "port -1", `"nope" does not exist`} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		}
		if err := a.SetConfigured([]api.ServiceDefinition{web(), web()}, nil); err == nil {
			t.Error("a service configured twice is taken")
		}
		if len(a.Services()) != 3 {
			t.Errorf("a bad configuration changed the services to %v", a.Services())
		}
		if got := a.Checks()["service:web1"]; got.Status != api.Warning {
			t.Errorf("got %+v", got)
		}
		must(t, a.SetConfigured(nil, nil))
		synctest.Wait()
		if got := slices.Collect(maps.Keys(a.Services())); !slices.Equal(got, []string{"api"}) || len(a.Checks()) > 0 {
			t.Errorf("left are %v and %v", got, a.Checks())
		}
		expectSame(t, a, c)
	})
}

func TestTCPCheckOfAServiceReachesTheCatalog(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { must(t, l.Close()) }()
	c := newCatalog()
	a := newAgent(t, c)
	passing := make(chan struct{})
	c.lose = func(*rpc.Request) error {
		if check := c.checks["service:web"]; check != nil && check.Status == api.Passing {
			select {
			case <-passing:
			default:
				close(passing)
			}
		}
		return nil
	}
	must(t, a.AddService(api.ServiceDefinition{Name: "web", Check: api.CheckType{TCP: l.Addr().String(), Interval: hours(1)}}, false))
	if got := a.Checks()["service:web"].Status; got != api.Critical {
		t.Errorf("starts %s", got)
	}
	stopped := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { stopped <- a.Run(ctx) }()
	select {
	case <-passing:
	case <-time.After(10 * time.Second):
		t.Error("the check does not pass")
	}
	cancel()
	must(t, <-stopped)
}
