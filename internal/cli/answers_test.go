package cli

// member is an entry of a list of members, as a node sends it.
func member(name, addr string, status int, tags map[string]string) map[string]any {
	return map[string]any{"Name": name, "Addr": addr, "Port": 8301, "Status": status, "Tags": tags}
}

// at is a node's coordinate, as a node sends it.
func at(node string, where float64) map[string]any {
	return map[string]any{"Node": node, "Segment": "", "Coord": map[string]any{
		"Vec": []float64{where, 0, 0, 0, 0, 0, 0, 0}, "Error": 1.5, "Adjustment": 0.0001, "Height": 0.00001,
	}}
}

// oddAnswers have what a healthy small cluster does not show.
var oddAnswers = map[string]any{
	"GET /v1/agent/members": []any{
		member("zed", "10.0.0.3", 4, map[string]string{"role": "node", "dc": "dc1", "build": "1.16.4:abc", "vsn": "2", "segment": ""}),
		member("amy", "::1", 3, map[string]string{"role": "node", "dc": "dc1", "build": "1.8.0", "segment": "beta", "ap": "other"}),
		member("bob", "10.0.0.2", 2, map[string]string{"role": "consul", "dc": "dc1", "build": "1.16.4ent:abc", "vsn": "2", "segment": ""}),
		member("srv", "10.0.0.1", 1, map[string]string{"role": "consul", "dc": "dc1", "build": "1.16.4:", "vsn": "2", "segment": "<all>"}),
		member("zoe.dc0", "10.0.0.4", 1, map[string]string{"role": "consul", "dc": "dc0", "build": "1.16.4:", "vsn": "2", "segment": "<all>"}),
		member("odd", "10.0.0.9", 0, map[string]string{}),
		member("odd2", "10.0.0.9", 1, map[string]string{"role": "x", "dc": "dc1"}),
		member("yan", "10.0.0.10", 1, map[string]string{"role": "node", "build": "1.16.4:abc", "segment": "alpha"}),
	},
	"GET /v1/catalog/nodes": []any{
		map[string]any{"Node": "short", "Address": "1.1.1.1", "Datacenter": "dc1"},
		map[string]any{
			"ID": "0123456-789abcdef", "Node": "long", "Address": "1.1.1.1", "Datacenter": "dc1",
			"TaggedAddresses": map[string]string{"wan": "1", "lan": "2"}, "Meta": map[string]string{"z": "1", "a": ""},
		},
	},
	"GET /v1/catalog/service/web": []any{
		map[string]any{"ID": "0123456789abcdef", "Node": "n1", "Address": "1.1.1.1", "Datacenter": "dc1", "ServiceID": "w1", "NodeMeta": map[string]string{"a": "b"}},
		map[string]any{"ID": "0123456789abcdef", "Node": "n1", "Address": "1.1.1.1", "Datacenter": "dc1", "ServiceID": "w2", "NodeMeta": map[string]string{"a": "b"}},
	},
	"GET /v1/catalog/services": map[string][]string{"web": {"b", "a"}, "api": {}, "zz": {"x"}},
	"GET /v1/catalog/node/x": map[string]any{
		"Node": map[string]any{"Node": "x"},
		"Services": map[string]any{
			"w1": map[string]any{"Service": "web", "ID": "w1", "Tags": []string{"b", "a"}},
			"w2": map[string]any{"Service": "web", "ID": "w2", "Tags": []string{"a", "c"}},
			"a":  map[string]any{"Service": "api", "ID": "a"},
		},
	},
	"GET /v1/catalog/datacenters": []string{"dc2", "dc1"},
	"GET /v1/agent/self": map[string]any{
		"Config": map[string]any{"NodeName": "b", "Datacenter": "dc2"}, "Stats": map[string]any{"agent": map[string]any{"b": "1", "a": "2"}, "z": map[string]any{}},
	},
	"GET /v1/coordinate/nodes": []any{at("a", 0.001), at("b", -0.0023)},
	"GET /v1/coordinate/datacenters": []any{
		map[string]any{"Datacenter": "dc1", "AreaID": "wan", "Coordinates": []any{at("a", 0)}},
		map[string]any{"Datacenter": "dc2", "AreaID": "wan", "Coordinates": []any{at("b", 0.2)}},
	},
	"GET /v1/connect/ca/configuration": map[string]any{
		"Provider": "consul", "Config": map[string]any{"RootCertTTL": "87600h", "LeafCertTTL": "<72h>"}, "CreateIndex": 5, "ModifyIndex": 9,
	},
	"GET /v1/kv/k":          []any{map[string]any{"Key": "k", "Value": "dg==", "CreateIndex": 1, "ModifyIndex": 1234567890123, "LockIndex": 3}},
	"GET /v1/kv/k/":         []any{map[string]any{"Key": "k/<a>", "Value": "AAoK"}, map[string]any{"Key": "k/", "Value": nil}},
	"PUT /v1/kv/k":          "true",
	"PUT /v1/kv/no":         "false",
	"DELETE /v1/kv/no":      "false",
	"DELETE /v1/kv/missing": "true",
	"PUT /v1/kv/p/x":        "true",

	"DELETE /v1/kv/k":  "true",
	"DELETE /v1/kv/k/": "true",

	"GET /v1/status/leader":      `"127.0.0.1:8300"`,
	"GET /v1/health/service/web": []any{map[string]any{"Node": map[string]any{"Node": "n1"}, "Service": map[string]any{"ID": "w1", "Service": "web"}, "Checks": []any{}}},
	"GET /v1/health/checks/web":  []any{map[string]any{"CheckID": "c", "Status": "passing"}},
	"GET /v1/health/state/any":   []any{},

	"GET /v1/agent/checks": map[string]any{
		"c":                         map[string]any{"CheckID": "c", "ServiceID": "a"},
		"_service_maintenance:a<b>": map[string]any{"CheckID": "_service_maintenance:a<b>", "ServiceID": "a<b>", "Notes": "why"},
	},
	"PUT /v1/agent/maintenance":            "",
	"PUT /v1/agent/service/maintenance/a":  "",
	"PUT /v1/agent/force-leave/x":          "",
	"PUT /v1/agent/force-leave/a/b":        "",
	"PUT /v1/agent/join/a":                 "",
	"PUT /v1/agent/reload":                 "",
	"PUT /v1/agent/leave":                  "",
	"PUT /v1/agent/service/register":       "",
	"PUT /v1/agent/service/deregister/a":   "",
	"PUT /v1/agent/service/deregister/web": "",
}
