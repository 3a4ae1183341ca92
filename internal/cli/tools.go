package cli

import (
	"context"
	"fmt"
	"io"

	"isthmus/internal/config"
	"isthmus/internal/gossip"
)

type keygen struct {
	Ignored []string `arg:"[ignored...]"`
}

func (*keygen) Run(_ context.Context, e *Env) error {
	key, err := gossip.NewKey()
	if err != nil {
		return err
	}
	return e.printf("%s\n", key)
}

type validate struct {
	Format string `flag:"config-format" doc:"Format of every file, hcl or json, whatever its name."`
	Quiet  bool   `flag:"quiet"         doc:"Print nothing when all is well."`

	Paths []string `arg:"[FILE_OR_DIRECTORY...]"`
}

func (c *validate) Run(_ context.Context, e *Env) error {
	if len(c.Paths) == 0 {
		return failf("Must specify at least one config file or directory")
	}
	warnings, err := c.check()
	if err != nil {
		return failf("Config validation failed: %w", err)
	}
	if c.Quiet {
		return nil
	}
	for _, warning := range warnings {
		if _, err := fmt.Fprintln(e.Stderr, "Warning:", warning); err != nil {
			return err
		}
	}
	return e.printf("Configuration is valid!\n")
}

func (c *validate) check() ([]string, error) {
	if c.Format == "" {
		return config.Validate(c.Paths)
	}
	args := []string{"-config-format", c.Format}
	for _, path := range c.Paths {
		args = append(args, "-config-file", path)
	}
	flags, err := config.ParseFlags(args, io.Discard)
	if err != nil {
		return nil, err
	}
	result, err := config.Load(flags)
	if err != nil {
		return nil, err
	}
	return result.Warnings, nil
}
