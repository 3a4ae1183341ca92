//go:build !linux

package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

func newIsolation([]*demoNode) (demoNetwork, error) {
	return nil, fmt.Errorf("%w: this system has none", errNoNamespaces)
}

func bindToParent(*exec.Cmd) {}

func enterUserNamespace(*exec.Cmd) {}

func terminalSize(*os.File) (width, height int, err error) {
	return 0, 0, errors.New("the terminal is used on Linux only")
}
