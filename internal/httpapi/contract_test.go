package httpapi

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

// bodied are the routes that read a body, and whether as JSON.
var bodied = map[string]bool{
	"/v1/kv/a": false, "/v1/agent/service/register": true, "/v1/agent/check/register": true, "/v1/agent/check/update/c": true,
	"/v1/catalog/register": true, "/v1/catalog/deregister": true, "/v1/coordinate/update": true,
}

// It fails when a route that changes something is in neither
// list, so that whoever adds one says whether it reads a body.
func TestEveryRouteThatChangesSomethingIsListed(t *testing.T) {
	bodiless := []string{
		"/v1/agent/join/", "/v1/agent/leave", "/v1/agent/force-leave/", "/v1/agent/maintenance", "/v1/agent/reload",
		"/v1/agent/service/deregister/", "/v1/agent/service/maintenance/", "/v1/agent/check/deregister/", "/v1/agent/check/pass/",
		"/v1/agent/check/warn/", "/v1/agent/check/fail/", "/v1/connect/ca/configuration", "/v1/agent/token/",
	}
	listed := map[string]bool{}
	for _, pattern := range bodiless {
		listed[pattern] = true
	}
	tbl := newTable(routes())
	for target := range bodied {
		p, _ := tbl.find(target)
		listed[p.pattern] = true
	}
	for _, r := range routes() {
		if r.method == put && r.doc != "" && !listed[r.pattern] {
			t.Errorf("%s %s is not listed here", r.method, r.pattern)
		}
	}
}

func TestBodiesThatAreTooLongAreRefusedUnread(t *testing.T) {
	a := New(config(fakeCaller{}))
	for target, json := range bodied {
		limit := DefaultMaxValueSize
		if json {
			limit = maxBody
		}
		for _, c := range []struct {
			length int64
			most   int // of what is read
		}{{int64(limit) + 1, 0}, {1 << 40, 0}, {1<<63 - 1, 0}, {-1, limit + 64<<10}} {
			body := &endless{}
			r := httptest.NewRequestWithContext(t.Context(), put, target, body)
			r.ContentLength = c.length
			w := httptest.NewRecorder()
			a.ServeHTTP(w, r)
			if w.Code != http.StatusRequestEntityTooLarge || body.read > c.most || !strings.Contains(w.Body.String(), fmt.Sprint(limit)) {
				t.Errorf("%s of %d: got %d %q after %d bytes", target, c.length, w.Code, w.Body, body.read)
			}
		}
	}
}

// A caller that asks first is not told to go on, and one that does not is not
// waited for.
func TestNobodyIsAskedForABodyThatIsTooLong(t *testing.T) {
	addr, _ := listen(t, New(config(fakeCaller{})), 0)
	for target := range bodied {
		for _, expect := range []string{"Expect: 100-continue\r\n", ""} {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			_, _ = fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n%s\r\n", target, expect)
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil || !strings.HasPrefix(line, "HTTP/1.1 413 ") {
				t.Errorf("%s %s: got %q (%v)", target, expect, line, err)
			}
			_ = conn.Close()
		}
	}
}

func TestABodyInPiecesIsReadWhole(t *testing.T) {
	f := fakeCaller{}
	var got []byte
	on(f, wire.KVApply, func(_ rpc.Header, in *wire.KVRequest) (bool, rpc.Meta, error) {
		got = in.DirEnt.Value
		return true, rpc.Meta{}, nil
	})
	addr, _ := listen(t, New(config(f)), 0)
	r, w := io.Pipe()
	go func() {
		for _, piece := range []string{"in ", "some ", "pieces"} {
			_, _ = io.WriteString(w, piece)
		}
		_ = w.Close()
	}()
	req, err := http.NewRequestWithContext(t.Context(), put, "http://"+addr+"/v1/kv/a", r)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if string(got) != "in some pieces" {
		t.Errorf("got %q", got)
	}
}

func TestAWrongBodyIsRefusedWithTheNameOfItsField(t *testing.T) {
	wrong := map[string]string{
		`{"Name":1}`:                     "Name", // of another type
		`{"Node":["n"]}`:                 "Node",
		`{"Status":{}}`:                  "Status",
		`{"Nonsense":1}`:                 `"Nonsense"`,
		`{"ServiceID":"x","Foo":{}}`:     `"Foo"`,
		`{"Name":"x","Port":"80"}`:       "Port",
		`{"Name":"x","TTL":{"a":1}}`:     "TTL",
		`{"Check":{"Nonsense":1}}`:       `"Nonsense"`,
		`{"Service":{"Nonsense":1}}`:     `"Nonsense"`,
		`{"Coord":{"Vec":"x"}}`:          "Vec",
		`{"Checks":[{"Interval":true}]}`: "",
		`[]`:                             "array",
		`"text"`:                         "string",
		`{"Name":`:                       "unexpected EOF",
		`{"Name":"x"} {`:                 "",
		"\xff":                           "invalid character",
		``:                               "EOF",
	}
	for target, json := range bodied {
		if !json {
			continue
		}
		for body, name := range wrong {
			cfg := config(fakeCaller{}) // any call of a server fails
			local := &fakeLocal{}
			cfg.Local = local
			w := do(t, New(cfg), put, target, body)
			text := w.Body.String()
			switch {
			case w.Code == http.StatusOK || len(local.added) > 0:
				// Fields of other routes, and what follows a whole body, are fine.
				if strings.Contains(body, "Nonsense") || !strings.HasPrefix(body, "{") {
					t.Errorf("%s %s: got %d, and %v was registered", target, body, w.Code, local.added)
				}
			case w.Code == http.StatusBadRequest && strings.HasPrefix(text, "Request decode failed: "):
				if !strings.Contains(text, name) && !strings.Contains(text, "unknown field") {
					t.Errorf("%s %s: the text %q lacks %s", target, body, text, name)
				}
			}
		}
	}
}

func TestABodyForAnotherPartOfADatacenterIsRefused(t *testing.T) {
	for body, want := range map[string]int{
		`{"Name":"w","Namespace":"x"}`:                            400,
		`{"Name":"w","Partition":"x"}`:                            400,
		`{"Name":"w","namespace":5}`:                              400,
		`{"Name":"w","Check":{"TTL":"5s","Namespace":"x"}}`:       400,
		`{"Name":"w","Namespace":"default","Partition":""}`:       200,
		`{"Name":"w","Namespace":null,"Datacenter":"dc1"}`:        200,
		`{"Name":"w","Check":{"TTL":"5s","Namespace":"default"}}`: 200,
	} {
		w := do(t, New(config(fakeCaller{})), put, "/v1/agent/service/register", body)
		if w.Code != want || want != 200 && !strings.Contains(w.Body.String(), "are a Consul Enterprise feature") {
			t.Errorf("%s: got %d %q", body, w.Code, w.Body)
		}
	}
}

func TestWhatClientsPutBesideIsPassedOver(t *testing.T) {
	for body, out := range map[string]any{
		`{"Name":"w","Connect":{"Proxy":{"Command":["x"]},"Native":true}}`:                              &api.ServiceDefinition{},
		`{"Node":"n","Check":{"Definition":{"TCP":"x:1","IntervalDuration":"5s","TimeoutDuration":1}}}`: &api.Registration{},
		`{"Node":"n","Address":"10.0.0.1"}`:                                                             &api.Deregistration{},
	} {
		var err error
		switch out := out.(type) {
		case *api.ServiceDefinition:
			err = Unmarshal([]byte(body), out)
			if out.Connect == nil || !out.Connect.Native {
				t.Errorf("%s: what stands beside is lost", body)
			}
		case *api.Registration:
			err = Unmarshal([]byte(body), out)
			if out.Check.Definition.TCP != "x:1" {
				t.Errorf("%s: what stands beside is lost", body)
			}
		case *api.Deregistration:
			err = Unmarshal([]byte(body), out)
		}
		if err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
	if err := Unmarshal([]byte(`{"Node":"n","Nonsense":1}`), &api.Deregistration{}); err == nil {
		t.Error("nonsense is passed over")
	}
}

func TestAPathThatLacksItsLastSlashIsSentThere(t *testing.T) {
	a := New(config(fakeCaller{}))
	for pattern := range a.table {
		bare, slash := strings.CutSuffix(pattern, "/")
		if !slash || bare == "" || a.table[bare] != nil {
			continue
		}
		w := do(t, a, put, bare+"?a=b", "{}")
		if w.Code != http.StatusMovedPermanently || w.Header().Get("Location") != pattern+"?a=b" {
			t.Errorf("%s: got %d to %q", bare, w.Code, w.Header().Get("Location"))
		}
	}
	// A service may have a name that begins like a route.
	if w := do(t, a, get, "/v1/agent/service/maintenance2", ""); w.Code != http.StatusNotFound {
		t.Errorf("got %d %q", w.Code, w.Body)
	}
}

// An age below zero is none.
func TestAnAnswerCannotBeYoungerThanNow(t *testing.T) {
	f := fakeCaller{}
	on(f, wire.CatalogNodes, func(h rpc.Header, _ *wire.DCQuery) ([]*api.Node, rpc.Meta, error) {
		if h.AllowStale {
			t.Errorf("got %+v", h)
		}
		return nil, rpc.Meta{}, nil
	})
	for _, age := range []string{"-1s", "0", "-9223372036854775808ns"} {
		if w := do(t, New(config(f)), get, "/v1/catalog/nodes?max_stale="+age, ""); w.Code != http.StatusOK {
			t.Errorf("%s: got %d %q", age, w.Code, w.Body)
		}
	}
}
