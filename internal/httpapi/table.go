package httpapi

import (
	"net/http"
	"slices"
	"strings"
)

// handler answers a request of a route. An error it returns becomes the answer,
// unless it has written one already.
type handler func(q *request) error

// route is one line of the table. A pattern that ends in a slash stands for all
// paths that begin with it.
type route struct {
	method  string
	pattern string
	doc     string
	serve   handler
}

// place is all routes of a pattern.
type place struct {
	pattern string
	methods map[string]handler
	allow   string
	label   string // in metrics
	call    string // in metrics that count routes of the catalog
	// below are the rests of paths that would be another pattern with a slash at
	// their end.
	below map[string]bool
}

// table finds the place of a path: the pattern that equals it, or else the
// longest that it begins with.
type table map[string]*place

// maxDepth is how many slashes a pattern may have.
const maxDepth = 6

func newTable(routes []route) table {
	t := table{}
	for _, r := range routes {
		p := t[r.pattern]
		if p == nil {
			p = &place{
				pattern: r.pattern, methods: map[string]handler{},
				label: strings.ReplaceAll(strings.TrimPrefix(r.pattern, "/"), "/", "_"), call: catalogCalls[r.pattern],
			}
			t[r.pattern] = p
		}
		if p.methods[r.method] != nil || strings.Count(r.pattern, "/") > maxDepth {
			panic("httpapi: route declared twice or too deep: " + r.method + " " + r.pattern)
		}
		p.methods[r.method] = r.serve
	}
	order := []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}
	for _, p := range t {
		allowed := []string{http.MethodOptions}
		for _, m := range order {
			if p.methods[m] != nil {
				allowed = append(allowed, m)
			}
		}
		p.allow = strings.Join(slices.Clip(allowed), ",")
		parent, ok := strings.CutSuffix(p.pattern, "/")
		if parent = parent[:strings.LastIndexByte(parent, '/')+1]; ok && t[parent] != nil {
			t[parent].under(p.pattern[len(parent) : len(p.pattern)-1])
		}
	}
	return t
}

func (p *place) under(rest string) {
	if p.below == nil {
		p.below = map[string]bool{}
	}
	p.below[rest] = true
}

// find returns the place of a path, and the rest of the path after its pattern.
// A path that only lacks the slash at the end of a pattern has no place.
func (t table) find(path string) (found *place, rest string) {
	if p := t[path]; p != nil {
		return p, ""
	}
	end := 0
	for range maxDepth {
		i := strings.IndexByte(path[end:], '/')
		if i < 0 {
			break
		}
		end += i + 1
		if p := t[path[:end]]; p != nil {
			found, rest = p, path[end:]
		}
	}
	if found != nil && (found.pattern == "/" || found.below[rest]) {
		return nil, "" // the root stands for itself alone
	}
	return found, rest
}
