package cli

import (
	"context"
	"encoding/json"
	"runtime/debug"

	"isthmus/api"
)

// Versions of the gossip protocol between members that are spoken.
const (
	protocolDefault = 2
	protocolMin     = 2
	protocolMax     = 3
)

type version struct {
	Format string `flag:"format" default:"pretty" doc:"Form of the output: pretty or json."`

	Ignored []string `arg:"[ignored...]"`
}

// versionInfo has the fields of Consul's command, which speak of the version that
// is kept to, and our own version.
type versionInfo struct {
	Version    string
	Revision   string
	Prerelease string
	BuildDate  string
	RPC        struct{ Default, Min, Max int }
	Isthmus    string
}

func (c *version) Run(_ context.Context, e *Env) error {
	v := versionInfo{Version: api.Compat, Isthmus: api.Version}
	v.RPC.Default, v.RPC.Min, v.RPC.Max = protocolDefault, protocolMin, protocolMax
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, s := range build.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Revision = s.Value
			case "vcs.time":
				v.BuildDate = s.Value
			}
		}
	}
	switch c.Format {
	case "", "pretty":
		return v.pretty(e)
	case "json":
		out, err := json.MarshalIndent(v, "", "   ")
		if err != nil {
			return failf("Error encoding version: %w", err)
		}
		return e.printf("%s\n", out)
	default:
		return failf("Unknown format: %s", c.Format)
	}
}

func (v *versionInfo) pretty(e *Env) error {
	text := "Consul v" + v.Version + " compatible\nIsthmus v" + v.Isthmus + "\n"
	if v.Revision != "" {
		text += "Revision " + v.Revision + "\n"
	}
	if v.BuildDate != "" {
		text += "Build Date " + v.BuildDate + "\n"
	}
	return e.printf("%sProtocol %d spoken by default, understands %d to %d\n", text, v.RPC.Default, v.RPC.Min, v.RPC.Max)
}
