package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"isthmus/api"
)

// TestAddressesOfTheWAN has what the reference answered about another datacenter
// whose rows these are.
func TestAddressesOfTheWAN(t *testing.T) {
	type tags = map[string]string
	type addresses = map[string]api.ServiceAddress
	for _, c := range []struct {
		node    api.Node
		service api.NodeService
		addr    string
		reached string
		port    int
	}{
		{
			api.Node{Address: "10.0.0.1", TaggedAddresses: tags{"lan": "10.0.0.1", "wan": "1.0.0.1", "wan_ipv4": "1.0.0.4", "wan_ipv6": "fe80::1"}},
			api.NodeService{Address: "10.0.0.2", Port: 80, TaggedAddresses: addresses{"wan": {Address: "1.0.0.2", Port: 8080}, "lan": {Address: "9.9.9.9", Port: 9}}},
			"fe80::1", "1.0.0.2", 8080,
		},
		{
			api.Node{Address: "10.0.1.1", TaggedAddresses: tags{"lan": "10.0.1.1", "wan_ipv4": "1.0.1.4", "wan_ipv6": "fe80::2"}},
			api.NodeService{Port: 80, TaggedAddresses: addresses{"wan": {Address: "1.0.1.2"}}},
			"fe80::2", "1.0.1.2", 80,
		},
		{
			api.Node{Address: "10.0.2.1", TaggedAddresses: tags{"lan": "10.0.2.2", "wan_ipv6": "fe80::3", "lan_ipv4": "7.7.7.7"}},
			api.NodeService{Address: "10.0.2.3", Port: 80, TaggedAddresses: addresses{"wan_ipv4": {Address: "1.0.2.2", Port: 81}}},
			"fe80::3", "1.0.2.2", 80,
		},
		{
			api.Node{Address: "10.0.3.1"},
			api.NodeService{Address: "10.0.3.3", Port: 80, TaggedAddresses: addresses{"wan_ipv6": {Address: "fe80::9", Port: 82}, "lan_ipv4": {Address: "6.6.6.6", Port: 1}}},
			"10.0.3.1", "fe80::9", 80,
		},
		{
			api.Node{Address: "10.0.4.1", TaggedAddresses: tags{"wan": "host.example"}},
			api.NodeService{Port: 80, TaggedAddresses: addresses{"wan": {Port: 83}}},
			"host.example", "", 83,
		},
		{
			api.Node{Address: "10.0.5.1", TaggedAddresses: tags{"wan": "::5"}},
			api.NodeService{Address: "10.0.5.2", Port: 80, TaggedAddresses: addresses{"wan": {Address: "1.0.5.2"}}},
			"::5", "1.0.5.2", 80,
		},
	} {
		c.service.ID = "w"
		node, service := c.node, c.service
		row := &api.ServiceNode{
			Address: node.Address, TaggedAddresses: node.TaggedAddresses,
			ServiceAddress: service.Address, ServicePort: service.Port, ServiceTaggedAddresses: service.TaggedAddresses,
		}
		instance := &api.Instance{CheckServiceNode: api.CheckServiceNode{Node: &node, Service: &service}}
		instance.Text(func(*api.CheckServiceNode) []byte { return []byte("old") })

		gotNode := translateAll(translateNode)([]*api.Node{&node})[0]
		gotRow := translateServiceNode(row)
		gotInstance := translateInstance(instance)
		byID := translateNodeServices(&api.NodeServices{Node: &node, Services: map[string]*api.NodeService{"w": &service}})
		list := translateNodeServiceList(api.NodeServiceList{Node: &node, Services: []*api.NodeService{&service}})
		for what, got := range map[string]string{
			"node": gotNode.Address, "row": gotRow.Address, "instance": gotInstance.Node.Address, "by id": byID.Node.Address, "list": list.Node.Address,
		} {
			if got != c.addr {
				t.Errorf("%s %v: node at %s, want %s", what, node, got, c.addr)
			}
		}
		for what, got := range map[string]*api.NodeService{
			"row": {Address: gotRow.ServiceAddress, Port: gotRow.ServicePort}, "instance": gotInstance.Service, "by id": byID.Services["w"], "list": list.Services[0],
		} {
			if got.Address != c.reached || got.Port != c.port {
				t.Errorf("%s %+v: at %s:%d, want %s:%d", what, service, got.Address, got.Port, c.reached, c.port)
			}
		}
		if text := gotInstance.Text(func(*api.CheckServiceNode) []byte { return []byte("new") }); string(text) != "new" {
			t.Errorf("the translated instance has the text %s", text)
		}
		if !reflect.DeepEqual(node, c.node) || !reflect.DeepEqual(service, c.service) {
			t.Errorf("shared rows were changed: %+v, %+v", node, service)
		}
	}
	if translateNodeServices(nil) != nil || translateNodeServiceList(api.NodeServiceList{}).Node != nil || translateAll(translateNode)(nil) != nil {
		t.Error("what is not there became something")
	}
}

func TestOnlyOtherDatacentersAreTranslated(t *testing.T) {
	for _, c := range []struct {
		on    bool
		query string
		want  bool
	}{{true, "?dc=dc2", true}, {true, "?dc=dc1", false}, {true, "?dc=", false}, {true, "", false}, {false, "?dc=dc2", false}} {
		r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/v1/catalog/nodes"+c.query, nil)
		q := &request{Request: r, query: r.URL.Query(), api: New(Config{Datacenter: "dc1", TranslateWAN: c.on, Log: slog.New(slog.DiscardHandler)})}
		shown, err := translated(func(n int) int { return n + 1 }, func(_ *request, n int) (any, error) { return n, nil })(q, 1)
		if err != nil || (shown == 2) != c.want {
			t.Errorf("%+v: got %v, %v", c, shown, err)
		}
	}
}
