package cli

import "testing"

func TestMaintShowsNodeThenServices(t *testing.T) {
	newFakeNode(t, map[string]any{
		"GET /v1/agent/self": map[string]any{"Config": map[string]any{"NodeName": "n1"}},
		"GET /v1/agent/checks": map[string]any{
			"_service_maintenance:b": map[string]any{"ServiceID": "b", "Notes": "two"},
			"_service_maintenance:a": map[string]any{"ServiceID": "a", "Notes": "one"},
			"_node_maintenance":      map[string]any{"Notes": "all"},
			"other":                  map[string]any{"ServiceID": "c"},
		},
	})
	run(t, "maint").expect(t, 0, "Node:\n  Name:   n1\n  Reason: all\n\n"+
		"Service:\n  ID:     a\n  Reason: one\n\nService:\n  ID:     b\n  Reason: two\n\n", "")
}
