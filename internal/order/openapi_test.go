package order

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// document is docs/openapi.json, as far as answers are compared with it.
type document struct {
	Paths map[string]map[string]struct {
		Parameters []struct{ Name, In string }
		Responses  map[string]struct {
			Content map[string]struct{ Schema any }
		}
	}
	Components struct {
		Schemas map[string]any
	}
}

func readDocument(t *testing.T) *document {
	t.Helper()
	d := &document{}
	if err := json.Unmarshal(read(t, "docs/openapi.json"), d); err != nil {
		t.Fatal(err)
	}
	return d
}

// named is the form of an answer that a route has when it is asked so.
type named struct {
	path   string // without what stands in braces in the document
	status int
	media  string
}

const jsonType = "application/json"

// asked are requests for every documented route that is read.
var asked = map[string][]named{
	"/":                                          {{"/", 200, "text/plain"}},
	"/debug/pprof/{profile}":                     {{"/debug/pprof/goroutine", 200, ""}},
	"/debug/pprof/cmdline":                       {{"/debug/pprof/cmdline", 200, ""}},
	"/debug/pprof/symbol":                        {{"/debug/pprof/symbol", 200, ""}},
	"/debug/pprof/profile":                       {{"/debug/pprof/profile?seconds=1", 200, ""}},
	"/debug/pprof/trace":                         {{"/debug/pprof/trace?seconds=0.1", 200, ""}},
	"/v1/agent/monitor":                          nil, // it has no end
	"/v1/agent/metrics/stream":                   nil,
	"/v1/catalog/service/{service}":              {{"web", 200, jsonType}, {"web-sidecar-proxy", 200, jsonType}, {"nowhere", 200, jsonType}},
	"/v1/catalog/connect/{service}":              {{"web", 200, jsonType}, {"native", 200, jsonType}},
	"/v1/catalog/node/{node}":                    {{"n1", 200, jsonType}, {"n2", 200, jsonType}, {"nowhere", 200, jsonType}},
	"/v1/catalog/node-services/{node}":           {{"n1", 200, jsonType}, {"nowhere", 200, jsonType}},
	"/v1/catalog/gateway-services/{gateway}":     {{"gateway", 200, jsonType}},
	"/v1/health/service/{service}":               {{"web", 200, jsonType}, {"web?passing", 200, jsonType}, {"gateway", 200, jsonType}, {"consul?cached", 200, jsonType}},
	"/v1/health/connect/{service}":               {{"web", 200, jsonType}},
	"/v1/health/ingress/{service}":               {{"web", 200, jsonType}},
	"/v1/health/checks/{service}":                {{"web", 200, jsonType}, {"gateway", 200, jsonType}},
	"/v1/health/node/{node}":                     {{"n1", 200, jsonType}, {"n2", 200, jsonType}},
	"/v1/health/state/{state}":                   {{"any", 200, jsonType}},
	"/v1/coordinate/node/{node}":                 {{"n1", 200, jsonType}, {"nowhere", 404, "text/plain"}},
	"/v1/kv/{key}":                               {{"a", 200, jsonType}, {"?recurse", 200, jsonType}, {"?keys", 200, jsonType}, {"a?raw", 200, "text/plain"}, {"none", 404, "text/plain"}},
	"/v1/connect/ca/roots":                       {{"/v1/connect/ca/roots", 200, jsonType}, {"/v1/connect/ca/roots?pem=true", 200, "application/pem-certificate-chain"}},
	"/v1/internal/federation-state/{datacenter}": {{"dc1", 200, jsonType}, {"nowhere", 404, "text/plain"}},
	"/v1/internal/ui/node/{node}":                {{"n1", 200, jsonType}, {"nowhere", 404, "text/plain"}},
	"/v1/agent/service/{service_id}":             {{"web1", 200, jsonType}, {"web1-sidecar-proxy", 200, jsonType}, {"native", 200, jsonType}, {"nowhere", 404, "text/plain"}},
	"/v1/agent/members":                          {{"/v1/agent/members", 200, jsonType}, {"/v1/agent/members?wan", 200, jsonType}},
	"/v1/agent/metrics":                          {{"/v1/agent/metrics", 200, jsonType}, {"/v1/agent/metrics?format=prometheus", 200, "text/plain"}},
	"/v1/agent/health/service/id/{service_id}":   {{"native", 200, jsonType}, {"nowhere", 404, jsonType}, {"native?format=text", 200, "text/plain"}},
	"/v1/agent/health/service/name/{service}":    {{"native", 200, jsonType}, {"nowhere", 404, jsonType}},
}

// TestAnswersFitTheDocument asks a running agent for every route that is read and
// compares what it answers with docs/openapi.json.
func TestAnswersFitTheDocument(t *testing.T) {
	d := readDocument(t)
	a := startAgent(t, `{"enable_debug":true,"telemetry":{"prometheus_retention_time":"1m"},"ports":{"grpc":8502}}`)
	a.fill(t)
	for path := range asked {
		if _, ok := d.Paths[path]["get"]; !ok {
			t.Errorf("%s is asked for, but not documented", path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		op, ok := d.Paths[path]["get"]
		if !ok {
			continue
		}
		requests, special := asked[path]
		if !special {
			requests = []named{{path, http.StatusOK, jsonType}}
		}
		for _, r := range requests {
			url := r.path
			if before, _, ok := strings.Cut(path, "{"); ok && !strings.HasPrefix(url, "/") {
				url = before + url
			}
			status, body, err := a.do(t, http.MethodGet, url, "")
			if err != nil || status != r.status {
				t.Errorf("GET %s: got %d, want %d (%.200s, %v)", url, status, r.status, body, err)
				continue
			}
			if r.media == "" {
				continue
			}
			content, ok := op.Responses[fmt.Sprint(status)].Content[r.media]
			if !ok {
				t.Errorf("GET %s: status %d with %s is not documented", url, status, r.media)
				continue
			}
			if r.media != jsonType {
				continue
			}
			var value any
			if err := json.Unmarshal([]byte(body), &value); err != nil {
				t.Errorf("GET %s: %v", url, err)
				continue
			}
			if err := d.fits(content.Schema, value, "the answer"); err != nil {
				t.Errorf("GET %s: %v\n%.2000s", url, err, body)
			}
		}
	}
}

// TestParametersOfPathsAreNamed: each word in braces is a parameter.
func TestParametersOfPathsAreNamed(t *testing.T) {
	d := readDocument(t)
	braces := regexp.MustCompile(`\{(\w+)\}`)
	for path, methods := range d.Paths {
		for method, op := range methods {
			for _, word := range braces.FindAllStringSubmatch(path, -1) {
				if !slices.ContainsFunc(op.Parameters, func(p struct{ Name, In string }) bool { return p.Name == word[1] && p.In == "path" }) {
					t.Errorf("%s %s does not describe %s", method, path, word[0])
				}
			}
		}
	}
}

// fits tells where a value is not of a schema, in the words of JSON Schema that the
// document uses.
func (d *document) fits(schema, value any, at string) error {
	s, _ := schema.(map[string]any)
	for word := range s {
		switch word {
		case "$ref", "type", "format", "description", "minimum", "anyOf", "items", "properties", "required", "additionalProperties":
		default:
			return fmt.Errorf("%s: this test does not know the word %q", at, word)
		}
	}
	if ref, ok := s["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, "#/components/schemas/")
		if d.Components.Schemas[name] == nil {
			return fmt.Errorf("%s: there is no schema %s", at, ref)
		}
		return d.fits(d.Components.Schemas[name], value, at)
	}
	if of, ok := s["anyOf"].([]any); ok {
		var last error
		for _, one := range of {
			if last = d.fits(one, value, at); last == nil {
				return nil
			}
		}
		return last
	}
	if !ofType(s["type"], value) {
		return fmt.Errorf("%s: %T where %v is documented", at, value, s["type"])
	}
	if least, ok := s["minimum"].(float64); ok {
		if n, ok := value.(float64); ok && n < least {
			return fmt.Errorf("%s: %v is less than %v", at, n, least)
		}
	}
	switch value := value.(type) {
	case []any:
		for i, one := range value {
			if err := d.fits(s["items"], one, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case map[string]any:
		return d.fitsObject(s, value, at)
	}
	return nil
}

func (d *document) fitsObject(s, value map[string]any, at string) error {
	properties, _ := s["properties"].(map[string]any)
	required, _ := s["required"].([]any)
	for _, name := range required {
		if _, ok := value[name.(string)]; !ok {
			return fmt.Errorf("%s has no %v", at, name)
		}
	}
	for name, one := range value {
		schema, ok := properties[name]
		if !ok {
			if schema = s["additionalProperties"]; schema == false {
				return fmt.Errorf("%s has %s, which is not documented", at, name)
			}
		}
		if err := d.fits(schema, one, at+"."+name); err != nil {
			return err
		}
	}
	return nil
}

// ofType tells whether a value is of a type or of one of a list of types.
func ofType(types, value any) bool {
	list, ok := types.([]any)
	if !ok {
		list = []any{types}
	}
	for _, one := range list {
		switch v := value.(type) {
		case nil:
			ok = one == "null"
		case bool:
			ok = one == "boolean"
		case string:
			ok = one == "string"
		case float64:
			ok = one == "number" || one == "integer" && v == float64(int64(v))
		case []any:
			ok = one == "array"
		case map[string]any:
			ok = one == "object"
		}
		if ok || one == nil {
			return true
		}
	}
	return false
}
