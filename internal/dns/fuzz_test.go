package dns

import (
	"testing"

	"github.com/miekg/dns"
)

// FuzzQuestion has any bytes answered: what comes back can be read, is no longer
// than allowed, and answers what was asked.
func FuzzQuestion(f *testing.F) {
	for _, s := range scenarios {
		for _, line := range s.questions[:min(len(s.questions), 60)] {
			var t testing.T
			raw, err := parseQuestion(&t, line).msg(&t).Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(raw, false)
		}
	}
	f.Add([]byte{0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0xc0, 12, 0, 1, 0, 1}, true)
	cfg := config(newServers(f))
	cfg.AltDomain = "example"
	front := New(cfg)
	f.Fuzz(func(t *testing.T, raw []byte, tcp bool) {
		var sc scratch
		out, done := front.prepare(&sc, raw, tcp)
		if !done {
			out = front.respond(t.Context(), &sc, raw)
		}
		if out == nil {
			return
		}
		limit := max(sc.query.size, plainSize)
		if len(out) > limit {
			t.Errorf("answer of %d bytes where %d are allowed", len(out), limit)
		}
		m := new(dns.Msg)
		if err := m.Unpack(out); err != nil {
			t.Fatalf("answer cannot be read: %v: %x", err, out)
		}
		if !m.Response || out[0] != raw[0] || out[1] != raw[1] {
			t.Errorf("answer has the head %+v", m.MsgHdr)
		}
		if len(m.Question) == 1 && string(sc.query.question) != string(out[headerLen:headerLen+len(sc.query.question)]) {
			t.Error("answer repeats another question")
		}
	})
}

// FuzzName takes any name apart.
func FuzzName(f *testing.F) {
	for _, name := range []string{"a.service", "_a._b", "0a000001.addr", "..", "", "node.node.node", "1.0.0.10.in-addr.arpa."} {
		f.Add(name)
	}
	f.Fuzz(func(_ *testing.T, name string) {
		parseName(name)
		reversed(name)
	})
}
