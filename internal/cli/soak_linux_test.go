package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"isthmus/internal/testkit"
)

var (
	soakFor    = flag.Duration("soak", 0, "how long TestSoak runs; without it the test is skipped")
	soakSeeded = flag.Uint64("soak-seed", 0, "seed of the faults of TestSoak; drawn from the time when 0")
	soakWith   = flag.String("soak-gateways", "builtin", "gateways of TestSoak: builtin, envoy, or mixed for one of each in each datacenter")
	soakReport = flag.String("soak-report", "", "file for the report of TestSoak; build/soak.md when empty")
)

// wholeLimit is how long the federation may take to be whole after the last fault.
// A server that restarts while another one is suspected hears of that one with the
// next full exchange of gossip, which comes once a minute on the WAN.
const wholeLimit = 90 * time.Second

// soak is a federation under load to which faults happen.
type soak struct {
	run    *demoRun
	relay  *testkit.Relay
	oracle *oracle
	load   *soakLoad
	usage  *soakUsage
	first  map[*demoNode]demoNode // nodes as they were planned, before any moved
	cancel context.CancelFunc

	mu       sync.Mutex
	faults   []soakFault
	errors   []string // what must never happen
	expected map[*demoNode]chan struct{}
}

// TestSoak breaks a federation of three isolated datacenters again and again, and
// fails when a read fails although a path exists, when the loss of a gateway is
// felt for longer than the bar, or when an acknowledged write is lost.
func TestSoak(t *testing.T) {
	if *soakFor == 0 {
		t.Skip("takes real time: run make soak")
	}
	seed := *soakSeeded
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	build := absolute(t, filepath.Join("..", "..", "build"))
	binary := os.Getenv("ISTHMUS_BINARY")
	if binary == "" {
		binary = filepath.Join(build, "isthmus")
	}
	logs := filepath.Join(build, "soak")
	if err := os.MkdirAll(logs, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", logs) // of the next demo that runs there, which removes what this one leaves
	report := *soakReport
	if report == "" {
		report = filepath.Join(build, "soak.md")
	}
	s := newSoak(t, absolute(t, binary), seed)
	begun := time.Now()
	ended := s.soakFor(t, *soakFor, seed)
	out := s.report(begun, ended, seed)
	if err := os.WriteFile(report, out.text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, failure := range out.failures {
		t.Error(failure)
	}
	t.Logf("the report is in %s", report)
	if t.Failed() {
		s.run.keep = true
		s.writeFelt(t, filepath.Join(s.run.dir, "felt.txt"))
		t.Logf("logs and data are kept in %s until the next soak; the seed is %d", s.run.dir, seed)
	}
}

// newSoak starts the federation.
func newSoak(t *testing.T, binary string, seed uint64) *soak {
	t.Helper()
	octet, err := freeOctet(3, 3)
	if err != nil {
		t.Fatal(err)
	}
	nodes := soakNodes(octet)
	for _, n := range nodes {
		second := strings.HasSuffix(n.name, "-2")
		if !n.server && (*soakWith == "envoy" || *soakWith == "mixed" && second) {
			n.envoy = testkit.Envoy(t)
		}
	}
	network, relay := soakNetwork(t, nodes, seed)
	t.Cleanup(relay.Close)
	s := &soak{
		relay: relay, first: map[*demoNode]demoNode{}, expected: map[*demoNode]chan struct{}{},
		oracle: &oracle{
			timeline: newTimeline(), servers: map[string][]string{}, gateways: map[string][]string{}, agent: map[string]string{},
		},
		run: &demoRun{screen: newScreen(t.Output(), time.Now()), nodes: nodes, network: network},
	}
	t.Cleanup(s.run.close)
	for _, n := range nodes {
		s.first[n] = *n
		if n.server {
			s.oracle.servers[n.dc] = append(s.oracle.servers[n.dc], n.name)
		} else {
			s.oracle.gateways[n.dc] = append(s.oracle.gateways[n.dc], n.name)
			s.oracle.agent[n.name] = beside(n, nodes).name
		}
	}
	if err := s.furnish(binary); err != nil {
		t.Fatal(err)
	}
	s.load, s.usage = newSoakLoad(s.run), newSoakUsage()
	err = s.run.start(t.Context())
	if err == nil {
		ctx, cancel := context.WithTimeout(t.Context(), restartLimit)
		defer cancel()
		err = eventually(ctx, func() bool {
			return !slices.ContainsFunc(s.run.gateways(""), func(n *demoNode) bool { return !s.known(ctx, n) })
		})
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, s.run.tails(concerned(err)))
	}
	hold(t.Context(), healBar)
	return s
}

// furnish prepares the processes. Counters must not be forgotten, and all clients
// of a server have one address here, of which many wait while there is no path.
func (s *soak) furnish(binary string) error {
	type object = map[string]any
	s.run.settings = object{
		"telemetry": object{"prometheus_retention_time": "24h", "disable_hostname": true},
		"limits":    object{"http_max_conns_per_client": 10_000},
	}
	return s.run.furnish(binary, true)
}

// soakFor lets load and faults happen and then checks that all is whole, no write
// is lost and nothing went past the gateways. It returns when the faults ended.
func (s *soak) soakFor(t *testing.T, length time.Duration, seed uint64) (ended time.Time) {
	t.Helper()
	watch, stop := context.WithCancel(t.Context())
	var watching, loading sync.WaitGroup
	defer watching.Wait()
	defer stop()
	ctx, cancel := context.WithTimeout(watch, length)
	defer cancel()
	s.cancel = cancel
	watching.Go(func() { s.watchExits(watch) })
	if err := s.load.seed(ctx); err != nil {
		t.Fatal(err)
	}
	watching.Go(func() { s.usage.watch(watch, s) })
	watching.Go(func() { watchMachine(watch, s.oracle.timeline) })
	loaded, unload := context.WithCancel(watch)
	defer unload()
	loading.Go(func() { s.load.run(loaded) })
	s.faultsUntil(ctx, seed)
	ended = time.Now()
	limit, cancel := context.WithTimeout(watch, wholeLimit)
	defer cancel()
	if err := s.run.federated(limit); err != nil {
		s.errors = append(s.errors, err.Error())
	}
	unload()
	loading.Wait()
	s.usage.sample(watch, s)
	if err := s.readBack(watch); err != nil {
		s.errors = append(s.errors, err.Error())
	}
	if count, what, err := s.run.network.straight(); err != nil || count != 0 {
		s.errors = append(s.errors, fmt.Sprintf("%d %s, %v", count, what, err))
	}
	return ended
}

// writeFelt lists the requests that failed or took long, for whoever reads the logs.
func (s *soak) writeFelt(t *testing.T, path string) {
	t.Helper()
	var out bytes.Buffer
	for i := range s.load.results {
		if r := &s.load.results[i]; r.err != "" || r.took >= feltFrom {
			fmt.Fprintf(&out, "%s %6.2fs %s %s %s: %s\n", r.begun.UTC().Format("15:04:05.000"), r.took.Seconds(), r.kind, r.way, r.asked, cmp.Or(r.err, "worked"))
		}
	}
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Error(err)
	}
}

// readBack looks whether all writes that were acknowledged are there.
func (s *soak) readBack(ctx context.Context) error {
	there := map[string]string{}
	for dc, servers := range s.load.servers {
		url := "http://" + servers[0].at(demoHTTPPort) + "/v1/kv/" + soakKeys + "?recurse"
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := s.load.http[servers[0]].Do(req)
		if err != nil {
			return fmt.Errorf("read back from %s: %w", dc, err)
		}
		var pairs []struct {
			Key   string
			Value []byte
		}
		err = json.NewDecoder(resp.Body).Decode(&pairs)
		if closed := resp.Body.Close(); err != nil || closed != nil {
			return fmt.Errorf("read back from %s: %w", dc, errors.Join(err, closed))
		}
		for _, p := range pairs {
			there[dc+" "+p.Key] = string(p.Value)
		}
	}
	var lost []string
	for key, value := range s.load.acked {
		if there[key] != value {
			lost = append(lost, key)
		}
	}
	if len(lost) > 0 {
		return fmt.Errorf("%d of %d acknowledged writes are lost: %s", len(lost), len(s.load.acked), strings.Join(lost[:min(len(lost), 10)], ", "))
	}
	return nil
}

// logLines counts the warnings and errors in the logs of all nodes, by message.
func (s *soak) logLines() map[string]int {
	out := map[string]int{}
	for _, n := range s.run.nodes {
		text, err := os.ReadFile(s.run.processes.log(n))
		if err != nil {
			continue
		}
		kind := "gateway"
		if n.server {
			kind = "server"
		}
		for line := range bytes.Lines(text) {
			if key := logKey(string(line)); key != "" {
				out[kind+": "+key]++
			}
		}
	}
	return out
}

// logKey is the level and message of a line of a log that warns or worse, and
// empty for any other one.
func logKey(line string) string {
	_, rest, ok := strings.Cut(line, "level=")
	if !ok {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") {
			return strings.TrimSpace(line)
		}
		return ""
	}
	level, rest, _ := strings.Cut(rest, " ")
	level = strings.ToLower(level)
	if level != "warn" && level != "error" {
		return ""
	}
	_, message, _ := strings.Cut(rest, "msg=")
	if quoted, found := strings.CutPrefix(message, `"`); found {
		message, _, _ = strings.Cut(quoted, `"`)
	} else {
		message, _, _ = strings.Cut(message, " ")
	}
	return level + ": " + strings.TrimSpace(message)
}

func TestSoakCountsWarningsAndErrorsByMessage(t *testing.T) {
	for line, want := range map[string]string{
		`time=2026-11-21T15:07:40Z level=WARN msg="dial failed" addr=x err="connect: refused"`: "warn: dial failed",
		`time=2026-11-21T15:07:40Z level=error msg=ended err="msg=x"`:                          "error: ended",
		`time=2026-11-21T15:07:40Z level=info msg="agent starts"`:                              "",
		"panic: oops\n": "panic: oops",
	} {
		if got := logKey(line); got != want {
			t.Errorf("got %q for %s", got, line)
		}
	}
}
