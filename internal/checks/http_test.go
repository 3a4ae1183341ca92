package checks

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"isthmus/api"
)

// target answers in the ways that a check may meet.
func target(t *testing.T) http.Handler {
	t.Helper()
	mux := http.NewServeMux()
	for _, code := range []int{200, 204, 299, 301, 404, 429, 500} {
		mux.HandleFunc(fmt.Sprintf("/%d", code), func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			if code != http.StatusNoContent {
				_, _ = fmt.Fprintf(w, "body of %d", code)
			}
		})
	}
	mux.Handle("/moved", http.RedirectHandler("/200", http.StatusFound))
	mux.Handle("/loop", http.RedirectHandler("/loop", http.StatusFound))
	mux.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) {
		for { // until the check has seen enough
			if _, err := io.WriteString(w, strings.Repeat("x", 8192)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/stuck", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "begun")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		header, _ := json.Marshal(r.Header)
		_, _ = fmt.Fprintf(w, "%s %s %s %s", r.Method, r.Host, header, body)
	})
	return mux
}

func TestHTTP(t *testing.T) {
	s := httptest.NewServer(target(t))
	defer s.Close()
	url := s.URL
	host := strings.TrimPrefix(url, "http://")
	for _, c := range []struct {
		name           string
		def            api.CheckType
		status, output string
	}{
		{"200", api.CheckType{HTTP: url + "/200"}, api.Passing, "HTTP GET " + url + "/200: 200 OK Output: body of 200"},
		{"204", api.CheckType{HTTP: url + "/204"}, api.Passing, "HTTP GET " + url + "/204: 204 No Content Output: "},
		{"299", api.CheckType{HTTP: url + "/299"}, api.Passing, "HTTP GET " + url + "/299: 299 status code 299 Output: body of 299"},
		{"429", api.CheckType{HTTP: url + "/429"}, api.Warning, "HTTP GET " + url + "/429: 429 Too Many Requests Output: body of 429"},
		{"404", api.CheckType{HTTP: url + "/404"}, api.Critical, "HTTP GET " + url + "/404: 404 Not Found Output: body of 404"},
		{"500", api.CheckType{HTTP: url + "/500"}, api.Critical, "HTTP GET " + url + "/500: 500 Internal Server Error Output: body of 500"},
		{"redirect", api.CheckType{HTTP: url + "/moved"}, api.Passing, "HTTP GET " + url + "/moved: 200 OK Output: body of 200"},
		{
			"redirect that is not followed",
			api.CheckType{HTTP: url + "/moved", DisableRedirects: true},
			api.Critical,
			"HTTP GET " + url + "/moved: 302 Found Output: <a href=\"/200\">Found</a>.\n\n",
		},
		{"redirects without an end", api.CheckType{HTTP: url + "/loop"}, api.Critical, `Get "/loop": stopped after 10 redirects`},
		{
			"body without an end",
			api.CheckType{HTTP: url + "/big"},
			api.Passing,
			"HTTP GET " + url + "/big: 200 OK Output: " + strings.Repeat("x", 4096),
		},
		{"output limit", api.CheckType{HTTP: url + "/big", OutputMaxSize: 3}, api.Passing, "HTTP GET " + url + "/big: 200 OK Output: xxx"},
		{
			"no answer",
			api.CheckType{HTTP: url + "/hang", Timeout: seconds(0.2)},
			api.Critical,
			`Get "` + url + `/hang": context deadline exceeded (Client.Timeout exceeded while awaiting headers)`,
		},
		{
			"body that stops",
			api.CheckType{HTTP: url + "/stuck", Timeout: seconds(0.5)},
			api.Passing,
			"HTTP GET " + url + "/stuck: 200 OK Output: begun",
		},
		{
			"what is sent", api.CheckType{HTTP: url + "/echo"}, api.Passing, "HTTP GET " + url + "/echo: 200 OK Output: GET " + host +
				` {"Accept":["text/plain, text/*, */*"],"Accept-Encoding":["gzip"],"Connection":["close"],"User-Agent":["Consul Health Check"]} `,
		},
		{
			"what is asked to be sent", api.CheckType{HTTP: url + "/echo", Method: "post", Body: "hello", Header: map[string][]string{
				"x-Foo": {"a", "b"}, "Host": {"example.com"}, "user-agent": {"me"}, "Accept": {"q/q"},
			}}, api.Passing, "HTTP post " + url + "/echo: 200 OK Output: post example.com " +
				`{"Accept":["q/q"],"Accept-Encoding":["gzip"],"Connection":["close"],"Content-Length":["5"],"User-Agent":["me"],"X-Foo":["a","b"]} hello`,
		},
		{
			"password",
			api.CheckType{HTTP: "http://u:secret@" + host + "/200"},
			api.Passing,
			"HTTP GET http://u:xxxxx@" + host + "/200: 200 OK Output: body of 200",
		},
		{"method", api.CheckType{HTTP: url, Method: "BA D"}, api.Critical, `net/http: invalid method "BA D"`},
		{"scheme", api.CheckType{HTTP: "htp://x"}, api.Critical, `Get "htp://x": unsupported protocol scheme "htp"`},
		{"URL", api.CheckType{HTTP: "http://x:70%zz99/"}, api.Critical, `parse "http://x:70%zz99/": invalid port ":70%zz99" after host`},
		{
			"refused",
			api.CheckType{HTTP: "http://127.0.0.1:1/"},
			api.Critical,
			`Get "http://127.0.0.1:1/": dial tcp 127.0.0.1:1: connect: connection refused`,
		},
		{"no TLS", api.CheckType{HTTP: "https://" + host}, api.Critical, `Get "https://` + host + `": http: server gave HTTP response to HTTPS client`},
	} {
		t.Run(c.name, func(t *testing.T) { expectFirst(t, c.def, quiet, c.status, c.output) })
	}
}

func TestHTTPS(t *testing.T) {
	s := serveTLS(t, target(t))
	ask := api.CheckType{HTTP: s.URL + "/200"}
	const passes = "200 OK Output: body of 200"
	expect := func(env Env, status, output string) {
		t.Helper()
		if gotStatus, gotOutput := first(t, ask, env); gotStatus != status || !strings.HasSuffix(gotOutput, output) {
			t.Errorf("got %s %q, want %s …%q", gotStatus, gotOutput, status, output)
		}
	}
	expect(quiet, api.Critical, "tls: failed to verify certificate: x509: certificate signed by unknown authority")
	expect(trusting(t, s), api.Passing, passes)
	ask.TLSServerName = "example.com"
	expect(trusting(t, s), api.Passing, passes)
	ask.TLSServerName = "example.net"
	expect(trusting(t, s), api.Critical, "x509: certificate is valid for example.com, *.example.com, not example.net")
	ask.TLSSkipVerify = true
	expect(quiet, api.Passing, passes)
}

func TestHTTPTakesOverOtherMaterial(t *testing.T) {
	s := serveTLS(t, target(t))
	var current atomic.Pointer[tls.Config]
	env := quiet
	env.TLS = current.Load
	got := make(chan string, 10)
	r, err := New(api.CheckType{HTTP: s.URL + "/200", Interval: seconds(1)}, func(status, _ string) { got <- status }, env)
	if err != nil {
		t.Fatal(err)
	}
	defer run(t, r)()
	if status := <-got; status != api.Critical {
		t.Errorf("without material: %s", status)
	}
	current.Store(trusting(t, s).TLS())
	if status := <-got; status != api.Passing {
		t.Errorf("with material: %s", status)
	}
}

func TestThresholdsCountWarningsAsSuccess(t *testing.T) {
	var code atomic.Int32
	code.Store(200)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(code.Load())) }))
	defer s.Close()
	var last string
	h, err := newHTTP(&api.CheckType{HTTP: s.URL, Interval: seconds(60), FailuresBeforeCritical: 2},
		func(status, _ string) { last = status }, &Env{Log: quiet.Log, MaxOutput: 10})
	if err != nil {
		t.Fatal(err)
	}
	p, ok := h.(*poll)
	if !ok {
		t.Fatalf("got %T", h)
	}
	for _, step := range []struct {
		code int32
		want string
	}{{200, api.Passing}, {500, api.Passing}, {429, api.Warning}, {500, api.Warning}, {500, api.Critical}, {200, api.Passing}} {
		code.Store(step.code)
		p.report(p.once(t.Context()))
		if last != step.want {
			t.Errorf("after %d: got %s, want %s", step.code, last, step.want)
		}
	}
}

func BenchmarkHTTP(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") }))
	defer s.Close()
	r, err := newHTTP(&api.CheckType{HTTP: s.URL, Interval: seconds(60), Timeout: seconds(5)}, nil, &Env{Log: quiet.Log, MaxOutput: maxOutput})
	if err != nil {
		b.Fatal(err)
	}
	p, ok := r.(*poll)
	if !ok {
		b.Fatalf("got %T", r)
	}
	b.ReportAllocs()
	for b.Loop() {
		ctx, cancel := context.WithTimeout(b.Context(), 10*time.Second)
		if status, output := p.once(ctx); status != api.Passing {
			b.Fatal(output)
		}
		cancel()
	}
}
