package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"isthmus/api"
)

// calledError is an error of a call, as opposed to one of the request's form.
type calledError struct{ error }

func (e calledError) Unwrap() error { return e.error }

// statuses is which status a kind of error becomes: when the request itself is
// wrong, and when a called method said so. Codes that are not listed are 500.
var statuses = map[api.Code]struct{ own, called int }{
	api.Invalid:     {http.StatusBadRequest, http.StatusInternalServerError},
	api.NotFound:    {http.StatusNotFound, http.StatusNotFound},
	api.NotAllowed:  {http.StatusForbidden, http.StatusForbidden},
	api.TooLarge:    {http.StatusRequestEntityTooLarge, http.StatusRequestEntityTooLarge},
	api.RateLimited: {http.StatusTooManyRequests, http.StatusTooManyRequests},
	api.NotBuilt:    {http.StatusNotImplemented, http.StatusNotImplemented},
	api.ACLDisabled: {http.StatusUnauthorized, http.StatusUnauthorized},
}

func statusOf(err error) int {
	code := api.CodeOf(err)
	status := statuses[code]
	switch {
	case status.own == 0:
		return http.StatusInternalServerError
	case code == api.RateLimited && strings.Contains(err.Error(), "only be performed by the leader"):
		// No other server can do it: asking one is no use.
		return http.StatusServiceUnavailable
	case errors.As(err, new(calledError)):
		return status.called
	}
	return status.own
}

// fail answers with an error.
func (a *API) fail(q *request, err error) {
	if q.Context().Err() != nil {
		return // nobody is there to read it
	}
	status := statusOf(err)
	if errors.Is(err, context.Canceled) {
		status, err = http.StatusServiceUnavailable, errStopping
	}
	if status == http.StatusInternalServerError && a.cfg.Log != nil {
		// The query may hold a token, so the path alone is logged.
		a.cfg.Log.Debug("request failed", "method", q.Method, "path", q.URL.Path, "err", err)
	}
	writeError(q.w, status, err.Error())
}

var errStopping = errors.New("this node is stopping")

func writeError(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) //nolint:gosec // plain text by its type, which browsers may not guess
}
