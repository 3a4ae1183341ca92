package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// debugged is a node that tells of itself; profiles says whether of profiles, too.
func debugged(profiles bool) map[string]any {
	answers := map[string]any{
		"GET /v1/agent/self": map[string]any{
			"Config": map[string]any{"Version": "1.16.4"}, "DebugConfig": map[string]any{"EnableDebug": profiles},
		},
		"GET /v1/agent/host":    map[string]any{"Memory": map[string]any{"total": 1}},
		"GET /v1/agent/members": []any{member("a", "10.0.0.1", 1, map[string]string{"role": "consul"})},
		"GET /v1/agent/metrics": map[string]any{"Timestamp": "now"},
		"GET /v1/agent/monitor": "a line of the log\n",
	}
	if profiles {
		for _, name := range []string{"heap", "goroutine", "profile", "trace"} {
			answers["GET /debug/pprof/"+name] = "the " + name
		}
	}
	return answers
}

// unpacked is what an archive holds, by name.
func unpacked(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	plain, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for archive := tar.NewReader(plain); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		found[header.Name] = string(text)
	}
}

func TestDebugPacksWhatItWasAskedFor(t *testing.T) {
	node := newFakeNode(t, debugged(true))
	t.Chdir(t.TempDir())
	const head = "==> Starting debugger and capturing static information...\n     Agent Version: '1.16.4'\n" +
		"          Interval: '30s'\n          Duration: '5m0s'\n            Output: 'to/bundle.tar.gz'\n           Capture: 'agent, host, members'\n"
	run(t, "debug", "-capture=agent", "-capture=host", "-capture=members", "-output=to/bundle").
		expect(t, 0, head+"    Saved debug archive: to/bundle.tar.gz\n", "")
	got := unpacked(t, "to/bundle.tar.gz")
	if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, []string{
		"bundle", "bundle/agent.json", "bundle/host.json", "bundle/index.json", "bundle/members.json",
	}) {
		t.Errorf("packed %v", names)
	}
	var index map[string]any
	if err := json.Unmarshal([]byte(got["bundle/index.json"]), &index); err != nil || index["AgentVersion"] != "1.16.4" || index["Version"] != 1.0 {
		t.Errorf("got %v, %v", index, err)
	}
	if !strings.Contains(got["bundle/host.json"], "\t\"Memory\": {\n\t\t\"total\": 1\n") {
		t.Errorf("got %s", got["bundle/host.json"])
	}
	if _, err := os.Stat("to/bundle"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
	if asked := node.requests(); !slices.ContainsFunc(asked, func(r request) bool { return r.line == "GET /v1/agent/members?wan=1" }) {
		t.Errorf("asked %v", asked)
	}
}

func TestDebugKeepsWhatIsThereWhenInterrupted(t *testing.T) {
	newFakeNode(t, debugged(true))
	t.Chdir(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	out := &until{text: "Capture successful", cancel: cancel}
	var stderr bytes.Buffer
	code := Run(ctx, []string{"isthmus", "debug", "-output=b", "-archive=false"}, nil, out, &stderr)
	if code != 0 || !strings.Contains(out.String(), "    Saved debug archive: b\n") ||
		!strings.Contains(stderr.String(), "stopping collection due to shutdown signal") {
		t.Errorf("got exit code %d, %s, %s", code, out, stderr.String())
	}
	found := map[string]string{}
	err := fs.WalkDir(os.DirFS("b"), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			text, err := os.ReadFile(path.Join("b", name))
			found[regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ/`).ReplaceAllString(name, "TIME/")] = string(text)
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"agent.json": "DebugConfig", "host.json": "Memory", "index.json": `"pprof"`, "members.json": "10.0.0.1",
		"metrics.json": `"Timestamp": "now"`, "TIME/heap.prof": "the heap", "TIME/goroutine.prof": "the goroutine",
	} {
		if !strings.Contains(found[name], want) {
			t.Errorf("%s: got %q, want %s in it", name, found[name], want)
		}
	}
}

func TestDebugSaysThatProfilesAreOff(t *testing.T) {
	node := newFakeNode(t, debugged(false))
	t.Chdir(t.TempDir())
	got := run(t, "debug", "-capture=pprof", "-capture=agent", "-output=b")
	if got.code != 0 || !strings.Contains(got.stderr, "Set enable_debug to true on target agent to enable profiling") ||
		!strings.Contains(got.stdout, "Capture: 'agent'") {
		t.Errorf("got %+v", got)
	}
	for _, r := range node.requests() {
		if strings.Contains(r.line, "pprof") {
			t.Errorf("asked %s", r.line)
		}
	}
}

func TestDebugTellsWhatItCouldNotCapture(t *testing.T) {
	answers := debugged(true)
	delete(answers, "GET /v1/agent/host")
	newFakeNode(t, answers)
	t.Chdir(t.TempDir())
	got := run(t, "debug", "-capture=host", "-capture=agent", "-output=b")
	if got.code != 0 || !strings.Contains(got.stderr, "==> Error encountered during static information: capture host.json: ") {
		t.Errorf("got %+v", got)
	}
	if files := unpacked(t, "b.tar.gz"); files["b/agent.json"] == "" || files["b/index.json"] == "" {
		t.Errorf("packed %v", files)
	}
}

func TestDebugRefusesBeforeItWritesAnything(t *testing.T) {
	newFakeNode(t, debugged(true))
	t.Chdir(t.TempDir())
	if err := os.Mkdir("there", 0o700); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"debug x":                            "Too many arguments provided, expected 0",
		"debug -duration=9s":                 "duration must be longer than 10s",
		"debug -interval=4s":                 "interval must be longer than 5s",
		"debug -duration=10s -interval=11s":  "duration (10s) must be longer than interval (11s)",
		"debug -duration=x":                  `is no duration, such as "30s"`,
		"debug -capture=nosuch":              "target not found: nosuch",
		"debug -output=there":                "output directory already exists: there",
		"debug -since=1h":                    "-since needs hcdiag, which is not part of consul",
		"debug -http-addr=127.0.0.1:1":       "error querying target agent: ",
		"debug -output=there -archive=false": "already exists",
	} {
		run(t, strings.Fields(line)...).expect(t, 1, "", want)
	}
	if files, err := os.ReadDir("."); err != nil || len(files) != 1 {
		t.Errorf("there are %v, %v", files, err)
	}
}
