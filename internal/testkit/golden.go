package testkit

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// Golden runs a test for each archive that pattern matches. An archive begins
// with what it shows; its first file is handed to run, and what that returns
// must be its second, which update rewrites.
func Golden(t *testing.T, pattern string, update bool, run func(t *testing.T, in []byte) []byte) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no archive matches %s: %v", pattern, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if len(bytes.TrimSpace(a.Comment)) == 0 || len(a.Files) != 2 {
				t.Fatalf("%s is not a line of what it shows and two files", path)
			}
			got := append(bytes.TrimSpace(run(t, a.Files[0].Data)), '\n')
			if bytes.Equal(got, a.Files[1].Data) {
				return
			}
			if !update {
				t.Errorf("%s: %s is no longer what comes out (-update rewrites it):\n%s", path, a.Files[1].Name, firstDifference(got, a.Files[1].Data))
				return
			}
			a.Files[1].Data = got
			if err := os.WriteFile(path, txtar.Format(a), 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// firstDifference shows the lines around the first that differs.
func firstDifference(got, want []byte) string {
	const around = 3
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	at := 0
	for at < len(g) && at < len(w) && g[at] == w[at] {
		at++
	}
	cut := func(lines []string) string {
		return strings.Join(lines[max(0, at-around):min(len(lines), at+around+1)], "\n")
	}
	return "got\n" + cut(g) + "\nwant\n" + cut(w)
}
