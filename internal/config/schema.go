package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// field is a setting as its tags declare it.
type field struct {
	path   string // the keys from the top, joined by dots
	single string // key of a block that is one item of the list
	flags  []string
	value  string // default
	dev    string // default in development mode
	reload string
	doc    string
	typ    reflect.Type
	index  []int
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	rawMapType   = reflect.TypeFor[map[string]any]()
)

// fields lists every setting of a struct type, structs inside it included.
func fields(t reflect.Type, prefix string, index []int) []field {
	var all []field
	for i := range t.NumField() {
		f := t.Field(i)
		key, ok := f.Tag.Lookup("conf")
		if !ok {
			continue
		}
		at := append(append([]int(nil), index...), i)
		if f.Type.Kind() == reflect.Struct {
			all = append(all, fields(f.Type, prefix+key+".", at)...)
			continue
		}
		one := field{
			path: prefix + key, single: f.Tag.Get("single"), value: f.Tag.Get("default"), dev: f.Tag.Get("dev"),
			reload: f.Tag.Get("reload"), doc: f.Tag.Get("doc"), typ: f.Type, index: at,
		}
		if names := f.Tag.Get("flag"); names != "" {
			one.flags = strings.Split(names, ",")
		}
		all = append(all, one)
	}
	return all
}

// schema lists every setting.
func schema() []field { return fields(reflect.TypeFor[Settings](), "", nil) }

// typeName is the kind of value a setting takes, for docs and messages.
func typeName(t reflect.Type) string {
	switch {
	case t == durationType:
		return "duration"
	case t.Kind() == reflect.Pointer:
		return typeName(t.Elem())
	}
	switch t.Kind() { //nolint:exhaustive // The rest are no settings.
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	case reflect.Int, reflect.Uint64:
		return "number"
	case reflect.Float64:
		return "decimal number"
	case reflect.Slice:
		if kind := t.Elem().Kind(); kind == reflect.Struct || kind == reflect.Map {
			return "list of objects"
		}
		return "list of strings"
	}
	return "object"
}

// defaults yields settings as they are where nobody sets anything.
func defaults(dev bool) *Settings {
	s := &Settings{DevMode: dev}
	root := reflect.ValueOf(s).Elem()
	for _, f := range schema() {
		text := f.value
		if dev && f.dev != "" {
			text = f.dev
		}
		if text == "" {
			continue
		}
		if err := setText(root.FieldByIndex(f.index), text); err != nil {
			panic(fmt.Sprintf("default of %s: %v", f.path, err)) // a tag is wrong
		}
	}
	return s
}

// setText sets a scalar from its text.
func setText(dst reflect.Value, text string) error {
	v, err := valueOfText(dst.Type(), text)
	if err != nil {
		return err
	}
	d := decoder{}
	d.decode(dst, v, "")
	return d.problems.err()
}

// valueOfText makes of a text, from a flag or a tag, the value that a file would
// hold for a setting of this type.
func valueOfText(t reflect.Type, text string) (*value, error) {
	switch {
	case t == durationType:
		if _, err := time.ParseDuration(text); err != nil {
			return nil, fmt.Errorf("%s is not a duration (write a number with a unit, such as 30s or 72h)", quote(text))
		}
		return &value{kind: kindText, text: text}, nil
	case t.Kind() == reflect.Bool:
		truth, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("%s is not a bool (write true or false)", quote(text))
		}
		return &value{kind: kindBool, truth: truth}, nil
	case t.Kind() == reflect.Int, t.Kind() == reflect.Uint64, t.Kind() == reflect.Float64:
		if _, err := strconv.ParseFloat(text, 64); err != nil {
			return nil, fmt.Errorf("%s is not a number", quote(text))
		}
		return &value{kind: kindNumber, text: text}, nil
	case t.Kind() == reflect.Slice:
		return &value{kind: kindList, items: []*value{{kind: kindText, text: text}}}, nil
	case t.Kind() == reflect.Map:
		key, val, ok := strings.Cut(text, ":")
		if !ok {
			return nil, fmt.Errorf("%s is no pair (write key:value)", quote(text))
		}
		return &value{kind: kindObject, entries: []entry{{key: key, val: &value{kind: kindText, text: val}}}}, nil
	}
	return &value{kind: kindText, text: text}, nil
}
