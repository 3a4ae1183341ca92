package dns

import "time"

// scenarios are run in order, each against agents of its own.
var scenarios = []scenario{
	{
		name: "plain", conf: `{}`,
		ours: func(*Config, string) {},
		questions: []string{
			// Nodes.
			"n1.node.consul. A", "n1.node.consul. AAAA", "n1.node.consul. TXT count", "n1.node.consul. ANY count", "n1.node.consul. MX",
			"n1.node.consul. SRV", "n1.node.dc1.consul. A", "n1.node.dc2.consul. A", "m1.node.dc2.consul. A", "m1.node.dc2.consul. ANY",
			"n1.node.nope.consul. A", "none.node.consul. A", "v6.node.consul. A", "v6.node.consul. AAAA", "v6.node.consul. ANY",
			"N1.NoDe.CoNsUl. A", "upper.node.consul. A", "UPPER.node.consul. A", "n.dot.node.consul. A", "under_score.node.consul. A",
			"named.node.consul. A", "named.node.consul. CNAME", "named.node.consul. ANY", "named.node.consul. AAAA", "inner.node.consul. A count",
			"cut.node.consul. A", "n2.node.consul. TXT", "n2.node.consul. AAAA", "n2.node.consul. NS", "n2.node.consul. SOA",
			"srv-dc1.node.consul. A", "srv-dc1.node.consul. TXT", "srv-dc2.node.dc2.consul. A", "lost.node.consul. A",
			"n1.node.dc1.extra.consul. A", "node.consul. A", "n1.node.consul. HTTPS", "n1.node.consul. PTR",
			// Services.
			"web.service.consul. A", "web.service.consul. AAAA", "web.service.consul. SRV count tcp", "web.service.consul. ANY", "web.service.consul. TXT",
			"web.service.consul. CNAME", "web.service.dc1.consul. A", "web.service.dc1.consul. SRV count tcp", "web.service.dc2.consul. A",
			"web.service.dc2.consul. SRV", "far.service.dc2.consul. A", "far.service.dc2.consul. SRV", "web.service.nope.consul. A",
			"WEB.Service.CONSUL. A", "ONE.Service.CONSUL. SRV", "primary.web.service.consul. A", "primary.web.service.consul. SRV",
			"PRIMARY.web.service.consul. A", "v1.2.web.service.consul. A", "mixed.web.service.consul. A", "none.web.service.consul. A",
			"none.web.service.consul. SRV", "a.b.one.service.consul. A", "b.one.service.consul. A",
			"one.service.consul. A", "one.service.consul. SRV", "one.service.consul. ANY", "one.service.consul. AAAA", "one.service.consul. SRV tcp",
			"one.service.consul. SOA", "one.service.consul. NS", "one.service.consul. MX", "one.service.consul. TXT",
			"same.service.consul. A", "same.service.consul. SRV", "down.service.consul. A", "down.service.consul. SRV", "none.service.consul. A",
			"none.service.consul. SRV", "none.service.consul. ANY", "six.service.consul. A", "six.service.consul. AAAA", "six.service.consul. SRV",
			"onsix.service.consul. AAAA", "onsix.service.consul. SRV", "onsix.service.consul. A", "tagged.service.consul. A", "tagged.service.consul. SRV",
			"tagged.service.consul. AAAA",
			"ext.service.consul. A", "ext.service.consul. SRV", "ext.service.consul. CNAME", "ext.service.consul. ANY", "ext.service.consul. AAAA",
			"chain.service.consul. A", "gone.service.consul. A", "into.service.consul. A", "into.service.consul. SRV", "into.service.consul. CNAME",
			"loop.service.consul. SRV", "nowhere.service.consul. A", "nowhere.service.consul. SRV", "toservice.service.consul. A",
			"toservice.service.consul. SRV", "onnamed.service.consul. A", "onnamed.service.consul. SRV", "noport.service.consul. SRV",
			"my.dotted.service.consul. A", "under_sc.service.consul. A", "under_sc.service.consul. SRV", "ondot.service.consul. SRV",
			"oncut.service.consul. A", "oncut.service.consul. SRV", "consul.service.consul. A", "consul.service.consul. SRV",
			"service.consul. A", "x.y.z.one.service.dc1.consul. A", "one.service.dc1.extra.consul. A",
			// RFC 2782.
			"_one._tcp.service.consul. SRV", "_one._tcp.consul. SRV", "_web._primary.service.consul. SRV", "_web._primary.service.dc1.consul. SRV",
			"_web._tcp.service.dc2.consul. SRV", "_one._udp.service.consul. SRV", "_web._tcp.service.consul. A", "_none._tcp.service.consul. SRV",
			"_web._secondary.service.consul. A", "_one._TCP.service.consul. SRV", "_x._one._tcp.service.consul. SRV", "_web.service.consul. SRV",
			"_one._a.b.service.consul. SRV", "_web.tcp.service.consul. SRV",
			// Connect and what is not built.
			"web.connect.consul. A", "web.connect.consul. SRV", "web.connect.dc1.consul. A", "one.connect.consul. A", "connect.consul. A",
			"primary.web.connect.consul. A", "q.query.consul. A", "q.query.dc1.consul. SRV", "query.consul. A",
			"web.virtual.consul. A", "none.virtual.consul. A", "web.ingress.consul. A", "web.virtual.consul. AAAA",
			// Addresses in names.
			"0a000001.addr.consul. A", "0a000001.addr.dc1.consul. A", "0A0000ff.addr.consul. A", "0a000001.addr.consul. AAAA", "0a000001.addr.consul. SRV",
			"0a000001.addr.consul. ANY", "0a000001.addr.consul. TXT", "0a0001.addr.consul. A", "zz000001.addr.consul. A", "addr.consul. A",
			"20010db800010002cafe000000001337.addr.consul. AAAA", "20010db800010002cafe000000001337.addr.consul. A",
			"20010db800010002cafe000000001337.addr.dc1.consul. ANY", "x.0a000001.addr.consul. A", "0a000001.addr.nope.consul. A",
			"0a000001.addr.consul. MX",
			// The zone.
			"consul. A", "consul. SOA", "consul. NS", "consul. ANY", "consul. AXFR tcp", "consul. MX", "dc1.consul. A", "dc1.consul. SOA",
			"x.consul. A", "x.y.consul. A", "x.y.z.consul. SRV", "ns.consul. A", "hostmaster.consul. A", "server.node.consul. A",
			"CONSUL. SOA", "consul. NS tcp", "consul. IXFR", "x.consul. NS", "x.consul. SOA",
			// Reverse.
			"1.0.1.10.in-addr.arpa. PTR", "2.0.1.10.in-addr.arpa. PTR", "2.0.2.10.in-addr.arpa. PTR", "9.9.9.9.in-addr.arpa. PTR",
			"6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa. PTR",
			"6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.0.0.d.f.ip6.arpa. PTR", "1.0.1.10.in-addr.arpa. A", "1.0.1.10.in-addr.arpa. ANY",
			"1.0.1.10.IN-ADDR.ARPA. PTR", "1.10.in-addr.arpa. PTR", "x.in-addr.arpa. PTR", "arpa. PTR", "1.0.9.10.in-addr.arpa. PTR",
			"1.0.61.127.in-addr.arpa. PTR", "9.0.1.10.in-addr.arpa. PTR", "7.0.2.10.in-addr.arpa. PTR", "1.100.51.198.in-addr.arpa. PTR",
			// Elsewhere.
			"www.example.com. A", ". NS", "consul.example.com. A", "notconsul. A", "web.service.consul.example.com. A",
			// EDNS and limits.
			"one.service.consul. A edns=0", "one.service.consul. A edns=512", "one.service.consul. A edns=4096", "one.service.consul. SRV edns=4096",
			"none.service.consul. A edns=4096", "one.service.consul. A edns=1232 ecs=192.0.2.0/24", "one.service.consul. A ecs=2001:db8::/56 edns=4096",
			"none.service.consul. A edns=1232 ecs=192.0.2.0/24", "www.example.com. A edns=4096", "consul. SOA edns=4096", "consul. NS edns=4096",
			"n1.node.consul. A edns=4096", "n1.node.consul. A edns=1232 ecs=192.0.2.0/24", "1.0.1.10.in-addr.arpa. PTR edns=4096",
			"web.query.consul. A edns=4096 ecs=192.0.2.0/24",
			"big.service.consul. A count", "big.service.consul. A count edns=512", "big.service.consul. A count edns=600", "big.service.consul. A count edns=4096",
			"big.service.consul. A count edns=65535", "big.service.consul. A count tcp", "big.service.consul. SRV count", "big.service.consul. SRV count edns=512",
			"big.service.consul. SRV count edns=1232", "big.service.consul. SRV count edns=4096", "big.service.consul. SRV count tcp",
			"big.service.consul. ANY count", "big.service.consul. ANY count edns=1232", "big.service.consul. ANY count tcp",
			"big.service.consul. SRV count edns=1232 ecs=192.0.2.0/24",
			// Flags and classes.
			"fat.service.consul. SRV count", "fat.service.consul. A count", "fat.node.consul. A count", "fat.node.consul. TXT count", "fat.node.consul. ANY count",
			"fat.service.consul. SRV count edns=4096", "fat.node.consul. A count edns=1232", "fat.node.consul. A count tcp", "fat.node.consul. ANY count edns=1000",
			"one.service.consul. A edns=100", "one.service.consul. A edns=4096 do",
			"n1.node.dc1.dc.consul. A", "web.service.dc1.dc.consul. A", "web.service.x.peer.consul. A", "_web._tcp.dc2.consul. SRV", "_one._tcp.dc1.consul. SRV",
			"_web._tcp.nope.consul. SRV", "web.dc1.service.consul. A", "service.service.consul. A", "loop.service.consul. A", "_q._tcp.query.consul. SRV",
			"onnamed.service.consul. ANY", "onnamed.service.consul. CNAME", "a\\.b.service.consul. A", "twice.service.consul. A", "twice.service.consul. SRV",
			"one.service.consul. A nord", "www.example.com. A nord", "one.service.consul. A class=CH", "one.service.consul. A class=ANY",
		},
	},
	{
		name: "settings",
		conf: `{"alt_domain":"test-domain","dns_config":{"only_passing":true,"node_ttl":"7s","service_ttl":{"*":"5s","web":"9s","o*":"11s","b*g":"3s"},
			"udp_answer_limit":5,"enable_truncate":true,"disable_compression":true,"enable_additional_node_meta_txt":false,
			"soa":{"refresh":100,"retry":200,"expire":300,"min_ttl":42}}}`,
		ours: func(cfg *Config, _ string) {
			cfg.AltDomain = "test-domain"
			s := &cfg.Settings
			s.OnlyPassing, s.EnableTruncate, s.DisableCompression, s.NodeMetaTXT = true, true, true, false
			s.NodeTTL, s.UDPAnswerLimit, s.SOA = 7*time.Second, 5, SOA{100, 200, 300, 42}
			s.ServiceTTL = map[string]time.Duration{"*": 5 * time.Second, "web": 9 * time.Second, "o*": 11 * time.Second, "b*g": 3 * time.Second}
		},
		questions: []string{
			"web.service.consul. A", "web.service.consul. SRV", "one.service.consul. SRV", "six.service.consul. SRV", "oncut.service.consul. A",
			"n1.node.consul. A", "n1.node.consul. TXT count", "n1.node.consul. ANY count", "named.node.consul. A", "consul. SOA", "consul. NS", "none.service.consul. A",
			"one.service.consul. AAAA", "0a000001.addr.consul. A", "1.0.1.10.in-addr.arpa. PTR", "ext.service.consul. SRV", "consul. ANY",
			"web.service.test-domain. A", "web.service.test-domain. SRV", "n1.node.dc1.test-domain. A", "test-domain. SOA", "test-domain. NS",
			"none.service.test-domain. A", "web.service.dc2.test-domain. SRV", "into.service.test-domain. A", "into.service.test-domain. SRV",
			"TEST-DOMAIN. SOA", "0a000001.addr.test-domain. SRV", "x.test-domain. A", "1.0.61.127.in-addr.arpa. PTR",
			"big.service.consul. A count", "big.service.consul. A count edns=512", "big.service.consul. A count edns=600", "big.service.consul. A count edns=4096",
			"big.service.consul. SRV count", "big.service.consul. SRV count edns=1232", "big.service.consul. SRV count tcp", "big.service.consul. ANY count",
			"big.service.consul. A count tcp", "one.service.consul. A count tcp", "web.connect.consul. SRV",
		},
	},
	{
		name: "limits", conf: `{"dns_config":{"a_record_limit":2,"udp_answer_limit":20,"service_ttl":{"web*":"1s","we*":"2s"},"enable_truncate":true}}`,
		ours: func(cfg *Config, _ string) {
			s := &cfg.Settings
			s.ARecordLimit, s.UDPAnswerLimit, s.EnableTruncate = 2, 20, true
			s.ServiceTTL = map[string]time.Duration{"web*": time.Second, "we*": 2 * time.Second}
		},
		questions: []string{
			"big.service.consul. A count", "big.service.consul. A count edns=4096", "big.service.consul. A count tcp", "big.service.consul. SRV count",
			"big.service.consul. SRV count edns=4096", "big.service.consul. SRV count tcp", "big.service.consul. ANY count edns=4096",
			"big.service.consul. AAAA", "web.service.consul. A", "same.service.consul. A", "same.service.consul. SRV",
		},
	},
	{
		name: "recursors", conf: `{"recursors":["UPSTREAM"],"domain":"my.Domain"}`,
		ours: func(cfg *Config, upstream string) {
			cfg.Settings.Recursors, cfg.Domain = []string{upstream}, "my.Domain"
		},
		questions: []string{
			"www.example.com. A", "www.example.com. AAAA", "none.example.com. A", "broken.example.com. A", "refused.example.com. A", "text.example.com. TXT",
			"www.example.com. A tcp", "chain.example.com. A", "www.example.com. A edns=4096", "www.example.com. A edns=4096 ecs=192.0.2.0/24",
			"consul. SOA", "my.domain. SOA", "my.domain. NS", "none.service.my.domain. A", "one.service.my.domain. A", "one.service.my.domain. SRV",
			"ext.service.my.domain. A", "ext.service.my.domain. AAAA", "ext.service.my.domain. CNAME", "ext.service.my.domain. SRV", "ext.service.my.domain. ANY",
			"chain.service.my.domain. A", "chain.service.my.domain. SRV", "gone.service.my.domain. A", "gone.service.my.domain. SRV",
			"named.node.my.domain. A", "named.node.my.domain. AAAA", "named.node.my.domain. ANY", "named.node.my.domain. CNAME",
			"onnamed.service.my.domain. A", "onnamed.service.my.domain. SRV", "9.9.9.9.in-addr.arpa. PTR", "1.0.1.10.in-addr.arpa. PTR",
			"www.example.com. A nord", "ONE.service.MY.DOMAIN. SRV", "lost.node.my.domain. A",
		},
	},
	{
		name: "strategy", conf: `{"recursors":["127.61.0.9","UPSTREAM"],"dns_config":{"recursor_timeout":"200ms","recursor_strategy":"random","allow_stale":false,"use_cache":true}}`,
		ours: func(cfg *Config, upstream string) {
			cfg.Settings.Recursors = []string{"127.61.0.9", upstream}
			s := &cfg.Settings
			s.RecursorTimeout, s.RandomRecursor, s.AllowStale, s.UseCache = 200*time.Millisecond, true, false, true
		},
		questions: []string{
			"www.example.com. A", "silent.example.com. A", "broken.example.com. A", "one.service.consul. A", "one.service.consul. SRV", "into.service.consul. A",
			"into.service.consul. SRV", "into.service.consul. CNAME", "toservice.service.consul. A", "toservice.service.consul. SRV",
			"nowhere.service.consul. A", "inner.node.consul. A count", "one.service.consul. A edns=4096", "ext.service.consul. A", "chain.service.consul. A",
			"web.service.dc2.consul. SRV", "n1.node.consul. A",
		},
	},
}

// Why we answer otherwise than the reference.
const (
	becauseAlias   = "a node that has a host's name is known by it"
	becauseKind    = "the addresses behind an alias are of the kind that was asked for"
	becauseFits    = "what fits is answered: the reference leaves out records although there is room"
	becauseUnbuilt = "what is not built says so"
	becauseCase    = "a name is written as it was asked for"
	becauseEDNS    = "EDNS is answered in every answer to a question that has it (RFC 6891)"
	becauseSize    = "no answer over UDP is longer than who asks can take"
)

// deviations are the questions, with their scenarios, that we answer otherwise than
// the reference, with the reason.
var deviations = map[string]string{
	"plain named.node.consul. CNAME":                       becauseAlias,
	"plain inner.node.consul. A count":                     becauseKind,
	"plain same.service.consul. SRV":                       becauseFits,
	"plain toservice.service.consul. A":                    becauseKind,
	"plain q.query.consul. A":                              becauseUnbuilt,
	"plain q.query.dc1.consul. SRV":                        becauseUnbuilt,
	"plain web.virtual.consul. A":                          becauseUnbuilt,
	"plain none.virtual.consul. A":                         becauseUnbuilt,
	"plain web.ingress.consul. A":                          becauseUnbuilt,
	"plain web.virtual.consul. AAAA":                       becauseUnbuilt,
	"plain 0A0000ff.addr.consul. A":                        becauseCase,
	"plain CONSUL. SOA":                                    becauseCase,
	"plain www.example.com. A edns=4096":                   becauseEDNS,
	"plain web.query.consul. A edns=4096 ecs=192.0.2.0/24": becauseUnbuilt,
	"plain big.service.consul. A count edns=512":           becauseEDNS,
	"plain big.service.consul. SRV count edns=512":         becauseEDNS,
	"plain fat.service.consul. SRV count":                  becauseSize,
	"plain fat.node.consul. A count":                       becauseSize,
	"plain fat.node.consul. ANY count edns=1000":           becauseEDNS,
	"plain _q._tcp.query.consul. SRV":                      becauseUnbuilt,
	"settings big.service.consul. A count edns=512":        becauseEDNS,
	"settings big.service.consul. A count edns=600":        becauseEDNS,
	"settings big.service.consul. SRV count edns=1232":     becauseEDNS,
	"limits big.service.consul. SRV count":                 becauseFits,
	"limits same.service.consul. SRV":                      becauseFits,
	"recursors ext.service.my.domain. AAAA":                becauseKind,
	"recursors named.node.my.domain. AAAA":                 becauseKind,
	"recursors named.node.my.domain. CNAME":                becauseAlias,
	"strategy toservice.service.consul. A":                 becauseKind,
	"strategy inner.node.consul. A count":                  becauseKind,
}
