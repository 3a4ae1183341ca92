package rpc

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
)

// Flat as a method's Reply means: the fields of the answer stand beside the meta
// in one map.
const Flat = "*"

// Desc is what is known of a method without its types.
type Desc struct {
	Name    string
	Write   bool   // changes state: carries a token but no query options, and only a leader answers
	Primary bool   // the primary datacenter answers, whichever was named
	Local   bool   // never forwarded: the request names no datacenter
	Bare    bool   // a local one whose argument has no header beside it
	Reply   string // see Method
	Route   string // see Method
}

// Method is one call that servers answer: its name and its types on both ends.
type Method[In, Out any] struct {
	Name    string
	Write   bool
	Primary bool
	Local   bool
	Bare    bool
	// Reply is the field that the answer stands in beside the meta, or Flat, or
	// empty when the answer is Out alone, without meta.
	Reply string
	// Route is the field that names the datacenter which answers; empty is
	// "Datacenter".
	Route string
}

// Desc returns what is known of the method without its types.
func (m Method[In, Out]) Desc() Desc {
	route := m.Route
	if route == "" {
		route = "Datacenter"
	}
	return Desc{m.Name, m.Write, m.Primary, m.Local, m.Bare, m.Reply, route}
}

// Request is one call on its way. In and Out are pointers to the method's types;
// whoever answers fills Out.
type Request struct {
	Desc

	Header Header
	In     any
	Out    any
}

// Caller answers requests: this process, one server, or a choice of servers. It
// is all that fronts know of the rest.
type Caller interface {
	Call(ctx context.Context, r *Request) (Meta, error)
}

// Call asks c and returns the answer.
func (m Method[In, Out]) Call(ctx context.Context, c Caller, h Header, in In) (Out, Meta, error) {
	var out Out
	meta, err := c.Call(ctx, &Request{Desc: m.Desc(), Header: h, In: &in, Out: &out})
	return out, meta, err
}

// Update is an answer of Watch.
type Update[Out any] struct {
	Out  Out
	Meta Meta
}

// Watch yields the answer now and again after every change, for as long as ctx
// lives and the loop goes on. It yields errors too and tries again, later each
// time while they last. An index that goes back starts it anew.
func (m Method[In, Out]) Watch(ctx context.Context, c Caller, h Header, in In) iter.Seq2[Update[Out], error] {
	return func(yield func(Update[Out], error) bool) {
		var seen uint64
		backoff := newBackoff(minWatchWait, maxWatchWait)
		for ctx.Err() == nil {
			h.MinIndex = seen
			asked := time.Now()
			out, meta, err := m.Call(ctx, c, h, in)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				if !yield(Update[Out]{}, err) || !backoff.wait(ctx) {
					return
				}
				seen = 0
				continue
			}
			index := max(meta.Index, 1)
			if index == seen {
				// The wait was over, and nothing changed. Whoever does not wait must not be
				// asked without pause.
				if time.Since(asked) < minWatchWait && !backoff.wait(ctx) {
					return
				}
				continue
			}
			backoff.reset()
			if index < seen {
				seen = 0 // restored or rebuilt: read anew
			} else {
				seen = index
			}
			if !yield(Update[Out]{out, meta}, nil) {
				return
			}
		}
	}
}

// Handlers are the methods a process answers. It is itself a Caller: the way to
// call within the process, without any encoding.
type Handlers struct {
	by       map[string]handler
	services map[string]bool
}

type handler struct {
	desc  Desc
	types func() (in, out any)
	serve func(ctx context.Context, r *Request) (Meta, error)
}

// NewHandlers returns an empty set.
func NewHandlers() *Handlers {
	return &Handlers{by: map[string]handler{}, services: map[string]bool{}}
}

// Bind makes f the answer to m. Binding a method twice is a programmer's mistake.
func Bind[In, Out any](x *Handlers, m Method[In, Out], f func(ctx context.Context, h Header, in *In) (Out, Meta, error)) {
	if _, twice := x.by[m.Name]; twice {
		panic("rpc: method bound twice: " + m.Name)
	}
	service, _, _ := strings.Cut(m.Name, ".")
	x.services[service] = true
	x.by[m.Name] = handler{
		desc:  m.Desc(),
		types: func() (in, out any) { return new(In), new(Out) },
		serve: func(ctx context.Context, r *Request) (Meta, error) {
			in, okIn := r.In.(*In)
			out, okOut := r.Out.(*Out)
			if !okIn || !okOut {
				return Meta{}, fmt.Errorf("rpc: %s called with %T and %T", m.Name, r.In, r.Out)
			}
			answer, meta, err := f(ctx, r.Header, in)
			if err != nil {
				return meta, err
			}
			*out = answer
			return meta, nil
		},
	}
}

// Names returns the bound methods in order.
func (x *Handlers) Names() []string { return slices.Sorted(maps.Keys(x.by)) }

// Call implements Caller within the process.
func (x *Handlers) Call(ctx context.Context, r *Request) (Meta, error) {
	h, err := x.lookup(r.Name)
	if err != nil {
		return Meta{}, err
	}
	return h.serve(ctx, r)
}

// lookup finds a method; its errors are those of the protocol's peers.
func (x *Handlers) lookup(name string) (handler, error) {
	h, ok := x.by[name]
	if ok {
		return h, nil
	}
	dot := strings.LastIndexByte(name, '.')
	switch {
	case dot < 0:
		return h, fmt.Errorf("rpc: service/method request ill-formed: %s", name)
	case !x.services[name[:dot]]:
		return h, fmt.Errorf("rpc: can't find service %s", name)
	}
	return h, fmt.Errorf("rpc: can't find method %s", name)
}

// encodeRequest writes the flat map of a request.
func encodeRequest(dst []byte, r *Request) ([]byte, error) {
	body, err := Marshal(r.In)
	if err != nil {
		return nil, err
	}
	if r.Bare {
		return append(dst, body...), nil
	}
	var fields []field
	if r.Write {
		fields = []field{{"Token", func(b []byte) []byte { return appendText(b, r.Header.Token) }}}
	} else {
		fields = r.Header.readFields()
	}
	if !r.Local {
		fields = with(fields, field{r.Route, func(b []byte) []byte { return appendText(b, r.Header.Datacenter) }})
	}
	dst, err = merge(dst, fields, body)
	if err != nil {
		return nil, fmt.Errorf("encode request of %s: %w", r.Name, err)
	}
	return dst, nil
}

// EncodeBody returns the flat map of a write as it stands in the log: the
// argument beside the datacenter and an empty token, which is a secret.
func EncodeBody(datacenter string, in any) ([]byte, error) {
	return encodeRequest(nil, &Request{
		Desc: Desc{Name: "log", Write: true, Route: "Datacenter"}, Header: Header{Datacenter: datacenter}, In: in,
	})
}

// encodeReply writes the body of an answer.
func encodeReply(dst []byte, d Desc, meta *Meta, out any) ([]byte, error) {
	body, err := Marshal(out)
	if err != nil {
		return nil, err
	}
	switch d.Reply {
	case "":
		return append(dst, body...), nil
	case Flat:
		dst, err = merge(dst, meta.fields(), body)
	default:
		fields := with(meta.fields(), field{d.Reply, func(b []byte) []byte { return append(b, body...) }})
		dst, err = merge(dst, fields, []byte{0x80})
	}
	if err != nil {
		return nil, fmt.Errorf("encode answer of %s: %w", d.Name, err)
	}
	return dst, nil
}

// decodeReply reads the body of an answer into r.Out.
func decodeReply(b []byte, r *Request) (Meta, error) {
	if r.Reply == "" {
		return Meta{}, Unmarshal(b, r.Out)
	}
	meta, value, err := decodeMeta(b, r.Reply)
	if err != nil {
		return meta, fmt.Errorf("decode answer of %s: %w", r.Name, err)
	}
	switch {
	case r.Reply == Flat:
		err = Unmarshal(b, r.Out)
	case value != nil:
		err = Unmarshal(value, r.Out)
	}
	return meta, err
}
