package order

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const module = "isthmus"

// pkg is what the go command says of a package, and its name inside the module.
type pkg struct {
	ImportPath, Dir       string
	GoFiles, TestGoFiles  []string
	XTestGoFiles, Imports []string

	name string
}

// own returns the packages of this module that p imports outside tests.
func (p *pkg) own() []string {
	var own []string
	for _, path := range p.Imports {
		if name, ok := strings.CutPrefix(path, module+"/"); ok {
			own = append(own, name)
		}
	}
	return own
}

// packages lists the packages of the module, as they are built here.
func packages(t *testing.T) []*pkg {
	t.Helper()
	list, err := goList()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

var goList = sync.OnceValues(func() ([]*pkg, error) {
	out, err := exec.Command("go", "list",
		"-json=ImportPath,Dir,GoFiles,TestGoFiles,XTestGoFiles,Imports", module+"/...").Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, fmt.Errorf("list packages: %w: %s", err, failed.Stderr)
	} else if err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	var list []*pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, fmt.Errorf("list packages: %w", err)
		}
		p.name = strings.TrimPrefix(p.ImportPath, module+"/")
		list = append(list, &p)
	}
})

// root is the top of the tree as seen from this package.
const root = "../.."

// files yields the files of the tree whose names end in one of the given ways,
// as paths from its top. What is built and what git keeps is left out.
func files(t *testing.T, ends ...string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			switch entry.Name() {
			case ".git", "build", "node_modules":
				return filepath.SkipDir
			}
			return nil
		}
		for _, end := range ends {
			if strings.HasSuffix(path, end) {
				rel, err := filepath.Rel(root, path)
				if err != nil {
					return fmt.Errorf("walk the tree: %w", err)
				}
				found = append(found, filepath.ToSlash(rel))
				break
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatalf("no file ends in %v", ends)
	}
	return found
}
