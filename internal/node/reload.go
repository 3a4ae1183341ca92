package node

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"isthmus/internal/config"
	"isthmus/internal/consensus"
	"isthmus/internal/telemetry"
	"isthmus/internal/transport"
	"isthmus/internal/watches"
)

// Reload takes over what may change while running: certificates, services and
// checks, the log level, limits, DNS and node meta. Nothing is changed when anything
// is wrong.
func (n *Node) Reload(cfg *config.Settings) error {
	n.reloading.Lock()
	defer n.reloading.Unlock()
	defer n.systemd.reloading()()
	level, err := n.checkReload(cfg)
	if err != nil {
		return err
	}
	services, checks, err := definitions(cfg)
	if err != nil {
		return err
	}
	// What can still fail comes first.
	if err := n.local.SetConfigured(services, checks); err != nil {
		return fmt.Errorf("services in configuration files: %w", err)
	}
	if err := n.tls.Reload(n.tlsConfig(cfg, cfg.TLS.InternalRPC)); err != nil {
		return fmt.Errorf("tls.internal_rpc: %w", err)
	}
	for _, f := range n.fronts(cfg) {
		if err := f.tls.Reload(n.tlsConfig(cfg, f.settings)); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	if err := n.watches.Set(cfg.Watches); err != nil {
		return err //nolint:wrapcheck // names the watch
	}
	if n.server != nil {
		if err := n.server.log.SetSnapshots(snapshots(cfg)); err != nil {
			return err //nolint:wrapcheck // says what it did
		}
		n.server.mux.SetMaxConnsPerClient(cfg.Limits.RPCMaxConnsPerClient)
	}
	n.pool.SetTimeout(cfg.Limits.RPCClientTimeout)
	n.httpConns.Store(int64(cfg.Limits.HTTPMaxConnsPerClient))
	n.rate.set(cfg.Limits.RPCRate, cfg.Limits.RPCMaxBurst)
	n.local.SetDiscardOutput(cfg.DiscardCheckOutput)
	n.local.SetNode(n.cfg.TaggedAddresses, n.meta(cfg))
	if n.dns != nil {
		n.dns.Set(dnsSettings(cfg))
	}
	n.opts.Logs.SetLevel(level)
	n.log.Info("settings reloaded")
	if changed := config.NeedRestart(n.cfg, cfg); len(changed) > 0 {
		n.log.Warn("these settings have changed, and take effect with a restart", "settings", strings.Join(changed, ", "))
	}
	return nil
}

// checkReload tries whatever can be tried without changing anything.
func (n *Node) checkReload(cfg *config.Settings) (slog.Level, error) {
	level, ok := telemetry.Level(cfg.LogLevel)
	if !ok {
		return level, fmt.Errorf("log_level %q is not known", cfg.LogLevel)
	}
	if _, err := n.loadTLS(cfg); err != nil {
		return level, err
	}
	if _, err := watches.ParseAll(cfg.Watches); err != nil {
		return level, err //nolint:wrapcheck // names the watch
	}
	for _, f := range n.fronts(cfg) {
		if _, err := transport.NewTLS(n.tlsConfig(cfg, f.settings)); err != nil {
			return level, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return level, nil
}

// snapshots are the settings of the log that may change.
func snapshots(cfg *config.Settings) consensus.Snapshots {
	return consensus.Snapshots{
		Threshold: uint64(cfg.RaftSnapshotThreshold), Interval: cfg.RaftSnapshotInterval, //nolint:gosec // checked by config
		Trailing: uint64(cfg.RaftTrailingLogs), //nolint:gosec // the same
	}
}

// tlsFront is a front with TLS.
type tlsFront struct {
	name     string
	tls      *transport.TLS
	settings config.TLSListener
}

// fronts are those that are served with TLS, with their settings in cfg.
func (n *Node) fronts(cfg *config.Settings) []tlsFront {
	all := []tlsFront{{"tls.https", n.https, cfg.TLS.HTTPS}, {"tls.grpc", n.grpc, cfg.TLS.GRPC}}
	return slices.DeleteFunc(all, func(f tlsFront) bool { return f.tls == nil })
}

// reloadAsked is a reload that came over HTTP.
func (n *Node) reloadAsked() error {
	if n.opts.Reload == nil {
		return errors.New("this node has no settings to read anew")
	}
	cfg, err := n.opts.Reload()
	if err != nil {
		return err
	}
	return n.Reload(cfg)
}
