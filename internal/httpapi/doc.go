// Package httpapi is the HTTP front: Consul's HTTP API as a table of routes. A
// route parses its request, asks an rpc.Caller or a part of this node, and
// renders the answer. What all routes share (paths, methods, query options, meta
// headers, errors, compression) is in api.go, query.go, errors.go and reply.go.
package httpapi
