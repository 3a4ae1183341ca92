package cli

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	flagInstall   = "-autocomplete-install"
	flagUninstall = "-autocomplete-uninstall"
)

// complete prints what the last word of a command line may become. Shells hand
// over the line and where the cursor is in it.
func (e *Env) complete(line, point string) error {
	if at, err := strconv.Atoi(point); err == nil && at >= 0 && at < len(line) {
		line = line[:at]
	}
	words := strings.Fields(line)
	if len(words) == 0 {
		return nil
	}
	last := ""
	if words = words[1:]; len(words) > 0 && !strings.HasSuffix(line, " ") {
		last = words[len(words)-1]
		words = words[:len(words)-1]
	}
	for _, word := range candidates(words) {
		if strings.HasPrefix(word, last) && strings.HasPrefix(word, "-") == strings.HasPrefix(last, "-") {
			if err := e.printf("%s\n", word); err != nil {
				return err
			}
		}
	}
	return nil
}

// candidates are the words that may come behind the given ones.
func candidates(words []string) []string {
	c, rest := find(words)
	var list []string
	switch {
	case c == nil && len(words) == 0:
		list = []string{"-help", "-version", flagInstall, flagUninstall}
		fallthrough
	case c != nil && c.create == nil && len(rest) == 0:
		prefix := ""
		if c != nil {
			prefix = c.Name + " "
		}
		for _, child := range children(prefix) {
			list = append(list, strings.TrimPrefix(child.Name, prefix))
		}
	case c != nil && c.create != nil:
		c.bind().flags.VisitAll(func(f *flag.Flag) { list = append(list, "-"+f.Name) })
	}
	return list
}

func (*Env) installs(flags []string) bool {
	return slices.ContainsFunc(flags, func(f string) bool {
		f = "-" + strings.TrimLeft(f, "-")
		return f == flagInstall || f == flagUninstall
	})
}

// install adds a line to the start-up files of the shells in use, or takes it out.
func (e *Env) install(flags []string) error {
	home, err := os.UserHomeDir()
	if err != nil {
		return err
	}
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	add := !slices.ContainsFunc(flags, func(f string) bool { return strings.TrimLeft(f, "-") == flagUninstall[1:] })
	// The name by which the binary is called is what the shell completes.
	bash := fmt.Sprintf("complete -C %s %s", strconv.Quote(binary), e.Program)
	fish := fmt.Sprintf("complete -c %s -f -a '(env COMP_LINE=(commandline -cp) %s)'", e.Program, binary)
	var failed error
	for _, one := range []struct{ path, line string }{
		{".bashrc", bash},
		{".zshrc", "autoload -U +X bashcompinit && bashcompinit && " + bash},
		{filepath.Join(".config", "fish", "config.fish"), fish},
	} {
		failed = errors.Join(failed, setLine(filepath.Join(home, one.path), one.line, add))
	}
	return failed
}

// setLine sees to it that a file has a line, or has it not. A file that does not
// exist belongs to a shell that is not used.
func setLine(path, line string, present bool) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	has := slices.Contains(lines, line)
	if has == present {
		return nil
	}
	if present {
		lines = append(lines, line)
	} else {
		lines = slices.DeleteFunc(lines, func(l string) bool { return l == line })
	}
	return os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600) //nolint:gosec // the start-up file of the user's own shell, whose mode stays
}
