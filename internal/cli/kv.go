package cli

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strings"

	consul "github.com/hashicorp/consul/api"
)

type kvGet struct {
	Base64   bool `flag:"base64"   doc:"Print values in base64."`
	Detailed bool `flag:"detailed" doc:"Print what is known of a key beside its value."`
	Keys     bool `flag:"keys"     doc:"List the keys that begin with KEY_OR_PREFIX, without values."`
	Recurse  bool `flag:"recurse"  doc:"Print all keys that begin with KEY_OR_PREFIX."`

	Separator string `flag:"separator" default:"/" doc:"With -keys, show keys only up to this text behind the prefix; an empty one shows them whole."`

	Key string `arg:"[KEY_OR_PREFIX]"`
}

func (c *kvGet) Run(ctx context.Context, e *Env) error {
	// A key has no leading slash, though people like to write one.
	key := strings.TrimPrefix(c.Key, "/")
	switch {
	case c.Keys:
		separator := c.Separator
		if c.Recurse {
			separator = ""
		}
		keys, _, err := e.Client().KV().Keys(key, separator, e.Query(ctx))
		if err != nil {
			return failf("Error querying Consul agent: %w", err)
		}
		for _, key := range keys {
			if err := e.printf("%s\n", key); err != nil {
				return err
			}
		}
		return nil
	case c.Recurse:
		pairs, _, err := e.Client().KV().List(key, e.Query(ctx))
		if err != nil {
			return failf("Error querying Consul agent: %w", err)
		}
		return c.list(e, pairs)
	case key == "":
		return failf("Error! Missing KEY argument")
	}
	pair, _, err := e.Client().KV().Get(key, e.Query(ctx))
	switch {
	case err != nil:
		return failf("Error querying Consul agent: %w", err)
	case pair == nil:
		return failf("Error! No key exists at: %s", key)
	case c.Detailed:
		return c.detail(e, pair)
	default:
		return e.printf("%s\n", c.value(pair))
	}
}

func (c *kvGet) list(e *Env, pairs consul.KVPairs) error {
	for i, pair := range pairs {
		if !c.Detailed {
			if err := e.printf("%s:%s\n", pair.Key, c.value(pair)); err != nil {
				return err
			}
			continue
		}
		if i > 0 {
			if err := e.printf("\n"); err != nil {
				return err
			}
		}
		if err := c.detail(e, pair); err != nil {
			return err
		}
	}
	return nil
}

func (c *kvGet) detail(e *Env, p *consul.KVPair) error {
	session := p.Session
	if session == "" {
		session = "-"
	}
	value := "Value\n"
	if len(p.Value) > 0 {
		value = fmt.Sprintf(kvDetail, "Value", c.value(p))
	}
	return e.printf(kvDetail+kvDetail+kvDetail+kvDetail+kvDetail+kvDetail+"%s",
		"CreateIndex", p.CreateIndex, "Flags", p.Flags, "Key", p.Key, "LockIndex", p.LockIndex,
		"ModifyIndex", p.ModifyIndex, "Session", session, value)
}

// kvDetail is a line of what is known of a key.
const kvDetail = "%-17s%v\n"

func (c *kvGet) value(p *consul.KVPair) string {
	if c.Base64 {
		return base64.StdEncoding.EncodeToString(p.Value)
	}
	return string(p.Value)
}

type kvPut struct {
	Acquire     bool   `flag:"acquire"      doc:"Take the lock on the key for the session."`
	Base64      bool   `flag:"base64"       doc:"DATA is in base64."`
	CAS         bool   `flag:"cas"          doc:"Write only if the key's modify index is that of -modify-index; 0 is a key that does not exist."`
	Flags       uint64 `flag:"flags"        doc:"Number to keep beside the value."`
	ModifyIndex uint64 `flag:"modify-index" doc:"Modify index that -cas compares with."`
	Release     bool   `flag:"release"      doc:"Give up the session's lock on the key."`
	Session     string `flag:"session"      doc:"ID of the session for -acquire and -release."`

	Key  string `arg:"KEY"`
	Data string `arg:"[DATA]"`
}

func (*kvPut) Help() string {
	return `DATA is the value itself, @FILE for what a file holds, or - for what comes on
standard input. Without DATA the value is empty.`
}

func (c *kvPut) Run(ctx context.Context, e *Env) error {
	if (c.Acquire || c.Release) && c.Session == "" {
		return failf("Error! Missing -session (required with -acquire and -release)")
	}
	pair := &consul.KVPair{Key: c.Key, Flags: c.Flags, Session: c.Session, ModifyIndex: c.ModifyIndex}
	var err error
	if pair.Value, err = e.data(c.Data); err != nil {
		return failf("Error! Failed to read %w", err)
	}
	if c.Base64 {
		value, err := base64.StdEncoding.DecodeString(string(pair.Value))
		if err != nil {
			return failf("Error! Cannot base 64 decode data: %w", err)
		}
		pair.Value = value
	}
	done, err := c.put(ctx, e, pair)
	if err != nil {
		return err
	}
	return e.printf("%s: %s\n", done, c.Key)
}

// put writes the pair and yields what it then says of the key.
func (c *kvPut) put(ctx context.Context, e *Env, pair *consul.KVPair) (string, error) {
	kv, opts := e.Client().KV(), e.Write(ctx)
	var (
		ok      = true
		err     error
		done    = "Success! Data written to"
		refused string
	)
	switch {
	case c.CAS:
		refused = fmt.Sprintf("Error! Did not write to %s: CAS failed", c.Key)
		if c.ModifyIndex == 0 {
			refused = fmt.Sprintf("Error! Did not write to %s: CAS performed with index=0 and key already exists.", c.Key)
		}
		ok, _, err = kv.CAS(pair, opts)
	case c.Acquire:
		done, refused = "Success! Lock acquired on", "Error! Did not acquire lock"
		ok, _, err = kv.Acquire(pair, opts)
	case c.Release:
		done, refused = "Success! Lock released on", "Error! Did not release lock"
		ok, _, err = kv.Release(pair, opts)
	default:
		_, err = kv.Put(pair, opts)
	}
	if err != nil {
		return "", failf("Error! Failed writing data: %w", err)
	}
	if !ok {
		return "", failf("%s", refused)
	}
	return done, nil
}

// data is what an argument stands for: itself, a file, or standard input.
func (e *Env) data(arg string) ([]byte, error) {
	if arg == "-" {
		data, err := io.ReadAll(e.Stdin)
		if err != nil {
			return nil, fmt.Errorf("stdin: %w", err)
		}
		return data, nil
	}
	if path, ok := strings.CutPrefix(arg, "@"); ok {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("file: %w", err)
		}
		return data, nil
	}
	return []byte(arg), nil
}

type kvDelete struct {
	CAS         bool   `flag:"cas"          doc:"Delete only if the key's modify index is that of -modify-index."`
	ModifyIndex uint64 `flag:"modify-index" doc:"Modify index that -cas compares with."`
	Recurse     bool   `flag:"recurse"      doc:"Delete all keys that begin with KEY_OR_PREFIX."`

	Key string `arg:"[KEY_OR_PREFIX]"`
}

func (c *kvDelete) Run(ctx context.Context, e *Env) error {
	key := strings.TrimPrefix(c.Key, "/")
	if err := c.check(key); err != nil {
		return err
	}
	kv := e.Client().KV()
	switch {
	case c.Recurse:
		if _, err := kv.DeleteTree(key, e.Write(ctx)); err != nil {
			return failf("Error! Did not delete prefix %s: %w", key, err)
		}
		return e.printf("Success! Deleted keys with prefix: %s\n", key)
	case c.CAS:
		ok, _, err := kv.DeleteCAS(&consul.KVPair{Key: key, ModifyIndex: c.ModifyIndex}, e.Write(ctx))
		if err != nil {
			return failf("Error! Did not delete key %s: %w", key, err)
		}
		if !ok {
			return failf("Error! Did not delete key %s: CAS failed", key)
		}
	default:
		if _, err := kv.Delete(key, e.Write(ctx)); err != nil {
			return failf("Error deleting key %s: %w", key, err)
		}
	}
	return e.printf("Success! Deleted key: %s\n", key)
}

// check refuses flags that do not go together.
func (c *kvDelete) check(key string) error {
	switch {
	case key == "" && !c.Recurse:
		return failf("Error! Missing KEY argument")
	case c.CAS && c.Recurse:
		return failf("Cannot specify both -cas and -recurse!")
	case c.CAS && c.ModifyIndex == 0:
		return failf("Cannot delete a key that does not exist. Provide a -modify-index greater than 0.")
	case !c.CAS && c.ModifyIndex != 0:
		return failf("Cannot specify -modify-index without -cas!")
	default:
		return nil
	}
}
