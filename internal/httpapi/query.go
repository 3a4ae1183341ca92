package httpapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"isthmus/api"
	"isthmus/internal/filter"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// has tells whether a parameter is there, with a value or without.
func (q *request) has(name string) bool {
	_, ok := q.query[name]
	return ok
}

// token is the secret that the caller shows.
func (q *request) token() string {
	if t := q.query.Get("token"); t != "" {
		return t
	}
	if t := q.Header.Get("X-Consul-Token"); t != "" {
		return t
	}
	scheme, t, ok := strings.Cut(q.Header.Get("Authorization"), " ")
	if ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(t)
	}
	return ""
}

// write is the header of a change.
func (q *request) write() rpc.Header {
	return rpc.Header{Datacenter: q.query.Get("dc"), Token: q.token()}
}

// read is the header of a read, with the options of the query.
func (q *request) read() (rpc.Header, error) {
	h := q.write()
	if q.query == nil {
		return h, q.cacheControl(&h)
	}
	var err error
	if h.MaxWait, err = spanOf(q.query.Get("wait")); err != nil {
		return h, api.Errorf(api.Invalid, "Invalid wait time")
	}
	if v := q.query.Get("index"); v != "" {
		if h.MinIndex, err = strconv.ParseUint(v, 10, 64); err != nil {
			return h, api.Errorf(api.Invalid, "Invalid index")
		}
	}
	h.AllowStale = q.has("stale")
	h.Consistent = q.has("consistent")
	h.UseCache = q.has("cached")
	h.Filter = q.query.Get("filter")
	if h.MaxStale, err = spanOf(q.query.Get("max_stale")); err != nil {
		return h, api.Errorf(api.Invalid, "Invalid max_stale value %q", q.query.Get("max_stale"))
	}
	h.AllowStale = h.AllowStale || h.MaxStale > 0 && !h.Consistent
	if err := filter.Check(h.Filter); err != nil {
		return h, api.Errorf(api.Invalid, "%w", err)
	}
	switch {
	case h.AllowStale && h.Consistent:
		return h, api.Errorf(api.Invalid, "Cannot specify ?stale with ?consistent, conflicting semantics.")
	case h.UseCache && h.Consistent:
		return h, api.Errorf(api.Invalid, "Cannot specify ?cached with ?consistent, conflicting semantics.")
	case q.query.Get("peer") != "":
		return h, api.Errorf(api.NotBuilt, "reading what was imported from a peer (?peer) is not built yet")
	}
	return h, q.cacheControl(&h)
}

// spanOf reads a duration; an empty text is none.
func spanOf(v string) (time.Duration, error) {
	if v == "" {
		return 0, nil
	}
	return time.ParseDuration(v) //nolint:wrapcheck // the caller has a text of its own
}

// cacheControl takes the options of the agent's cache from the Cache-Control
// header.
func (q *request) cacheControl(h *rpc.Header) error {
	line := q.Header.Get("Cache-Control")
	if line == "" {
		return nil
	}
	for part := range strings.SplitSeq(strings.ToLower(line), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		var into *time.Duration
		switch name {
		case "must-revalidate":
			h.MustRevalidate = true
			continue
		case "max-age":
			into = &h.MaxAge
		case "stale-if-error":
			into = &h.StaleIfError
		default:
			continue
		}
		seconds, err := strconv.ParseInt(value, 10, 32)
		if err != nil || seconds < 0 {
			return api.Errorf(api.Invalid, "Invalid Cache-Control header.")
		}
		*into = time.Duration(seconds) * time.Second
		if name == "max-age" && seconds == 0 {
			h.MustRevalidate = true
		}
	}
	return nil
}

// source is the node to sort an answer by the distance from, of ?near.
func (q *request) source() wire.Source {
	node := q.query.Get("near")
	switch node {
	case "":
		return wire.Source{}
	case "_agent":
		node = q.api.cfg.Node
	}
	return wire.Source{Datacenter: q.api.cfg.Datacenter, Node: node}
}

// nodeMeta is what the metadata of a node must hold, from ?node-meta=key:value.
func (q *request) nodeMeta() map[string]string {
	given := q.query["node-meta"]
	if len(given) == 0 {
		return nil
	}
	out := make(map[string]string, len(given))
	for _, pair := range given {
		key, value, _ := strings.Cut(pair, ":")
		out[key] = value
	}
	return out
}

// number is a parameter that is a number; it is 0 when the parameter is absent.
func (q *request) number(name string) (uint64, error) {
	v := q.query.Get(name)
	if v == "" && !q.has(name) {
		return 0, nil
	}
	return strconv.ParseUint(v, 10, 64) //nolint:wrapcheck // the text is the protocol's
}

// acceptsGzip tells whether the caller can read a compressed answer.
func acceptsGzip(h http.Header) bool {
	for _, line := range h["Accept-Encoding"] {
		for part := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
			name = strings.TrimSpace(name)
			if !strings.EqualFold(name, "gzip") && name != "*" {
				continue
			}
			value, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
			weight, err := strconv.ParseFloat(value, 64)
			return !ok || err == nil && weight > 0
		}
	}
	return false
}
