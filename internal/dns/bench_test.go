package dns

import (
	"fmt"
	"net"
	"testing"

	"github.com/miekg/dns"

	"isthmus/api"
	"isthmus/internal/rpc"
	"isthmus/internal/testkit"
	"isthmus/internal/wire"
)

// benchServer is a server of this tree with a service of n instances.
func benchServer(b *testing.B, n int) rpc.Caller {
	b.Helper()
	s := testkit.NewServer(b)
	for i := range n {
		in := api.Registration{
			Node: fmt.Sprintf("node-%04d", i), Address: fmt.Sprintf("10.0.%d.%d", i/250, i%250+1),
			Service: &api.NodeService{ID: "web", Service: "web", Port: 8080 + i%1000},
		}
		if _, _, err := wire.CatalogRegister.Call(b.Context(), s, rpc.Header{}, in); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

var benchQuestions = []struct {
	name  string
	qtype uint16
	edns  uint16
}{
	{"web.service.consul.", dns.TypeA, 0},
	{"web.service.consul.", dns.TypeSRV, 4096},
	{"node-0001.node.consul.", dns.TypeA, 0},
}

func benchQuery(b *testing.B, i int) []byte {
	b.Helper()
	m := new(dns.Msg)
	m.SetQuestion(benchQuestions[i].name, benchQuestions[i].qtype)
	if size := benchQuestions[i].edns; size > 0 {
		m.SetEdns0(size, false)
	}
	raw, err := m.Pack()
	if err != nil {
		b.Fatal(err)
	}
	return raw
}

func benchName(i int) string {
	return fmt.Sprintf("%s_%s", dns.TypeToString[benchQuestions[i].qtype], benchQuestions[i].name[:4])
}

// BenchmarkAnswer makes answers without any socket: with ready records and by asking
// the server.
func BenchmarkAnswer(b *testing.B) {
	for _, n := range []int{10, 2000} {
		s := benchServer(b, n)
		for i := range benchQuestions {
			for _, stale := range []bool{true, false} {
				how := map[bool]string{true: "ready", false: "asked"}[stale]
				b.Run(fmt.Sprintf("%d/%s/%s", n, benchName(i), how), func(b *testing.B) {
					cfg := config(s)
					cfg.Settings.AllowStale = stale
					f := New(cfg)
					serve(b, f)
					raw := benchQuery(b, i)
					var sc scratch
					answer := func() {
						if _, done := f.prepare(&sc, raw, false); !done {
							f.respond(b.Context(), &sc, raw)
						}
					}
					answer()
					answer()
					if stale {
						testkit.Eventually(b, func() error {
							answer() // it may come before the front runs
							if _, done := f.prepare(&sc, raw, false); !done {
								return fmt.Errorf("not ready")
							}
							return nil
						})
					}
					b.ReportAllocs()
					for b.Loop() {
						answer()
					}
				})
			}
		}
	}
}

// BenchmarkUDP asks over a socket, one question at a time.
func BenchmarkUDP(b *testing.B) {
	s := benchServer(b, 10)
	for i := range benchQuestions {
		b.Run(benchName(i), func(b *testing.B) {
			conn, err := net.Dial("udp", serve(b, New(config(s))))
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			raw, buf := benchQuery(b, i), make([]byte, 65536)
			for b.Loop() {
				if _, err := conn.Write(raw); err != nil {
					b.Fatal(err)
				}
				if _, err := conn.Read(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
