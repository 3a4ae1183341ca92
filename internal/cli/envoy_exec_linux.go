package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// becomeEnvoy replaces this process by Envoy. The configuration holds the ACL
// token, so it is handed over in memory, which Envoy inherits: it never is a file
// that others could find, and neither the arguments nor the environment tell it.
func becomeEnvoy(binary string, config []byte, args []string) error {
	fd, err := unix.MemfdCreate("envoy-bootstrap", 0) // not closed on exec
	if err != nil {
		return fmt.Errorf("keep the bootstrap configuration: %w", err)
	}
	f := os.NewFile(uintptr(fd), "envoy-bootstrap")
	defer func() { _ = f.Close() }() // after a failure: Envoy has taken this process's place otherwise
	if err := f.Chmod(0o600); err != nil {
		return fmt.Errorf("keep the bootstrap configuration: %w", err)
	}
	if _, err := f.Write(config); err != nil {
		return fmt.Errorf("keep the bootstrap configuration: %w", err)
	}
	// Envoy refuses paths below /proc, and takes these.
	argv := append([]string{binary, "--config-path", fmt.Sprintf("/dev/fd/%d", fd), "--disable-hot-restart"}, args...)
	env := slices.DeleteFunc(os.Environ(), func(text string) bool {
		name, _, _ := strings.Cut(text, "=")
		return name == envPrefix+"HTTP_TOKEN" || name == aliasPrefix+"HTTP_TOKEN"
	})
	if err := syscall.Exec(binary, argv, env); err != nil { //nolint:gosec // the user names the binary
		return fmt.Errorf("start %s: %w", binary, err)
	}
	return nil
}
