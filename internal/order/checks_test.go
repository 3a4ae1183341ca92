package order

import (
	"bytes"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"isthmus/internal/testkit"
	"isthmus/internal/wire"
)

// maxLines is how long a file of Go may be.
const maxLines = 600

func TestEveryPackageHasAComment(t *testing.T) {
	for _, p := range packages(t) {
		names := p.GoFiles
		if len(names) == 0 {
			names = slices.Concat(p.TestGoFiles, p.XTestGoFiles)
		}
		comments := 0
		for _, name := range names {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc == nil {
				continue
			}
			comments++
			want := "Package " + f.Name.Name + " "
			if f.Name.Name == "main" {
				want = "Command " + path.Base(p.ImportPath) + " "
			}
			if !strings.HasPrefix(f.Doc.Text(), want) {
				t.Errorf("%s/%s: the package comment does not begin with %q", p.name, name, want)
			}
		}
		if comments != 1 {
			t.Errorf("%s has %d package comments, want 1", p.name, comments)
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	for _, name := range files(t, ".go") {
		if lines := bytes.Count(read(t, name), []byte("\n")); lines > maxLines && !strings.HasSuffix(name, "_gen.go") {
			t.Errorf("%s has %d lines, want %d at most", name, lines, maxLines)
		}
	}
}

func TestEveryMethodIsBound(t *testing.T) {
	bound := testkit.NewServer(t).Handlers().Names()
	var declared []string
	for _, m := range wire.Methods() {
		declared = append(declared, m.Name)
		if !slices.Contains(bound, m.Name) {
			t.Errorf("%s is declared in wire, but no server answers it", m.Name)
		}
	}
	for _, name := range bound {
		if !slices.Contains(declared, name) {
			t.Errorf("%s is answered, but wire.Methods does not list it", name)
		}
	}
}

// TestNothingIsLeftUnfinished looks for marks of unfinished work, and for paths
// and hosts of one machine. The words are put together here, or the test would
// find itself.
func TestNothingIsLeftUnfinished(t *testing.T) {
	marks := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)
	places := regexp.MustCompile(`(^|[^\w.-])/(wo` + `rk|ro` + `ot|ho` + `me)/\w|pro` + `xy\.golang\.org`)
	for _, name := range files(t, ".go", ".md", ".sh", ".yml", "Makefile", ".ci/run") {
		for i, line := range strings.Split(string(read(t, name)), "\n") {
			if strings.HasSuffix(name, ".go") || !strings.HasSuffix(name, ".md") {
				if mark := marks.FindString(line); mark != "" {
					t.Errorf("%s:%d: %s", name, i+1, mark)
				}
			}
			if place := places.FindString(line); place != "" {
				t.Errorf("%s:%d: %s", name, i+1, place)
			}
		}
	}
}

// links are those of Markdown; code between backticks has none.
var (
	links  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	inline = regexp.MustCompile("`[^`]*`")
	fenced = regexp.MustCompile("(?s)```.*?```")
)

func TestLinksLeadSomewhere(t *testing.T) {
	for _, name := range files(t, ".md") {
		text := inline.ReplaceAll(fenced.ReplaceAll(read(t, name), nil), nil)
		for _, link := range links.FindAllSubmatch(text, -1) {
			target, _, _ := strings.Cut(string(link[1]), "#")
			if target == "" || strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, path.Dir(name), target)); err != nil {
				t.Errorf("%s points to %s, which is not there", name, target)
			}
		}
	}
}

// TestInteropIsSkippedOnlyWithoutTheReference: CI fails when a test is skipped
// for want of the reference although it is there; it knows such a skip by the
// name of the variable in its message.
func TestInteropIsSkippedOnlyWithoutTheReference(t *testing.T) {
	const variable = "ISTHMUS_" + "REFERENCE"
	skip := regexp.MustCompile(`\.Skipf?\("[^"]*` + variable)
	for _, name := range files(t, "_test.go") {
		text := read(t, name)
		reads := bytes.Contains(text, []byte(`os.Getenv("`+variable+`")`))
		if reads && bytes.Contains(text, []byte("t.Skip")) && !skip.Match(text) {
			t.Errorf("%s reads %s, but does not name it where it skips", name, variable)
		}
	}
}

// TestSleepOnlyWhereTimeIsNotReal: in a bubble sleeping moves the clock, elsewhere
// it makes tests slow or flaky.
func TestSleepOnlyWhereTimeIsNotReal(t *testing.T) {
	for _, name := range files(t, "_test.go") {
		text := read(t, name)
		if bytes.Contains(text, []byte("time.Sl"+"eep(")) && !bytes.Contains(text, []byte(`"testing/synctest"`)) {
			t.Errorf("%s sleeps in real time", name)
		}
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}
