package filter

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"isthmus/api"
)

func sample() api.CheckServiceNode {
	return api.CheckServiceNode{
		Node: &api.Node{Node: "ext", Address: "10.0.0.9", Meta: map[string]string{"a": "b"}},
		Service: &api.NodeService{
			ID: "db1", Service: "db", Tags: []string{"m", "<&>"}, Port: 5432, Meta: map[string]string{"v": "1", "path": "/a/b"},
			TaggedAddresses: map[string]api.ServiceAddress{"wan": {Address: "1.2.3.4", Port: 5}}, Weights: &api.Weights{Passing: 3, Warning: 1},
		},
		Checks: []*api.HealthCheck{
			{CheckID: "c1", Status: api.Warning, ServiceTags: []string{"m"}},
			{CheckID: "c2", Status: api.Passing},
		},
	}
}

// TestExpressionsHoldAsInTheReference has what the reference's binary answered for
// such an instance.
func TestExpressionsHoldAsInTheReference(t *testing.T) {
	row := sample()
	for expression, want := range map[string]bool{
		`Service.Port == 5432`:                                          true,
		`Service.Port==5432`:                                            true,
		`Service.Port != "5432"`:                                        false,
		"not " + `not Service.Port == 5432`:                             true,
		`m in Service.Tags`:                                             true,
		`Service.Tags contains "<&>"`:                                   true,
		`Service.Tags not contains m`:                                   false,
		`x not in Service.Tags`:                                         true,
		`Service.Tags is empty`:                                         false,
		`Service.Tags is not empty`:                                     true,
		`Service.Meta is empty`:                                         false,
		`v in Service.Meta`:                                             true,
		`zz not in Service.Meta`:                                        true,
		`Service.Meta.v == 1`:                                           true,
		"Service.Meta[`v`] == `1`":                                      true,
		`Service.Meta["v"] != 1`:                                        false,
		`Service.Meta.path == "/a/b"`:                                   true,
		`"/a" in Service.Meta.path`:                                     true,
		`Service.Meta.zz == ""`:                                         false,
		`Service.Meta.zz != x`:                                          true,
		`x in Service.Meta.zz`:                                          false,
		`x not in Service.Meta.zz`:                                      true,
		`Service.Meta.zz not matches x`:                                 true,
		`Service.TaggedAddresses.wan.Port == 5`:                         true,
		`Service.TaggedAddresses.lan.Port == 5`:                         false,
		`Service.TaggedAddresses.lan.Port != 5`:                         true,
		`wan in Service.TaggedAddresses`:                                true,
		`Service.Weights.Passing == 3`:                                  true,
		`Service.EnableTagOverride == false`:                            true,
		`Service.EnableTagOverride != t`:                                true,
		`Service.Proxy.Upstreams is empty`:                              true,
		`Service.Proxy.Upstreams.LocalBindPort != 3`:                    false, // there is none
		`Service.Connect.Native == false`:                               true,
		`Service.Service matches "^d."`:                                 true,
		`Service.Service not matches "^x"`:                              true,
		`b in Service.Service`:                                          true,
		`Checks.Status != passing`:                                      true,
		`Checks.Status == passing`:                                      true,
		`Checks.Status == critical`:                                     false,
		`not Checks.Status == critical`:                                 true,
		`Checks is not empty`:                                           true,
		`m in Checks.ServiceTags`:                                       true,
		`zz not in Checks.ServiceTags`:                                  true,
		`Node.Meta.a == b and (Service.Port == 1 or Service.ID == db1)`: true,
		`Node.Meta.a == b and not Service.ID == db1`:                    false,
		// The reference lets this one hold for what is not there, and newer
		// releases of its library do not.
		`Service.Meta.zz matches x`: false,
	} {
		f, err := Compile[api.CheckServiceNode](expression)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		if got := f.Match(&row); got != want {
			t.Errorf("%s: got %v", expression, got)
		}
	}
}

// TestWrongExpressionsAreToldAsByTheReference compares texts that clients show.
func TestWrongExpressionsAreToldAsByTheReference(t *testing.T) {
	for expression, want := range map[string]string{
		`Foo == 1`:                           `Selector "Foo" is not valid`,
		`service.ID == 1`:                    `Selector "service" is not valid`,
		`Node.Locality.Region == 3`:          `Selector "Node.Locality" is not valid`,
		`Node.CreateIndex == 3`:              `Selector "Node.CreateIndex" is not valid`,
		`Node.Node.x == 3`:                   `Selector "Node.Node.x" is not valid`,
		`Node.Meta.x.y == 3`:                 `Selector "Node.Meta.x.y" is not valid`,
		`Checks.Definition.TCP == x`:         `Selector "Checks.Definition" is not valid`,
		`Service.Tags.x == m`:                `Selector "Service.Tags.x" is not valid`,
		`Node.Meta.zz is empty`:              `Invalid match operator "Is Empty" for selector "Node.Meta.zz"`,
		`Node.Node is empty`:                 `Invalid match operator "Is Empty" for selector "Node.Node"`,
		`Node.Meta == 3`:                     `Invalid match operator "Equal" for selector "Node.Meta"`,
		`Node.Meta matches x`:                `Invalid match operator "Matches" for selector "Node.Meta"`,
		`5 in Service.Port`:                  `Invalid match operator "In" for selector "Service.Port"`,
		`Service.Port contains 5`:            `Invalid match operator "In" for selector "Service.Port"`,
		`Service.TaggedAddresses.wan == 3`:   `Invalid match operator "Equal" for selector "Service.TaggedAddresses.wan"`,
		`x in Checks`:                        `Invalid match operator "In" for selector "Checks"`,
		`Service == 3`:                       `Invalid match operator "Equal" for selector "Service"`,
		`Service.Port == x`:                  `Failed to coerce value "x" for selector "Service.Port": strconv.ParseInt: parsing "x": invalid syntax`,
		`Service.EnableTagOverride == maybe`: `Failed to coerce value "maybe" for selector "Service.EnableTagOverride": strconv.ParseBool: parsing "maybe": invalid syntax`,
		`Node.Node matches "["`:              "Failed to compile regular expression \"[\": error parsing regexp: missing closing ]: `[`",
		`(Node.Node == ext`:                  `1:18 (17): rule "grouping": Unmatched parentheses`,
		`Node.Node == "ext`:                  `1:18 (17): rule "string": Unterminated string literal`,
		`Node.Node == 1x`:                    `1:15 (14): rule "number": Invalid number literal`,
		`Node.Meta[a] == 1`:                  `1:11 (10): rule "index": Invalid index`,
	} {
		_, err := Compile[api.CheckServiceNode](expression)
		if want = "Failed to create boolean expression evaluator: " + want; err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", expression, err, want)
		}
	}
	for _, expression := range []string{
		``, ` `, `Node.Node`, `Node.Node ==`, `Node.Node > 1`, `"/Node/Node" == ext`, `Node.Node is nil`, `any Checks as c { c.Status == passing }`,
		`NOT Service.ID == 3`, `Service.ID == a-b`, strings.Repeat("x", MaxLength+1),
	} {
		if _, err := Compile[api.CheckServiceNode](expression); err == nil {
			t.Errorf("%.40s is taken", expression)
		}
	}
}

// TestFieldsAreThoseOfTheReference lists the language's fields as the reference's
// binary takes them.
func TestFieldsAreThoseOfTheReference(t *testing.T) {
	proxy := strings.Fields(`Mode DestinationServiceName DestinationServiceID LocalServiceAddress LocalServicePort
		LocalServiceSocketPath Upstreams.DestinationName Upstreams.DestinationType Upstreams.DestinationNamespace
		Upstreams.DestinationPartition Upstreams.DestinationPeer Upstreams.Datacenter Upstreams.LocalBindAddress
		Upstreams.LocalBindPort Upstreams.LocalBindSocketPath Upstreams.LocalBindSocketMode Upstreams.MeshGateway.Mode
		MeshGateway.Mode Expose.Checks Expose.Paths.Path Expose.Paths.ListenerPort Expose.Paths.LocalPathPort
		Expose.Paths.Protocol Expose.Paths.ParsedFromCheck TransparentProxy.OutboundListenerPort
		TransparentProxy.DialedDirectly EnvoyExtensions.Name EnvoyExtensions.Required EnvoyExtensions.ConsulVersion
		EnvoyExtensions.EnvoyVersion AccessLogs.Enabled AccessLogs.Type AccessLogs.Path AccessLogs.DisableListenerLogs
		AccessLogs.JSONFormat AccessLogs.TextFormat`)
	noProxy := strings.Fields(`Config Config.a Upstreams.Config Upstreams.IngressHosts Upstreams.CentrallyConfigured
		MutualTLSMode EnvoyExtensions.Arguments`)
	no := slices.Concat(prefixed("Proxy.", noProxy), strings.Fields(`Locality.Region LocallyRegisteredAsSidecar
		CreateIndex ModifyIndex RaftIndex.CreateIndex Connect.SidecarService.Port Connect.PeerMeta.Protocol Datacenter Namespace`))
	for _, name := range slices.Concat(prefixed("Proxy.", proxy), strings.Fields(`Kind ID Service Address
		TaggedAddresses.x.Address TaggedAddresses.x.Port Meta.x Port SocketPath Weights.Passing Weights.Warning
		EnableTagOverride PeerName Connect.Native`)) {
		if _, err := Compile[api.NodeService](name + " == 1"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range no {
		if _, err := Compile[api.NodeService](name + " == 1"); err == nil || !strings.Contains(err.Error(), "is not valid") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name := range strings.FieldsSeq(`ID Node Address Datacenter NodeMeta.x ServiceKind ServiceID ServiceName ServiceAddress
		ServiceTaggedAddresses.x.Port ServiceWeights.Passing ServiceMeta.x ServicePort ServiceSocketPath ServiceEnableTagOverride
		ServiceProxy.Mode ServiceConnect.Native PeerName`) {
		if _, err := Compile[api.ServiceNode](name + " == 1"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name := range strings.FieldsSeq(`Node CheckID Name Status Notes Output ServiceID ServiceName Type Interval Timeout
		ExposedPort PeerName`) {
		if _, err := Compile[api.HealthCheck](name + " == 1"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func prefixed(prefix string, names []string) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = prefix + name
	}
	return out
}

// TestNilRowsMatchNothing has rows that peers leave out.
func TestNilRowsMatchNothing(t *testing.T) {
	for expression, want := range map[string]bool{`Node.Node == ext`: false, `Service.Weights.Passing != 1`: true} {
		f, err := Compile[api.CheckServiceNode](expression)
		if err != nil {
			t.Fatal(err)
		}
		if f.Match(&api.CheckServiceNode{}) != want || f.Match(&api.CheckServiceNode{Service: &api.NodeService{}}) != want {
			t.Errorf("%s does not hold as it should of what is not there", expression)
		}
	}
}

// TestHostileExpressionsEndSoon has what sends the parser back and forth most.
func TestHostileExpressionsEndSoon(t *testing.T) {
	for name, expression := range map[string]string{
		"parentheses":       strings.Repeat("(", MaxLength/2) + "x==1" + strings.Repeat(")", MaxLength/2-4),
		"open parentheses":  strings.Repeat("(", MaxLength),
		"nots":              strings.Repeat("not ", MaxLength/4-4) + "Foo==1",
		"long and":          strings.Repeat("Node.Node==1 and ", MaxLength/17-1) + "Node.Node==1",
		"mixed parentheses": strings.Repeat("(Node.Node==1 or ", MaxLength/20) + "Node.Node==1" + strings.Repeat(")", MaxLength/20),
	} {
		begin := time.Now()
		_, err := Compile[api.CheckServiceNode](expression)
		t.Logf("%s: %.80v after %s", name, err, time.Since(begin))
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%s took %s", name, took)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	var c Cache[api.Node]
	for i := range 3 * mostKept {
		if _, err := c.Compile(fmt.Sprintf("Node == n%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.by) > mostKept {
		t.Errorf("%d expressions are kept", len(c.by))
	}
	f, _ := c.Compile("Node == x")
	again, _ := c.Compile("Node == x")
	if f != again {
		t.Error("compiled twice")
	}
	if _, err := c.Compile("Node ="); err == nil {
		t.Error("a wrong expression is taken")
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		`Node.Meta.a == b and (Service.Port == 1 or Service.ID == db1)`, "Service.Meta[`v`] matches \"x\"", `"/a" in Service.Tags`,
		`not Checks is empty`, `(((x`, `""==""`, `any a as b { c }`, "\"`/a\"", `Node.Node == "\u0000"`,
	} {
		f.Add(s)
	}
	row := sample()
	f.Fuzz(func(_ *testing.T, s string) {
		if len(s) > 200 {
			return // long ones are slow by their nature, and have a test
		}
		if filter, err := Compile[api.CheckServiceNode](s); err == nil {
			filter.Match(&row)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	f, err := Compile[api.CheckServiceNode](`Service.Meta.v == 1 and m in Service.Tags and not Checks.Status == critical`)
	if err != nil {
		b.Fatal(err)
	}
	row := sample()
	for b.Loop() {
		f.Match(&row)
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := Compile[api.CheckServiceNode](`Service.Meta.v == 1 and m in Service.Tags`); err != nil {
			b.Fatal(err)
		}
	}
}
