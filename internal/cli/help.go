package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// helpWidth is the number of columns that help is wrapped to.
const helpWidth = 72

// overview lists the commands and groups at the top.
func (e *Env) overview() string {
	var out strings.Builder
	fmt.Fprintf(&out, "Usage: %s [--version] [--help] <command> [<args>]\n\nAvailable commands are:\n", e.Program)
	listCommands(&out, "")
	return out.String()
}

// groupHelp says what a group is for and lists its commands.
func (e *Env) groupHelp(c *Command) string {
	var out strings.Builder
	fmt.Fprintf(&out, "Usage: %s %s <subcommand> [options] [args]\n\n  %s\n\nSubcommands:\n", e.Program, c.Name, c.Synopsis)
	listCommands(&out, c.Name+" ")
	return strings.TrimSuffix(out.String(), "\n")
}

func listCommands(out *strings.Builder, prefix string) {
	width := 0
	under := children(prefix)
	for _, c := range under {
		width = max(width, len(c.Name)-len(prefix))
	}
	for _, c := range under {
		fmt.Fprintf(out, "    %-*s    %s\n", width, strings.TrimPrefix(c.Name, prefix), c.Synopsis)
	}
}

// children are the commands directly under a prefix, by name.
func children(prefix string) []Command {
	under := slices.DeleteFunc(slices.Clone(commands()), func(c Command) bool {
		rest, ok := strings.CutPrefix(c.Name, prefix)
		return !ok || strings.Contains(rest, " ")
	})
	slices.SortFunc(under, func(a, b Command) int { return strings.Compare(a.Name, b.Name) })
	return under
}

// help writes the help of a command to standard output.
func (e *Env) help(ctx context.Context, b *bound) error {
	if err := e.printf("%s\n", e.usage(b)); err != nil {
		return err
	}
	if !b.raw {
		return nil
	}
	if err := e.printf("\nCommand Options\n\n"); err != nil {
		return err
	}
	e.Args = []string{"-h"}
	if err := b.Run(ctx, e); !errors.Is(err, flag.ErrHelp) {
		return err
	}
	return nil
}

// usage is the help of a command.
func (e *Env) usage(b *bound) string {
	var out strings.Builder
	fmt.Fprintf(&out, "Usage: %s %s [options]", e.Program, b.Name)
	for _, a := range b.args {
		if a.name != ignored {
			fmt.Fprintf(&out, " %s", a)
		}
	}
	fmt.Fprintf(&out, "\n\n  %s\n", b.Synopsis)
	if h, ok := b.runner.(helper); ok {
		for line := range strings.Lines("\n" + strings.Trim(h.Help(), "\n") + "\n") {
			if line != "\n" {
				out.WriteString("  ")
			}
			out.WriteString(line)
		}
	}
	online := flag.NewFlagSet("", flag.ContinueOnError)
	b.flags.VisitAll(func(f *flag.Flag) {
		if b.own.Lookup(f.Name) == nil {
			online.Var(f.Value, f.Name, f.Usage)
		}
	})
	listFlags(&out, "HTTP API Options", online)
	listFlags(&out, "Command Options", b.own)
	return strings.TrimSuffix(out.String(), "\n")
}

func listFlags(out io.Writer, title string, set *flag.FlagSet) {
	set.VisitAll(func(f *flag.Flag) {
		if title != "" {
			_, _ = fmt.Fprintf(out, "\n%s\n", title) // a strings.Builder takes everything
			title = ""
		}
		value := ""
		if v, ok := f.Value.(fieldValue); ok && v.kind() != "" {
			value = "=<" + v.kind() + ">"
		}
		_, _ = fmt.Fprintf(out, "\n  -%s%s\n%s", f.Name, value, wrap(f.Usage, "     "))
	})
}

// wrap breaks a text into lines that start with indent.
func wrap(text, indent string) string {
	var out strings.Builder
	column := 0
	for word := range strings.FieldsSeq(text) {
		switch n := utf8.RuneCountInString(word); {
		case column == 0:
			out.WriteString(indent)
			column = len(indent)
		case column+1+n > helpWidth:
			out.WriteString("\n" + indent)
			column = len(indent)
		default:
			out.WriteByte(' ')
			column++
		}
		out.WriteString(word)
		column += utf8.RuneCountInString(word)
	}
	out.WriteByte('\n')
	return out.String()
}

// Docs writes the help of every command as one Markdown page.
func Docs(w io.Writer) error {
	var out strings.Builder
	out.WriteString("# Commands\n")
	e := &Env{Program: "isthmus", Stdout: &out}
	for _, c := range commands() {
		if c.create == nil {
			continue
		}
		fmt.Fprintf(&out, "\n## %s\n\n```\n", c.Name)
		if err := e.help(context.Background(), c.bind()); err != nil {
			return fmt.Errorf("help of %s: %w", c.Name, err)
		}
		out.WriteString("```\n")
	}
	_, err := io.WriteString(w, out.String())
	return err
}
