package config

import (
	"bytes"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// base is the least that a file must say; it binds to loopback so that the host
// the tests run on does not matter.
const base = `{"data_dir": "/d", "node_name": "n1", "bind_addr": "127.0.0.1"}`

// write puts files into a new directory and yields their paths.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// load loads base, then a file, then flags.
func load(t *testing.T, name, text string, args ...string) (*Result, error) {
	t.Helper()
	f, err := ParseFlags(append([]string{"-config-file", write(t, "base.json", base), "-config-file", write(t, name, text)}, args...), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return Load(f)
}

func mustLoad(t *testing.T, name, text string, args ...string) *Settings {
	t.Helper()
	r, err := load(t, name, text, args...)
	if err != nil {
		t.Fatal(err)
	}
	return r.Settings
}

func TestHCLAndJSONSayTheSame(t *testing.T) {
	var both []*Settings
	for _, name := range []string{"testdata/server.hcl", "testdata/server.json"} {
		r, err := Load(&Flags{paths: []string{name}})
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, r.Settings)
	}
	if !reflect.DeepEqual(both[0], both[1]) {
		t.Errorf("got %+v from HCL, %+v from JSON", both[0], both[1])
	}
	s := both[0]
	if s.Datacenter != "eu-west" || s.PrimaryDatacenter != "us-east" {
		t.Errorf("got datacenters %q and %q, want lower case", s.Datacenter, s.PrimaryDatacenter)
	}
	if got := s.Listen.HTTPS; !slices.Equal(got, []string{"127.0.0.1:8501", "10.1.0.11:8501"}) {
		t.Errorf("HTTPS listens at %v", got)
	}
	if len(s.Listen.GRPCTLS) != 0 {
		t.Errorf("gRPC listens at %v although it is switched off", s.Listen.GRPCTLS)
	}
	if got := len(s.GossipKey()); got != 32 {
		t.Errorf("gossip key has %d bytes, want 32", got)
	}
	if s.ServerRejoinAgeMax != 72*time.Hour || s.GossipLAN.ProbeInterval != 2*time.Second || s.GossipLAN.GossipNodes != 3 {
		t.Errorf("got %v %v %v", s.ServerRejoinAgeMax, s.GossipLAN.ProbeInterval, s.GossipLAN.GossipNodes)
	}
}

func TestTLSListenersInheritWhatTheyDoNotSet(t *testing.T) {
	r, err := Load(&Flags{paths: []string{"testdata/server.hcl"}})
	if err != nil {
		t.Fatal(err)
	}
	got := r.Settings.TLS
	if got.HTTPS.VerifyIncoming || !got.InternalRPC.VerifyIncoming || !got.GRPC.VerifyIncoming {
		t.Errorf("verify_incoming: https %v, internal_rpc %v, grpc %v", got.HTTPS.VerifyIncoming, got.InternalRPC.VerifyIncoming, got.GRPC.VerifyIncoming)
	}
	if got.HTTPS.MinVersion != tls.VersionTLS12 || got.InternalRPC.MinVersion != tls.VersionTLS13 {
		t.Errorf("least versions: https %x, internal_rpc %x", got.HTTPS.MinVersion, got.InternalRPC.MinVersion)
	}
	if got.HTTPS.CertFile != "/etc/isthmus/server.pem" || got.GRPC.VerifyOutgoing {
		t.Errorf("got %+v and %+v", got.HTTPS, got.GRPC)
	}
}

func TestOlderTLSKeys(t *testing.T) {
	const files = `ca_file = "ca" cert_file = "crt" key_file = "key" `
	for _, c := range []struct {
		text string
		ok   func(TLS) bool
	}{
		{`verify_incoming = true`, func(t TLS) bool {
			return t.InternalRPC.VerifyIncoming && t.HTTPS.VerifyIncoming && t.GRPC.VerifyIncoming
		}},
		{`verify_incoming_rpc = true`, func(t TLS) bool { return t.InternalRPC.VerifyIncoming && !t.HTTPS.VerifyIncoming }},
		{`verify_incoming_https = true`, func(t TLS) bool { return !t.InternalRPC.VerifyIncoming && t.HTTPS.VerifyIncoming }},
		{`verify_outgoing = true`, func(t TLS) bool { return t.InternalRPC.VerifyOutgoing && !t.InternalRPC.VerifyServerHostname }},
		{`verify_server_hostname = true`, func(t TLS) bool { return t.InternalRPC.VerifyServerHostname && t.InternalRPC.VerifyOutgoing }},
		{`tls_min_version = "tls13"`, func(t TLS) bool { return t.HTTPS.MinVersion == tls.VersionTLS13 }},
		{`tls_cipher_suites = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"`, func(t TLS) bool {
			return slices.Equal(t.GRPC.CipherSuites, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256})
		}},
		{`tls { defaults { ca_file = "new" } }`, func(t TLS) bool { return t.HTTPS.CAFile == "new" }},
		{`tls { https { ca_file = "new" } }`, func(t TLS) bool { return t.HTTPS.CAFile == "new" && t.InternalRPC.CAFile == "ca" }},
	} {
		s := mustLoad(t, "a.hcl", files+"\n"+c.text)
		if !c.ok(s.TLS) {
			t.Errorf("%s: got %+v", c.text, s.TLS)
		}
	}
}

func TestDirectoryIsReadInOrder(t *testing.T) {
	r, err := Load(&Flags{paths: []string{"testdata/client.d"}})
	if err != nil {
		t.Fatal(err)
	}
	s := r.Settings
	want := []string{"testdata/client.d/10-agent.hcl", "testdata/client.d/20-web.json", "testdata/client.d/30-more.hcl"}
	if !slices.Equal(r.Files, want) {
		t.Errorf("read %v, want %v", r.Files, want)
	}
	if s.Datacenter != "dc1" || s.LogLevel != "info" || !slices.Equal(s.RetryJoin, []string{"10.0.0.1", "10.0.0.2"}) {
		t.Errorf("got %q %q %q", s.Datacenter, s.LogLevel, s.RetryJoin)
	}
	if !s.TLS.InternalRPC.VerifyOutgoing || s.TLS.InternalRPC.CAFile != "/etc/isthmus/ca.pem" {
		t.Errorf("got %+v from older keys", s.TLS.InternalRPC)
	}
	var names []string
	for _, one := range s.Services {
		names = append(names, one.Name)
	}
	if !slices.Equal(names, []string{"web", "db", "cache"}) {
		t.Fatalf("got services %v", names)
	}
	web := s.Services[0]
	if web.ID != "web-a" || web.Port != 8080 || web.TaggedAddresses["wan"].Port != 80 || *web.Weights.Passing != 5 ||
		web.Checks[0].Header["X-Probe"][0] != "yes" || web.Checks[0].DeregisterCriticalServiceAfter != 90*time.Minute {
		t.Errorf("got %+v", web)
	}
	if _, ok := web.Connect["sidecar_service"].(map[string]any); !ok {
		t.Errorf("got connect %v", web.Connect)
	}
	if len(s.Services[1].Checks) != 2 || s.Services[1].Token.Reveal() != "secret-token" || s.Checks[0].ID != "disk" {
		t.Errorf("got %+v and %+v", s.Services[1], s.Checks)
	}
	all := strings.Join(r.Warnings, "\n")
	for _, part := range []string{"notes.txt: skipped", "acl.tokens.agent", "ui_config.enabled", "ca_file is an older key"} {
		if !strings.Contains(all, part) {
			t.Errorf("no warning names %q in:\n%s", part, all)
		}
	}
}

func TestLaterSourcesWinAndListsAddUp(t *testing.T) {
	s := mustLoad(t, "a.json", `{"datacenter": "file", "domain": "a.", "retry_join": ["a"], "node_meta": {"a": "1", "b": "1"}}`,
		"-retry-join", "b", "--join=c", "-datacenter", "flag", "-domain", "b.", "-node-meta", "b:2:x", "-hcl", `domain = "c."`)
	if s.Datacenter != "flag" || s.Domain != "c." || !slices.Equal(s.RetryJoin, []string{"a", "b", "c"}) {
		t.Errorf("got %q %q %q", s.Datacenter, s.Domain, s.RetryJoin)
	}
	if !reflect.DeepEqual(s.NodeMeta, map[string]string{"a": "1", "b": "2:x"}) {
		t.Errorf("got %v", s.NodeMeta)
	}
}

func TestDefaults(t *testing.T) {
	client, server := mustLoad(t, "a.hcl", ""), mustLoad(t, "a.hcl", "server = true")
	if !client.LeaveOnTerminate || client.SkipLeaveOnInterrupt || server.LeaveOnTerminate || !server.SkipLeaveOnInterrupt {
		t.Errorf("leaving: client %v %v, server %v %v", client.LeaveOnTerminate, client.SkipLeaveOnInterrupt, server.LeaveOnTerminate, server.SkipLeaveOnInterrupt)
	}
	if server.PrimaryDatacenter != "dc1" || server.Domain != "consul." || server.Connect.Enabled || server.AdvertiseAddrWAN != "127.0.0.1" {
		t.Errorf("got %+v", server)
	}
	if !slices.Equal(server.Listen.HTTP, []string{"127.0.0.1:8500"}) || server.Listen.SerfWAN != "127.0.0.1:8302" || len(server.Listen.HTTPS) != 0 {
		t.Errorf("got %+v", server.Listen)
	}
	if h, e, l := server.RaftTiming(); h != 5*time.Second || e != 5*time.Second || l != 2500*time.Millisecond {
		t.Errorf("got %v %v %v", h, e, l)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	f, err := ParseFlags([]string{"-dev"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Load(f)
	if err != nil {
		t.Fatal(err)
	}
	dev := r.Settings
	if !dev.DevMode || !dev.Server || !dev.Connect.Enabled || dev.NodeName != host || dev.BindAddr != "127.0.0.1" ||
		dev.LogLevel != "debug" || dev.Ports.GRPC != 8502 || dev.GossipWAN.ProbeInterval != 100*time.Millisecond || len(r.Warnings) > 0 {
		t.Errorf("got %+v, warnings %v", dev, r.Warnings)
	}
}

// sample is a text for each type of setting, and what it becomes.
func sample(f field) (text string, want any) {
	switch typeName(f.typ) {
	case "duration":
		return "9h", 9 * time.Hour
	case "bool":
		return "true", true
	case "number":
		return "7", int64(7)
	case "list of strings":
		return "10.9.8.7", []string{"10.9.8.7"}
	case "object":
		return "a:b", map[string]string{"a": "b"}
	}
	switch f.path {
	case "encrypt":
		return "AAECAwQFBgcICQoLDA0ODw==", Secret("AAECAwQFBgcICQoLDA0ODw==")
	case "log_level":
		return "warn", "warn"
	case "node_id":
		return "01234567-89ab-cdef-0123-456789abcdef", "01234567-89ab-cdef-0123-456789abcdef"
	case "domain", "alt_domain":
		return "d.", "d."
	}
	return "10.9.8.7", "10.9.8.7"
}

func TestEachFlagSetsItsKey(t *testing.T) {
	for _, f := range schema() {
		for _, name := range f.flags {
			text, want := sample(f)
			if name == "datacenter" {
				text, want = "dc7", "dc7"
			}
			if f.path == "raft_protocol" {
				text, want = "3", int64(3)
			}
			parsed, err := ParseFlags([]string{"-config-file", write(t, "base.json", base), "-" + name + "=" + text}, io.Discard)
			if err != nil {
				t.Errorf("-%s: %v", name, err)
				continue
			}
			l := loader{settings: defaults(false), decoder: decoder{set: map[string]origin{}}}
			for _, g := range parsed.given {
				l.decodeSource(l.settings, "-"+g.name, wrap(g.path, entry{val: g.val}))
			}
			got := reflect.ValueOf(l.settings).Elem().FieldByIndex(f.index)
			value := got.Interface()
			if got.Kind() == reflect.Int {
				value = got.Int()
			}
			if !reflect.DeepEqual(value, want) || len(l.problems) > 0 {
				t.Errorf("-%s=%s set %s to %v, want %v (%v)", name, text, f.path, value, want, l.problems.err())
			}
		}
	}
}

func TestEachKeyIsReadAndChecked(t *testing.T) {
	for _, f := range schema() {
		if f.single != "" {
			continue
		}
		text, _ := sample(f)
		val := fmt.Sprintf("%q", text)
		switch typeName(f.typ) {
		case "number", "bool", "decimal number":
			val = text
			if typeName(f.typ) == "decimal number" {
				val = "7"
			}
		case "list of strings":
			val = `["` + text + `"]`
		case "list of objects":
			val = `[{"a": "b"}]`
		case "object":
			val = `{"a": "b"}`
			if f.typ.Elem() == durationType {
				val = `{"a": "9h"}`
			}
		}
		for _, c := range []struct {
			val  string
			good bool
		}{{val, true}, {`[["x"]]`, false}} {
			doc := c.val
			for _, key := range slices.Backward(strings.Split(f.path, ".")) {
				doc = fmt.Sprintf("{%q: %s}", strings.ToUpper(key), doc)
			}
			root, err := parse(Source{Name: "f.json", Format: formatJSON, Data: []byte(doc)})
			if err != nil {
				t.Fatal(err)
			}
			s := &Settings{}
			d := decoder{set: map[string]origin{}}
			d.decodeSource(s, "f.json", root)
			switch {
			case c.good && (len(d.problems) > 0 || reflect.ValueOf(s).Elem().FieldByIndex(f.index).IsZero()):
				t.Errorf("%s: not set (%v)", doc, d.problems.err())
			case !c.good && (len(d.problems) != 1 || !strings.HasPrefix(d.problems[0].Error(), "f.json:1: "+f.path) || d.problems[0].cure == ""):
				t.Errorf("%s: got %v, want one line that names file, key and cure", doc, d.problems.err())
			}
		}
	}
}

func TestWatchesOfSeveralFilesAddUp(t *testing.T) {
	var s Settings
	d := decoder{set: map[string]origin{}}
	for name, text := range map[string]string{
		"a.json": `{"watches": [{"type": "key", "key": "k", "args": ["a", "b"]}]}`,
		"a.hcl":  "watches = [{ type = \"nodes\" }]\nwatches { type = \"services\" http_handler_config { path = \"p\" } }",
	} {
		root, err := parse(Source{Name: name, Format: name[2:], Data: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		d.decodeSource(&s, name, root)
	}
	var types []any
	for _, w := range s.Watches {
		types = append(types, w["type"])
	}
	slices.SortFunc(types, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	if err := d.problems.err(); err != nil || !reflect.DeepEqual(types, []any{"key", "nodes", "services"}) {
		t.Errorf("got %v, %v", s.Watches, err)
	}
}

func TestSyntaxErrorsNameTheLine(t *testing.T) {
	for name, text := range map[string]string{
		"a.json": "{\"server\": true,\n}", "b.json": "{\"a\":\n1} x", "c.json": "{\n\"a\"", "a.hcl": "server = true\n}", "b.hcl": "a = \n= 3",
	} {
		_, err := load(t, name, text)
		if err == nil || !strings.Contains(err.Error(), name+":2: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	if _, err := Validate([]string{"testdata/none.hcl"}); err == nil || !strings.Contains(err.Error(), "testdata/none.hcl: cannot be read: no such file") {
		t.Errorf("got %v", err)
	}
	if _, err := Validate([]string{"testdata/client.d/notes.txt"}); err == nil || !strings.Contains(err.Error(), "-config-format") {
		t.Errorf("got %v", err)
	}
	if _, err := Validate(nil); err == nil {
		t.Error("nothing was valid")
	}
	warnings, err := Validate([]string{"testdata/server.hcl"})
	if err != nil || len(warnings) > 0 {
		t.Errorf("got %q, %v", warnings, err)
	}
	path := write(t, "noextension", base)
	f, err := ParseFlags([]string{"-config-file", path, "-config-format", "json"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(f); err != nil {
		t.Error(err)
	}
}

func TestFlagMistakes(t *testing.T) {
	for _, c := range []struct{ arg, part string }{
		{"-retry-interval=5", "unit"},
		{"-server=maybe", "true or false"},
		{"-http-port=x", "number"},
		{"-nope", "-nope"},
		{"stray", "stray"},
		{"-config-format=yaml", "hcl or json"},
		{"-node-meta=ab", "key:value"},
	} {
		if _, err := ParseFlags([]string{c.arg}, io.Discard); err == nil || !strings.Contains(err.Error(), c.part) {
			t.Errorf("%s: got %v", c.arg, err)
		}
	}
	var help bytes.Buffer
	if _, err := ParseFlags([]string{"-h"}, &help); !errors.Is(err, flag.ErrHelp) || !strings.Contains(help.String(), "-primary-gateway") {
		t.Errorf("got %v and %q", err, help.String())
	}
}

func TestTemplatesAreExpanded(t *testing.T) {
	const lo = `{{ GetAllInterfaces | include \"name\" \"^lo$\" | include \"type\" \"IPv4\" | join \"address\" \" \" }}`
	s := mustLoad(t, "a.hcl", `bind_addr = "`+lo+`"
client_addr = "`+lo+`"
retry_join = ["`+lo+`:8301", "provider=os x={y}"]`)
	if s.BindAddr != "127.0.0.1" || s.ClientAddr != "127.0.0.1" || !slices.Equal(s.RetryJoin, []string{"127.0.0.1:8301", "provider=os x={y}"}) {
		t.Errorf("got %q %q %q", s.BindAddr, s.ClientAddr, s.RetryJoin)
	}
}

func TestTaggedAddresses(t *testing.T) {
	s := mustLoad(t, "a.hcl", `advertise_addr_ipv4 = "9.9.9.1"
advertise_addr_ipv6 = "fe80::1"
advertise_addr_wan = "fe80::3"
advertise_addr_wan_ipv6 = "fe80::2"
tagged_addresses { a = "b" lan_ipv6 = "::7" wan = "4.4.4.4" lan_ipv4 = "3.3.3.3" }`)
	want := map[string]string{
		"a": "b", "lan": "127.0.0.1", "lan_ipv4": "9.9.9.1", "lan_ipv6": "fe80::1", "wan": "fe80::3", "wan_ipv6": "fe80::2",
	}
	if !reflect.DeepEqual(s.TaggedAddresses, want) {
		t.Errorf("got %v, want %v", s.TaggedAddresses, want)
	}
}

func TestPortsAreSwitchedOff(t *testing.T) {
	s := mustLoad(t, "a.hcl", "ports {\n http = -1\n dns = 0\n serf_wan = -1\n}")
	if len(s.Listen.HTTP) > 0 || len(s.Listen.DNS) > 0 || s.Listen.SerfWAN != "" || s.Ports.DNS != -1 {
		t.Errorf("got %+v, %+v", s.Listen, s.Ports)
	}
}

func TestBootstrapExpectOfOneIsBootstrap(t *testing.T) {
	s := mustLoad(t, "a.hcl", "server = true\nbootstrap_expect = 1")
	if !s.Bootstrap || s.BootstrapExpect != 0 {
		t.Errorf("got %v %d", s.Bootstrap, s.BootstrapExpect)
	}
	for n, want := range map[int]string{2: "survive the loss of none", 4: "even number"} {
		r, err := load(t, "a.hcl", fmt.Sprintf("server = true\nbootstrap_expect = %d", n))
		if err != nil || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], want) {
			t.Errorf("%d: got %+v, %v", n, r, err)
		}
	}
}

func TestOnlyPausesOfALoopCannotBeNone(t *testing.T) {
	if s := mustLoad(t, "a.hcl", `check_update_interval = "0s"`); s.CheckUpdateInterval != 0 {
		t.Errorf("got %s", s.CheckUpdateInterval)
	}
	if _, err := load(t, "a.hcl", `gossip_lan { gossip_interval = "0s" }`); err == nil || !strings.Contains(err.Error(), "gossip_lan.gossip_interval: cannot be 0") {
		t.Errorf("got %v", err)
	}
}

func TestDottedNodeNameIsFine(t *testing.T) {
	if s := mustLoad(t, "a.hcl", `node_name = "a.example.org"`); s.NodeName != "a.example.org" {
		t.Errorf("got %q", s.NodeName)
	}
}

func TestOlderSpellingsInDefinitions(t *testing.T) {
	s := mustLoad(t, "a.json", `{"service": {"Name": "a", "EnableTagOverride": true, "TaggedAddresses": {"lan": {"Address": "1.2.3.4"}},
		"Checks": [{"TTL": "5s", "ServiceID": "x", "DeregisterCriticalServiceAfter": "1m"}]}}`)
	got := s.Services[0]
	if !got.EnableTagOverride || got.TaggedAddresses["lan"].Address != "1.2.3.4" || got.Checks[0].TTL != 5*time.Second || got.Checks[0].ServiceID != "x" {
		t.Errorf("got %+v", got)
	}
}

func TestDeepNestingIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"a.hcl": strings.Repeat("a{", 1e6), "b.hcl": "a = " + strings.Repeat("[", 1e6),
		"a.json": strings.Repeat("[", 1e6), "b.json": strings.Repeat(`{"a":`, 1e6),
	} {
		if _, err := load(t, name, text); err == nil || !strings.Contains(err.Error(), "100 levels") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"testdata/server.hcl", "testdata/server.json", "testdata/client.d/20-web.json", "testdata/client.d/30-more.hcl"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("a = <<X\ny\nX\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, format := range []string{formatHCL, formatJSON} {
			l := loader{settings: defaults(false), decoder: decoder{set: map[string]origin{}}}
			l.add(Source{Name: "fuzz", Format: format, Data: data})
			for _, p := range l.problems {
				if strings.Contains(p.Error(), "\n") {
					t.Errorf("not one line: %q", p.Error())
				}
			}
		}
	})
}
