package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"

	"isthmus/api"
)

// maxBody is how long a body of JSON may be, in bytes.
const maxBody = 1 << 20

// decode reads a body of JSON.
func decode[T any](q *request) (T, error) {
	var out T
	if q.ContentLength > maxBody {
		q.w.Header().Set("Connection", "close") // the body is not read
		return out, api.Errorf(api.TooLarge, "Request body(%d bytes) too large, max size: %d bytes.", q.ContentLength, maxBody)
	}
	raw, err := q.readBody(maxBody)
	if errors.As(err, new(*http.MaxBytesError)) {
		return out, api.Errorf(api.TooLarge, "Request body too large, max size: %d bytes.", maxBody)
	}
	if err == nil {
		err = Unmarshal(raw, &out)
	}
	if err != nil {
		return out, api.Errorf(api.Invalid, "Request decode failed: %w", err)
	}
	return out, nil
}

// Unmarshal reads JSON whose keys may be spelled in any case, and with
// underscores between words. A key that no field has is an error.
func Unmarshal(raw []byte, out any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return err //nolint:wrapcheck // shown to the caller
	}
	tree, err := spell(tree, reflect.TypeOf(out).Elem())
	if err != nil {
		return err
	}
	if raw, err = json.Marshal(tree); err != nil {
		return err //nolint:wrapcheck // shown to the caller
	}
	return json.Unmarshal(raw, out) //nolint:wrapcheck // shown to the caller
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// spell gives the keys of a tree the spelling of the fields of t. Keys of maps
// are data and stay as they are.
func spell(v any, t reflect.Type) (any, error) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(unmarshaler) {
		return v, nil
	}
	switch v := v.(type) {
	case map[string]any:
		switch t.Kind() {
		case reflect.Struct:
			return spellStruct(v, t)
		case reflect.Map:
			for key, elem := range v {
				spelled, err := spell(elem, t.Elem())
				if err != nil {
					return nil, err
				}
				v[key] = spelled
			}
		default:
		}
	case []any:
		if t.Kind() != reflect.Slice {
			break
		}
		for i, elem := range v {
			spelled, err := spell(elem, t.Elem())
			if err != nil {
				return nil, err
			}
			v[i] = spelled
		}
	}
	return v, nil
}

// known are the fields of the structs that were decoded so far.
var known sync.Map // of map[string]reflect.StructField, by reflect.Type

// fieldsOf returns the fields of a struct by their names in lower case. They must
// not be changed.
func fieldsOf(t reflect.Type) map[string]reflect.StructField {
	if have, ok := known.Load(t); ok {
		fields, _ := have.(map[string]reflect.StructField)
		return fields
	}
	fields := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous || f.Tag.Get("json") == "-" {
			continue
		}
		if have, ok := fields[strings.ToLower(f.Name)]; !ok || len(f.Index) < len(have.Index) {
			fields[strings.ToLower(f.Name)] = f
		}
	}
	known.Store(t, fields)
	return fields
}

func spellStruct(v map[string]any, t reflect.Type) (any, error) {
	fields := fieldsOf(t)
	out := make(map[string]any, len(v))
	for _, key := range slices.Sorted(maps.Keys(v)) {
		name := strings.ToLower(strings.ReplaceAll(key, "_", ""))
		if other := aliases[name]; other != "" {
			if _, ok := fields[name]; !ok {
				name = other
			}
		}
		f, ok := fields[name]
		if !ok {
			if err := unknown(t, key, name, v[key]); err != nil {
				return nil, err
			}
			continue
		}
		if _, twice := out[f.Name]; twice && v[key] == nil {
			continue
		}
		spelled, err := spell(v[key], f.Type)
		if err == nil && f.Type == reflect.TypeFor[api.Duration]() {
			err = duration(key, spelled)
		}
		if err != nil {
			return nil, err
		}
		out[f.Name] = spelled
	}
	if t == reflect.TypeFor[api.CheckType]() || t == reflect.TypeFor[checkBody]() {
		assume(out)
	}
	return out, nil
}

// duration tells which key's duration is wrong, which decoding would not.
func duration(key string, v any) error {
	raw, err := json.Marshal(v)
	if err == nil {
		err = new(api.Duration).UnmarshalJSON(raw)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// unknown is the error of a key that no field of t has, unless it may be passed over.
func unknown(t reflect.Type, key, name string, value any) error {
	switch {
	case ignored[name], lenient[t], name == "address" && t == reflect.TypeFor[api.Deregistration]():
		return nil
	case name != "namespace" && name != "partition":
		return fmt.Errorf("json: unknown field %q", key)
	case value == nil || value == "" || value == "default":
		return nil // names the one part there is of what other editions divide
	case name == "namespace":
		return fmt.Errorf("json: unknown field %q - Namespaces are a Consul Enterprise feature", key)
	}
	return fmt.Errorf("json: unknown field %q - Partitions are a Consul Enterprise feature", key)
}

// assume fills in what a check that says nothing of it has: a ping over HTTP/2
// uses TLS.
func assume(check map[string]any) {
	target, _ := check["H2PING"].(string)
	if _, said := check["H2PingUseTLS"]; target != "" && !said {
		check["H2PingUseTLS"] = true
	}
}

// aliases are old names of fields.
var aliases = map[string]string{"args": "scriptargs"}

// ignored are fields that clients copy from answers.
var ignored = map[string]bool{"contenthash": true, "datacenter": true}

// lenient are types in which clients put more than there is: proxies that agents
// once managed, and intervals by other names.
var lenient = map[reflect.Type]bool{
	reflect.TypeFor[api.ServiceConnect]():        true,
	reflect.TypeFor[api.HealthCheckDefinition](): true,
}
