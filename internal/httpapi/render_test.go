package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"isthmus/api"
)

// fill sets every field to something that is not empty. n makes values differ.
func fill(v reflect.Value, n *int, depth int) {
	*n++
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("<%d&\u2028>", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint, reflect.Uint64, reflect.Uint8:
		v.SetUint(uint64(*n % 256))
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(field, n, depth)
		}
	case reflect.Pointer:
		if depth > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), n, depth-1)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), n, depth)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 3 {
			key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(key, n, depth)
			fill(elem, n, depth)
			v.SetMapIndex(key, elem)
		}
	case reflect.Interface:
		v.Set(reflect.ValueOf("any"))
	default:
		panic("cannot fill a " + v.Kind().String())
	}
}

// sorted puts the fields of JSON in the order of their names.
func sorted(t *testing.T, b []byte) []byte {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// rendersAlike compares a row by hand with encoding/json: empty, full, and with
// each field alone.
func rendersAlike[T any](t *testing.T, add func([]byte, *T) []byte) {
	t.Helper()
	check := func(row *T) {
		t.Helper()
		want, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		for null, empty := range map[string]string{`Tags":null`: `Tags":[]`, `Checks":null`: `Checks":[]`, `ServiceMeta":null`: `ServiceMeta":{}`} {
			want = bytes.ReplaceAll(want, []byte(null), []byte(empty))
		}
		got := add(nil, row)
		if bytes.Contains(got, []byte(`"Definition":{"Interval"`)) { // its fields stand in another order
			got, want = sorted(t, got), sorted(t, want)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	check(nil)
	var empty, full T
	check(&empty)
	n := 0
	fill(reflect.ValueOf(&full).Elem(), &n, 3)
	check(&full)
	for i := range reflect.TypeFor[T]().NumField() {
		var one T
		fill(reflect.ValueOf(&one).Elem().Field(i), &n, 3)
		check(&one)
	}
}

func TestRowsByHandAreThoseOfEncodingJSON(t *testing.T) {
	rendersAlike(t, appendNode)
	rendersAlike(t, appendService)
	rendersAlike(t, appendCheck)
	rendersAlike(t, appendServiceNode)
	rendersAlike(t, func(out []byte, c *api.CheckServiceNode) []byte {
		if c == nil {
			return append(out, "null"...)
		}
		return appendInstance(out, c)
	})
	rendersAlike(t, func(out []byte, e *api.KVPair) []byte {
		if e == nil {
			return append(out, "null"...)
		}
		return appendKV(out, e)
	})
}
