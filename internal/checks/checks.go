package checks

import (
	"context"
	"crypto/tls"
	"iter"
	"log/slog"
	"slices"

	"isthmus/api"
	"isthmus/internal/rpc"
)

// Runner runs one check.
type Runner interface {
	// Run probes until ctx is done, which is no error.
	Run(ctx context.Context) error
}

// Report takes a result: one of the states of package api and the text that goes
// with it. A runner reports one result after the other, never two at a time.
type Report func(status, output string)

// Env is what checks need of the agent that runs them. The zero value serves all
// kinds but aliases.
type Env struct {
	// MaxOutput is how many bytes of a check's output are kept at most; a
	// definition may ask for less. Zero is 4096.
	MaxOutput int

	// TLS gives what probes over TLS begin with: whom to trust and how to
	// introduce themselves. What it returns is never changed, and another value is
	// returned when the material is. Nil trusts whom the system trusts.
	TLS func() *tls.Config

	// Node is the agent's own node. Aliases of other nodes follow them through
	// Caller, those of its own services through Local.
	Node   string
	Local  func(ctx context.Context, service string) iter.Seq[Target]
	Caller rpc.Caller
	Token  string // to read the catalog with

	Log *slog.Logger
}

// Target is what is known of the service or node that an alias follows.
type Target struct {
	Exists bool
	Checks []*api.HealthCheck // its own and, for a service, those of its node
}

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
	build func(def *api.CheckType, report Report, env *Env) (Runner, error)
}

// kinds are all that a definition can ask for by naming a target. One that names
// none is a TTL check.
func kinds() []kind {
	return []kind{
		{kindTCP, func(d *api.CheckType) bool { return d.TCP != "" }, newTCP},
		{kindHTTP, func(d *api.CheckType) bool { return d.HTTP != "" }, newHTTP},
		{kindUDP, func(d *api.CheckType) bool { return d.UDP != "" }, newUDP},
		{kindGRPC, func(d *api.CheckType) bool { return d.GRPC != "" }, newGRPC},
		{kindH2Ping, func(d *api.CheckType) bool { return d.H2PING != "" }, newH2Ping},
		{kindOS, func(d *api.CheckType) bool { return d.OSService != "" }, newOSService},
		{kindDocker, func(d *api.CheckType) bool { return len(d.ScriptArgs) > 0 && d.DockerContainerID != "" }, newDocker},
		{kindScript, func(d *api.CheckType) bool { return len(d.ScriptArgs) > 0 && d.DockerContainerID == "" }, newScript},
		{kindAlias, func(d *api.CheckType) bool { return d.AliasNode != "" || d.AliasService != "" }, newAlias},
	}
}

// kindOf returns the kind that a valid definition asks for.
func kindOf(def *api.CheckType) kind {
	for _, k := range kinds() {
		if k.asked(def) {
			return k
		}
	}
	return kind{kindTTL, nil, newTTL}
}

// Type returns the protocol's name of the kind of a check.
func Type(def *api.CheckType) string { return kindOf(def).name }

// RunsCommands tells whether a check runs commands that its definition names, on
// this node or in a container.
func RunsCommands(def *api.CheckType) bool { return len(def.ScriptArgs) > 0 }

// New returns a runner for def. It fails with api.Invalid when the definition
// cannot be right, and with api.NotBuilt for a kind that this operating system
// does not have.
func New(def api.CheckType, report Report, env Env) (Runner, error) {
	if err := Validate(&def); err != nil {
		return nil, err
	}
	env.Log = env.Log.With("check", def.CheckID)
	if env.MaxOutput <= 0 {
		env.MaxOutput = maxOutput
	}
	if def.OutputMaxSize > 0 {
		env.MaxOutput = min(env.MaxOutput, def.OutputMaxSize)
	}
	return kindOf(&def).build(&def, report, &env)
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
	case len(asked) > 0 && !probed && def.TTL > 0:
		return invalid("TTL must be not be set for Alias checks")
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
