package cli

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestEveryCommandBinds(t *testing.T) {
	names := map[string]bool{}
	for _, c := range commands() {
		if names[c.Name] {
			t.Errorf("%s stands in the table twice", c.Name)
		}
		names[c.Name] = true
		if !strings.HasSuffix(c.Synopsis, ".") {
			t.Errorf("%s: the synopsis %q is no sentence", c.Name, c.Synopsis)
		}
		if i := strings.LastIndex(c.Name, " "); i >= 0 {
			if g := lookup(c.Name[:i]); g == nil || g.create != nil {
				t.Errorf("%s has no group", c.Name)
			}
		}
		if c.create == nil {
			continue
		}
		b := c.bind() // panics for tags that make no sense
		for i, a := range b.args {
			if a.list && i < len(b.args)-1 {
				t.Errorf("%s: %s is followed by other arguments", c.Name, a)
			}
		}
	}
	for _, name := range notYet {
		if names[name] {
			t.Errorf("%s is built, and yet it is listed as not built", name)
		}
	}
}

// all has a field of each kind.
type all struct {
	On    bool              `flag:"on"   doc:"t"`
	Big   uint64            `flag:"big"  doc:"t"`
	List  []string          `flag:"list" doc:"t"`
	Pairs map[string]string `flag:"pair" doc:"t"`

	Text   string `flag:"text"   default:"x"    doc:"t"`
	Yes    bool   `flag:"yes"    default:"true" doc:"t"`
	Number int    `flag:"number" default:"3"    doc:"t"`

	First   string   `arg:"FIRST"`
	Second  string   `arg:"[SECOND]"`
	Further []string `arg:"[REST...]"`
}

func (*all) Run(context.Context, *Env) error { return nil }

func TestTagsBecomeFlagsAndArguments(t *testing.T) {
	parse := func(args ...string) (*all, error) {
		b := offline[all]("all", "All.").bind()
		err := b.parse(args)
		got, ok := b.runner.(*all)
		if !ok {
			t.Fatal("the command is of another type")
		}
		return got, err
	}
	got, err := parse("--text=y", "-on", "-yes=false", "-number", "-7", "-big=18446744073709551615",
		"-list=a", "-list=b,c", "-pair=k=v=w", "-pair=l=", "one", "two", "-three")
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case got.Text != "y", !got.On, got.Yes, got.Number != -7, got.Big != 1<<64-1,
		!slices.Equal(got.List, []string{"a", "b,c"}), len(got.Pairs) != 2, got.Pairs["k"] != "v=w",
		got.First != "one", got.Second != "two", !slices.Equal(got.Further, []string{"-three"}):
		t.Errorf("got %+v", got)
	}
	got, err = parse("one")
	if err != nil || got.Text != "x" || got.On || !got.Yes || got.Number != 3 || got.Second != "" || got.Further != nil {
		t.Errorf("defaults: got %+v, %v", got, err)
	}
	for _, args := range [][]string{{}, {"-number=x", "a"}, {"-big=-1", "a"}, {"-pair=x", "a"}, {"-on=maybe", "a"}, {"-nosuch", "a"}} {
		if _, err := parse(args...); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

func TestHelpOfEachKindOfFlag(t *testing.T) {
	e := &Env{Program: "isthmus"}
	const want = `Usage: isthmus all [options] FIRST [SECOND] [REST...]

  All.

Command Options

  -big=<uint>
     t

  -list=<value>
     t

  -number=<int>
     t

  -on
     t

  -pair=<key=value>
     t

  -text=<value>
     t

  -yes
     t`
	if got := e.usage(offline[all]("all", "All.").bind()); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestWrapKeepsLinesShort(t *testing.T) {
	got := wrap(strings.Repeat("word ", 100), "     ")
	for line := range strings.Lines(got) {
		if n := len(strings.TrimSuffix(line, "\n")); n > helpWidth {
			t.Errorf("a line has %d columns", n)
		}
	}
	if n := strings.Count(got, "word"); n != 100 {
		t.Errorf("got %d words, want 100", n)
	}
}

func TestDocsHaveEveryCommand(t *testing.T) {
	var out bytes.Buffer
	if err := Docs(&out); err != nil {
		t.Fatal(err)
	}
	for _, c := range commands() {
		if c.create != nil && !strings.Contains(out.String(), "\n## "+c.Name+"\n") {
			t.Errorf("%s is missing", c.Name)
		}
	}
}

func TestRawCommandReadsItsOwnFlags(t *testing.T) {
	var got []string
	c := rawCommand("agent", "Run.", func(_ context.Context, e *Env) error {
		got = e.Args
		return nil
	})
	var out bytes.Buffer
	e := &Env{Program: "isthmus", Stdout: &out}
	if err := e.runCommand(t.Context(), &c, []string{"-dev", "x"}, false); err != nil || !slices.Equal(got, []string{"-dev", "x"}) {
		t.Errorf("got %v, %v", got, err)
	}
	if err := e.runCommand(t.Context(), &c, []string{"--help"}, false); err != nil || !slices.Equal(got, []string{"-h"}) {
		t.Errorf("help: got %v, %v", got, err)
	}
	if !strings.HasPrefix(out.String(), "Usage: isthmus agent [options]") {
		t.Errorf("help: got %q", out.String())
	}
}

func TestErrorsBecomeExitCodes(t *testing.T) {
	for _, one := range []struct {
		err  error
		code int
		text string
	}{
		{nil, 0, ""},
		{errors.New("it is cold"), 1, "Error! it is cold\n"},
		{failf("as it is: %d", 3), 1, "as it is: 3\n"},
		{&failure{code: 2}, 2, ""},
	} {
		var out bytes.Buffer
		e := &Env{Stderr: &out}
		if got := e.exit(one.err); got != one.code || out.String() != one.text {
			t.Errorf("%v: got %d, %q, want %d, %q", one.err, got, out.String(), one.code, one.text)
		}
	}
	for _, args := range [][]string{{}, {"nosuch"}, {"help"}, {"-nosuch"}, {"-nosuch", "nosuch"}} {
		if got := run(t, args...); got.code != exitUnknown {
			t.Errorf("%q: got exit code %d, want 127", args, got.code)
		}
	}
}

func FuzzRunParsesAnything(f *testing.F) {
	f.Add("kv put -flags=1 a")
	f.Add("tls cert create -days x")
	f.Add("-h -version")
	f.Fuzz(func(_ *testing.T, line string) {
		e := &Env{Program: "isthmus", Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer)}
		c, rest := find(strings.Fields(line))
		if c != nil && c.create != nil && !c.raw {
			_ = c.bind().parse(rest)
		}
		_ = e.complete(line, "")
	})
}
