package cli

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	program := func() { os.Exit(Run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr)) }
	testscript.Main(m, map[string]func(){"isthmus": program, "consul": program})
}

// TestScripts runs the commands that need no node.
func TestScripts(t *testing.T) {
	cleanEnv(t)
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}
