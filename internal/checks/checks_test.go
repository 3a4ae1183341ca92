package checks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"isthmus/api"
)

// quiet is the least that checks need.
var quiet = Env{Log: slog.New(slog.DiscardHandler)}

// results collects what a check reports, with the time since the start.
type results struct {
	mu    sync.Mutex
	start time.Time
	all   []string
}

func newResults() *results { return &results{start: time.Now()} }

func (r *results) report(status, output string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, fmt.Sprintf("%v %s %s", time.Since(r.start), status, output))
}

func (r *results) expect(t *testing.T, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.all, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(r.all, "\n"), strings.Join(want, "\n"))
	}
}

// run runs r until the test ends or stop is called, which waits for it.
func run(t *testing.T, r Runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

func asTTL(t *testing.T, r Runner) *TTL {
	t.Helper()
	ttl, ok := r.(*TTL)
	if !ok {
		t.Fatalf("got a %T", r)
	}
	return ttl
}

// advance moves the clock of a bubble and lets all that follows happen.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func seconds(n float64) api.Duration { return api.Duration(n * float64(time.Second)) }

func TestTCPFirstRunsAtOnceAndFollowsThePort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	got := make(chan string, 10)
	r, err := New(api.CheckType{CheckID: "c", TCP: address, Interval: seconds(1)}, func(s, o string) { got <- s + " " + o }, quiet)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	stop := run(t, r)
	defer stop()
	if first, want := <-got, "passing TCP connect "+address+": Success"; first != want {
		t.Errorf("got %q, want %q", first, want)
	}
	if took := time.Since(start); took > 900*time.Millisecond {
		t.Errorf("the first run waited %v", took)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	want := "critical dial tcp " + address + ": connect: connection refused"
	if second := <-got; second != want {
		t.Errorf("got %q, want %q", second, want)
	}
}

func TestTCPTargetWithoutPortIsCritical(t *testing.T) {
	got := make(chan string, 1)
	r, err := New(api.CheckType{TCP: "127.0.0.1", Interval: seconds(60)}, func(s, o string) { got <- s + " " + o }, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer run(t, r)()
	if g, want := <-got, "critical dial tcp: address 127.0.0.1: missing port in address"; g != want {
		t.Errorf("got %q, want %q", g, want)
	}
}

// steady is a poll whose first interval is a whole one.
func steady(def *api.CheckType, probe func(context.Context) (string, string), report Report) *poll {
	p := newPoll(def, probe, report, &quiet)
	p.part = func(whole time.Duration) time.Duration { return whole }
	return p
}

func TestPollKeepsIntervalAndTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := newResults()
		hangs := func(ctx context.Context) (string, string) {
			<-ctx.Done()
			return api.Critical, "timeout"
		}
		stop := run(t, steady(&api.CheckType{Interval: seconds(5), Timeout: seconds(2)}, hangs, got.report))
		advance(13 * time.Second)
		got.expect(t, "2s critical timeout", "9s critical timeout")
		advance(2 * time.Second) // a probe is under way now
		stop()
		got.expect(t, "2s critical timeout", "9s critical timeout")
	})
}

func TestServiceThatComesUpLaterPassesSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := newResults()
		start := time.Now()
		late := func(context.Context) (string, string) {
			if time.Since(start) < 900*time.Millisecond {
				return api.Critical, "refused"
			}
			return api.Passing, "open"
		}
		defer run(t, steady(&api.CheckType{Interval: seconds(10)}, late, got.report))()
		advance(21*time.Second + 500*time.Millisecond)
		// Of the failures in the first interval the first alone counts.
		got.expect(t, "0s critical refused", "1s passing open", "11s passing open", "21s passing open")
	})
}

func TestChecksThatBeginTogetherPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const checks = 200
		var mu sync.Mutex
		start, at := time.Now(), map[time.Duration]int{}
		for range checks {
			runs := 0
			p := newPoll(&api.CheckType{Interval: seconds(10)}, func(context.Context) (string, string) {
				mu.Lock()
				defer mu.Unlock()
				if runs++; runs == 3 {
					at[time.Since(start)/time.Second]++
				}
				return api.Passing, ""
			}, func(string, string) {}, &quiet)
			defer run(t, p)()
		}
		advance(30 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		total := 0
		for second, n := range at {
			total += n
			if second < 10 || second > 20 || n > checks/4 {
				t.Errorf("%d checks ran the third time in second %d", n, second)
			}
		}
		if total != checks {
			t.Errorf("%d checks ran three times, want %d", total, checks)
		}
	})
}

func TestFailingProbesAreFewInTheFirstInterval(t *testing.T) {
	for want, start := range map[int]func(*api.CheckType, func(context.Context) (string, string), Report, *Env) *poll{
		1 + 19 + 1: newPoll, 1 + 3 + 1: newCommandPoll,
	} {
		synctest.Test(t, func(t *testing.T) {
			got, probes := newResults(), 0
			fails := func(context.Context) (string, string) {
				probes++
				return api.Critical, "no"
			}
			p := start(&api.CheckType{Interval: seconds(10)}, fails, got.report, &quiet)
			p.part = func(whole time.Duration) time.Duration { return whole }
			stop := run(t, p)
			advance(10*time.Second + time.Millisecond)
			stop()
			got.expect(t, "0s critical no", "10s critical no")
			// The last of the early ones falls together with the end of the interval.
			if probes != want && probes != want+1 {
				t.Errorf("%d probes in an interval, want %d", probes, want)
			}
		})
	}
}

func TestPollDefaults(t *testing.T) {
	p := newPoll(&api.CheckType{Interval: api.Duration(time.Millisecond), Timeout: -1}, nil, func(string, string) {}, &quiet)
	if p.interval != time.Second || p.timeout != 10*time.Second {
		t.Errorf("got interval %v and timeout %v", p.interval, p.timeout)
	}
}

func TestThresholds(t *testing.T) {
	for _, c := range []struct {
		name                       string
		passing, warning, critical int
		probes, want               string // p or c a probe; p, w, c or - (nothing reported) a result
	}{
		{"no thresholds", 0, 0, 0, "pccpc", "pccpc"},
		{"first result counts at once", 3, 2, 4, "p", "p"},
		{"first failure counts at once", 3, 2, 4, "c", "c"},
		{"failures", 0, 2, 4, "pccccc", "p-wwcc"},
		{"failures are in a row", 0, 2, 4, "pcpcpccpccc", "p-p-p-wp-ww"},
		{"successes", 3, 0, 0, "cppcppp", "c--c--p"},
		{"critical alone", 0, 0, 3, "pccc", "p--c"},
		{"one is the same as none", 1, 1, 1, "pcp", "pcp"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := "-"
			def := api.CheckType{SuccessBeforePassing: c.passing, FailuresBeforeWarning: c.warning, FailuresBeforeCritical: c.critical}
			th := newThreshold(&def, func(status, _ string) { got = status[:1] }, quiet.Log)
			var all strings.Builder
			for _, probe := range c.probes {
				got = "-"
				th.result(map[rune]string{'p': api.Passing, 'c': api.Critical}[probe], "")
				all.WriteString(got)
			}
			if all.String() != c.want {
				t.Errorf("got %s, want %s", all.String(), c.want)
			}
		})
	}
}

func TestTTLExpiresAndUpdatesReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := newResults()
		r, err := New(api.CheckType{TTL: seconds(10)}, got.report, quiet)
		if err != nil {
			t.Fatal(err)
		}
		ttl := asTTL(t, r)
		ttl.Update(api.Passing, "early") // before it runs
		defer run(t, r)()
		want := []string{"0s passing early"}
		for range 3 {
			advance(9 * time.Second)
			ttl.Update(api.Warning, "slow")
		}
		want = append(want, "9s warning slow", "18s warning slow", "27s warning slow")
		advance(time.Minute)
		want = append(want, "37s critical TTL expired (last output before timeout follows): slow")
		got.expect(t, want...)
		ttl.Update(api.Passing, "")
		advance(11 * time.Second)
		got.expect(t, append(want, "1m27s passing ", "1m37s critical TTL expired")...)
	})
}

func TestTTLResumesWithItsOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := newResults()
		r, err := New(api.CheckType{TTL: seconds(1)}, got.report, quiet)
		if err != nil {
			t.Fatal(err)
		}
		asTTL(t, r).Resume("kept")
		defer run(t, r)()
		advance(2 * time.Second)
		got.expect(t, "1s critical TTL expired (last output before timeout follows): kept")
	})
}

func TestTTLCutsLongOutput(t *testing.T) {
	for _, limit := range []int{0, 10} {
		var got string
		r, err := New(api.CheckType{TTL: seconds(1), OutputMaxSize: limit}, func(_, o string) { got = o }, quiet)
		if err != nil {
			t.Fatal(err)
		}
		kept := limit
		if kept == 0 {
			kept = 4096
		}
		asTTL(t, r).Update(api.Passing, strings.Repeat("x", kept))
		if got != strings.Repeat("x", kept) {
			t.Errorf("limit %d: cut what just fits", limit)
		}
		asTTL(t, r).Update(api.Passing, strings.Repeat("x", 5000))
		if want := strings.Repeat("x", kept) + fmt.Sprintf(" ... (captured %d of 5000 bytes)", kept); got != want {
			t.Errorf("limit %d: got %q", limit, got)
		}
	}
}

func TestDefinitionsThatCannotBe(t *testing.T) {
	const interval = "Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks"
	for _, c := range []struct {
		def  api.CheckType
		want string
	}{
		{api.CheckType{}, "TTL must be > 0 for TTL checks"},
		{api.CheckType{Interval: 1}, "TTL must be > 0 for TTL checks"},
		{api.CheckType{TTL: -1}, "TTL must be > 0 for TTL checks"},
		{api.CheckType{TCP: "a:1"}, interval},
		{api.CheckType{HTTP: "http://a"}, interval},
		{api.CheckType{TCP: "a:1", TTL: 1}, interval},
		{api.CheckType{TTL: 1, Interval: 1}, "Interval and TTL cannot both be specified"},
		{api.CheckType{TCP: "a:1", HTTP: "http://a", Interval: 1}, "it asks for more than one kind: tcp and http"},
		{api.CheckType{AliasService: "a", TTL: 1}, "TTL must be not be set for Alias checks"},
		{api.CheckType{DockerContainerID: "a", Interval: 1}, "TTL must be > 0 for TTL checks"},
		{api.CheckType{ScriptArgs: []string{"a"}}, interval},
		{api.CheckType{DockerContainerID: "a", ScriptArgs: []string{"a"}}, interval},
		{api.CheckType{OSService: "-a", Interval: 1}, `OSService "-a" is not the name of a service`},
		{api.CheckType{TTL: 1, OutputMaxSize: -1}, "MaxOutputMaxSize must be positive"},
		{api.CheckType{TCP: "a:1", Interval: 1, FailuresBeforeWarning: 2, FailuresBeforeCritical: 1}, "FailuresBeforeWarning can't be higher than FailuresBeforeCritical"},
	} {
		_, err := New(c.def, nil, quiet)
		if api.CodeOf(err) != api.Invalid || err.Error() != "Invalid check: "+c.want {
			t.Errorf("%+v: got %v, want %s", c.def, err, c.want)
		}
	}
}

func TestTypes(t *testing.T) {
	for want, def := range map[string]api.CheckType{
		"ttl":        {TTL: 1},
		"tcp":        {TCP: "a:1", TCPUseTLS: true, Interval: 1},
		"http":       {HTTP: "http://a", Interval: 1},
		"udp":        {UDP: "a:1", Interval: 1},
		"grpc":       {GRPC: "a:1", Interval: 1},
		"h2ping":     {H2PING: "a:1", Interval: 1},
		"os_service": {OSService: "a", Interval: 1},
		"docker":     {DockerContainerID: "a", ScriptArgs: []string{"x"}, Interval: 1},
		"script":     {ScriptArgs: []string{"x"}, Interval: 1},
		"alias":      {AliasService: "x"},
	} {
		if got := Type(&def); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if _, err := New(def, nil, quiet); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		if got := RunsCommands(&def); got != (want == "docker" || want == "script") {
			t.Errorf("%s runs commands: %v", want, got)
		}
	}
}

func TestRunEndsWithoutErrorWhenTheContextDoes(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("over"))
	for _, def := range []api.CheckType{{TTL: seconds(1)}, {TCP: "127.0.0.1:1", Interval: seconds(1)}} {
		r, err := New(def, func(s, o string) { t.Errorf("reported %s %s", s, o) }, quiet)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	}
}
