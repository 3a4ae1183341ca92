package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Command is one entry of the command table.
type Command struct {
	Name     string // words separated by blanks, such as "kv put"
	Synopsis string // one line of help

	create func() runner // nil for a group
	online bool          // talks to a node, and has the flags for that
	raw    bool          // reads its own flags
}

// runner is what a command's struct implements with its pointer.
type runner interface {
	Run(ctx context.Context, e *Env) error
}

// helper is a command with more help than its synopsis.
type helper interface {
	Help() string
}

// command declares a command that talks to a node. C is a struct; a field tagged
// flag:"name" is a flag, with its default and doc beside it, and a field tagged
// arg:"NAME", arg:"[NAME]" or arg:"NAME..." takes arguments.
func command[C any, P interface {
	*C
	runner
}](name, synopsis string,
) Command {
	return Command{Name: name, Synopsis: synopsis, create: func() runner { return P(new(C)) }, online: true}
}

// offline declares a command that needs no node.
func offline[C any, P interface {
	*C
	runner
}](name, synopsis string,
) Command {
	c := command[C, P](name, synopsis)
	c.online = false
	return c
}

// rawCommand declares a command that reads its flags itself, from Env.Args, and
// yields flag.ErrHelp once it has written help about them to Env.Stdout.
func rawCommand(name, synopsis string, run func(ctx context.Context, e *Env) error) Command {
	return Command{Name: name, Synopsis: synopsis, create: func() runner { return rawRunner(run) }, raw: true}
}

type rawRunner func(ctx context.Context, e *Env) error

func (r rawRunner) Run(ctx context.Context, e *Env) error { return r(ctx, e) }

// group declares a word under which commands stand. Which ones do follows from
// their names.
func group(name, synopsis string) Command {
	return Command{Name: name, Synopsis: synopsis}
}

// argument is a field that takes arguments.
type argument struct {
	name     string
	value    reflect.Value
	optional bool
	list     bool
}

func (a argument) String() string {
	name := a.name
	if a.list {
		name += "..."
	}
	if a.optional {
		name = "[" + name + "]"
	}
	return name
}

// bound is a command together with the flags and arguments that fill it.
type bound struct {
	Command
	runner
	http  httpFlags
	own   *flag.FlagSet // flags of the command itself
	flags *flag.FlagSet // those, and the ones of every command that talks to a node
	args  []argument
}

// bind makes a command ready to be parsed into. Tags that make no sense panic:
// a test binds every command.
func (c Command) bind() *bound {
	b := &bound{
		Command: c, runner: c.create(),
		own: flag.NewFlagSet(c.Name, flag.ContinueOnError), flags: flag.NewFlagSet(c.Name, flag.ContinueOnError),
	}
	if !c.raw {
		b.fields(b.own, reflect.ValueOf(b.runner).Elem())
	}
	if c.online {
		b.fields(b.flags, reflect.ValueOf(&b.http).Elem())
	}
	b.own.VisitAll(func(f *flag.Flag) { b.flags.Var(f.Value, f.Name, f.Usage) })
	b.flags.SetOutput(io.Discard)
	return b
}

func (b *bound) fields(set *flag.FlagSet, v reflect.Value) {
	if v.Kind() != reflect.Struct {
		return
	}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if name, ok := field.Tag.Lookup("flag"); ok {
			define(set, v.Field(i), name, field.Tag)
		} else if name, ok := field.Tag.Lookup("arg"); ok {
			inner, optional := strings.CutPrefix(name, "[")
			inner, list := strings.CutSuffix(strings.TrimSuffix(inner, "]"), "...")
			b.args = append(b.args, argument{name: inner, value: v.Field(i), optional: optional, list: list})
		}
	}
}

// define adds one flag, whose kind follows from the type of the field.
func define(set *flag.FlagSet, v reflect.Value, name string, tag reflect.StructTag) {
	if text, ok := tag.Lookup("default"); ok {
		if err := assign(v, text); err != nil {
			panic("cli: default of -" + name + ": " + err.Error())
		}
	}
	set.Var(fieldValue{v}, name, tag.Get("doc"))
}

// fieldValue lets package flag fill a field.
type fieldValue struct{ reflect.Value }

// Set implements flag.Value.
func (f fieldValue) Set(text string) error { return assign(f.Value, text) }

// String implements flag.Value. Defaults are told by the doc of a flag.
func (fieldValue) String() string { return "" }

// IsBoolFlag says that the flag may stand alone.
func (f fieldValue) IsBoolFlag() bool { return f.Kind() == reflect.Bool }

// kind is how help calls the values of the flag.
func (f fieldValue) kind() string {
	switch f.Kind() {
	case reflect.Bool:
		return ""
	case reflect.Map:
		return "key=value"
	case reflect.Int:
		return "int"
	case reflect.Uint64:
		return "uint"
	case reflect.Int64:
		return "duration"
	default:
		return "value"
	}
}

// assign puts the text of a flag or argument into a field. A flag that is given
// again adds to a list or a map, and replaces anything else. A pointer is nil
// until the flag is given, for flags whose empty value means something.
func assign(v reflect.Value, text string) error {
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = text
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return errors.New("is not a whole number")
		}
		*p = n
	case *uint64:
		n, err := strconv.ParseUint(text, 0, 64)
		if err != nil {
			return errors.New("is not a whole number of 0 or more")
		}
		*p = n
	case *time.Duration:
		length, err := time.ParseDuration(text)
		if err != nil {
			return errors.New(`is no duration, such as "30s"`)
		}
		*p = length
	case *bool:
		on, err := strconv.ParseBool(text)
		*p = on
		return err
	case *[]string:
		*p = append(*p, text)
	case *map[string]string:
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return errors.New("must be key=value")
		}
		if *p == nil {
			*p = map[string]string{}
		}
		(*p)[key] = value
	default:
		panic(fmt.Sprintf("cli: a flag or argument cannot be a %s", v.Type()))
	}
	return nil
}

// parse fills the command from its arguments.
func (b *bound) parse(args []string) error {
	if err := b.flags.Parse(args); err != nil {
		return usageError{err}
	}
	return b.take(b.flags.Args())
}

// take hands out the arguments that are left after the flags.
func (b *bound) take(rest []string) error {
	given, least := len(rest), 0
	for _, a := range b.args {
		if len(rest) == 0 {
			if !a.optional {
				return failf("Error! Missing %s argument", a.name)
			}
			continue
		}
		if !a.optional {
			least++
		}
		most := 1
		if a.list {
			most = len(rest)
		}
		for _, text := range rest[:most] {
			if err := assign(a.value, text); err != nil {
				return failf("Error! %s %q %w", a.name, text, err)
			}
		}
		rest = rest[most:]
	}
	switch {
	case len(rest) == 0:
		return nil
	case least == len(b.args):
		return failf("Error! Too many arguments (expected %d, got %d)", least, given)
	default:
		return failf("Error! Too many arguments (expected %d or %d, got %d)", least, len(b.args), given)
	}
}

// usageError is a mistake in the flags, after which the command's help is shown.
type usageError struct{ error }
