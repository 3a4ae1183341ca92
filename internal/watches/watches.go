// Package watches calls handlers when a view of the catalog or of the key-value
// store changes. A watch asks a node over its HTTP API with blocking reads, through
// the official Go client and its own watch package, so that handlers are given
// what those of Consul are. Settings and the command line name the same parameters.
package watches

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"

	consul "github.com/hashicorp/consul/api"
	"github.com/hashicorp/consul/api/watch"
	"github.com/hashicorp/go-hclog"
)

// unbuilt are the types of watches that there are routes missing for.
var unbuilt = []string{"event", "connect_roots", "connect_leaf"}

// Watch is one view to follow, and the handler that its definition names.
type Watch struct {
	plan    *watch.Plan
	handler handler
}

// Update is a view as it is now.
type Update struct {
	Index uint64 // 0 where there is a hash
	Hash  string
	Value any // of a type of the client
}

// Parse reads a definition: a type with its parameters, and what to call: args,
// handler or http_handler_config.
func Parse(definition map[string]any) (*Watch, error) {
	params := make(map[string]any, len(definition))
	for name, value := range definition {
		params[strings.ToLower(name)] = value
	}
	if kind, _ := params["type"].(string); slices.Contains(unbuilt, kind) {
		return nil, fmt.Errorf("watches of type %s are not built yet", kind)
	}
	if config, ok := single(params["http_handler_config"]).(map[string]any); ok {
		config = maps.Clone(config)
		config["header"] = single(config["header"])
		params["http_handler_config"] = config
	}
	plan, err := watch.ParseExempt(params, []string{"args", "handler"})
	if err != nil {
		return nil, orderly(err, params)
	}
	w := &Watch{plan: plan}
	if w.handler, err = handlerOf(plan); err != nil {
		return nil, err
	}
	return w, nil
}

// single takes the object out of a list of one: in a file, a block and a list of
// one block are the same thing.
func single(v any) any {
	if list, ok := v.([]any); ok && len(list) == 1 {
		return list[0]
	}
	return v
}

// orderly lists parameters that are left over by name, since the library lists
// them as they come.
func orderly(err error, left map[string]any) error {
	if strings.HasPrefix(err.Error(), "Invalid parameters: ") {
		return fmt.Errorf("Invalid parameters: %v", slices.Sorted(maps.Keys(left))) //nolint:staticcheck // the text of the library
	}
	return err
}

// Type is what kind of view is followed.
func (w *Watch) Type() string { return w.plan.Type }

// Follow calls handle with the view as it is, and again after each change, until
// ctx is done or handle wants no more. A node that cannot be asked is asked again later. It may be called
// once.
func (w *Watch) Follow(ctx context.Context, client *consul.Client, log *slog.Logger, handle func(Update) (more bool)) error {
	w.plan.HybridHandler = func(at watch.BlockingParamVal, value any) {
		u := Update{Value: value}
		switch at := at.(type) {
		case watch.WaitIndexVal:
			u.Index = uint64(at)
		case watch.WaitHashVal:
			u.Hash = string(at)
		}
		if !handle(u) {
			w.plan.Stop()
		}
	}
	defer context.AfterFunc(ctx, w.plan.Stop)()
	if err := w.plan.RunWithClientAndHclog(client, bridge(log)); err != nil {
		return fmt.Errorf("watch %s: %w", w.Type(), err)
	}
	return nil
}

// JSON is the view as handlers get it, on one line.
func (u Update) JSON() ([]byte, error) {
	var out bytes.Buffer
	if err := json.NewEncoder(&out).Encode(u.Value); err != nil {
		return nil, fmt.Errorf("encode the view: %w", err)
	}
	return out.Bytes(), nil
}

// Environment says for a script at which index, or under which hash, the view is.
func (u Update) Environment() string {
	if u.Hash != "" {
		return "CONSUL_HASH=" + u.Hash
	}
	return fmt.Sprintf("CONSUL_INDEX=%d", u.Index)
}

// bridge lets the library log into slog.
func bridge(to *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Level: hclog.Off})
	l.RegisterSink(sink{to})
	return l
}

type sink struct{ to *slog.Logger }

// Accept implements hclog.SinkAdapter. All that the library says is that it could
// not read a view and asks again.
func (s sink) Accept(_ string, _ hclog.Level, _ string, args ...any) {
	s.to.Error("the view could not be read", args...)
}

// inProcess asks an HTTP front of the same process, without a socket: watches of
// an agent need neither its address nor a certificate.
type inProcess struct{ front http.Handler }

// RoundTrip implements http.RoundTripper.
func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	// A front may change what it is given, which a RoundTripper must not.
	asked := r.Clone(r.Context())
	asked.RequestURI, asked.RemoteAddr = r.URL.RequestURI(), "127.0.0.1:0"
	if asked.Body == nil {
		asked.Body = http.NoBody
	}
	answer := answer{header: http.Header{}, status: http.StatusOK}
	p.front.ServeHTTP(&answer, asked)
	if err := r.Context().Err(); err != nil {
		return nil, fmt.Errorf("ask this agent: %w", err)
	}
	return answer.response(r), nil
}

// answer collects what a front writes.
type answer struct {
	header http.Header
	status int
	begun  bool
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if !a.begun {
		a.begun, a.status = true, status
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(b []byte) (int, error) {
	a.begun = true
	return a.body.Write(b) //nolint:wrapcheck // never fails
}

func (a *answer) response(r *http.Request) *http.Response {
	return &http.Response{
		Status: fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)), StatusCode: a.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header, Body: body{bytes.NewReader(a.body.Bytes())}, ContentLength: int64(a.body.Len()), Request: r,
	}
}

type body struct{ *bytes.Reader }

// Close implements io.Closer.
func (body) Close() error { return nil }
