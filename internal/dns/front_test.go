package dns

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/testkit"
	"isthmus/internal/wire"
)

// query asks a front without any socket and reads the answer, which must be no
// longer than allowed.
func answerOf(t testing.TB, f *Front, m *dns.Msg, tcp bool) *dns.Msg {
	t.Helper()
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var sc scratch
	out, done := f.prepare(&sc, raw, tcp)
	if !done {
		out = f.respond(t.Context(), &sc, raw)
	}
	most := maxMessage
	if !tcp {
		most = plainSize
		if opt := m.IsEdns0(); opt != nil {
			most = max(most, int(opt.UDPSize()))
		}
	}
	if len(out) > most {
		t.Errorf("%s: answer of %d bytes, %d are allowed", m.Question[0].Name, len(out), most)
	}
	reply := new(dns.Msg)
	if err := reply.Unpack(out); err != nil {
		t.Fatalf("%s: answer cannot be read: %v: %x", m.Question[0].Name, err, out)
	}
	return reply
}

func lookupOf(t testing.TB, f *Front, name string, qtype uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	return answerOf(t, f, m, false)
}

func TestNamesAreTakenApart(t *testing.T) {
	for _, c := range []struct {
		name string
		want place
	}{
		{"n1.node", place{kind: aNode, name: "n1"}},
		{"a.b.node.dc2", place{kind: aNode, name: "a.b", datacenter: "dc2"}},
		{"n1.node.dc2.dc", place{kind: aNode, name: "n1", datacenter: "dc2"}},
		{"n1.node.dc2.x", place{}},
		{"web.service", place{kind: aService, name: "web"}},
		{"a.b.web.service.dc2", place{kind: aService, name: "web", tag: "a.b", datacenter: "dc2"}},
		{"_web._tcp.service", place{kind: aService, name: "web"}},
		{"_web._a", place{kind: aService, name: "web", tag: "a"}},
		{"_web._a.dc2", place{kind: aService, name: "web", tag: "a", datacenter: "dc2"}},
		{"_web.service", place{kind: aService, name: "_web"}},
		{"web.connect", place{kind: aProxy, name: "web"}},
		{"node.service", place{kind: aService, name: "node"}},
		{"service.node", place{kind: aNode, name: "service"}},
		{"0a000001.addr", place{kind: anAddress, addr: netip.MustParseAddr("10.0.0.1")}},
		{"0a0001.addr", place{kind: wrongShape}},
		{"xx000001.addr", place{}},
		{"q.query", place{kind: notBuilt, name: "prepared queries"}},
		{"web.virtual.dc2", place{kind: notBuilt, name: "virtual addresses of services", datacenter: "dc2"}},
		{"web.ingress", place{kind: notBuilt, name: "ingress gateways"}},
		{"service", place{}},
		{"", place{}},
		{"x", place{}},
	} {
		if got := parseName(c.name); got != c.want {
			t.Errorf("%q: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestEachFormAsksTheServers(t *testing.T) {
	for _, c := range []struct {
		name   string
		method string
		header rpc.Header
		in     any
	}{
		{"web.service.consul.", wire.HealthServiceNodes.Name, rpc.Header{Datacenter: "dc1"}, wire.ServiceQuery{ServiceName: "web"}},
		{
			"v1.Web.service.dc2.consul.",
			wire.HealthServiceNodes.Name,
			rpc.Header{Datacenter: "dc2"},
			wire.ServiceQuery{ServiceName: "web", TagFilter: true, ServiceTag: "v1", ServiceTags: []string{"v1"}},
		},
		{"web.connect.consul.", wire.HealthServiceNodes.Name, rpc.Header{Datacenter: "dc1"}, wire.ServiceQuery{ServiceName: "web", Connect: true}},
		{"n1.node.dc2.consul.", wire.CatalogNodeServiceList.Name, rpc.Header{Datacenter: "dc2"}, wire.NodeQuery{Node: "n1"}},
		{"9.9.9.9.in-addr.arpa.", wire.CatalogServiceNodes.Name, rpc.Header{Datacenter: "dc1"}, wire.ServiceQuery{ServiceAddress: "9.9.9.9"}},
	} {
		s := newServers(t)
		cfg := config(s)
		cfg.Settings.UseCache, cfg.Settings.CacheMaxAge = true, time.Minute
		lookupOf(t, New(cfg), c.name, dns.TypeA)
		c.header.AllowStale, c.header.MaxStale, c.header.UseCache, c.header.MaxAge = true, cfg.Settings.MaxStale, true, time.Minute
		r := s.last.Load()
		if r == nil || r.Name != c.method || r.Header != c.header || !strings.HasSuffix(fmt.Sprintf("%+v", r.In), fmt.Sprintf("%+v", c.in)) {
			t.Errorf("%s: asked %+v, want %s %+v %+v", c.name, r, c.method, c.header, c.in)
		}
	}
}

func TestOldAnswersAreAskedOfTheLeader(t *testing.T) {
	s := newServers(t)
	s.stale = time.Minute
	cfg := config(s)
	cfg.Settings.MaxStale = time.Second
	f := New(cfg)
	if m := lookupOf(t, f, "one.service.consul.", dns.TypeA); len(m.Answer) != 1 || s.last.Load().Header.AllowStale || s.calls.Load() != 2 {
		t.Errorf("got %v after %d calls, the last %+v", m.Answer, s.calls.Load(), s.last.Load().Header)
	}
	cfg.Settings.MaxStale = time.Hour
	f.Set(cfg.Settings)
	if lookupOf(t, f, "one.service.consul.", dns.TypeA); s.calls.Load() != 3 {
		t.Errorf("an answer that is young enough was asked for again")
	}
}

func TestErrorsOfServersBecomeCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{api.Known(api.NoPath, nil), dns.RcodeNameError},
		{api.Known(api.Unreachable, nil), dns.RcodeServerFailure},
		{api.Known(api.NoLeader, nil), dns.RcodeServerFailure},
		{api.Known(api.NotAllowed, nil), dns.RcodeRefused},
		{api.Errorf(api.NotBuilt, "no"), dns.RcodeNotImplemented},
		{io.ErrUnexpectedEOF, dns.RcodeServerFailure},
	} {
		s := newServers(t)
		s.err = c.err
		if m := lookupOf(t, New(config(s)), "web.connect.consul.", dns.TypeA); m.Rcode != c.want || len(m.Answer) != 0 {
			t.Errorf("%v: got %s", c.err, dns.RcodeToString[m.Rcode])
		}
	}
}

func TestDatacenterThatIsCutOffFailsSoonAndDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers(t)
		s.hang = "dc2"
		f := New(config(s))
		begin := time.Now()
		var under sync.WaitGroup
		for range maxRemote + 100 {
			under.Go(func() {
				if m := lookupOf(t, f, "web.service.dc2.consul.", dns.TypeA); m.Rcode != dns.RcodeServerFailure {
					t.Errorf("got %s", dns.RcodeToString[m.Rcode])
				}
			})
		}
		synctest.Wait()
		if m := lookupOf(t, f, "one.service.consul.", dns.TypeA); len(m.Answer) != 1 || time.Since(begin) > 0 {
			t.Errorf("the own datacenter answers %v after %v", m.Answer, time.Since(begin))
		}
		under.Wait()
		if took := time.Since(begin); took >= 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestOwnDatacenterWithoutServersFailsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers(t)
		s.hang = "dc1"
		begin := time.Now()
		if m := lookupOf(t, New(config(s)), "web.service.consul.", dns.TypeA); m.Rcode != dns.RcodeServerFailure || time.Since(begin) > allWithin {
			t.Errorf("got %s after %v", dns.RcodeToString[m.Rcode], time.Since(begin))
		}
	})
}

func TestWANAddressesForOtherDatacenters(t *testing.T) {
	cfg := config(newServers(t))
	cfg.TranslateWAN = true
	f := New(cfg)
	for name, want := range map[string]string{
		"m1.node.dc2.consul.": "198.51.100.9", "far.service.dc2.consul.": "198.51.100.10", "web.service.dc2.consul.": "198.51.100.9",
		"n1.node.consul.": "10.1.0.1",
	} {
		if m := lookupOf(t, f, name, dns.TypeA); len(m.Answer) != 1 || !strings.HasSuffix(m.Answer[0].String(), "\t"+want) {
			t.Errorf("%s: got %v, want %s", name, m.Answer, want)
		}
	}
}

func TestWeightsAreOfTheState(t *testing.T) {
	m := new(dns.Msg)
	m.SetQuestion("web.service.consul.", dns.TypeSRV)
	weights := map[uint16]uint16{}
	for _, rr := range answerOf(t, New(config(newServers(t))), m, true).Answer {
		weights[rr.(*dns.SRV).Port] = rr.(*dns.SRV).Weight
	}
	if len(weights) != 2 || weights[8080] != 3 || weights[8081] != 2 {
		t.Errorf("got %v", weights)
	}
}

func TestEachInstanceComesFirstAtTimes(t *testing.T) {
	f := New(config(newServers(t)))
	first := map[string]bool{}
	for range 1000 {
		m := lookupOf(t, f, "big.service.consul.", dns.TypeA)
		first[m.Answer[0].String()] = true
	}
	if len(first) != 20 {
		t.Errorf("%d of 20 came first", len(first))
	}
}

// TestAnswersFitIntoEachSize asks with every size and compares what comes with what
// was left out.
func TestAnswersFitIntoEachSize(t *testing.T) {
	f := New(config(newServers(t)))
	for _, name := range []string{"big.service.consul.", "fat.service.consul.", "same.service.consul.", "fat.node.consul.", "into.service.consul."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypeANY, dns.TypeTXT} {
			for size := 512; size < 1600; size += 37 {
				m := new(dns.Msg)
				m.SetQuestion(name, qtype)
				m.SetEdns0(uint16(size), false)
				got := answerOf(t, f, m, false)
				if got.IsEdns0() == nil {
					t.Errorf("%s %d: no EDNS in the answer", name, size)
				}
			}
		}
	}
}

func TestLongMetadataIsSplit(t *testing.T) {
	s := newServers(t)
	const spaced = " a "
	s.register(&api.Registration{Node: "long", Address: "10.0.0.1", NodeMeta: map[string]string{"k": strings.Repeat("v", 512), spaced: "x", "b\\": "\\"}})
	m := new(dns.Msg)
	m.SetQuestion("long.node.consul.", dns.TypeTXT)
	var got []string
	for _, rr := range answerOf(t, New(config(s)), m, true).Answer {
		got = append(got, strings.Join(rr.(*dns.TXT).Txt, ""))
	}
	if want := []string{"` a` =x", `b\\=\\`, "k=" + strings.Repeat("v", 512)}; strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q", got)
	}
}

func TestWhatIsNoQuestion(t *testing.T) {
	f := New(config(newServers(t)))
	good, err := (&dns.Msg{MsgHdr: dns.MsgHdr{Id: 7}, Question: []dns.Question{{Name: "one.service.consul.", Qtype: 1, Qclass: 1}}}).Pack()
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(b []byte) []byte) []byte { return change(append([]byte(nil), good...)) }
	for _, c := range []struct {
		what string
		raw  []byte
		want int // -1 is silence
	}{
		{"nothing", nil, -1},
		{"half a header", good[:11], -1},
		{"an answer", with(func(b []byte) []byte { b[2] |= 0x80; return b }), -1},
		{"an update", with(func(b []byte) []byte { b[2] |= 5 << 3; return b }), dns.RcodeNotImplemented},
		{"two questions", with(func(b []byte) []byte { b[5] = 2; return b }), dns.RcodeFormatError},
		{"no question", with(func(b []byte) []byte { b[5] = 0; return b }), dns.RcodeFormatError},
		{"a cut question", good[:len(good)-1], dns.RcodeFormatError},
		{"a pointer in the question", with(func(b []byte) []byte { b[12] = 0xc0; return b }), dns.RcodeFormatError},
		{"a record that is not there", with(func(b []byte) []byte { b[11] = 1; return b }), dns.RcodeFormatError},
		{"EDNS of another version", with(func(b []byte) []byte { b[11] = 1; return append(b, 0, 0, 41, 16, 0, 0, 1, 0, 0, 0, 0) }), dns.RcodeBadVers},
		{"EDNS twice", with(func(b []byte) []byte {
			b[11] = 2
			opt := []byte{0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0}
			return append(append(b, opt...), opt...)
		}), dns.RcodeFormatError},
		{"a cut option", with(func(b []byte) []byte { b[11] = 1; return append(b, 0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 3, 0, 8, 0) }), dns.RcodeFormatError},
	} {
		var sc scratch
		out, done := f.prepare(&sc, c.raw, false)
		switch {
		case !done:
			t.Errorf("%s: servers would be asked", c.what)
		case c.want < 0:
			if out != nil {
				t.Errorf("%s: got %x", c.what, out)
			}
		default:
			m := new(dns.Msg)
			if err := m.Unpack(out); err != nil || m.Id != 7 || !m.Response {
				t.Errorf("%s: got %x: %v", c.what, out, err)
			}
			code := m.Rcode
			if opt := m.IsEdns0(); opt != nil {
				code |= opt.ExtendedRcode()
			}
			if code != c.want {
				t.Errorf("%s: got %s", c.what, dns.RcodeToString[code])
			}
		}
	}
}

func TestUnbuiltNamesSayWhatTheyAre(t *testing.T) {
	for name, want := range map[string]string{
		"q.query.consul.": "prepared queries", "web.virtual.consul.": "virtual addresses", "web.ingress.consul.": "ingress gateways",
	} {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeA)
		m.SetEdns0(1232, false)
		got := answerOf(t, New(config(newServers(t))), m, false)
		if got.Rcode != dns.RcodeNotImplemented || !strings.Contains(fmt.Sprint(got.IsEdns0()), want) {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestSeveralQuestionsOverOneConnection(t *testing.T) {
	conn, err := net.Dial("tcp", serve(t, New(config(newServers(t)))))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	for i := range 5 {
		m := new(dns.Msg)
		m.SetQuestion("one.service.consul.", dns.TypeA)
		m.Id = uint16(i)
		raw, _ := m.Pack()
		for _, b := range [][]byte{{byte(len(raw) >> 8)}, {byte(len(raw))}, raw[:5], raw[5:]} {
			if _, err := conn.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			t.Fatal(err)
		}
		out := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, out); err != nil {
			t.Fatal(err)
		}
		if err := m.Unpack(out); err != nil || m.Id != uint16(i) || len(m.Answer) != 1 {
			t.Errorf("got %v, %v", m, err)
		}
	}
}

// TestAnswersComeFromTheAddressThatWasAsked shows that a front which listens on any
// address does not answer from another one.
func TestAnswersComeFromTheAddressThatWasAsked(t *testing.T) {
	for _, network := range []string{"udp4", "udp"} {
		conn, err := net.ListenUDP(network, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- New(config(newServers(t))).ServeUDP(ctx, conn) }()
		_, port, _ := net.SplitHostPort(conn.LocalAddr().String())
		for _, host := range []string{"127.0.0.1", "127.61.0.77"} {
			// A connected socket takes no answer from elsewhere.
			m, _ := ask(t, net.JoinHostPort(host, port), question{name: "one.service.consul.", qtype: dns.TypeA, edns: -1})
			if len(m.Answer) != 1 {
				t.Errorf("%s: got %v", host, m)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestServersOfThisTreeAnswer(t *testing.T) {
	s := testkit.NewServer(t)
	in := api.Registration{Node: "n1", Address: "10.0.0.1", Service: &api.NodeService{ID: "web", Service: "web", Port: 80}}
	if _, _, err := wire.CatalogRegister.Call(t.Context(), s, rpc.Header{}, in); err != nil {
		t.Fatal(err)
	}
	f := New(config(s))
	for _, name := range []string{"web.service.consul.", "N1.node.consul.", "web.service.dc1.consul."} {
		if m := lookupOf(t, f, name, dns.TypeA); len(m.Answer) != 1 {
			t.Errorf("%s: got %v", name, m)
		}
	}
	if m := lookupOf(t, f, "1.0.0.10.in-addr.arpa.", dns.TypePTR); len(m.Answer) != 1 || m.Answer[0].(*dns.PTR).Ptr != "n1.node.dc1.consul." {
		t.Errorf("got %v", m)
	}
	if m := lookupOf(t, f, "web.service.dc9.consul.", dns.TypeA); m.Rcode != dns.RcodeNameError {
		t.Errorf("got %v", m)
	}
}
