package checks

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"isthmus/api"
)

// first runs a check until it has said something, and makes sure that nothing of
// it is left afterwards.
func first(t *testing.T, def api.CheckType, env Env) (status, output string) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	type result struct{ status, output string }
	got := make(chan result, 10)
	if def.Interval == 0 && def.AliasNode == "" && def.AliasService == "" {
		def.Interval = seconds(60)
	}
	r, err := New(def, func(status, output string) { got <- result{status, output} }, env)
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, r)
	var res result
	select {
	case res = <-got:
	case <-time.After(20 * time.Second):
		t.Error("the check says nothing")
	}
	stop()
	goleak.VerifyNone(t, before)
	return res.status, res.output
}

func expectFirst(t *testing.T, def api.CheckType, env Env, status, output string) {
	t.Helper()
	if gotStatus, gotOutput := first(t, def, env); gotStatus != status || gotOutput != output {
		t.Errorf("got %s %q, want %s %q", gotStatus, gotOutput, status, output)
	}
}

// trusting is an agent's TLS with the CA of s.
func trusting(t *testing.T, s *httptest.Server) Env {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	base := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	env := quiet
	env.TLS = func() *tls.Config { return base }
	return env
}

func serveTLS(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // what clients refuse is meant to be refused
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// holding is a file that a script writes its process id to.
func holding(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "pid")
}

// eventually waits until ok, for as long as a loaded machine may need.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
