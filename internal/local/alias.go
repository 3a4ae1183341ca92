package local

import (
	"context"
	"iter"

	"isthmus/api"
	"isthmus/internal/checks"
)

// Scripts says whose checks may run commands.
type Scripts int

// From the strictest on.
const (
	ScriptsNever  Scripts = iota
	ScriptsLocal          // those of configuration files
	ScriptsAlways         // and those that are registered with the API
)

// allow tells why a check from an origin must not run commands, if so. What the
// disk keeps was registered with the API once.
func (s Scripts) allow(from origin) error {
	switch {
	case s == ScriptsAlways, s == ScriptsLocal && from == fromConfig:
		return nil
	case from == fromConfig:
		return api.Errorf(api.Invalid, "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true")
	default:
		return api.Errorf(api.Internal, "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true")
	}
}

// checkEnv is what the checks of the agent are given.
func (a *Agent) checkEnv() checks.Env {
	return checks.Env{
		MaxOutput: a.cfg.MaxCheckOutput, TLS: a.cfg.CheckTLS, Node: a.cfg.Node, Local: a.followChecks,
		Caller: a.cfg.Caller, Token: a.cfg.Token, Log: a.log,
	}
}

// followChecks yields what bears on the health of a service, or of the node when
// none is named, and again each time it may have changed, until ctx is done.
func (a *Agent) followChecks(ctx context.Context, service string) iter.Seq[checks.Target] {
	return func(yield func(checks.Target) bool) {
		changed := make(chan struct{}, 1) // one waiting signal is enough
		a.mu.Lock()
		if a.aliases[service] == nil {
			a.aliases[service] = map[chan struct{}]struct{}{}
		}
		a.aliases[service][changed] = struct{}{}
		a.mu.Unlock()
		defer func() {
			a.mu.Lock()
			defer a.mu.Unlock()
			delete(a.aliases[service], changed)
			if len(a.aliases[service]) == 0 {
				delete(a.aliases, service)
			}
		}()
		for yield(a.target(service)) {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	}
}

// target is what bears on the health of a service, or of the node. Aliases among
// the checks of the node do not: two of them would hold each other where they are.
func (a *Agent) target(service string) checks.Target {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := checks.Target{Exists: service == "" || a.services[service] != nil}
	for _, c := range a.checksOf[""] {
		if c.def.AliasNode == "" && c.def.AliasService == "" {
			t.Checks = append(t.Checks, c.row)
		}
	}
	if service != "" {
		for _, c := range a.checksOf[service] {
			t.Checks = append(t.Checks, c.row)
		}
	}
	return t
}

// tellAliases wakes those who follow a service, or all when none is named, since
// the checks of the node bear on every service. The caller holds a.mu.
func (a *Agent) tellAliases(service string) {
	if service != "" {
		for changed := range a.aliases[service] {
			signal(changed)
		}
		return
	}
	for _, followers := range a.aliases {
		for changed := range followers {
			signal(changed)
		}
	}
}
