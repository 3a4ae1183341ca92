package rpc

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Header is what a caller says of a call besides its argument. On the wire it
// stands in the same flat map as the argument; only this package knows that.
type Header struct {
	Datacenter  string // which datacenter answers; empty is the one asked
	Token       string
	MinIndex    uint64        // wait until the answer is newer than this; 0 does not wait
	MaxWait     time.Duration // how long to wait; 0 is the server's default
	AllowStale  bool          // any server may answer
	Consistent  bool          // the leader makes sure that it still leads
	NotModified bool          // an unchanged answer may come empty
	Filter      string
	MaxStale    time.Duration // the agent asks again when an answer is older; servers ignore it

	// The agent's cache reads these; servers ignore them.
	UseCache       bool
	MustRevalidate bool
	MaxAge         time.Duration
	StaleIfError   time.Duration
}

// Wait is how long a blocking read waits: what was asked for within limits, and a
// random part, so that readers that came together do not return together.
func (h *Header) Wait() time.Duration {
	wait := h.MaxWait
	if wait <= 0 {
		wait = DefaultWait
	}
	wait = min(wait, MaxWait)
	return wait + rand.N(wait/JitterFraction+1) //nolint:gosec // spreads load, hides nothing
}

// Meta is what a server says of an answer.
type Meta struct {
	Index       uint64        // at which the answer last changed
	LastContact time.Duration // since the answering server heard its leader; 0 on the leader
	KnownLeader bool
	NotModified bool
	Consistency string // filled by agents: leader, stale or consistent
	Filtered    bool   // the token may not see all of it

	// Of a Cache alone, and not on the wire.
	Cached bool          // the answer went through a cache
	Hit    bool          // and was there already
	Age    time.Duration // for how long it may be out of date; 0 while the servers are in touch
}

// field is one pair of the flat map: a name and how its value is written.
type field struct {
	name  string
	write func(b []byte) []byte
}

// readFields are the query options, sorted by name, without the datacenter.
func (h *Header) readFields() []field {
	return []field{
		{"AllowNotModifiedResponse", func(b []byte) []byte { return appendBool(b, h.NotModified) }},
		{"AllowStale", func(b []byte) []byte { return appendBool(b, h.AllowStale) }},
		{"Filter", func(b []byte) []byte { return appendText(b, h.Filter) }},
		{"MaxAge", func(b []byte) []byte { return appendInt(b, int64(h.MaxAge)) }},
		{"MaxQueryTime", func(b []byte) []byte { return appendInt(b, int64(h.MaxWait)) }},
		{"MaxStaleDuration", func(b []byte) []byte { return appendInt(b, int64(h.MaxStale)) }},
		{"MinQueryIndex", func(b []byte) []byte { return appendUint(b, h.MinIndex) }},
		{"MustRevalidate", func(b []byte) []byte { return appendBool(b, h.MustRevalidate) }},
		{"RequireConsistent", func(b []byte) []byte { return appendBool(b, h.Consistent) }},
		{"StaleIfError", func(b []byte) []byte { return appendInt(b, int64(h.StaleIfError)) }},
		{"Token", func(b []byte) []byte { return appendText(b, h.Token) }},
		{"UseCache", func(b []byte) []byte { return appendBool(b, h.UseCache) }},
	}
}

func (m *Meta) fields() []field {
	return []field{
		{"Backend", func(b []byte) []byte { return append(b, 0) }},
		{"ConsistencyLevel", func(b []byte) []byte { return appendText(b, m.Consistency) }},
		{"Index", func(b []byte) []byte { return appendUint(b, m.Index) }},
		{"KnownLeader", func(b []byte) []byte { return appendBool(b, m.KnownLeader) }},
		{"LastContact", func(b []byte) []byte { return appendInt(b, int64(m.LastContact)) }},
		{"NotModified", func(b []byte) []byte { return appendBool(b, m.NotModified) }},
		{"ResultsFilteredByACLs", func(b []byte) []byte { return appendBool(b, m.Filtered) }},
	}
}

// with returns fields with one more in its place. Names are unique.
func with(fields []field, f field) []field {
	at := 0
	for at < len(fields) && fields[at].name < f.name {
		at++
	}
	fields = append(fields, field{})
	copy(fields[at+1:], fields[at:])
	fields[at] = f
	return fields
}

// merge writes one map from sorted fields and the pairs of body, which is an
// encoded map with sorted names. A name in both is written once, from fields.
func merge(dst []byte, fields []field, body []byte) ([]byte, error) {
	n, pairs, err := mapLen(body)
	if err != nil {
		return nil, err
	}
	type pair struct {
		name string
		raw  []byte // name and value
	}
	own := make([]pair, n)
	for i := range own {
		name, rest, err := text(pairs)
		if err != nil {
			return nil, err
		}
		if rest, err = skip(rest); err != nil {
			return nil, err
		}
		own[i] = pair{name, pairs[:len(pairs)-len(rest)]}
		pairs = rest
	}
	own = slices.DeleteFunc(own, func(p pair) bool {
		return slices.ContainsFunc(fields, func(f field) bool { return f.name == p.name })
	})
	dst = appendMapLen(dst, len(own)+len(fields))
	for len(own) > 0 || len(fields) > 0 {
		if len(fields) == 0 || len(own) > 0 && own[0].name < fields[0].name {
			dst = append(dst, own[0].raw...)
			own = own[1:]
			continue
		}
		dst = fields[0].write(appendText(dst, fields[0].name))
		fields = fields[1:]
	}
	return dst, nil
}

// each calls visit with every pair of an encoded map: its name and the bytes
// that begin with its value.
func each(b []byte, visit func(name, value []byte) error) error {
	n, b, err := mapLen(b)
	if err != nil {
		return err
	}
	for range n {
		var name []byte
		if name, b, err = rawText(b); err != nil {
			return err
		}
		rest, err := skip(b)
		if err != nil {
			return err
		}
		if err := visit(name, b[:len(b)-len(rest)]); err != nil {
			return fmt.Errorf("field %s: %w", name, err)
		}
		b = rest
	}
	return nil
}

// decodeHeader takes the header out of a flat map. route is the name of the
// field that says which datacenter answers.
func decodeHeader(b []byte, route string) (Header, error) {
	var h Header
	err := each(b, func(name, v []byte) (err error) {
		var n int64
		switch string(name) {
		case route:
			h.Datacenter, _, err = text(v)
		case "Token":
			h.Token, _, err = text(v)
		case "MinQueryIndex":
			n, err = integer(v)
			h.MinIndex = uint64(max(n, 0))
		case "MaxQueryTime":
			n, err = integer(v)
			h.MaxWait = time.Duration(n)
		case "AllowStale":
			h.AllowStale, err = boolean(v)
		case "RequireConsistent":
			h.Consistent, err = boolean(v)
		case "AllowNotModifiedResponse":
			h.NotModified, err = boolean(v)
		case "Filter":
			h.Filter, _, err = text(v)
		}
		return err
	})
	return h, err
}

// decodeMeta takes the meta out of a flat map, and the value of the field named
// reply, if any.
func decodeMeta(b []byte, reply string) (m Meta, value []byte, err error) {
	err = each(b, func(name, v []byte) (err error) {
		var n int64
		switch string(name) {
		case reply:
			value = v
		case "Index":
			n, err = integer(v)
			m.Index = uint64(max(n, 0))
		case "LastContact":
			n, err = integer(v)
			m.LastContact = time.Duration(n)
		case "KnownLeader":
			m.KnownLeader, err = boolean(v)
		case "NotModified":
			m.NotModified, err = boolean(v)
		case "ConsistencyLevel":
			m.Consistency, _, err = text(v)
		case "ResultsFilteredByACLs":
			m.Filtered, err = boolean(v)
		}
		return err
	})
	return m, value, err
}
