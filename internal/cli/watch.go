package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"isthmus/internal/watches"
)

type watch struct {
	Type        string   `flag:"type"        doc:"What to watch: key, keyprefix, services, nodes, service, checks or agent_service."`
	Key         string   `flag:"key"         doc:"Key to watch. Of type key only."`
	Prefix      string   `flag:"prefix"      doc:"Prefix of the keys to watch. Of type keyprefix only."`
	Service     string   `flag:"service"     doc:"Service to watch: of type service by name, of type agent_service by ID. Of type checks, the service whose checks to watch."`
	Tags        []string `flag:"tag"         doc:"Tag that instances must have. Of type service only. May be given again."`
	PassingOnly string   `flag:"passingonly" doc:"Show instances only whose checks all pass: true or false. Of type service only."`
	State       string   `flag:"state"       doc:"State that checks must be in. Of type checks only."`
	Name        string   `flag:"name"        doc:"Name of the events to watch. Of type event, which is not built yet."`
	Filter      string   `flag:"filter"      doc:"Expression that what is shown must match. Of types services, nodes, service and checks."`

	Shell bool `flag:"shell" default:"true" doc:"Let a shell run the child, the one in SHELL if it is set. With -shell=false the first word is run as it is."`

	Child []string `arg:"[child...]"`
}

func (*watch) Help() string {
	return `Without a child, what is watched is printed as JSON once. With one, the child is
run at once and after each change, with the JSON on its standard input and the
index in CONSUL_INDEX, until the watch is interrupted or the child fails.`
}

func (c *watch) Run(ctx context.Context, e *Env) error {
	if c.Type == "" {
		return usageError{fmt.Errorf("Watch type must be specified")} //nolint:staticcheck // the text of Consul's command
	}
	if strings.HasPrefix(c.Type, "connect_") {
		return failf("Type %s is not supported in the CLI tool", c.Type)
	}
	params, err := c.params(e)
	if err != nil {
		return err
	}
	w, err := watches.Parse(params)
	if err != nil {
		return failf("%w", err)
	}
	if _, err := e.Client().Status().Leader(); err != nil {
		return failf("Error querying Consul agent: %w", err)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return c.follow(ctx, e, w)
}

// paramService is the parameter that names a service, for most types.
const paramService = "service"

// params are the parameters of the watch, under the names that settings give them.
func (c *watch) params(e *Env) (map[string]any, error) {
	service := paramService
	if c.Type == "agent_service" {
		service = "service_id"
		if c.Service == "" {
			return nil, failf("Must specify a single service to watch")
		}
	}
	params := map[string]any{"type": c.Type}
	for name, text := range map[string]string{
		"key": c.Key, "prefix": c.Prefix, service: c.Service, "state": c.State, "name": c.Name, "filter": c.Filter,
	} {
		if text != "" {
			params[name] = text
		}
	}
	if len(c.Tags) > 0 {
		params["tag"] = c.Tags
	}
	if e.stale {
		params["stale"] = true
	}
	if c.PassingOnly != "" {
		only, err := strconv.ParseBool(c.PassingOnly)
		if err != nil {
			return nil, failf("Failed to parse passingonly flag: %w", err)
		}
		params["passingonly"] = only
	}
	return params, nil
}

// follow hands each view to the child, or prints the first one. Being interrupted
// is no failure.
func (c *watch) follow(ctx context.Context, e *Env, w *watches.Watch) error {
	var failed error
	err := w.Follow(ctx, e.Client(), e.Logger(), func(u watches.Update) bool {
		if len(c.Child) == 0 {
			failed = e.show(u)
			return false
		}
		failed = c.call(ctx, e, u)
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

func (e *Env) show(u watches.Update) error {
	out, err := json.MarshalIndent(u.Value, "", "    ")
	if err != nil {
		return failf("Error encoding output: %w", err)
	}
	return e.printf("%s\n", out)
}

// call runs the child with a view.
func (c *watch) call(ctx context.Context, e *Env, u watches.Update) error {
	view, err := u.JSON()
	if err != nil {
		return failf("Error encoding output: %w", err)
	}
	args := slices.Clone(c.Child)
	if c.Shell {
		args = watches.ShellCommand(args)
	}
	child := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // the user's own command
	child.Cancel = func() error { return child.Process.Signal(syscall.SIGTERM) }
	child.Env = append(os.Environ(), u.Environment())
	child.Stdin, child.Stdout, child.Stderr = bytes.NewReader(view), e.Stdout, e.Stderr
	if err := child.Start(); err != nil {
		return failf("Error starting handler: %w", err)
	}
	if err := child.Wait(); err != nil && ctx.Err() == nil {
		return failf("Error executing handler: %w", err)
	}
	return nil
}
