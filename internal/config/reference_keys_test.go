package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "record the keys of the reference anew with its binary")

const keysFile = "testdata/reference-keys.txt"

// prober finds out which keys the reference knows, by having it validate documents
// of words. A path of a list of objects ends in [].
type prober struct {
	t     *testing.T
	ref   string
	words []string
	// objects are the paths that hold keys; leaves are the other ones, with what
	// their value is.
	objects []string
	leaves  map[string]string
}

var (
	taggedWord   = regexp.MustCompile(`mapstructure:"([A-Za-z0-9_]+)`)
	unknownKey   = regexp.MustCompile(`invalid config key (\S+)`)
	expectedType = regexp.MustCompile(`'(\S+)' expected type '([a-z0-9.]+)'`)
	expectedList = regexp.MustCompile(`'(\S+)': source data must be an array or slice`)
	lowered      = regexp.MustCompile(`(?m)^\* '\S+'`) // some keys are told in another case
	listIndex    = regexp.MustCompile(`\[0\]`)
)

// newProber takes every word for a key in the binary, and two that it has without
// saying so.
func newProber(t *testing.T, ref string) *prober {
	t.Helper()
	binary, err := os.ReadFile(ref)
	if err != nil {
		t.Fatal(err)
	}
	words := map[string]bool{"nofreelistsync": true, "acl_enforce_version_8": true}
	for _, m := range taggedWord.FindAllSubmatch(binary, -1) {
		words[strings.ToLower(string(m[1]))] = true
	}
	return &prober{t: t, ref: ref, words: slices.Sorted(maps.Keys(words)), objects: []string{""}, leaves: map[string]string{}}
}

// answer is what the reference says of a document with a value at each path.
func (p *prober) answer(values map[string]any) string {
	p.t.Helper()
	doc := map[string]any{}
	for path, v := range values {
		put(doc, path, v)
	}
	text, err := json.Marshal(doc)
	if err != nil {
		p.t.Fatal(err)
	}
	out, _ := exec.CommandContext(p.t.Context(), p.ref, "validate", write(p.t, "all.json", string(text))).CombinedOutput()
	text = lowered.ReplaceAllFunc(out, bytes.ToLower)
	return listIndex.ReplaceAllString(string(text), "[]")
}

// put sets the value at a path of a document.
func put(doc map[string]any, path string, v any) {
	at, keys := doc, strings.Split(path, ".")
	for i, key := range keys {
		name, list := strings.CutSuffix(key, "[]")
		switch inner, ok := at[name].(map[string]any); {
		case i == len(keys)-1 && list:
			at[name] = []any{v}
		case i == len(keys)-1:
			at[name] = v
		case list:
			if at[name] == nil {
				at[name] = []any{map[string]any{}}
			}
			at = at[name].([]any)[0].(map[string]any)
		default:
			if !ok {
				inner = map[string]any{}
				at[name] = inner
			}
			at = inner
		}
	}
}

// children are the keys right under some paths.
func (p *prober) children(paths []string) []string {
	values := map[string]any{}
	for _, path := range paths {
		for _, word := range p.words {
			values[join(path, word)] = nil
		}
	}
	for _, m := range unknownKey.FindAllStringSubmatch(p.answer(values), -1) {
		delete(values, m[1])
	}
	return slices.Sorted(maps.Keys(values))
}

// sort tells which of some keys are objects and lists of objects, and notes the
// others.
func (p *prober) sort(keys []string) []string {
	const nobody = "nobody_knows_this"
	values := map[string]any{}
	for _, key := range keys {
		values[key] = map[string]any{nobody: nil}
	}
	var objects []string
	for {
		before, out := len(values), p.answer(values)
		types, lists := expectedType.FindAllStringSubmatch(out, -1), expectedList.FindAllStringSubmatch(out, -1)
		for _, m := range types {
			delete(values, m[1])
			if key, ok := strings.CutSuffix(m[1], "[]"); ok {
				p.leaves[key] = "list of " + m[2]
				continue
			}
			p.leaves[m[1]] = m[2]
		}
		for _, m := range lists {
			delete(values, m[1])
			values[m[1]+"[]"] = map[string]any{nobody: nil}
		}
		if len(values) == before && len(lists) == 0 && len(types) > 0 {
			p.t.Fatalf("nothing is known of %v", types)
		}
		if len(types)+len(lists) > 0 {
			continue // while types are wrong, nothing is said of keys
		}
		for _, m := range unknownKey.FindAllStringSubmatch(out, -1) {
			path := strings.TrimSuffix(m[1], "."+nobody)
			delete(values, path)
			if strings.Count(path, "sidecar_service") < 2 { // sidecars may have sidecars, without end
				objects = append(objects, path)
			}
		}
		break
	}
	for path := range values {
		if key, ok := strings.CutSuffix(path, "[]"); ok {
			p.leaves[key] = "list of object"
			continue
		}
		p.leaves[path] = "object"
	}
	return objects
}

// run finds every key, and yields a line for each, with what its value is.
func (p *prober) run() []string {
	for depth := p.objects; len(depth) > 0; {
		depth = p.sort(p.children(depth))
	}
	var out []string
	for key, kind := range p.leaves {
		out = append(out, fmt.Sprintf("%s %s", key, strings.ReplaceAll(kind, " ", "-")))
	}
	slices.Sort(out)
	return out
}

// classes are our keys, with what becomes of them. A path that ends in .* is an
// object with any keys.
func classes() map[string]string {
	out := map[string]string{}
	for _, f := range schema() {
		out[f.path] = "built"
		if f.single != "" {
			out[f.single] = "built"
		}
	}
	for old := range renamed {
		out[old] = "older"
	}
	for _, u := range unbuiltKeys {
		for key := range strings.FieldsSeq(u.keys) {
			out[key] = [...]string{harmless: "harmless", protective: "protective", enterprise: "enterprise"}[u.class]
		}
	}
	return out
}

// classOf is the class of a key of the reference: its own, or that of the object it
// stands in; empty when nobody thought of it.
func classOf(all map[string]string, key string) string {
	for path := key; path != ""; {
		for _, written := range []string{path, strings.TrimSuffix(path, "[]"), path + ".*"} {
			if class := all[written]; class != "" {
				return class
			}
		}
		at := strings.LastIndexByte(path, '.')
		path = path[:max(at, 0)]
	}
	return ""
}

// sampleOf is a value of a kind that does something.
func sampleOf(key, kind string) any {
	switch kind {
	case "bool":
		return true
	case "int", "uint", "float64", "uint64", "int64":
		return 7
	case "object":
		return map[string]any{"x": "y"}
	case "list-of-object":
		if key == "config_entries.bootstrap" {
			return []any{map[string]any{"kind": "service-intentions"}}
		}
		return []any{map[string]any{"x": "y"}}
	}
	if strings.HasPrefix(kind, "list-of-") {
		return []any{"x"}
	}
	return "x"
}

// TestEachKeyOfTheReferenceHasAClass goes through all that the reference knows.
// Definitions are read in parts, and tested where that is done.
func TestEachKeyOfTheReferenceHasAClass(t *testing.T) {
	all := classes()
	for _, line := range recordedKeys(t) {
		key, kind, _ := strings.Cut(line, " ")
		if slices.Contains([]string{"service", "services[]", "check", "checks[]"}, strings.SplitN(key, ".", 2)[0]) {
			continue
		}
		class := classOf(all, key)
		if key == "connect.ca_config" {
			continue // what it may hold depends on ca_provider
		}
		if class == "" {
			t.Errorf("%s has no class: make it a setting, or name it in unbuiltKeys", key)
		}
		quiet, err := decodedKey(t, key, nil)
		if err != nil || len(quiet.warnings) > 0 && class != "older" {
			t.Errorf("%s = null: got %v and %q, want silence", key, err, quiet.warnings)
		}
		got, err := decodedKey(t, key, sampleOf(key, kind))
		ignored := slices.ContainsFunc(got.ignored, func(path string) bool { return strings.HasPrefix(strings.ReplaceAll(key, "[]", ""), path) })
		top, _, _ := strings.Cut(strings.ReplaceAll(key, "[]", ""), ".")
		refused := err != nil && strings.Contains(err.Error(), ".json:1: "+top) && strings.Contains(err.Error(), "(remove it")
		if want := class == "harmless"; ignored != want {
			t.Errorf("%s (%s): named in the warning: %v, want %v", key, class, ignored, want)
		}
		if want := class == "protective" || class == "enterprise"; refused != want {
			t.Errorf("%s (%s): got %v; refused with a cure: %v, want %v", key, class, err, refused, want)
		}
		if class == "built" && err != nil && strings.Contains(err.Error(), "is no known key") {
			t.Errorf("%s: got %v", key, err)
		}
	}
}

// decodedKey reads a file that sets one key.
func decodedKey(t *testing.T, key string, v any) (*decoder, error) {
	t.Helper()
	doc := map[string]any{}
	put(doc, key, v)
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	root, err := parse(Source{Name: "f.json", Format: formatJSON, Data: text})
	if err != nil {
		t.Fatal(err)
	}
	d := &decoder{set: map[string]origin{}}
	d.decodeSource(&Settings{}, "f.json", root)
	return d, d.problems.err()
}

// recordedKeys are the keys of the reference, each with the kind of its value.
func recordedKeys(t *testing.T) []string {
	t.Helper()
	recorded, err := os.ReadFile(keysFile)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(recorded)), "\n")
}

// TestReferenceHasNoOtherKeys asks the reference for all of its keys, and with
// -update records them.
func TestReferenceHasNoOtherKeys(t *testing.T) {
	got := newProber(t, reference(t)).run()
	if *update {
		if err := os.WriteFile(keysFile, []byte(strings.Join(got, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := recordedKeys(t)
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("the reference has a key that is not recorded: %s", line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("the reference has no key that is recorded: %s", line)
		}
	}
}
