package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"time"
)

type federationStatus struct {
	JSON bool `flag:"json" doc:"Print what the servers see as JSON, for programs."`
}

func (*federationStatus) Help() string {
	return `The first line says whether the federation is whole, degraded (every datacenter
is reached, but something is wrong) or broken (a datacenter is not reached, or
nothing is known of it). Behind it stands what is wrong, and which servers see
it so. The exit code is 1 when the federation is broken.`
}

func (c *federationStatus) Run(ctx context.Context, e *Env) error {
	var body json.RawMessage
	if _, err := e.Client().Raw().Query("/v1/federation/status", &body, e.Query(ctx)); err != nil {
		return failf("Error querying federation status: %w", err)
	}
	var f federation
	if err := json.Unmarshal(body, &f); err != nil {
		return failf("Error reading federation status: %w", err)
	}
	if len(f.Servers) == 0 {
		return failf("Error reading federation status: no server has told what it sees")
	}
	r := f.report(time.Now())
	text := r.String()
	if c.JSON {
		var out bytes.Buffer
		if err := json.Indent(&out, body, "", "    "); err != nil {
			return failf("Error reading federation status: %w", err)
		}
		text = out.String() + "\n"
	}
	if err := e.printf("%s", text); err != nil {
		return err
	}
	if r.broken() {
		return &failure{code: exitFailure}
	}
	return nil
}
