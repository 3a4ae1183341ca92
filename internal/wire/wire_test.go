package wire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"isthmus/internal/rpc"
	"isthmus/internal/transport"
)

var update = flag.Bool("update", false, "write the golden files and documents instead of comparing them")

// sample is a method with the means to send it over a connection.
type sample struct {
	rpc.Desc

	in, out reflect.Type
	// exchange calls the method with every field set and returns what went over
	// the connection in each direction.
	exchange func(t *testing.T) (sent, answered []byte)
}

// samples are all methods.
func samples() []sample {
	return []sample{
		of(CatalogRegister), of(CatalogDeregister), of(CatalogDatacenters), of(CatalogNodes), of(CatalogServices),
		of(CatalogServiceNodes), of(CatalogNodeServices), of(CatalogNodeServiceList), of(HealthChecksInState),
		of(HealthNodeChecks), of(HealthServiceChecks), of(HealthServiceNodes), of(KVApply), of(KVGet), of(KVList),
		of(KVKeys), of(FederationApply), of(FederationGet), of(FederationList), of(FederationGateways), of(StatusPing),
		of(StatusLeader), of(StatusPeers), of(StatusRaft), of(ServiceDump), of(FederationStatus),
		of(CatalogGatewayServices), of(NodeDump), of(NodeInfoRead), of(CatalogOverview), of(CoordinateUpdate), of(CoordinateNodes), of(CoordinateNode), of(CoordinateDatacenters),
		of(CARoots), of(CAConfiguration), of(CASignIntermediate),
	}
}

func of[In, Out any](m rpc.Method[In, Out]) sample {
	return sample{
		Desc: m.Desc(), in: reflect.TypeFor[In](), out: reflect.TypeFor[Out](),
		exchange: func(t *testing.T) (sent, answered []byte) {
			t.Helper()
			return exchange(t, m)
		},
	}
}

// options are a header with every field set.
func options(d rpc.Desc) rpc.Header {
	return rpc.Header{
		Datacenter: d.Route, Token: "Token", MinIndex: 13, MaxWait: 12 * time.Second, AllowStale: true, Consistent: true, NotModified: true,
		Filter: "Filter", MaxStale: 16 * time.Second, UseCache: true, MustRevalidate: true, MaxAge: 6 * time.Second, StaleIfError: 12 * time.Hour,
	}
}

var metaSample = rpc.Meta{
	Index: 5, LastContact: 11 * time.Millisecond, KnownLeader: true, NotModified: true, Consistency: "leader", Filtered: true,
	// These stay in the process.
	Cached: true, Hit: true, Age: time.Second,
}

// exchange calls m over a connection in memory, and checks that each end was told
// what the other end said.
func exchange[In, Out any](t *testing.T, m rpc.Method[In, Out]) (sent, answered []byte) {
	t.Helper()
	in, out := filled[In](), filled[Out]()
	header := options(m.Desc())
	x := rpc.NewHandlers()
	rpc.Bind(x, m, func(_ context.Context, h rpc.Header, got *In) (Out, rpc.Meta, error) {
		if !reflect.DeepEqual(*got, in) {
			t.Errorf("the server was asked\n%+v, want\n%+v", *got, in)
		}
		if want := heard(m.Desc(), header); h != want {
			t.Errorf("the server heard\n%+v, want\n%+v", h, want)
		}
		return out, metaSample, nil
	})

	log := slog.New(slog.DiscardHandler)
	wire := &tap{server: &rpc.Server{Handlers: x, Log: log}}
	pool := rpc.NewPool(wire, time.Minute, log)
	ctx, cancel := context.WithCancel(t.Context())
	wire.running.Go(func() { _ = pool.Run(ctx) })
	defer wire.running.Wait()
	defer cancel()
	got, meta, err := m.Call(ctx, pool.To(transport.Target{Addr: "a"}), header, in)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, out) {
		t.Errorf("the caller was answered\n%+v, want\n%+v", got, out)
	}
	want := rpc.Meta{}
	if m.Reply != "" {
		want = metaSample
		want.Cached, want.Hit, want.Age = false, false, 0
	}
	if meta != want {
		t.Errorf("the caller heard\n%+v, want\n%+v", meta, want)
	}
	return wire.streams()
}

// heard is what arrives of a header: what concerns servers.
func heard(d rpc.Desc, h rpc.Header) rpc.Header {
	switch {
	case d.Bare:
		return rpc.Header{}
	case d.Write:
		return rpc.Header{Datacenter: h.Datacenter, Token: h.Token}
	case d.Local:
		h.Datacenter = ""
	}
	h.MaxStale, h.UseCache, h.MustRevalidate, h.MaxAge, h.StaleIfError = 0, false, false, 0, 0
	return h
}

// tap dials a server in memory and keeps what goes to and from it.
type tap struct {
	server  *rpc.Server
	running sync.WaitGroup

	mu       sync.Mutex
	from, to bytes.Buffer // seen from the server
}

// Dial implements transport.Dialer.
func (d *tap) Dial(ctx context.Context, _ transport.Target, _ transport.Proto) (net.Conn, error) {
	a, b := net.Pipe()
	d.running.Go(func() { d.server.ServeMulti(context.WithoutCancel(ctx), tapped{b, d}) })
	return a, nil
}

// streams are the bytes of each direction without the frames around them.
func (d *tap) streams() (sent, answered []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return unframed(d.from.Bytes()), unframed(d.to.Bytes())
}

type tapped struct {
	net.Conn

	tap *tap
}

func (c tapped) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.tap.mu.Lock()
	defer c.tap.mu.Unlock()
	c.tap.from.Write(b[:n])
	return n, err //nolint:wrapcheck // io.EOF must stay bare
}

func (c tapped) Write(b []byte) (int, error) {
	c.tap.mu.Lock()
	c.tap.to.Write(b)
	c.tap.mu.Unlock()
	return c.Conn.Write(b) //nolint:wrapcheck // nothing to add
}

// unframed takes the data out of yamux frames: version, type, flags, stream and
// length in 12 bytes, where type 0 is data.
func unframed(b []byte) []byte {
	var out []byte
	for len(b) >= 12 {
		kind, n := b[1], int(binary.BigEndian.Uint32(b[8:12]))
		b = b[12:]
		if kind != 0 {
			continue
		}
		n = min(n, len(b))
		out = append(out, b[:n]...)
		b = b[n:]
	}
	return out
}

// filled is a value with every field set: a text is the field's name, a number the
// length of that name, and lists and maps have one element.
func filled[T any]() T {
	var v T
	fill(reflect.ValueOf(&v).Elem(), "answer", nil)
	return v
}

func fill(v reflect.Value, name string, within []reflect.Type) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(1700000000, 0).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(name)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(len(name)))
	case reflect.Uint, reflect.Uint8, reflect.Uint64:
		v.SetUint(uint64(len(name)))
	case reflect.Float64:
		v.SetFloat(float64(len(name)) / 2)
	case reflect.Interface:
		v.Set(reflect.ValueOf(name))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), name, within)
	case reflect.Map:
		element := reflect.New(v.Type().Elem()).Elem()
		fill(element, name, within)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("key"), element)
	case reflect.Pointer:
		if slices.Contains(within, v.Type().Elem()) {
			return // a type within itself
		}
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), name, within)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() { // the rest is not sent
				fill(v.Field(i), f.Name, append(within, v.Type()))
			}
		}
	default:
		panic("no sample of " + v.Type().String())
	}
}

// TestGoldenFiles shows every method as it goes over a connection. A change of
// these files is a change of the protocol.
func TestGoldenFiles(t *testing.T) {
	want := map[string]bool{}
	for _, s := range samples() {
		path := filepath.Join("testdata", s.Name+".golden")
		want[path] = true
		t.Run(s.Name, func(t *testing.T) {
			sent, answered := s.exchange(t)
			var got bytes.Buffer
			show(t, &got, "request", sent)
			show(t, &got, "answer", answered)
			golden(t, path, got.Bytes())
		})
	}
	found, err := filepath.Glob("testdata/*.golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		if !want[path] {
			t.Errorf("%s belongs to no method", path)
		}
	}
}

func TestEveryMethodHasASample(t *testing.T) {
	var got []rpc.Desc
	for _, s := range samples() {
		got = append(got, s.Desc)
	}
	if want := Methods(); !slices.Equal(got, want) {
		t.Errorf("samples are %+v, methods are %+v", got, want)
	}
}

// golden compares got with a file, or writes it.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (-update rewrites it); got\n%s", path, got)
	}
}

// show writes what went in one direction: a head and a body, each as bytes and
// as what they say.
func show(t *testing.T, w io.Writer, title string, raw []byte) {
	t.Helper()
	for i, b := range values(t, raw) {
		part := title + " " + [...]string{"head", "body"}[i]
		_, _ = fmt.Fprintf(w, "== %s\n", part)
		for chunk := range slices.Chunk(b, 48) {
			_, _ = fmt.Fprintln(w, hex.EncodeToString(chunk))
		}
		_, _ = fmt.Fprintln(w)
		var v any
		if err := rpc.Unmarshal(b, &v); err != nil {
			t.Fatalf("%s: %v", part, err)
		}
		tree(w, "", v)
		_, _ = fmt.Fprintln(w)
	}
}

// values splits a stream into its head and body.
func values(t *testing.T, raw []byte) [2][]byte {
	t.Helper()
	var out [2][]byte
	r := bufio.NewReader(bytes.NewReader(raw))
	for i := range out {
		var err error
		if out[i], err = rpc.ReadValue(r, nil, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Fatalf("%d bytes more than head and body, %v", len(rest), err)
	}
	return out
}

// tree writes a line for each value below v.
func tree(w io.Writer, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			_, _ = fmt.Fprintf(w, "%s = {}\n", path)
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			tree(w, strings.TrimPrefix(path+"."+name, "."), v[name])
		}
	case []any:
		if len(v) == 0 {
			_, _ = fmt.Fprintf(w, "%s = []\n", path)
		}
		for i := range v {
			tree(w, fmt.Sprintf("%s[%d]", path, i), v[i])
		}
	case string:
		_, _ = fmt.Fprintf(w, "%s = %q\n", path, v)
	case nil:
		_, _ = fmt.Fprintf(w, "%s = nil\n", path)
	default:
		_, _ = fmt.Fprintf(w, "%s = %v\n", path, v)
	}
}
