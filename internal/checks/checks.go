package checks

import (
	"context"
	"log/slog"
	"slices"

	"isthmus/api"
)

// Runner runs one check.
type Runner interface {
	// Run probes until ctx is done, which is no error.
	Run(ctx context.Context) error
}

// Report takes a result: one of the states of package api and the text that goes
// with it. A runner reports one result after the other, never two at a time.
type Report func(status, output string)

// The kinds of check, named as the protocol names them.
const (
	kindTTL    = "ttl"
	kindTCP    = "tcp"
	kindHTTP   = "http"
	kindUDP    = "udp"
	kindGRPC   = "grpc"
	kindH2Ping = "h2ping"
	kindOS     = "os_service"
	kindDocker = "docker"
	kindScript = "script"
	kindAlias  = "alias"
)

// kind is one way to check.
type kind struct {
	name string
	// asked tells whether a definition asks for this kind.
	asked func(def *api.CheckType) bool
	// build is nil for as long as the kind is not built.
	build func(def *api.CheckType, report Report, log *slog.Logger) Runner
}

// kinds are all that a definition can ask for by naming a target. One that names
// none is a TTL check.
func kinds() []kind {
	return []kind{
		{kindTCP, func(d *api.CheckType) bool { return d.TCP != "" && !d.TCPUseTLS }, newTCP},
		{kindTCP + " with TLS", func(d *api.CheckType) bool { return d.TCP != "" && d.TCPUseTLS }, nil},
		{kindHTTP, func(d *api.CheckType) bool { return d.HTTP != "" }, nil},
		{kindUDP, func(d *api.CheckType) bool { return d.UDP != "" }, nil},
		{kindGRPC, func(d *api.CheckType) bool { return d.GRPC != "" }, nil},
		{kindH2Ping, func(d *api.CheckType) bool { return d.H2PING != "" }, nil},
		{kindOS, func(d *api.CheckType) bool { return d.OSService != "" }, nil},
		{kindDocker, func(d *api.CheckType) bool { return d.DockerContainerID != "" }, nil},
		{kindScript, func(d *api.CheckType) bool { return len(d.ScriptArgs) > 0 && d.DockerContainerID == "" }, nil},
		{kindAlias, func(d *api.CheckType) bool { return d.AliasNode != "" || d.AliasService != "" }, nil},
	}
}

func ttlKind() kind {
	return kind{kindTTL, nil, func(def *api.CheckType, report Report, _ *slog.Logger) Runner { return newTTL(def, report) }}
}

// kindOf returns the kind that a valid definition asks for.
func kindOf(def *api.CheckType) kind {
	for _, k := range kinds() {
		if k.asked(def) {
			return k
		}
	}
	return ttlKind()
}

// Type returns the protocol's name of the kind of a check.
func Type(def *api.CheckType) string {
	if def.TCP != "" {
		return kindTCP // with TLS or without
	}
	return kindOf(def).name
}

// New returns a runner for def. It fails with api.Invalid when the definition
// cannot be right, and with api.NotBuilt for a kind that does not exist here.
func New(def api.CheckType, report Report, log *slog.Logger) (Runner, error) {
	if err := Validate(&def); err != nil {
		return nil, err
	}
	k := kindOf(&def)
	if k.build == nil {
		return nil, api.Errorf(api.NotBuilt, "check %q: %s checks are not built yet", def.CheckID, k.name)
	}
	return k.build(&def, report, log.With("check", def.CheckID)), nil
}

// Validate tells what is wrong with a definition. The texts that the protocol
// has a counterpart for are its own, since they reach users of the HTTP API.
func Validate(def *api.CheckType) error {
	var asked []string
	for _, k := range kinds() {
		if k.asked(def) {
			asked = append(asked, k.name)
		}
	}
	probed := slices.ContainsFunc(asked, func(name string) bool { return name != kindAlias })
	switch {
	case len(asked) > 1:
		return invalid("it asks for more than one kind: %s and %s", asked[0], asked[1])
	case def.Interval > 0 && def.TTL > 0:
		return invalid("Interval and TTL cannot both be specified")
	case probed && def.Interval <= 0:
		return invalid("Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks")
	case len(asked) == 0 && def.TTL <= 0:
		return invalid("TTL must be > 0 for TTL checks")
	case def.OutputMaxSize < 0:
		return invalid("MaxOutputMaxSize must be positive")
	case def.FailuresBeforeWarning > def.FailuresBeforeCritical:
		return invalid("FailuresBeforeWarning can't be higher than FailuresBeforeCritical")
	}
	return nil
}

func invalid(format string, args ...any) error {
	return api.Errorf(api.Invalid, "Invalid check: "+format, args...)
}
