package state

import (
	"fmt"

	"isthmus/internal/rpc"
	"isthmus/internal/store"
)

// Command is one kind of log entry: its protocol number, and what it does.
type Command[In, Out any] struct {
	ID    byte
	Name  string
	Bare  bool                // In stands in the log alone, without the fields that all requests have
	Op    func(in *In) string // which of several things it does; nil where it is but one
	Apply func(w *store.WriteTx, in *In) (Out, error)
}

// Entry encodes an entry of the log: the type byte and the request, as the
// protocol has it.
func (c *Command[In, Out]) Entry(datacenter string, in *In) ([]byte, error) {
	var body []byte
	var err error
	if c.Bare {
		body, err = rpc.Marshal(in)
	} else {
		body, err = rpc.EncodeBody(datacenter, in)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", c.Name, err)
	}
	return append([]byte{c.ID}, body...), nil
}

// number and run are what Commands needs of a command of any type.
func (c *Command[In, Out]) number() byte { return c.ID }

// run applies an encoded request, and tells its operation. The result is Out, or
// an error.
func (c *Command[In, Out]) run(w *store.WriteTx, body []byte) (result any, op string) {
	in := new(In)
	if err := rpc.Unmarshal(body, in); err != nil {
		return fmt.Errorf("decode %s: %w", c.Name, err), ""
	}
	if c.Op != nil {
		op = c.Op(in)
	}
	out, err := c.Apply(w, in)
	if err != nil {
		return err, op
	}
	return out, op
}

type anyCommand interface {
	number() byte
	run(w *store.WriteTx, body []byte) (result any, op string)
}

// commands lists every log command. Numbers are the protocol's (rpc-facts §4) and
// stay for ever.
var commands = []anyCommand{&Register, &Deregister, &KVApply, &CoordinateUpdate, &CAApply, &FederationApply}
