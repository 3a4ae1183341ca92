package config

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// Flags are the command-line flags of an agent.
type Flags struct {
	dev    bool
	paths  []string // files and directories, in the order given
	format string   // format of every file, or "" to go by its extension
	hcl    []string // fragments
	given  []given
}

// given is one setting that stands on the command line.
type given struct {
	name string
	path string
	val  *value
}

// ParseFlags reads the arguments of the agent command. Help is written to
// output, and its error is [flag.ErrHelp]; mistakes are in the error alone.
func ParseFlags(args []string, output io.Writer) (*Flags, error) {
	f := &Flags{}
	set := f.flagSet()
	set.SetOutput(io.Discard)
	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			set.SetOutput(output)
			set.PrintDefaults()
			return nil, flag.ErrHelp
		}
		return nil, fmt.Errorf("parse flags: %w", err)
	}
	if set.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %s (name files with -config-file and directories with -config-dir)", quote(set.Arg(0)))
	}
	return f, nil
}

func (f *Flags) flagSet() *flag.FlagSet {
	set := flag.NewFlagSet("agent", flag.ContinueOnError)
	set.BoolVar(&f.dev, "dev", false, "Run a server by itself, for development: in memory, on 127.0.0.1.")
	path := func(s string) error {
		f.paths = append(f.paths, s)
		return nil
	}
	set.Func("config-file", "`file` with settings, HCL or JSON; repeatable", path)
	set.Func("config-dir", "`directory` whose .hcl and .json files are read in the order of their names; repeatable", path)
	set.Func("config-format", "`format` of every file, hcl or json, whatever its name", func(s string) error {
		if s != formatHCL && s != formatJSON {
			return fmt.Errorf("%s is no format (write hcl or json)", quote(s))
		}
		f.format = s
		return nil
	})
	set.Func("hcl", "`fragment` of HCL, read last; repeatable", func(s string) error {
		f.hcl = append(f.hcl, s)
		return nil
	})
	for _, one := range schema() {
		for _, name := range one.flags {
			f.define(set, name, one.path, one.doc, one.typ)
		}
	}
	for _, one := range unbuiltFlags {
		typ := reflect.TypeFor[string]()
		if slices.Contains(boolFlags, one.name) {
			typ = reflect.TypeFor[bool]()
		}
		f.define(set, one.name, one.key, one.doc, typ)
	}
	return set
}

// define adds one flag, whose value is checked against the setting's type when
// it is read.
func (f *Flags) define(set *flag.FlagSet, name, path, doc string, typ reflect.Type) {
	keep := func(text string) error {
		val, err := valueOfText(typ, text)
		if err == nil {
			f.given = append(f.given, given{name: name, path: path, val: val})
		}
		return err
	}
	if typ.Kind() == reflect.Bool {
		set.BoolFunc(name, doc, keep)
		return
	}
	set.Func(name, "`"+strings.TrimSuffix(typeName(typ), "s")+"` "+doc, keep)
}
