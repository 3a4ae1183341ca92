package telemetry

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-metrics"
)

func declared(r *registry, kind Kind, name string, labels ...string) *metric {
	return r.declare(Declaration{Name: name, Kind: kind, Help: "Of the test.", Labels: labels})
}

// TestSummaryShowsTheLastInterval: as JSON, figures are those of ten seconds that
// are over.
func TestSummaryShowsTheLastInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry()
		calls := Counter{declared(r, KindCounter, "calls.<of>", "by")}
		level := Gauge{declared(r, KindGauge, "level")}
		took := Sample{declared(r, KindSample, "took")}
		m, err := show(r, MetricsConfig{Prefix: "x", Host: "here", FilterDefault: true})
		if err != nil {
			t.Fatal(err)
		}
		calls.Count("get", "a")
		calls.Add(2, "get", "a")
		calls.Count("put", "b")
		level.Set(7)
		took.Add(1)
		took.Add(3)
		want := `{"Timestamp":"2000-01-01 00:00:00 +0000 UTC",` +
			`"Gauges":[{"Name":"x.here.level","Value":7,"Labels":{}}],"Points":null,` +
			`"Counters":[{"Name":"x.calls.get","Count":2,"Rate":0.3,"Sum":3,"Min":1,"Max":2,"Mean":1.5,"Stddev":0.7071067811865476,"Labels":{"by":"a"}},` +
			`{"Name":"x.calls.put","Count":1,"Rate":0.1,"Sum":1,"Min":1,"Max":1,"Mean":1,"Stddev":0,"Labels":{"by":"b"}}],` +
			`"Samples":[{"Name":"x.took","Count":2,"Rate":0.4,"Sum":4,"Min":1,"Max":3,"Mean":2,"Stddev":1.4142135623730951,"Labels":{}}]}`
		want = strings.Replace(want, `"Points":null`, `"Points":[]`, 1)
		if got := summary(t, m); got != want {
			t.Errorf("while the first interval runs: got\n%s\nwant\n%s", got, want)
		}
		time.Sleep(interval)
		r.rotate(time.Now(), m.keep)
		took.Add(100) // of the next one
		if got := summary(t, m); got != want {
			t.Errorf("after the first interval: got\n%s\nwant\n%s", got, want)
		}
		time.Sleep(interval)
		if got := summary(t, m); !strings.Contains(got, `"Sum":100,`) || strings.Contains(got, "calls") {
			t.Errorf("after the second interval: got %s", got)
		}
	})
}

func summary(t *testing.T, m *Metrics) string {
	t.Helper()
	v, err := m.Summary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func text(t *testing.T, m *Metrics) string {
	t.Helper()
	var b bytes.Buffer
	if on, err := m.WritePrometheus(&b); err != nil || !on {
		t.Fatal(on, err)
	}
	var out []string
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "x_") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// TestPrometheusIsShownAllSinceTheBeginning: and what is silent for as long as is
// set goes, but a gauge that is set when it changes.
func TestPrometheusIsShownAllSinceTheBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry()
		declared(r, KindCounter, "never")
		calls := Counter{declared(r, KindCounter, "calls.query-tags", "by")}
		level := Gauge{declared(r, KindGauge, "level")}
		open := Gauge{r.declare(Declaration{Name: "open", Kind: KindGauge, Help: "Of the test.", Kept: true, Labels: []string{"by"}})}
		took := Sample{declared(r, KindSample, "took", "by")}
		m, err := show(r, MetricsConfig{Prefix: "x", FilterDefault: true, Retention: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		calls.Count("a")
		time.Sleep(interval)
		r.rotate(time.Now(), m.keep)
		calls.Count("a")
		level.Set(7)
		open.Set(3, "a")
		for i := range 100 {
			took.Add(float64(i), "a")
		}
		want := `# HELP x_calls_query_tags Of the test.
# TYPE x_calls_query_tags counter
x_calls_query_tags{by="a"} 2
# HELP x_level Of the test.
# TYPE x_level gauge
x_level 7
# HELP x_never Of the test.
# TYPE x_never counter
x_never 0
# HELP x_open Of the test.
# TYPE x_open gauge
x_open{by="a"} 3
# HELP x_took Of the test.
# TYPE x_took summary
x_took{by="a",quantile="0.5"} 50
x_took{by="a",quantile="0.9"} 90
x_took{by="a",quantile="0.99"} 99
x_took_sum{by="a"} 4950
x_took_count{by="a"} 100
`
		if got := text(t, m); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		for range 8 {
			time.Sleep(interval)
			r.rotate(time.Now(), m.keep)
		}
		if got := text(t, m); strings.Contains(got, "level") || strings.Contains(got, "calls") || !strings.Contains(got, "x_open{") {
			t.Errorf("a while later: got\n%s", got)
		}
	})
}

func TestFiltersSayWhatIsShown(t *testing.T) {
	r := newRegistry()
	for _, name := range []string{"rpc.calls", "rpc.calls.slow", "dns.calls"} {
		Counter{declared(r, KindCounter, name)}.Count()
	}
	for _, c := range []struct {
		filter []string
		others bool
		want   []string
	}{
		{nil, true, []string{"x.dns.calls", "x.rpc.calls", "x.rpc.calls.slow"}},
		{nil, false, nil},
		{[]string{"-x.rpc"}, true, []string{"x.dns.calls"}},
		{[]string{"-x.rpc", "+x.rpc.calls.s"}, true, []string{"x.dns.calls", "x.rpc.calls.slow"}},
		{[]string{"+x.dns"}, false, []string{"x.dns.calls"}},
		{[]string{"x.dns", ""}, false, nil},
	} {
		m, err := show(r, MetricsConfig{Prefix: "x", Filter: c.filter, FilterDefault: c.others, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		out, err := m.Summary()
		if err != nil {
			t.Fatal(err)
		}
		s, _ := out.(Summary)
		var got []string
		for _, one := range s.Counters {
			got = append(got, one.Name)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q and %t: got %q, want %q", c.filter, c.others, got, c.want)
		}
	}
}

// TestLibrariesReportHere: a library's name finds the declared metric, and one that
// nobody declared is shown as it is.
func TestLibrariesReportHere(t *testing.T) {
	r := newRegistry()
	declared(r, KindCounter, "serf.member.<what>", "network")
	declared(r, KindSample, "raft.net.rpcDecode", "rpcType")
	var to metrics.MetricSink = sink{r}
	to.IncrCounterWithLabels([]string{"serf", "member", "join"}, 1, []metrics.Label{{Name: "more", Value: "no"}, {Name: "network", Value: "lan"}})
	to.AddSampleWithLabels([]string{"raft", "net", "rpcDecode"}, 2, nil)
	to.SetGauge([]string{"raft", "new"}, 3)
	m, err := show(r, MetricsConfig{Prefix: "x", FilterDefault: true})
	if err != nil {
		t.Fatal(err)
	}
	got := summary(t, m)
	for _, want := range []string{
		`{"Name":"x.serf.member.join","Count":1,`, `"Labels":{"network":"lan"}`,
		`{"Name":"x.raft.net.rpcDecode","Count":1,`, `"Labels":{"rpcType":""}`,
		`{"Name":"x.raft.new","Value":3,`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in %s", want, got)
		}
	}
}

// TestSeriesAreBounded: labels are of the choice of whoever asks.
func TestSeriesAreBounded(t *testing.T) {
	r := newRegistry()
	c := Counter{declared(r, KindCounter, "asked", "name")}
	for i := range 2 * maxSeries {
		c.Count(fmt.Sprint(i))
	}
	if n := len(c.m.series); n > maxSeries+1 {
		t.Errorf("got %d series, want %d at most", n, maxSeries+1)
	}
	if s := c.m.series[beyond]; s == nil || s.count != maxSeries {
		t.Errorf("got %+v for what is too many, want %d", s, maxSeries)
	}
}

func TestEmissionAllocatesNothing(t *testing.T) {
	r := newRegistry()
	c := Counter{declared(r, KindCounter, "asked", "name")}
	s := Sample{declared(r, KindSample, "took.<what>", "method", "path")}
	begin := time.Now()
	for range maxRecent {
		s.Since(begin, "x", "GET", "v1_kv_")
	}
	c.Count("web")
	if n := testing.AllocsPerRun(100, func() {
		c.Count("web")
		s.Since(begin, "x", "GET", "v1_kv_")
	}); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

// TestCollectorsAreSentTheNews over UDP and TCP, once a second.
func TestCollectorsAreSentTheNews(t *testing.T) {
	r := newRegistry()
	calls := Counter{declared(r, KindCounter, "calls", "by")}
	level := Gauge{declared(r, KindGauge, "level")}
	took := Sample{declared(r, KindSample, "took")}
	udp := func() (net.PacketConn, string) {
		conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn, conn.LocalAddr().String()
	}
	statsd, statsdAddr := udp()
	dogstatsd, dogstatsdAddr := udp()
	statsite, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = statsite.Close() })
	m, err := show(r, MetricsConfig{
		Prefix: "x", Host: "here", FilterDefault: true, Statsd: statsdAddr, Dogstatsd: dogstatsdAddr,
		Statsite: statsite.Addr().String(), DogstatsdTags: []string{"env:test"}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range r.metrics() {
		d.gather() // as Run does, before the news
	}
	calls.Count("a:b")
	calls.Count("a:b")
	level.Set(1)
	level.Set(1.5)
	took.Add(3)
	took.Add(4)
	go func() { _ = m.Run(t.Context()) }()

	plain := []string{"x.calls.a_b:2|c", "x.here.level:1.5|g", "x.took:3|ms", "x.took:4|ms"}
	if got := packet(t, statsd); !slices.Equal(got, plain) {
		t.Errorf("statsd got %q, want %q", got, plain)
	}
	tagged := []string{"x.calls:2|c|#env:test,by:a:b", "x.here.level:1.5|g|#env:test", "x.took:3|ms|#env:test", "x.took:4|ms|#env:test"}
	if got := packet(t, dogstatsd); !slices.Equal(got, tagged) {
		t.Errorf("dogstatsd got %q, want %q", got, tagged)
	}
	conn, err := statsite.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	lines := bufio.NewScanner(conn)
	for _, want := range plain {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("statsite got %q (%v), want %q", lines.Text(), lines.Err(), want)
		}
	}
}

func packet(t *testing.T, from net.PacketConn) []string {
	t.Helper()
	_ = from.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, maxPacket)
	n, _, err := from.ReadFrom(buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("nothing came")
	} else if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(buf[:n]), "\n"), "\n")
}

func BenchmarkCount(b *testing.B) {
	c := Counter{declared(newRegistry(), KindCounter, "asked", "name")}
	b.ReportAllocs()
	for b.Loop() {
		c.Count("web")
	}
}

func BenchmarkSince(b *testing.B) {
	s := Sample{declared(newRegistry(), KindSample, "took", "method", "path")}
	begin := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		s.Since(begin, "GET", "v1_health_service_")
	}
}
