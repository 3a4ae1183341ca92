package wire

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
)

const document = "../../docs/wire.md"

const preface = `# Methods

This file is generated. These are the methods that servers answer, on TCP port 8300, with the fields of their
requests and answers as they stand on the wire. The files in ` + "`internal/wire/testdata`" + ` show each byte for byte.

A read carries query options and is answered beside query meta, all in one map; a write carries a token and goes to
the leader. A call goes to the datacenter that the field in the column "routed by" names.

| Method | Kind | Answered by | Routed by | Request | Answer |
|--|--|--|--|--|--|
`

// TestGeneratedDocumentsAreCurrent compares docs/wire.md with what goes over a
// connection.
func TestGeneratedDocumentsAreCurrent(t *testing.T) {
	// A read without arguments has the options alone, and one without an answer
	// of its own would have the meta alone.
	options, _ := keys(t, of(CatalogDatacenters))
	_, meta := keys(t, of(FederationList))
	meta = slices.DeleteFunc(meta, func(name string) bool { return name == FederationList.Reply })

	var b bytes.Buffer
	b.WriteString(preface)
	structs := map[string]reflect.Type{}
	for _, s := range samples() {
		in, out := keys(t, s)
		request := typed(s.in, in, "query options", options)
		answer := "`" + typeName(s.out) + "`"
		switch s.Reply {
		case "":
		case rpc.Flat:
			answer = typed(s.out, out, "query meta", meta)
		default:
			answer = "`" + s.Reply + " " + typeName(s.out) + "`, query meta"
		}
		note(s.in, structs, true)
		note(s.out, structs, s.Reply == rpc.Flat)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", s.Name, role(s.Desc), routed(s.Desc), request, answer)
	}
	fmt.Fprintf(&b, "\nQuery options: %s.\n\nQuery meta: %s.\n\n## Types\n\n", quoted(options), quoted(meta))
	for _, name := range slices.Sorted(maps.Keys(structs)) {
		fmt.Fprintf(&b, "- `%s{%s}`\n", name, strings.Join(fields(structs[name]), ", "))
	}
	if *update {
		if err := os.WriteFile(document, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(document); err != nil || !bytes.Equal(got, b.Bytes()) {
		t.Errorf("docs/wire.md is not current: run make docs (%v)", err)
	}
}

func role(d rpc.Desc) string {
	kind, by := "read", "any datacenter"
	if d.Write {
		kind = "write"
	}
	switch {
	case d.Local:
		by = "the server asked"
	case d.Primary:
		by = "the primary datacenter"
	}
	return kind + " | " + by
}

func routed(d rpc.Desc) string {
	if d.Local {
		return "–"
	}
	return "`" + d.Route + "`"
}

// keys are the names at the top of a request and its answer, if that is a map.
func keys(t *testing.T, s sample) (request, answer []string) {
	t.Helper()
	sent, answered := s.exchange(t)
	names := func(raw []byte) []string {
		var v any
		if err := rpc.Unmarshal(values(t, raw)[1], &v); err != nil {
			t.Fatal(err)
		}
		m, _ := v.(map[string]any)
		return slices.Sorted(maps.Keys(m))
	}
	return names(sent), names(answered)
}

// typed lists names with their types in t, and a group of names as one.
func typed(t reflect.Type, names []string, group string, members []string) string {
	types := map[string]string{}
	for _, f := range fields(t) {
		name, kind, _ := strings.Cut(f, " ")
		types[name] = kind
	}
	var out []string
	grouped := false
	for _, name := range names {
		kind := types[name]
		switch {
		case kind != "":
		case slices.Contains(names, members[0]) && slices.Contains(members, name):
			grouped = true
			continue
		default:
			kind = "str" // what the header adds
		}
		out = append(out, "`"+name+" "+kind+"`")
	}
	if grouped {
		out = append(out, group)
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, ", ")
}

func quoted(names []string) string { return "`" + strings.Join(names, "`, `") + "`" }

// fields are the fields of a struct, without those around it, with their types.
func fields(t reflect.Type) []string {
	var out []string
	if t.Kind() != reflect.Struct {
		return nil
	}
	for _, f := range reflect.VisibleFields(t) {
		if !f.Anonymous && f.IsExported() {
			out = append(out, f.Name+" "+typeName(f.Type))
		}
	}
	slices.Sort(out)
	return out
}

// typeName is what a type is on the wire.
func typeName(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return "time"
	case t == reflect.TypeFor[time.Duration](), t == reflect.TypeFor[api.Duration]():
		return "nanoseconds"
	case t == reflect.TypeFor[[]byte]():
		return "bytes"
	case t == reflect.TypeFor[Empty]():
		return "nothing"
	}
	switch t.Kind() { //nolint:exhaustive // the others go by their own name
	case reflect.String:
		return "str"
	case reflect.Interface:
		return "any"
	case reflect.Slice:
		return "[]" + typeName(t.Elem())
	case reflect.Map:
		return "map[str]" + typeName(t.Elem())
	case reflect.Pointer:
		return "*" + typeName(t.Elem())
	}
	return t.Name()
}

// note keeps the structs that t is made of; t itself not, where the table shows
// its fields.
func note(t reflect.Type, structs map[string]reflect.Type, shown bool) {
	switch t.Kind() { //nolint:exhaustive // the others have no parts
	case reflect.Slice, reflect.Map, reflect.Pointer:
		note(t.Elem(), structs, false)
	case reflect.Struct:
		if structs[t.Name()] != nil || t == reflect.TypeFor[time.Time]() || t == reflect.TypeFor[Empty]() {
			return
		}
		if !shown {
			structs[t.Name()] = t
		}
		for _, f := range reflect.VisibleFields(t) {
			if f.IsExported() {
				note(f.Type, structs, f.Anonymous)
			}
		}
	}
}
