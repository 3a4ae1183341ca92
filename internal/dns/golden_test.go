package dns

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// scenario is a set of DNS settings and the questions that were asked under them.
// Its answers stand in testdata/<name>.golden.
type scenario struct {
	name string
	conf string // the reference's settings, JSON; UPSTREAM is the recursor's address
	// ours sets the same.
	ours func(cfg *Config, upstream string)
	// A question is a name, a type and options: tcp, edns=SIZE, ecs=PREFIX, nord
	// (recursion is not desired), count (which of the records come is random; only
	// their number is compared) and times=N (asked as often, for random choices).
	questions []string
}

var update = flag.Bool("update", false, "record the golden files anew with the reference's binary")

// question is a parsed line of a scenario.
type question struct {
	name, class string
	qtype       uint16
	tcp, nord   bool
	count       bool
	do          bool
	edns        int
	ecs         string
}

func parseQuestion(t *testing.T, line string) question {
	t.Helper()
	f := strings.Fields(line)
	q := question{name: f[0], qtype: dns.StringToType[f[1]], edns: -1}
	if q.qtype == 0 {
		t.Fatalf("question %q has no type", line)
	}
	for _, opt := range f[2:] {
		key, val, _ := strings.Cut(opt, "=")
		switch key {
		case "tcp":
			q.tcp = true
		case "do":
			q.do = true
		case "nord":
			q.nord = true
		case "count":
			q.count = true
		case "edns":
			q.edns, _ = strconv.Atoi(val)
		case "ecs":
			q.ecs = val
		case "class":
			q.class = val
		default:
			t.Fatalf("question %q has an unknown option", line)
		}
	}
	return q
}

func (q question) msg(t *testing.T) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(q.name, q.qtype)
	m.Id = 4711
	m.RecursionDesired = !q.nord
	if q.class != "" {
		m.Question[0].Qclass = dns.StringToClass[q.class]
	}
	if q.edns >= 0 || q.ecs != "" {
		opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
		opt.SetUDPSize(uint16(max(q.edns, 0)))
		opt.SetDo(q.do)
		if q.ecs != "" {
			p := netip.MustParsePrefix(q.ecs)
			family := uint16(1)
			if p.Addr().Is6() {
				family = 2
			}
			opt.Option = append(opt.Option, &dns.EDNS0_SUBNET{
				Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: uint8(p.Bits()), Address: p.Addr().AsSlice(),
			})
		}
		m.Extra = append(m.Extra, opt)
	}
	return m
}

// ask sends a question to a server.
func ask(t *testing.T, addr string, q question) (*dns.Msg, int) {
	t.Helper()
	network := "udp"
	if q.tcp {
		network = "tcp"
	}
	query, err := q.msg(t).Pack()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	raw := make([]byte, 65536)
	if q.tcp {
		_, err = conn.Write(append([]byte{byte(len(query) >> 8), byte(len(query))}, query...))
		if err == nil {
			_, err = io.ReadFull(conn, raw[:2])
		}
		if err == nil {
			raw = raw[:int(raw[0])<<8|int(raw[1])]
			_, err = io.ReadFull(conn, raw)
		}
	} else {
		if _, err = conn.Write(query); err == nil {
			var n int
			n, err = conn.Read(raw)
			raw = raw[:n]
		}
	}
	if err != nil {
		t.Fatalf("%+v: %v", q, err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(raw); err != nil {
		t.Fatalf("%+v: answer cannot be read: %v", q, err)
	}
	if m.Id != 4711 {
		t.Errorf("%+v: answer has the id %d", q, m.Id)
	}
	return m, len(raw)
}

var serial = regexp.MustCompile(`(SOA\t\S+ \S+) \d+ `)

// show prints a message section by section, sorted, without what differs from one
// run to the next.
func show(m *dns.Msg, q question) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s%s", dns.RcodeToString[m.Rcode], flags(m))
	for _, asked := range m.Question {
		fmt.Fprintf(&out, " %s %s", asked.Name, dns.TypeToString[asked.Qtype])
	}
	out.WriteByte('\n')
	for _, section := range []struct {
		name string
		rrs  []dns.RR
	}{{"answer", m.Answer}, {"authority", m.Ns}, {"additional", m.Extra}} {
		if len(section.rrs) == 0 {
			continue
		}
		fmt.Fprintf(&out, "  %s\n", section.name)
		var lines []string
		for _, rr := range section.rrs {
			line := serial.ReplaceAllString(rr.String(), "$1 SERIAL ")
			switch {
			case rr.Header().Rrtype == dns.TypeOPT:
				line = strings.Join(strings.Fields(line), " ")
			case q.count:
				line = dns.TypeToString[rr.Header().Rrtype]
			}
			lines = append(lines, "    "+line+"\n")
		}
		slices.Sort(lines)
		out.WriteString(strings.Join(lines, ""))
	}
	return out.String()
}

func flags(m *dns.Msg) string {
	out := ""
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"qr", m.Response},
		{"aa", m.Authoritative},
		{"tc", m.Truncated},
		{"rd", m.RecursionDesired},
		{"ra", m.RecursionAvailable},
		{"ad", m.AuthenticatedData},
		{"cd", m.CheckingDisabled},
	} {
		if f.set {
			out += " " + f.name
		}
	}
	return out
}

// answers asks all questions of a scenario and prints what comes.
func answers(t *testing.T, addr string, s scenario) []string {
	t.Helper()
	var out []string
	for _, line := range s.questions {
		q := parseQuestion(t, line)
		m, size := ask(t, addr, q)
		text := "> " + line + "\n" + show(m, q)
		if q.count {
			text += fmt.Sprintf("  compressed %v\n", isCompressed(t, m, size))
		}
		out = append(out, text)
	}
	return out
}

// isCompressed tells whether a message was sent shorter than without compression.
func isCompressed(t *testing.T, m *dns.Msg, size int) bool {
	t.Helper()
	m.Compress = false
	plain, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return size < len(plain)
}

func goldenPath(s scenario) string { return filepath.Join("testdata", s.name+".golden") }

// recorded reads what the reference answered.
func recorded(t *testing.T, s scenario) []string {
	t.Helper()
	b, err := os.ReadFile(goldenPath(s))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split("\n"+string(b), "\n> ")[1:]
	if len(parts) != len(s.questions) {
		t.Fatalf("%s has %d answers to %d questions: record it anew with ISTHMUS_REFERENCE and -update", goldenPath(s), len(parts), len(s.questions))
	}
	for i := range parts {
		parts[i] = "> " + strings.TrimSuffix(parts[i], "\n") + "\n"
	}
	return parts
}

// TestReferenceStillAnswersAsRecorded asks the reference itself, and with -update
// writes the golden files.
func TestReferenceStillAnswersAsRecorded(t *testing.T) {
	binary := os.Getenv("ISTHMUS_REFERENCE")
	if binary == "" {
		t.Skip("skipped: ISTHMUS_REFERENCE does not name the reference's binary")
	}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			live := answers(t, startReference(t, binary, s), s)
			if *update {
				if err := os.WriteFile(goldenPath(s), []byte(strings.Join(live, "")), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for i, want := range recorded(t, s) {
				if live[i] != want {
					t.Errorf("got\n%s\nrecorded was\n%s", live[i], want)
				}
			}
		})
	}
}

// startReference starts two agents in development mode, dc1 and dc2, with the
// catalog of the tests, and returns where the one of dc1 answers DNS.
func startReference(t *testing.T, binary string, s scenario) string {
	t.Helper()
	upstream := startUpstream(t)
	conf := filepath.Join(t.TempDir(), "dns.json")
	if err := os.WriteFile(conf, []byte(strings.ReplaceAll(s.conf, "UPSTREAM", upstream)), 0o600); err != nil {
		t.Fatal(err)
	}
	addrs := map[string]string{"dc1": "127.61.0.1", "dc2": "127.61.0.2"}
	for _, dc := range []string{"dc1", "dc2"} {
		args := []string{
			"agent", "-dev", "-datacenter", dc, "-node", "srv-" + dc, "-bind", addrs[dc], "-client", addrs[dc], "-log-level", "error",
			"-config-file", conf,
		}
		if dc == "dc2" {
			args = append(args, "-retry-join-wan", addrs["dc1"])
		}
		cmd := exec.CommandContext(t.Context(), binary, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		await(t, "http://"+addrs[dc]+":8500/v1/catalog/nodes", "lan_ipv4")
	}
	await(t, "http://"+addrs["dc1"]+":8500/v1/catalog/nodes?dc=dc2", "lan_ipv4")
	for _, one := range catalog(t) {
		var to struct{ Datacenter string }
		if err := json.Unmarshal(one, &to); err != nil {
			t.Fatal(err)
		}
		if to.Datacenter == "" {
			to.Datacenter = "dc1"
		}
		put(t, "http://"+addrs[to.Datacenter]+":8500/v1/catalog/register", one)
	}
	return addrs["dc1"] + ":8600"
}

func catalog(t testing.TB) []json.RawMessage {
	t.Helper()
	b, err := os.ReadFile("testdata/catalog.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func put(t testing.TB, url string, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		t.Fatalf("PUT %s: %s: %s", url, body, text)
	}
}

// await waits until an answer contains part.
func await(t testing.TB, url, part string) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-tick.C {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			continue
		}
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode == http.StatusOK && bytes.Contains(b, []byte(part)) {
			return
		}
	}
	t.Fatalf("%s does not answer with %s", url, part)
}

// startUpstream starts a resolver that knows a few names outside our domain.
func startUpstream(t testing.TB) string {
	t.Helper()
	known := map[string][]string{
		"www.example.com.":   {"www.example.com. 300 IN A 192.0.2.1", "www.example.com. 300 IN AAAA 2001:db8::1"},
		"db.example.com.":    {"db.example.com. 120 IN A 192.0.2.2"},
		"chain.example.com.": {"chain.example.com. 60 IN CNAME db.example.com.", "db.example.com. 120 IN A 192.0.2.2"},
		"text.example.com.":  {`text.example.com. 60 IN TXT "hello"`},
	}
	mux := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(r)
		m.RecursionAvailable = true
		q := r.Question[0]
		name := strings.ToLower(q.Name)
		switch {
		case name == "broken.example.com.":
			m.Rcode = dns.RcodeServerFailure
		case name == "refused.example.com.":
			m.Rcode = dns.RcodeRefused
		case name == "silent.example.com.":
			return
		case known[name] == nil:
			m.Rcode = dns.RcodeNameError
		}
		for _, text := range known[name] {
			rr, err := dns.NewRR(text)
			if err != nil {
				panic(err)
			}
			if t := rr.Header().Rrtype; t == q.Qtype || t == dns.TypeCNAME || name == "chain.example.com." && t == q.Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		_ = w.WriteMsg(m)
	})
	conn, ln := bothPorts(t)
	for _, srv := range []*dns.Server{{PacketConn: conn, Handler: mux}, {Listener: ln, Handler: mux}} {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		ended := make(chan error, 1)
		go func() { ended <- srv.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = srv.ShutdownContext(ctx)
			if err := <-ended; err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		})
	}
	return conn.LocalAddr().String()
}

// bothPorts listens on the same port for UDP and TCP.
func bothPorts(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if ln, err := net.Listen("tcp", conn.LocalAddr().String()); err == nil {
			return conn, ln
		}
		_ = conn.Close() // somebody has the port for TCP
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

const deviationsFile = "testdata/deviations.golden"

// TestAnswersAsTheReference asks our front what the reference was asked, of the
// same catalog. Where we answer otherwise, our answers stand in a file of their
// own.
func TestAnswersAsTheReference(t *testing.T) {
	b, err := os.ReadFile(deviationsFile)
	if err != nil && !*update {
		t.Fatal(err)
	}
	parts := strings.Split("\n"+string(b), "\n> ")[1:]
	var now strings.Builder
	left := maps.Clone(deviations)
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			cfg := config(newServers(t))
			s.ours(&cfg, startUpstream(t))
			got := answers(t, serve(t, New(cfg)), s)
			for i, want := range recorded(t, s) {
				key := s.name + " " + s.questions[i]
				if _, ok := deviations[key]; !ok {
					if got[i] != want {
						t.Errorf("got\n%s\nwant\n%s", got[i], want)
					}
					continue
				}
				delete(left, key)
				if got[i] == want {
					t.Errorf("%s is answered as the reference answers it, and need not be a deviation", key)
				}
				ours := "> " + s.name + " " + strings.TrimPrefix(got[i], "> ")
				now.WriteString(ours)
				if part := strings.TrimSuffix(strings.TrimPrefix(ours, "> "), "\n"); !*update && !slices.ContainsFunc(parts, func(p string) bool {
					return strings.TrimSuffix(p, "\n") == part
				}) {
					t.Errorf("got\n%s\nwhich is not what %s has", ours, deviationsFile)
				}
			}
		})
	}
	for key := range left {
		t.Errorf("%s was not asked", key)
	}
	if *update {
		if err := os.WriteFile(deviationsFile, []byte(now.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
