package checks

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strings"

	"isthmus/api"
)

// agentName is how probes introduce themselves.
const agentName = "Consul Health Check"

// httpProbe asks a URL.
type httpProbe struct {
	def     *api.CheckType
	env     *Env
	method  string
	request *http.Request // what every probe sends, but for the body
	wrong   error         // why there is no request
	client  *http.Client
	base    *tls.Config // that the client was made with
}

// newHTTP returns a check that asks a URL and goes by the status of the answer.
// Every probe opens a connection of its own: that it can is part of the check. A
// URL that cannot be asked makes the check critical, not wrong.
func newHTTP(def *api.CheckType, report Report, env *Env) (Runner, error) {
	h := &httpProbe{def: def, env: env, method: cmp.Or(def.Method, http.MethodGet)}
	h.request, h.wrong = h.newRequest()
	h.client = &http.Client{Timeout: timeout(def, defaultTimeout)}
	if def.DisableRedirects {
		h.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	h.useTLS(env.base())
	p := newPoll(def, h.probe, report, env)
	p.timeout = 0 // the client has it
	return p, nil
}

func (h *httpProbe) newRequest() (*http.Request, error) {
	req, err := http.NewRequest(h.method, h.def.HTTP, nil) //nolint:noctx // each probe gives it its own
	if err != nil {
		return nil, err //nolint:wrapcheck // shown to the user
	}
	req.Header = http.Header{"User-Agent": {agentName}, "Accept": {"text/plain, text/*, */*"}}
	for key, values := range h.def.Header {
		req.Header[textproto.CanonicalMIMEHeaderKey(key)] = values
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	req.Header.Del("Host")
	return req, nil
}

// useTLS makes the client's transport, with what TLS begins with.
func (h *httpProbe) useTLS(base *tls.Config) {
	h.base = base
	h.client.Transport = &http.Transport{
		Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, ForceAttemptHTTP2: true,
		TLSClientConfig: tlsFor(base, h.def), MaxResponseHeaderBytes: maxHeader,
	}
}

// maxHeader is how long the header of an answer may be, in bytes.
const maxHeader = 64 << 10

func (h *httpProbe) probe(ctx context.Context) (status, output string) {
	if h.wrong != nil {
		return api.Critical, h.wrong.Error()
	}
	if base := h.env.base(); base != h.base {
		h.useTLS(base)
	}
	req := h.request.WithContext(ctx)
	if h.def.Body != "" {
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(h.def.Body)), int64(len(h.def.Body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(h.def.Body)), nil }
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return api.Critical, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	// The status is the answer; a body that breaks off is shown as far as it came.
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(h.env.MaxOutput)))
	if err != nil {
		h.env.Log.Debug("answer breaks off", "err", err)
	}
	output = fmt.Sprintf("HTTP %s %s: %s Output: %s", h.method, h.request.URL.Redacted(), resp.Status, body)
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode <= 299:
		return api.Passing, output
	case resp.StatusCode == http.StatusTooManyRequests:
		return api.Warning, output
	default:
		return api.Critical, output
	}
}
