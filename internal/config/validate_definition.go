package config

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// validateDefinitions checks services and checks, where each of them stands.
func (l *loader) validateDefinitions() {
	for i := range l.settings.Services {
		s := &l.settings.Services[i]
		name := "service " + quote(s.Name)
		validateService(s, func(what, cure string) { l.problems.add(s.Source, name, what, cure) })
		for j := range s.Checks {
			l.validateCheck(name, &s.Checks[j])
		}
	}
	for i := range l.settings.Checks {
		c := &l.settings.Checks[i]
		l.validateCheck("check "+quote(c.Name), c)
	}
}

func validateService(s *ServiceDefinition, wrong func(what, cure string)) {
	switch {
	case s.Name == "":
		wrong("has no name", "set name")
	case strings.ContainsFunc(s.Name+s.ID, func(r rune) bool { return !unicode.IsPrint(r) }):
		wrong("has a control character in its name or id", "remove it")
	case s.Port < 0 || s.Port > 65535:
		wrong("has port "+strconv.Itoa(s.Port), "write 0 to 65535")
	case s.Port > 0 && s.SocketPath != "":
		wrong("has both port and socket_path", "remove one of the two")
	case s.Weights.Passing != nil && *s.Weights.Passing < 1:
		wrong("has weights.passing "+strconv.Itoa(*s.Weights.Passing), "write 1 or more")
	case s.Weights.Warning != nil && *s.Weights.Warning < 0:
		wrong("has weights.warning "+strconv.Itoa(*s.Weights.Warning), "write 0 or more")
	}
	// A mesh gateway may mark itself with a reserved key; what registers a
	// proxy checks the rest.
	if s.Kind == "" {
		validateMeta(s.Meta, func(what, cure string) { wrong("meta "+what, cure) })
	}
}

// validateCheck demands exactly one kind of check, and what that kind needs.
func (l *loader) validateCheck(owner string, c *CheckDefinition) {
	wrong := func(what, cure string) { l.problems.add(c.Source, owner, what, cure) }
	probes := 0
	for _, target := range []string{c.HTTP, c.TCP, c.UDP, c.GRPC, c.H2Ping, c.OSService, strings.Join(c.Args, " ")} {
		if target != "" {
			probes++
		}
	}
	if c.TTL > 0 {
		probes++
	}
	switch {
	case probes == 0 && c.AliasNode == "" && c.AliasService == "":
		wrong("has a check that says not what to look at", "set one of http, tcp, udp, grpc, h2ping, os_service, args, ttl, alias_service")
	case probes > 1:
		wrong("has a check that says more than one thing to look at", "make it several checks")
	case probes == 1 && c.TTL <= 0 && c.Interval <= 0:
		wrong("has a check without an interval", `set interval, such as "10s"`)
	case min(c.Timeout, c.TTL, c.DeregisterCriticalServiceAfter) < 0:
		wrong("has a check with a negative duration", "write 0s or more")
	case c.Status != "" && !slices.Contains([]string{"passing", "warning", "critical", "maintenance"}, c.Status):
		wrong("has a check with the status "+quote(c.Status), "write passing, warning or critical")
	}
}
