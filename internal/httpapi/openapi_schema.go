package httpapi

import (
	"reflect"
	"strings"
	"time"

	"isthmus/api"
)

// schema is a JSON schema, as far as this API needs one.
type schema struct {
	Ref         string   `json:"$ref,omitempty"`
	Type        any      `json:"type,omitempty"` // a word, or a list of words
	Format      string   `json:"format,omitempty"`
	Description string   `json:"description,omitempty"`
	Minimum     *int     `json:"minimum,omitempty"`
	AnyOf       []schema `json:"anyOf,omitempty"`
	Items       *schema  `json:"items,omitempty"`

	Properties map[string]schema `json:"properties,omitempty"`
	Required   []string          `json:"required,omitempty"`
	// AdditionalProperties are false, or the schema of the values of a map.
	AdditionalProperties any `json:"additionalProperties,omitempty"`
}

// schemas makes schemas of types. A struct with a name is written once and
// referred to.
type schemas struct {
	// request makes those of bodies that are read: every field may be left out, and
	// durations may be numbers.
	request bool
	named   map[string]schema
	types   map[string]reflect.Type // of the names, which must be of one
}

const (
	typeString  = "string"
	typeBoolean = "boolean"
	typeInteger = "integer"
	typeNumber  = "number"
	typeObject  = "object"
	typeArray   = "array"
	typeNull    = "null"
)

// of returns the schema of a type.
func (s *schemas) of(t reflect.Type) schema {
	switch t {
	case reflect.TypeFor[api.Duration]():
		if s.request {
			return schema{Type: []string{typeString, typeInteger, typeNull}, Description: `Such as "10s", or in nanoseconds.`}
		}
		return schema{Type: typeString, Description: `Such as "10s".`}
	case reflect.TypeFor[time.Time]():
		return schema{Type: typeString, Format: "date-time"}
	case reflect.TypeFor[time.Duration]():
		return schema{Type: typeInteger, Description: "In nanoseconds."}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return nullable(s.of(t.Elem()))
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return schema{Type: []string{typeString, typeNull}, Format: "byte"}
		}
		elem := s.element(t.Elem())
		return schema{Type: []string{typeArray, typeNull}, Items: &elem}
	case reflect.Map:
		return schema{Type: []string{typeObject, typeNull}, AdditionalProperties: s.element(t.Elem())}
	case reflect.Struct:
		return s.structure(t)
	default:
		return scalars[t.Kind()] // what is not there is anything
	}
}

// scalars are the schemas of basic types.
var scalars = map[reflect.Kind]schema{
	reflect.Bool: {Type: typeBoolean}, reflect.String: {Type: typeString},
	reflect.Int: {Type: typeInteger}, reflect.Int8: {Type: typeInteger}, reflect.Int16: {Type: typeInteger},
	reflect.Int32: {Type: typeInteger}, reflect.Int64: {Type: typeInteger},
	reflect.Uint: natural, reflect.Uint8: natural, reflect.Uint16: natural, reflect.Uint32: natural, reflect.Uint64: natural,
	reflect.Float32: {Type: typeNumber}, reflect.Float64: {Type: typeNumber},
}

var natural = schema{Type: typeInteger, Minimum: new(int)}

// element is the schema of a value of a list or map, where there are no null
// pointers.
func (s *schemas) element(t reflect.Type) schema {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return s.of(t)
}

// nullable admits null, too.
func nullable(of schema) schema {
	switch t := of.Type.(type) {
	case string:
		of.Type = []string{t, typeNull}
		return of
	case nil:
		if of.Ref == "" {
			return of // anything
		}
		return schema{AnyOf: []schema{of, {Type: typeNull}}}
	default:
		return of
	}
}

// present takes null away.
func present(of schema) schema {
	if types, ok := of.Type.([]string); ok && len(types) == 2 && types[1] == typeNull {
		of.Type = types[0]
	}
	if len(of.AnyOf) == 2 && of.AnyOf[1].Type == typeNull {
		return of.AnyOf[0]
	}
	return of
}

func (s *schemas) structure(t reflect.Type) schema {
	name := schemaName(t)
	if name == "" {
		return s.fields(t)
	}
	if s.request {
		name += "Request"
	}
	if have, ok := s.types[name]; ok {
		if have != t {
			panic("httpapi: two types are called " + name)
		}
	} else {
		s.types[name] = t
		s.named[name] = s.fields(t)
	}
	return schema{Ref: "#/components/schemas/" + name}
}

// schemaName is what a type is called in the document; "" for one without a name.
func schemaName(t reflect.Type) string {
	name := t.Name()
	switch {
	case name == "":
		return ""
	case t == reflect.TypeFor[xds](), t == reflect.TypeFor[xdsPorts]():
		return "XDS" + name[len("xds"):]
	case t == reflect.TypeFor[healthCheck]():
		return "AgentHealthCheck" // another one than the catalog's
	}
	return strings.ToUpper(name[:1]) + name[1:]
}

func (s *schemas) fields(t reflect.Type) schema {
	out := schema{Type: typeObject, Properties: map[string]schema{}, AdditionalProperties: false}
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported() || f.Anonymous && name == "":
			continue
		case name == "":
			name = f.Name
		}
		one := s.of(f.Type)
		left := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		if left && !s.request {
			one = present(one)
		}
		out.Properties[name] = one
		// A struct is never empty to the encoder, nor is what is no basic type.
		if always := !left || options == "omitempty" && f.Type.Kind() == reflect.Struct; always && !s.request {
			out.Required = append(out.Required, name)
		}
	}
	return out
}
