package filter

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/hashicorp/go-bexpr/grammar"
)

// test tells whether something holds true of a value.
type test func(v reflect.Value) bool

func (t test) not() test { return func(v reflect.Value) bool { return !t(v) } }

// negated are the operators that say the opposite of another one.
var negated = map[grammar.MatchOperator]grammar.MatchOperator{
	grammar.MatchNotEqual:   grammar.MatchEqual,
	grammar.MatchNotIn:      grammar.MatchIn,
	grammar.MatchNotMatches: grammar.MatchMatches,
	grammar.MatchIsNotEmpty: grammar.MatchIsEmpty,
}

// stringMap is what most maps are, which is looked up without reflection.
var stringMap = reflect.TypeFor[map[string]string]()

// at makes the test of a value of type t that the path leads to, of which done
// parts were followed already.
func (m *match) at(t reflect.Type, done int) (test, error) {
	switch {
	case t.Kind() == reflect.Pointer:
		return m.pointer(t, done)
	case done == len(m.path):
		return m.leaf(t)
	case t.Kind() == reflect.Struct:
		return m.field(t, done)
	case t.Kind() == reflect.Slice && within(t).Kind() == reflect.Struct:
		return m.elements(t, done)
	case t.Kind() == reflect.Map:
		inner, err := m.at(t.Elem(), done+1)
		if err != nil {
			return nil, err
		}
		return entry(t, m.path[done], inner, m.op.NotPresentDisposition()), nil
	}
	return nil, m.notValid(done)
}

func (m *match) notValid(done int) error {
	return fmt.Errorf("Selector %q is not valid", strings.Join(m.path[:done+1], ".")) //nolint:staticcheck // the protocol's text
}

func (m *match) pointer(t reflect.Type, done int) (test, error) {
	inner, err := m.at(t.Elem(), done)
	if err != nil {
		return nil, err
	}
	missing := m.op.NotPresentDisposition()
	return func(v reflect.Value) bool {
		if v.IsNil() {
			return missing
		}
		return inner(v.Elem())
	}, nil
}

func (m *match) field(t reflect.Type, done int) (test, error) {
	f, ok := t.FieldByName(m.path[done])
	if !ok || !selectable(&f) {
		return nil, m.notValid(done)
	}
	inner, err := m.at(f.Type, done+1)
	if err != nil {
		return nil, err
	}
	i := f.Index[0]
	return func(v reflect.Value) bool { return inner(v.Field(i)) }, nil
}

// elements makes the test of a list of which one that matches is enough.
func (m *match) elements(t reflect.Type, done int) (test, error) {
	inner, err := m.at(t.Elem(), done)
	if err != nil {
		return nil, err
	}
	return anyOf(inner), nil
}

func anyOf(inner test) test {
	return func(v reflect.Value) bool {
		for i := range v.Len() {
			if inner(v.Index(i)) {
				return true
			}
		}
		return false
	}
}

// entry makes the test of what a map holds under a key.
func entry(t reflect.Type, name string, inner test, missing bool) test {
	key := reflect.ValueOf(name).Convert(t.Key())
	return func(v reflect.Value) bool {
		if t == stringMap { // most maps have few keys, and most rows lack the one asked for
			if m, _ := reflect.TypeAssert[map[string]string](v); m != nil {
				if _, ok := m[name]; !ok {
					return missing
				}
			}
		}
		e := v.MapIndex(key)
		if !e.IsValid() {
			return missing
		}
		return inner(e)
	}
}

// within is what a list or map holds, past pointers.
func within(t reflect.Type) reflect.Type {
	e := t.Elem()
	for e.Kind() == reflect.Pointer {
		e = e.Elem()
	}
	return e
}

// selectable tells whether a field is part of the language.
func selectable(f *reflect.StructField) bool {
	if !f.IsExported() || f.Anonymous || len(f.Index) > 1 || f.Tag.Get("bexpr") == "-" {
		return false
	}
	t := f.Type
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() { //nolint:exhaustive // the others hold one value
	case reflect.Map:
		e := within(t).Kind()
		return t.Key().Kind() == reflect.String && (isValue(e) || e == reflect.Struct)
	case reflect.Slice:
		e := within(t).Kind()
		return isValue(e) || e == reflect.Struct
	case reflect.Struct:
		return true
	}
	return isValue(t.Kind())
}

// isValue tells whether values of a kind can be compared with a text.
func isValue(k reflect.Kind) bool {
	return k == reflect.Bool || k == reflect.String || k >= reflect.Int && k <= reflect.Uint64
}

// leaf makes the test of the value that a selector names.
func (m *match) leaf(t reflect.Type) (test, error) {
	op, negative := negated[m.op]
	if !negative {
		op = m.op
	}
	f, err := m.positive(t, op)
	if err == nil && negative {
		f = f.not()
	}
	return f, err
}

// positive makes the test of an operator that is no negation.
func (m *match) positive(t reflect.Type, op grammar.MatchOperator) (test, error) {
	switch kind := t.Kind(); {
	case op == grammar.MatchIn:
		return m.in(t)
	case op == grammar.MatchEqual && isValue(kind):
		return m.equal(t)
	case op == grammar.MatchIsEmpty && (kind == reflect.Slice || kind == reflect.Map):
		return func(v reflect.Value) bool { return v.Len() == 0 }, nil
	case op == grammar.MatchMatches && kind == reflect.String:
		re, err := m.regexp()
		if err != nil {
			return nil, err
		}
		return func(v reflect.Value) bool { return re.MatchString(v.String()) }, nil
	}
	return nil, m.badOperator()
}

// in makes the test for the value within a text, a list, or the keys of a map.
func (m *match) in(t reflect.Type) (test, error) {
	switch kind := t.Kind(); {
	case kind == reflect.String:
		return func(v reflect.Value) bool { return strings.Contains(v.String(), m.value) }, nil
	case kind == reflect.Map:
		key := reflect.ValueOf(m.value).Convert(t.Key())
		return func(v reflect.Value) bool { return v.MapIndex(key).IsValid() }, nil
	case kind == reflect.Slice && isValue(t.Elem().Kind()):
		equal, err := m.equal(t.Elem())
		if err != nil {
			return nil, err
		}
		return anyOf(equal), nil
	}
	return nil, m.badOperator()
}

// equal makes the test for the value itself.
func (m *match) equal(t reflect.Type) (test, error) {
	switch t.Kind() { //nolint:exhaustive // the others are numbers
	case reflect.String:
		return func(v reflect.Value) bool { return v.String() == m.value }, nil
	case reflect.Bool:
		want, err := strconv.ParseBool(m.value)
		if err != nil {
			return nil, m.coerced(err)
		}
		return func(v reflect.Value) bool { return v.Bool() == want }, nil
	}
	return m.number(t)
}
