package config

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// reference is the binary to compare with.
func reference(t *testing.T) string {
	t.Helper()
	path := os.Getenv("ISTHMUS_REFERENCE")
	if _, err := os.Stat(path); path == "" || err != nil {
		if os.Getenv("ISTHMUS_MUST_INTEROP") != "" {
			t.Fatal("ISTHMUS_REFERENCE does not name the reference's binary")
		}
		t.Skip("skipped: ISTHMUS_REFERENCE does not name the reference's binary")
	}
	return path
}

func TestReferenceAcceptsTheSamples(t *testing.T) {
	ref := reference(t)
	for _, path := range []string{"testdata/server.hcl", "testdata/server.json", "testdata/client.d"} {
		if out, err := exec.CommandContext(t.Context(), ref, "validate", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", path, err, out)
		}
	}
}

// newer are keys that came after the version of the reference binary.
const newer = `acl.tokens.dns default_intention_policy raft_prevote_disabled telemetry.disable_per_tenancy_usage_metrics ui_config.hcp_enabled`

// ours are keys that the reference has not.
const ours = `connect.sidecar_inherit`

func TestReferenceKnowsEachKey(t *testing.T) {
	ref := reference(t)
	doc := map[string]any{}
	put := func(path string) {
		at, keys := doc, strings.Split(strings.TrimSuffix(path, ".*"), ".")
		for _, key := range keys[:len(keys)-1] {
			if _, ok := at[key].(map[string]any); !ok {
				at[key] = map[string]any{}
			}
			at = at[key].(map[string]any)
		}
		at[keys[len(keys)-1]] = nil
	}
	for _, u := range unbuiltKeys {
		for key := range strings.FieldsSeq(u.keys) {
			if !slices.Contains(strings.Fields(newer), key) {
				put(key)
			}
		}
	}
	for _, f := range schema() {
		if !slices.Contains(strings.Fields(ours), f.path) {
			put(f.path)
		}
	}
	for old := range renamed {
		put(old)
	}
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	out, _ := exec.CommandContext(t.Context(), ref, "validate", write(t, "all.json", string(text))).CombinedOutput()
	for line := range strings.SplitSeq(string(out), "\n") {
		if strings.Contains(line, "invalid config key") {
			t.Error(strings.TrimSpace(line))
		}
	}
}

func TestReferenceKnowsEachFlag(t *testing.T) {
	ref := reference(t)
	out, _ := exec.CommandContext(t.Context(), ref, "agent", "-h").CombinedOutput()
	set := (&Flags{}).flagSet()
	theirs := map[string]bool{}
	for line := range strings.SplitSeq(string(out), "\n") {
		if name, ok := strings.CutPrefix(line, "  -"); ok {
			name, _, _ = strings.Cut(strings.TrimSpace(name), "=")
			theirs[name] = true
			if set.Lookup(name) == nil {
				t.Errorf("the flag -%s is missing", name)
			}
		}
	}
	set.VisitAll(func(f *flag.Flag) {
		if !theirs[f.Name] {
			t.Errorf("the reference has no flag -%s", f.Name)
		}
	})
}
