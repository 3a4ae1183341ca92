package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// What debug can capture, in the order in which it is named.
const (
	captureMetrics = "metrics"
	captureLogs    = "logs"
	captureProfile = "pprof"
	captureHost    = "host"
	captureAgent   = "agent"
	captureMembers = "members"
	captureCluster = "cluster" // older name of members
)

// Shortest times that make sense to capture for.
const (
	leastDuration = 10 * time.Second
	leastInterval = 5 * time.Second
)

// debugTime is how moments are written in names of files.
const debugTime = "2006-01-02T15-04-05Z"

type debugBundle struct {
	Archive bool `flag:"archive" default:"true" doc:"Pack what was captured into a .tar.gz file. With -archive=false it stays a directory."`

	Capture []string `flag:"capture" doc:"What to capture: metrics, logs, pprof, host, agent or members; all of it when not given. May be given again."`

	Duration time.Duration `flag:"duration" default:"5m"  doc:"How long to capture; 5m when not given."`
	Interval time.Duration `flag:"interval" default:"30s" doc:"Pause between two captures of what changes; 30s when not given."`

	Output string `flag:"output" doc:"Path of the directory, or of the archive without its .tar.gz; consul-debug- and the time when not given."`
	Since  string `flag:"since"  doc:"Hand over to hcdiag, Consul's tool for looking back. It is not part of this program: refused."`

	Ignored []string `arg:"[ignored...]"`
}

func (*debugBundle) Help() string {
	return `For a time, what the node tells about itself is written to files: its settings,
members and machine once, its metrics and profiles again and again, its log as it
goes. Profiles need enable_debug in the node's settings. When it is interrupted,
what is there by then is kept.

What is captured can be sensitive: look through it before you pass it on.`
}

// debugIndex says at the top of a bundle what is in it.
type debugIndex struct {
	Version      int
	AgentVersion string
	Interval     string
	Duration     string
	Targets      []string
}

func (c *debugBundle) Run(ctx context.Context, e *Env) error {
	if len(c.Ignored) > 0 {
		return failf("==> debug: Too many arguments provided, expected 0")
	}
	if c.Since != "" {
		return failf("==> Capture validation failed: -since needs hcdiag, which is not part of %s", e.Program)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	version, err := c.prepare(e)
	if err != nil {
		return failf("==> Capture validation failed: %w", err)
	}
	if err := os.MkdirAll(c.Output, 0o755); err != nil { //nolint:gosec // for everybody to read, as what it becomes
		return failf("==> Capture validation failed: could not create output directory: %w", err)
	}
	target := c.Output
	if c.Archive {
		target += archiveSuffix
	}
	if err := e.printf("==> Starting debugger and capturing static information...\n"+
		"     Agent Version: '%s'\n          Interval: '%s'\n          Duration: '%s'\n            Output: '%s'\n           Capture: '%s'\n",
		version, c.Interval, c.Duration, target, strings.Join(c.Capture, ", ")); err != nil {
		return err
	}
	c.warn(e, "static information", c.static(e))
	c.warn(e, "collection", c.changing(ctx, e))
	index := debugIndex{1, version, c.Interval.String(), c.Duration.String(), c.Capture}
	if err := c.writeJSON("index.json", index); err != nil {
		return failf("==> %w", err)
	}
	if c.Archive {
		if err := pack(c.Output, target); err != nil {
			return failf("==> Archive creation failed: %w", err)
		}
	}
	return e.printf("    Saved debug archive: %s\n", target)
}

// warn says what could not be captured; the rest is worth having.
func (*debugBundle) warn(e *Env, what string, err error) {
	if err != nil {
		_, _ = fmt.Fprintf(e.Stderr, "==> Error encountered during %s: %s\n", what, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}

// prepare completes what the flags say, and yields the version of the node.
func (c *debugBundle) prepare(e *Env) (version string, err error) {
	c.Output = cmp.Or(c.Output, "consul-debug-"+time.Now().UTC().Format(debugTime))
	switch {
	case c.Duration < leastDuration:
		return "", fmt.Errorf("duration must be longer than %s", leastDuration)
	case c.Interval < leastInterval:
		return "", fmt.Errorf("interval must be longer than %s", leastInterval)
	case c.Duration < c.Interval:
		return "", fmt.Errorf("duration (%s) must be longer than interval (%s)", c.Duration, c.Interval)
	}
	self, err := e.Client().Agent().Self()
	if err != nil {
		return "", fmt.Errorf("error querying target agent: %w. verify connectivity and agent address", err)
	}
	version, _ = self["Config"]["Version"].(string)
	all := []string{captureMetrics, captureLogs, captureProfile, captureHost, captureAgent, captureMembers}
	if len(c.Capture) == 0 {
		c.Capture = slices.Clone(all)
	}
	for _, name := range c.Capture {
		if !slices.Contains(append(all, captureCluster), name) {
			return "", fmt.Errorf("target not found: %s", name)
		}
	}
	if profiles, _ := self["DebugConfig"]["EnableDebug"].(bool); !profiles && c.wants(captureProfile) {
		c.Capture = slices.DeleteFunc(c.Capture, func(name string) bool { return name == captureProfile })
		if _, err := fmt.Fprintln(e.Stderr, "[WARN] Unable to capture pprof. Set enable_debug to true on target agent to enable profiling."); err != nil {
			return "", err
		}
	}
	if _, err := os.Stat(c.Output); err == nil {
		return "", fmt.Errorf("output directory already exists: %s", c.Output)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return version, nil
}

func (c *debugBundle) wants(name string) bool { return slices.Contains(c.Capture, name) }

// static captures what hardly changes.
func (c *debugBundle) static(e *Env) error {
	agent := e.Client().Agent()
	var failed []error
	for _, one := range []struct {
		wanted bool
		file   string
		ask    func() (any, error)
	}{
		{c.wants(captureHost), "host.json", func() (any, error) { return agent.Host() }},
		{c.wants(captureAgent), "agent.json", func() (any, error) { return agent.Self() }},
		{c.wants(captureMembers) || c.wants(captureCluster), "members.json", func() (any, error) { return agent.Members(true) }},
	} {
		if !one.wanted {
			continue
		}
		answer, err := one.ask()
		if err == nil {
			err = c.writeJSON(one.file, answer)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("capture %s: %w", one.file, err))
		}
	}
	return errors.Join(failed...)
}

func (c *debugBundle) writeJSON(file string, value any) error {
	text, err := json.MarshalIndent(value, "", "\t")
	if err != nil {
		return fmt.Errorf("encode %s: %w", file, err)
	}
	return c.writeFile(file, text)
}

func (c *debugBundle) writeFile(file string, text []byte) error {
	path := filepath.Join(c.Output, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // for everybody to read
		return err
	}
	return os.WriteFile(path, text, 0o644) //nolint:gosec // for everybody to read
}
