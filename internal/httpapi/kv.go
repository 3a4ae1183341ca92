package httpapi

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// kvGet shows an entry, the entries of a prefix (?recurse) or their keys (?keys).
func kvGet(q *request) error {
	h, err := q.read()
	if err != nil {
		return err
	}
	switch {
	case q.has("keys"):
		in := wire.KeysQuery{Prefix: q.rest, Seperator: q.query.Get("separator")}
		keys, meta, err := ask(q, wire.KVKeys, h, in)
		if err != nil {
			return err
		}
		q.meta(meta)
		if len(keys) == 0 {
			return q.missing()
		}
		return q.json(keys)
	case q.has("recurse"):
		return kvShow(q, wire.KVList, h)
	case q.rest == "":
		return errNoKey
	}
	return kvShow(q, wire.KVGet, h)
}

var errNoKey = api.Errorf(api.Invalid, "Missing key name")

// missing answers that there is nothing. The headers tell at which index, so that
// the caller can wait for it.
func (q *request) missing() error {
	q.w.WriteHeader(http.StatusNotFound)
	return nil
}

func kvShow(q *request, m rpc.Method[wire.KeyQuery, []*api.KVPair], h rpc.Header) error {
	entries, meta, err := ask(q, m, h, wire.KeyQuery{Key: q.rest})
	if err != nil {
		return err
	}
	q.meta(meta)
	if len(entries) == 0 {
		return q.missing()
	}
	if q.has("raw") && len(entries) == 1 {
		header := q.w.Header()
		// Whoever may write a key must not thereby run scripts in a reader's browser.
		header.Set("Content-Type", "text/plain")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Content-Security-Policy", "sandbox")
		q.send(entries[0].Value)
		return nil
	}
	return q.json(rows[*api.KVPair]{entries, appendKV})
}

// appendKV writes an entry. An empty value is null.
func appendKV(out []byte, e *api.KVPair) []byte {
	// Without the room for names and numbers, out would grow three times.
	out = slices.Grow(out, len(e.Key)+base64.StdEncoding.EncodedLen(len(e.Value))+160)
	out = append(out, `{"LockIndex":`...)
	out = strconv.AppendUint(out, e.LockIndex, 10)
	out = appendField(out, `,"Key":`, e.Key)
	out = append(out, `,"Flags":`...)
	out = strconv.AppendUint(out, e.Flags, 10)
	if len(e.Value) == 0 {
		out = append(out, `,"Value":null`...)
	} else {
		out = append(out, `,"Value":"`...)
		out = base64.StdEncoding.AppendEncode(out, e.Value)
		out = append(out, '"')
	}
	out = appendGiven(out, `,"Session":`, e.Session)
	return appendIndex(out, e.RaftIndex)
}

// conflict refuses parameters that exclude each other.
func (q *request) conflict(names ...string) error {
	n := 0
	for _, name := range names {
		if q.has(name) {
			n++
		}
	}
	if n > 1 {
		return api.Errorf(api.Invalid, "Conflicting flags: %s", q.query.Encode())
	}
	return nil
}

func kvPut(q *request) error {
	if q.rest == "" {
		return errNoKey
	}
	if err := q.conflict("cas", "acquire", "release"); err != nil {
		return err
	}
	if q.has("acquire") || q.has("release") {
		return api.Errorf(api.NotBuilt, "sessions, and with them ?acquire and ?release, are not built yet")
	}
	in := wire.KVRequest{Op: wire.KVSet, DirEnt: api.KVPair{Key: q.rest}}
	var err error
	if in.DirEnt.Flags, err = q.number("flags"); err != nil {
		return err
	}
	if q.has("cas") {
		in.Op = wire.KVCAS
		if in.DirEnt.ModifyIndex, err = q.number("cas"); err != nil {
			return err
		}
	}
	if in.DirEnt.Value, err = q.value(); err != nil {
		return err
	}
	return kvApply(q, in)
}

func kvDelete(q *request) error {
	in := wire.KVRequest{Op: wire.KVDelete, DirEnt: api.KVPair{Key: q.rest}}
	if err := q.conflict("recurse", "cas"); err != nil {
		return err
	}
	switch {
	case q.has("recurse"):
		in.Op = wire.KVDeleteTree
	case q.rest == "":
		return errNoKey
	case q.has("cas"):
		in.Op = wire.KVDeleteCAS
		var err error
		if in.DirEnt.ModifyIndex, err = q.number("cas"); err != nil {
			return err
		}
	}
	return kvApply(q, in)
}

func kvApply(q *request, in wire.KVRequest) error {
	done, err := change(q, wire.KVApply, q.write(), in)
	if err != nil {
		return err
	}
	// Only a condition can be unmet. Servers of another make say false to any
	// other write as well.
	return q.json(done || in.Op != wire.KVCAS && in.Op != wire.KVDeleteCAS)
}

// valueHelp is where the reference sends whoever wants to store more.
const valueHelp = "See https://www.consul.io/docs/agent/config/config-files#kv_max_value_size."

// value reads the body, which is a key's value.
func (q *request) value() ([]byte, error) {
	limit := int64(min(q.api.cfg.MaxValueSize, 1<<40))
	if q.ContentLength > limit {
		q.w.Header().Set("Connection", "close") // the body is not read
		return nil, api.Errorf(api.TooLarge, "Request body(%d bytes) too large, max size: %d bytes. %s", q.ContentLength, limit, valueHelp)
	}
	b, err := q.readBody(limit)
	if errors.As(err, new(*http.MaxBytesError)) {
		return nil, api.Errorf(api.TooLarge, "Request body too large, max size: %d bytes. %s", limit, valueHelp)
	}
	if len(b) == 0 {
		b = nil
	}
	return b, err
}

// bodyWithin is how long a caller may take to send a body.
const bodyWithin = time.Minute

// readBody reads the body, up to a limit and a time.
func (q *request) readBody(limit int64) ([]byte, error) {
	if q.ContentLength == 0 {
		return nil, nil
	}
	control := http.NewResponseController(q.w)
	if control.SetReadDeadline(time.Now().Add(bodyWithin)) == nil {
		defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	}
	body := http.MaxBytesReader(q.w, q.Body, limit)
	if n := q.ContentLength; n > 0 && n <= limit {
		b := make([]byte, n)
		_, err := io.ReadFull(body, b)
		return b, err //nolint:wrapcheck // the caller knows what it read
	}
	return io.ReadAll(body) //nolint:wrapcheck // the caller knows what it read
}
