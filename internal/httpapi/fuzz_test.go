package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/wire"
)

func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"index=1&wait=10s", "stale&consistent", "wait=-1h", "node-meta=a:b", "near=x", "max_stale=9223372036854775807h", "%zz", "ns=x", "cached;stale"} {
		f.Add(seed, "max-age=5")
	}
	servers := fakeCaller{}
	on(servers, wire.CatalogNodes, func(rpc.Header, *wire.DCQuery) ([]*api.Node, rpc.Meta, error) { return nil, rpc.Meta{}, nil })
	a := New(config(servers))
	f.Fuzz(func(t *testing.T, query, control string) {
		r := httptest.NewRequest(http.MethodGet, "/v1/catalog/nodes", nil)
		r.URL.RawQuery = query
		r.Header.Set("Cache-Control", control)
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		if w.Code != http.StatusOK && w.Code != http.StatusBadRequest && w.Code != http.StatusNotImplemented {
			t.Errorf("got %d %q", w.Code, w.Body)
		}
	})
}

func FuzzRegister(f *testing.F) {
	for _, x := range exchanges {
		if strings.Contains(x.target, "register") {
			f.Add([]byte(x.body))
		}
	}
	f.Add([]byte(`{"checks":[null,{"args":[1]}],"Check":[],"NAME":"a","name":"b","Meta":{"a_b":null}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var service api.ServiceDefinition
		if err := Unmarshal(body, &service); err == nil {
			if _, err := json.Marshal(service); err != nil {
				t.Errorf("cannot be shown: %v", err)
			}
		}
		// What encoding/json reads, with the fields' own names, is read alike.
		var strict, ours api.Deregistration
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		if d.Decode(&strict) == nil {
			if err := Unmarshal(body, &ours); err != nil {
				t.Errorf("refused: %v", err)
			}
		}
		_ = Unmarshal(body, new(checkBody))
		_ = Unmarshal(body, new(api.Registration))
	})
}

func FuzzPath(f *testing.F) {
	for _, x := range exchanges {
		f.Add(x.target)
	}
	servers := fakeCaller{}
	none := func(rpc.Header, *wire.KeyQuery) ([]*api.KVPair, rpc.Meta, error) { return nil, rpc.Meta{}, nil }
	on(servers, wire.KVGet, none)
	a := New(config(servers))
	f.Fuzz(func(t *testing.T, path string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL = &url.URL{Path: path}
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		if to := w.Header().Get("Location"); to != "" && (!strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//")) {
			t.Errorf("%q is sent to %q", path, to)
		}
	})
}

func FuzzRenderKV(f *testing.F) {
	f.Add("a", []byte("v"), uint64(42), "")
	f.Add("<&>\"\\\u2028\xff\x00\x7f", []byte{0}, uint64(1<<63), "s\n")
	f.Fuzz(func(t *testing.T, key string, value []byte, n uint64, session string) {
		e := &api.KVPair{LockIndex: n, Key: key, Flags: n, Value: value, Session: session, RaftIndex: api.RaftIndex{CreateIndex: n, ModifyIndex: n}}
		if len(value) == 0 {
			e.Value = nil
		}
		want, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendKV(nil, e); !bytes.Equal(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}
