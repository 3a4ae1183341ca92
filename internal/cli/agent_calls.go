package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/signal"
	"slices"
	"syscall"

	consul "github.com/hashicorp/consul/api"
)

type join struct {
	WAN bool `flag:"wan" doc:"Join a server to one of another datacenter."`

	Addresses []string `arg:"ADDRESS..."`
}

func (c *join) Run(_ context.Context, e *Env) error {
	joined := 0
	var failed error
	for _, addr := range c.Addresses {
		if err := e.Client().Agent().Join(addr, c.WAN); err != nil {
			failed = errors.Join(failed, fmt.Errorf("Error joining address '%s': %w", addr, err))
			continue
		}
		joined++
	}
	if joined == 0 {
		return failf("%w\nFailed to join any nodes.", failed)
	}
	if failed != nil {
		if _, err := fmt.Fprintln(e.Stderr, failed); err != nil {
			return err
		}
	}
	return e.printf("Successfully joined cluster by contacting %d nodes.\n", joined)
}

type leave struct{}

func (*leave) Run(_ context.Context, e *Env) error {
	if err := e.Client().Agent().Leave(); err != nil {
		return failf("Error leaving: %w", err)
	}
	return e.printf("Graceful leave complete\n")
}

type forceLeave struct {
	Prune bool `flag:"prune" doc:"Forget the member altogether."`
	WAN   bool `flag:"wan"   doc:"Do so among the servers of all datacenters only."`

	Node string `arg:"NODE"`
}

func (*forceLeave) Help() string {
	return `A member that is alive after all joins again by itself.`
}

func (c *forceLeave) Run(ctx context.Context, e *Env) error {
	opts := consul.ForceLeaveOpts{Prune: c.Prune, WAN: c.WAN}
	if err := e.Client().Agent().ForceLeaveOptions(c.Node, opts, e.Query(ctx)); err != nil {
		return failf("Error force leaving: %w", err)
	}
	return nil
}

type reload struct {
	Ignored []string `arg:"[ignored...]"`
}

func (*reload) Run(_ context.Context, e *Env) error {
	if err := e.Client().Agent().Reload(); err != nil {
		return failf("Error reloading: %w", err)
	}
	return e.printf("Configuration reload triggered\n")
}

type info struct {
	Ignored []string `arg:"[ignored...]"`
}

func (*info) Run(_ context.Context, e *Env) error {
	self, err := e.Client().Agent().Self()
	if err != nil {
		return failf("Error querying agent: %w", err)
	}
	stats, ok := self["Stats"]
	if !ok {
		return failf("Agent response did not contain 'Stats' key: %v", slices.Sorted(maps.Keys(self)))
	}
	for _, part := range slices.Sorted(maps.Keys(stats)) {
		if err := e.printf("%s:\n", part); err != nil {
			return err
		}
		values, _ := stats[part].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(values)) {
			if err := e.printf("\t%s = %v\n", name, values[name]); err != nil {
				return err
			}
		}
	}
	return nil
}

type monitor struct {
	LogJSON bool `flag:"log-json" doc:"Show one JSON object a line."`

	LogLevel string `flag:"log-level" default:"INFO" doc:"Least level to show: trace, debug, info, warn or error."`

	Ignored []string `arg:"[ignored...]"`
}

func (c *monitor) Run(ctx context.Context, e *Env) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	agent := e.Client().Agent()
	open := agent.Monitor
	if c.LogJSON {
		open = agent.MonitorJSON
	}
	lines, err := open(c.LogLevel, ctx.Done(), e.Query(ctx))
	if err != nil {
		return failf("Error starting monitor: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case line, ok := <-lines:
			switch {
			case ctx.Err() != nil:
				return nil
			case !ok || line == "": // The client has no other sign for the end.
				return failf("\nRemote side ended the monitor! This usually means that the\nremote side has exited or crashed.")
			}
			if err := e.printf("%s\n", line); err != nil {
				return err
			}
		}
	}
}
