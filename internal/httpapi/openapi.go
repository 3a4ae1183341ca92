package httpapi

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"isthmus/api"
)

// The parts of an OpenAPI document, as far as this API needs them.
type (
	openAPI struct {
		OpenAPI string `json:"openapi"`
		Info    struct {
			Title       string `json:"title"`
			Version     string `json:"version"`
			Description string `json:"description"`
		} `json:"info"`
		Paths      map[string]map[string]openOperation `json:"paths"`
		Components struct {
			Schemas    map[string]schema        `json:"schemas"`
			Parameters map[string]openParameter `json:"parameters"`
			Headers    map[string]openHeader    `json:"headers"`
			Responses  map[string]openResponse  `json:"responses"`
		} `json:"components"`
	}

	openOperation struct {
		Summary     string                  `json:"summary"`
		Parameters  []openParameter         `json:"parameters,omitempty"`
		RequestBody *openBody               `json:"requestBody,omitempty"`
		Responses   map[string]openResponse `json:"responses"`
	}

	openParameter struct {
		Ref         string  `json:"$ref,omitempty"`
		Name        string  `json:"name,omitempty"`
		In          string  `json:"in,omitempty"`
		Required    bool    `json:"required,omitempty"`
		Description string  `json:"description,omitempty"`
		Empty       bool    `json:"allowEmptyValue,omitempty"`
		Schema      *schema `json:"schema,omitempty"`
	}

	openBody struct {
		Required bool                   `json:"required"`
		Content  map[string]openContent `json:"content"`
	}

	openContent struct {
		Schema *schema `json:"schema,omitempty"`
	}

	openHeader struct {
		Ref         string  `json:"$ref,omitempty"`
		Description string  `json:"description,omitempty"`
		Schema      *schema `json:"schema,omitempty"`
	}

	openResponse struct {
		Ref         string                 `json:"$ref,omitempty"`
		Description string                 `json:"description,omitempty"`
		Headers     map[string]openHeader  `json:"headers,omitempty"`
		Content     map[string]openContent `json:"content,omitempty"`
	}
)

// indexHeaders are those of an answer with an index.
var indexHeaders = map[string]struct{ kind, doc string }{
	"X-Consul-Index":                 {typeInteger, "Index at which the answer last changed, to wait beyond with ?index."},
	"X-Consul-KnownLeader":           {typeBoolean, "Whether the servers have a leader."},
	"X-Consul-LastContact":           {typeInteger, "Milliseconds since the server that answered heard from the leader."},
	"X-Consul-Effective-Consistency": {typeString, "How the answer was read: leader, stale or consistent."},
	"X-Cache":                        {typeString, "With ?cached, HIT or MISS."},
	"Age":                            {typeInteger, "With ?cached, seconds for which the cache could not be kept up to date."},
}

// OpenAPI writes the routes as an OpenAPI document.
func OpenAPI(w io.Writer) error {
	d := &openAPI{OpenAPI: "3.1.0", Paths: map[string]map[string]openOperation{}}
	d.Info.Title, d.Info.Version = "Isthmus HTTP API", api.Compat
	d.Info.Description = "Errors are plain text. Keys of JSON that is sent may be spelled in any case and with underscores. " +
		"Routes of Consul's API that are not built yet answer 501."
	d.Components.Schemas = map[string]schema{}
	d.Components.Parameters = map[string]openParameter{}
	d.Components.Headers = map[string]openHeader{}
	d.Components.Responses = map[string]openResponse{
		"Error": {Description: "What is wrong, as text.", Content: map[string]openContent{mediaText: {&schema{Type: typeString}}}},
	}
	for name, p := range parameters {
		d.Components.Parameters[name] = queryParameter(name, p.kind, p.doc)
	}
	for name, h := range indexHeaders {
		d.Components.Headers[name] = openHeader{Description: h.doc, Schema: &schema{Type: h.kind}}
	}
	types := map[string]reflect.Type{}
	answers := &schemas{named: d.Components.Schemas, types: types}
	requests := &schemas{named: d.Components.Schemas, types: types, request: true}
	for _, r := range append(routes(), debugRoutes()...) {
		if r.doc == "" {
			continue
		}
		s, ok := shapes[r.method+" "+r.pattern]
		if !ok {
			return fmt.Errorf("route %s %s has no shape", r.method, r.pattern)
		}
		path := r.pattern
		if s.of != "" {
			path += "{" + s.of + "}"
		}
		if d.Paths[path] == nil {
			d.Paths[path] = map[string]openOperation{}
		}
		d.Paths[path][strings.ToLower(r.method)] = s.operation(r, answers, requests)
	}
	out, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		return fmt.Errorf("write OpenAPI document: %w", err)
	}
	if _, err := w.Write(append(out, '\n')); err != nil {
		return fmt.Errorf("write OpenAPI document: %w", err)
	}
	return nil
}

// queryParameter describes a parameter of the query.
func queryParameter(name, kind, doc string) openParameter {
	p := openParameter{Name: name, In: "query", Description: doc, Schema: &schema{Type: kind}}
	switch kind {
	case kindFlag:
		p.Empty, p.Schema = true, &schema{Type: typeString}
	case kindList:
		p.Schema = &schema{Type: typeArray, Items: &schema{Type: typeString}}
	}
	return p
}

// operation describes a route.
func (s *shape) operation(r route, answers, requests *schemas) openOperation {
	op := openOperation{Summary: r.doc, Responses: map[string]openResponse{"default": {Ref: "#/components/responses/Error"}}}
	if s.of != "" {
		op.Parameters = append(op.Parameters, openParameter{Name: s.of, In: "path", Required: true, Schema: &schema{Type: typeString}})
	}
	names := slices.Clone(s.query)
	if strings.HasPrefix(r.pattern, "/v1/") {
		names = append(names, "token")
	}
	if s.answer != nil {
		names = append(names, "pretty")
	}
	for _, name := range names {
		op.Parameters = append(op.Parameters, openParameter{Ref: "#/components/parameters/" + name})
	}
	switch {
	case s.body != nil:
		one := requests.of(s.body)
		op.RequestBody = &openBody{Required: true, Content: map[string]openContent{"application/json": {&one}}}
	case s.sends != "":
		op.RequestBody = &openBody{Content: map[string]openContent{s.sends: {}}}
	}
	good := s.response(answers)
	op.Responses["200"] = good
	for status, same := range s.also {
		other := openResponse{Description: "There is none.", Content: map[string]openContent{mediaText: {&schema{Type: typeString}}}}
		if same {
			other = good
		}
		op.Responses[strconv.Itoa(status)] = other
	}
	return op
}

// response is the answer when nothing is wrong.
func (s *shape) response(answers *schemas) openResponse {
	out := openResponse{Description: "The answer.", Content: map[string]openContent{}}
	if s.answer == nil && s.answers == "" {
		out = openResponse{Description: "It is done."}
	}
	if s.answer != nil {
		one := s.schema(answers)
		out.Content["application/json"] = openContent{&one}
	}
	if s.answers != "" {
		out.Content[s.answers] = openContent{}
	}
	if s.index {
		out.Headers = map[string]openHeader{}
		for _, name := range slices.Sorted(maps.Keys(indexHeaders)) {
			out.Headers[name] = openHeader{Ref: "#/components/headers/" + name}
		}
	}
	return out
}

func (s *shape) schema(answers *schemas) schema {
	if s.answer == typeOf[kvAnswer]() {
		return schema{AnyOf: []schema{present(answers.of(typeOf[[]*api.KVPair]())), present(answers.of(typeOf[[]string]()))}}
	}
	out := present(answers.of(s.answer))
	if s.null {
		return nullable(out)
	}
	return out
}
