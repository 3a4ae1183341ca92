package config

import (
	"bufio"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// Docs writes docs/config.md: every setting, what a definition may hold, older
// keys, and the keys of the reference that are not built.
func Docs(w io.Writer) error {
	out := bufio.NewWriter(w)
	p := func(format string, args ...any) {
		_, _ = fmt.Fprintf(out, format, args...) // a buffered writer keeps the error for Flush
	}
	p("# Settings\n\nThis file is generated. Files are HCL (version 1) or JSON; what is read later wins, and lists are added up:\n")
	p("files and directories in the order of `-config-file` and `-config-dir`, then flags, then `-hcl`.\n\n")
	p("| Key | Flag | Type | Default | `-dev` | Reload | Meaning |\n|--|--|--|--|--|--|--|\n")
	for _, f := range schema() {
		var flags []string
		for _, name := range f.flags {
			flags = append(flags, "`-"+name+"`")
		}
		p("| `%s` | %s | %s | %s | %s | %s | %s |\n", f.path, strings.Join(flags, " "), typeName(f.typ), code(f.value), code(f.dev), f.reload, cell(f.doc))
	}
	for _, def := range []struct {
		title string
		typ   reflect.Type
	}{
		{"A service (`service`, `services`)", reflect.TypeFor[ServiceDefinition]()},
		{"A check (`check`, `checks`, also in a service)", reflect.TypeFor[CheckDefinition]()},
	} {
		p("\n## %s\n\n| Key | Type | Meaning |\n|--|--|--|\n", def.title)
		for _, f := range fields(def.typ, "", nil) {
			p("| `%s` | %s | %s |\n", f.path, typeName(f.typ), cell(f.doc))
		}
	}
	p("\n## Older keys\n\n| Key | Now |\n|--|--|\n")
	for _, old := range sortedKeys(renamed) {
		p("| `%s` | `%s` |\n", old, renamed[old])
	}
	p("\n## Keys that are not built\n\n")
	for _, part := range []struct {
		class class
		text  string
	}{
		{protective, "The start is refused when one of these is set, since they protect something:"},
		{enterprise, "The start is refused when one of these is set, since they belong to the enterprise edition:"},
		{harmless, "These are accepted with a warning and have no effect:"},
	} {
		var keys []string
		for _, u := range unbuiltKeys {
			if u.class == part.class {
				keys = append(keys, strings.Fields(u.keys)...)
			}
		}
		slices.Sort(keys)
		p("%s `%s`.\n\n", part.text, strings.Join(keys, "`, `"))
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write docs: %w", err)
	}
	return nil
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
