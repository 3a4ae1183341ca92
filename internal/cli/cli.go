package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	consul "github.com/hashicorp/consul/api"
)

// Exit codes other than 0.
const (
	exitFailure = 1
	exitNoMatch = 2 // members: no member has the wanted status
	exitUnknown = 127
)

// Env is what a command works with.
type Env struct {
	Program string   // name the binary was called by
	Args    []string // of a command that reads its own flags
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer

	client *consul.Client
	config *consul.Config // of client, completed
	stale  bool
}

// Logger writes to standard error, which leaves standard output to the command.
func (e *Env) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(e.Stderr, nil))
}

func (e *Env) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(e.Stdout, format, args...)
	return err
}

// failure is an error whose text is shown as it is: scripts look for the texts of
// Consul's commands.
type failure struct {
	code int
	err  error // nil says nothing
}

func (f *failure) Error() string {
	if f.err == nil {
		return ""
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

func failf(format string, args ...any) error {
	return &failure{code: exitFailure, err: fmt.Errorf(format, args...)}
}

// Run runs the command that args name, args[0] being the program's own name, and
// yields the exit code of the process.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	e := &Env{Program: filepath.Base(args[0]), Stdin: stdin, Stdout: stdout, Stderr: stderr}
	if line, ok := os.LookupEnv("COMP_LINE"); ok {
		return e.exit(e.complete(line, os.Getenv("COMP_POINT")))
	}
	return e.exit(e.dispatch(ctx, args[1:]))
}

// exit says on standard error what went wrong. That fails only when nobody can be
// told, so nothing is made of it.
func (e *Env) exit(err error) int {
	var f *failure
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &f):
		if f.err != nil {
			_, _ = fmt.Fprintln(e.Stderr, err)
		}
		return f.code
	default:
		_, _ = fmt.Fprintln(e.Stderr, "Error!", err)
		return exitFailure
	}
}

// dispatch finds the command and runs it.
func (e *Env) dispatch(ctx context.Context, args []string) error {
	var before []string // flags in front of the command
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		before, args = append(before, args[0]), args[1:]
	}
	help := slices.ContainsFunc(before, isHelp)
	c, args := find(args)
	switch {
	case slices.ContainsFunc(before, isVersion):
		return new(version).Run(ctx, e)
	case e.installs(before):
		return e.install(before)
	case c == nil && help:
		return e.printf("%s\n", e.overview())
	case c == nil && len(args) > 0 && unbuilt(args[0]):
		return e.notBuilt(args[0])
	case c == nil:
		return &failure{code: exitUnknown, err: errors.New(e.overview())}
	case len(before) > 0 && !help:
		return failf("Error! Flags go behind the command: %s %s %s", e.Program, c.Name, strings.Join(before, " "))
	case c.create == nil:
		return e.runGroup(c, args, help)
	default:
		return e.runCommand(ctx, c, args, help)
	}
}

// find takes as many words off args as name a command or a group.
func find(args []string) (*Command, []string) {
	var found *Command
	rest := args
	for i := range args {
		c := lookup(strings.Join(args[:i+1], " "))
		if c == nil {
			break
		}
		found, rest = c, args[i+1:]
	}
	return found, rest
}

func lookup(name string) *Command {
	all := commands()
	i := slices.IndexFunc(all, func(c Command) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &all[i]
}

func (e *Env) runGroup(c *Command, args []string, help bool) error {
	if help || slices.ContainsFunc(args, isHelp) {
		return e.printf("%s\n", e.groupHelp(c))
	}
	if len(args) > 0 && unbuilt(c.Name+" "+args[0]) {
		return e.notBuilt(c.Name + " " + args[0])
	}
	return failf("%s", e.groupHelp(c))
}

func (e *Env) runCommand(ctx context.Context, c *Command, args []string, help bool) error {
	b := c.bind()
	if help || asksForHelp(args) {
		return e.help(ctx, b)
	}
	if c.raw {
		e.Args = args
		return b.Run(ctx, e)
	}
	err := b.parse(args)
	if err == nil && c.online {
		err = e.connect(&b.http)
	}
	if err == nil {
		err = b.Run(ctx, e)
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return failf("%w\n\n%s", err, e.usage(b))
	}
	return err
}

func (e *Env) notBuilt(name string) error {
	return failf("%s: %s is not built yet", e.Program, name)
}

// asksForHelp reports whether a help flag stands anywhere, as in "kv put a -h",
// unless the arguments that may look like flags come first.
func asksForHelp(args []string) bool {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	return slices.ContainsFunc(args, isHelp)
}

func isHelp(arg string) bool {
	return arg == "-h" || arg == "-help" || arg == "--help"
}

func isVersion(arg string) bool {
	return arg == "-v" || arg == "-version" || arg == "--version"
}
