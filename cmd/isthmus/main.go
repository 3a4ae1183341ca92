// Command isthmus is the agent, the mesh gateway and the command line of
// Isthmus, in one binary.
package main

import (
	"context"
	"os"

	"isthmus/internal/cli"
)

func main() {
	os.Exit(cli.Run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}
