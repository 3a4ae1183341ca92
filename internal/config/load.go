package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	formatHCL  = "hcl"
	formatJSON = "json"
)

// Source is one text with settings.
type Source struct {
	Name   string // for messages: the file
	Format string // "hcl" or "json"
	Data   []byte
}

// Result is what Load makes.
type Result struct {
	Settings *Settings
	// Warnings are worth a line in the log each.
	Warnings []string
	// Files are the files that were read, in order.
	Files []string
}

// Load reads what the flags name, puts the flags on top, resolves and checks.
// The error has one line for each thing that is wrong.
func Load(f *Flags) (*Result, error) {
	sources, warnings, err := read(f.paths, f.format)
	if err != nil {
		return nil, err
	}
	l := loader{settings: defaults(f.dev), decoder: decoder{set: map[string]origin{}, warnings: warnings}}
	result := &Result{Settings: l.settings}
	for _, src := range sources {
		result.Files = append(result.Files, src.Name)
		l.add(src)
	}
	for _, g := range f.given {
		l.decodeSource(l.settings, "-"+g.name, wrap(g.path, entry{val: g.val}))
	}
	for i, text := range f.hcl {
		l.add(Source{Name: fmt.Sprintf("-hcl[%d]", i), Format: formatHCL, Data: []byte(text)})
	}
	l.check()
	if err := l.problems.err(); err != nil {
		return nil, err
	}
	result.Warnings = l.warnings
	if len(l.ignored) > 0 {
		slices.Sort(l.ignored)
		result.Warnings = append(result.Warnings,
			"these keys are accepted but not built yet, and have no effect: "+strings.Join(slices.Compact(l.ignored), ", "))
	}
	return result, nil
}

// Validate checks files and directories as Load would, without starting
// anything.
func Validate(paths []string) (warnings []string, err error) {
	if len(paths) == 0 {
		return nil, errors.New("name a file or a directory to validate")
	}
	result, err := Load(&Flags{paths: paths})
	if err != nil {
		return nil, err
	}
	return result.Warnings, nil
}

// loader is the decoder with the settings it fills.
type loader struct {
	decoder

	settings *Settings
	unread   bool // a source could not be parsed
}

func (l *loader) add(src Source) {
	root, err := parse(src)
	if err != nil {
		if p, ok := errors.AsType[problem](err); ok {
			l.problems = append(l.problems, p)
		}
		l.unread = true
		return
	}
	l.decodeSource(l.settings, src.Name, root)
}

// check resolves and validates, unless a whole source is missing. What is wrong
// with a key that could not be read anyway is not told twice.
func (l *loader) check() {
	if l.unread {
		return
	}
	told := map[string]bool{}
	for _, p := range l.problems {
		told[p.key] = true
	}
	before := len(l.problems)
	l.resolve()
	l.validate()
	found := l.problems[before:]
	l.problems = append(l.problems[:before], slices.DeleteFunc(found, func(p problem) bool { return told[p.key] })...)
}

// read reads files and directories, in the order they are named. A directory
// gives the files in it by name, but not those of directories inside it.
func read(paths []string, format string) (sources []Source, warnings []string, err error) {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, nil, problem{where: path, what: "cannot be read: " + cause(err), cure: "name a file or a directory that exists"}
		}
		names := []string{path}
		if info.IsDir() {
			if names, err = list(path); err != nil {
				return nil, nil, err
			}
		}
		for _, name := range names {
			src, ok := source(name, format)
			if !ok {
				if !info.IsDir() {
					return nil, nil, problem{where: path, what: "has neither the extension .hcl nor .json", cure: "rename it, or set -config-format"}
				}
				warnings = append(warnings, name+": skipped: its extension is neither .hcl nor .json")
				continue
			}
			if src.Data, err = os.ReadFile(name); err != nil {
				return nil, nil, problem{where: name, what: "cannot be read: " + cause(err), cure: "let the agent's user read it"}
			}
			sources = append(sources, src)
		}
	}
	return sources, warnings, nil
}

func source(name, format string) (Source, bool) {
	if format == "" {
		format = strings.TrimPrefix(filepath.Ext(name), ".")
	}
	return Source{Name: name, Format: format}, format == formatHCL || format == formatJSON
}

// list lists the files of a directory.
func list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, problem{where: dir, what: "cannot be read: " + cause(err), cure: "let the agent's user read it"}
	}
	var names []string
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		// Kubernetes mounts files as links, so what a name points to counts.
		info, err := os.Stat(name)
		if err != nil || info.IsDir() {
			continue
		}
		names = append(names, name)
	}
	return names, nil
}

// cause leaves out the path, which the message has already.
func cause(err error) string {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		return at.Err.Error()
	}
	return err.Error()
}
