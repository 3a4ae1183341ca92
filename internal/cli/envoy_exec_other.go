//go:build !linux

package cli

import "errors"

func becomeEnvoy(string, []byte, []string) error {
	return errors.New("Envoy is started on Linux only: print its configuration with -bootstrap, and start it with that")
}
