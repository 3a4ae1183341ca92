package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"path"
	"strings"

	consul "github.com/hashicorp/consul/api"
)

// kvEntry is a key in the JSON that is exported and imported.
type kvEntry struct {
	Key   string `json:"key"`
	Flags uint64 `json:"flags"`
	Value string `json:"value"` // in base64
}

type kvExport struct {
	Prefix string `arg:"[PREFIX]"`
}

func (c *kvExport) Run(ctx context.Context, e *Env) error {
	pairs, _, err := e.Client().KV().List(strings.TrimPrefix(c.Prefix, "/"), e.Query(ctx))
	if err != nil {
		return failf("Error querying Consul agent: %w", err)
	}
	entries := make([]kvEntry, len(pairs))
	for i, p := range pairs {
		entries[i] = kvEntry{Key: p.Key, Flags: p.Flags, Value: base64.StdEncoding.EncodeToString(p.Value)}
	}
	out, err := json.MarshalIndent(entries, "", "\t")
	if err != nil {
		return failf("Error exporting KV data: %w", err)
	}
	return e.printf("%s\n", out)
}

type kvImport struct {
	Prefix string `flag:"prefix" doc:"Path to put in front of every key."`

	Data string `arg:"DATA"`
}

func (*kvImport) Help() string {
	return `DATA is the JSON itself, @FILE for what a file holds, or - for what comes on
standard input. Keys that are not in it stay as they are.`
}

func (c *kvImport) Run(ctx context.Context, e *Env) error {
	data, err := e.data(c.Data)
	if err != nil {
		return failf("Error! Failed to read %w", err)
	}
	var entries []kvEntry
	if err := json.Unmarshal(data, &entries); err != nil {
		return failf("Cannot unmarshal data: %w", err)
	}
	for _, entry := range entries {
		value, err := base64.StdEncoding.DecodeString(entry.Value)
		if err != nil {
			return failf("Error base 64 decoding value for key %s: %w", entry.Key, err)
		}
		pair := &consul.KVPair{Key: c.under(entry.Key), Flags: entry.Flags, Value: value}
		if _, err := e.Client().KV().Put(pair, e.Write(ctx)); err != nil {
			return failf("Error! Failed writing data for key %s: %w", pair.Key, err)
		}
		if err := e.printf("Imported: %s\n", pair.Key); err != nil {
			return err
		}
	}
	return nil
}

// under puts a key under the prefix. The key of a folder keeps its last slash.
func (c *kvImport) under(key string) string {
	if c.Prefix == "" {
		return key
	}
	joined := path.Join(c.Prefix, key)
	if strings.HasSuffix(key, "/") {
		joined += "/"
	}
	return joined
}
