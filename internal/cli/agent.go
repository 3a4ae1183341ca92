package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"isthmus/internal/config"
	"isthmus/internal/node"
	"isthmus/internal/telemetry"
)

// runAgent runs an agent until it is told to stop.
func runAgent(ctx context.Context, e *Env) error {
	flags, err := config.ParseFlags(e.Args, e.Stdout)
	if err != nil {
		return err //nolint:wrapcheck // flag.ErrHelp, or one line a mistake
	}
	loaded, err := config.Load(flags)
	if err != nil {
		return failf("%w", err)
	}
	cfg := loaded.Settings
	level, _ := telemetry.Level(cfg.LogLevel)
	out, closeLog, err := logOutput(cfg, e.Stdout)
	if err != nil {
		return err
	}
	defer closeLog()
	var also []slog.Handler
	if cfg.EnableSyslog {
		system, err := telemetry.OpenSyslog(cfg.SyslogFacility)
		if err != nil {
			return fmt.Errorf("enable_syslog: %w", err)
		}
		defer func() { _ = system.Close() }()
		also = append(also, system.Handler(cfg.LogJSON))
	}
	logs := telemetry.NewLogs(out, level, cfg.LogJSON, also...)
	log := logs.Logger()
	for _, warning := range loaded.Warnings {
		log.Warn("setting", "warning", warning)
	}
	metrics, err := newMetrics(cfg, log)
	if err != nil {
		return err
	}
	reload := func() (*config.Settings, error) {
		loaded, err := config.Load(flags)
		if err != nil {
			return nil, err //nolint:wrapcheck // one line a mistake
		}
		return loaded.Settings, nil
	}
	n, err := node.New(node.Options{Settings: cfg, Reload: reload, Logs: logs, Metrics: metrics})
	if err != nil {
		return err //nolint:wrapcheck // says what could not be built
	}
	if cfg.PIDFile != "" {
		if err := os.WriteFile(cfg.PIDFile, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil { //nolint:gosec // for everybody to read
			return fmt.Errorf("pid_file: %w", err)
		}
		defer func() { _ = os.Remove(cfg.PIDFile) }()
	}
	log.Info("agent starts", "node", cfg.NodeName, "datacenter", cfg.Datacenter, "server", cfg.Server,
		"http", cfg.Listen.HTTP, "federation", cfg.Connect.EnableMeshGatewayWANFederation)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go onSignals(ctx, n, cfg, reload, stop, logs)
	return n.Run(ctx) //nolint:wrapcheck // says which part failed
}

// newMetrics shows what the process measures, as the settings say.
func newMetrics(cfg *config.Settings, log *slog.Logger) (*telemetry.Metrics, error) {
	t, host := &cfg.Telemetry, ""
	if !t.DisableHostname {
		host = telemetry.Hostname()
	}
	return telemetry.NewMetrics(telemetry.MetricsConfig{ //nolint:wrapcheck // says what it set up
		Prefix: t.MetricsPrefix, Host: host, Retention: t.PrometheusRetentionTime, Filter: t.PrefixFilter, FilterDefault: t.FilterDefault,
		Statsd: t.StatsdAddress, Statsite: t.StatsiteAddress, Dogstatsd: t.DogstatsdAddr, DogstatsdTags: t.DogstatsdTags,
		Log: log.With("component", "telemetry"),
	})
}

// leaveLimit bounds how long a leave at the end may take.
const leaveLimit = 30 * time.Second

// onSignals does what signals ask for: SIGHUP reloads; SIGINT and SIGTERM stop the
// agent, after it has left when the settings say so. A second one stops at once.
func onSignals(ctx context.Context, n *node.Node, cfg *config.Settings, reload func() (*config.Settings, error), stop func(), logs *telemetry.Logs) {
	log := logs.Logger()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	stopping := false
	for {
		var got os.Signal
		select {
		case <-ctx.Done():
			return
		case got = <-signals:
		}
		if got == syscall.SIGHUP {
			next, err := reload()
			if err == nil {
				err = n.Reload(next)
			}
			if err != nil {
				log.Error("settings are not reloaded", "err", err)
			}
			continue
		}
		leaves := got == syscall.SIGINT && !cfg.SkipLeaveOnInterrupt || got == syscall.SIGTERM && cfg.LeaveOnTerminate
		log.Info("agent stops", "signal", got, "leaves", leaves)
		if stopping || !leaves {
			stop()
			return
		}
		stopping = true
		go func() {
			ctx, cancel := context.WithTimeout(ctx, leaveLimit)
			defer cancel()
			if err := n.Leave(ctx); err != nil && !errors.Is(err, context.Canceled) {
				log.Error("the agent did not leave in order", "err", err)
			}
			stop()
		}()
	}
}

// logOutput is where the log goes: standard output and, when it is set, a file.
func logOutput(cfg *config.Settings, stdout io.Writer) (io.Writer, func(), error) {
	if cfg.LogFile == "" {
		return stdout, func() {}, nil
	}
	f, err := telemetry.OpenFile(cfg.LogFile, int64(cfg.LogRotateBytes), cfg.LogRotateDuration, cfg.LogRotateMaxFiles)
	if err != nil {
		return nil, nil, fmt.Errorf("log_file: %w", err)
	}
	return io.MultiWriter(stdout, f), func() { _ = f.Close() }, nil
}
