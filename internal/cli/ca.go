package cli

import (
	"context"
	"encoding/json"
)

type connectCAGetConfig struct {
	Ignored []string `arg:"[ignored...]"`
}

func (*connectCAGetConfig) Run(ctx context.Context, e *Env) error {
	config, _, err := e.Client().Connect().CAGetConfig(e.Query(ctx))
	if err != nil {
		return failf("Error querying CA configuration: %w", err)
	}
	text, err := json.MarshalIndent(config, "", "\t")
	if err != nil {
		return failf("Error formatting CA configuration: %w", err)
	}
	return e.printf("%s\n", text)
}
