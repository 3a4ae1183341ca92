package dns

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"isthmus/internal/testkit"
)

// TestResolversForwardAsTheGuideSays starts the resolvers that are installed with
// what the guide has for them, and asks them.
func TestResolversForwardAsTheGuideSays(t *testing.T) {
	for _, r := range []struct {
		kind string // of the guide's block
		path string
		// more is what the test needs beside it, to listen where the test says.
		more func(guide, dir, ip, port string) string
		args func(conf, port string) []string
	}{
		{
			kind: "dnsmasq", path: "/usr/sbin/dnsmasq",
			more: func(guide, _, ip, port string) string {
				return guide + "listen-address=" + ip + "\nport=" + port + "\nbind-interfaces\nno-resolv\nno-hosts\nbogus-priv\npid-file=\nuser=root\n"
			},
			args: func(conf, _ string) []string { return []string{"--keep-in-foreground", "--conf-file=" + conf} },
		},
		{
			kind: "unbound", path: "/usr/sbin/unbound",
			more: func(guide, dir, ip, port string) string {
				return guide + "\nserver:\n  interface: " + ip + "\n  port: " + port + "\n  access-control: 127.0.0.0/8 allow\n  chroot: \"\"\n  username: \"\"\n" +
					"  pidfile: \"\"\n  use-syslog: no\n  do-daemonize: no\n  num-threads: 1\n  directory: \"" + dir + "\"\nremote-control:\n  control-enable: no\n"
			},
			args: func(conf, _ string) []string { return []string{"-d", "-c", conf} },
		},
		{
			kind: "named", path: "/usr/sbin/named",
			more: func(guide, dir, ip, port string) string {
				own := fmt.Sprintf("options {\n  directory %q;\n  pid-file none;\n  session-keyfile none;\n  listen-on port %s { %s; };\n  listen-on-v6 { none; };\n"+
					"  recursion yes;\n", dir, port, ip)
				return strings.Replace(guide, "options {\n", own, 1) + "controls { };\n"
			},
			args: func(conf, port string) []string { return []string{"-g", "-n", "1", "-p", port, "-c", conf} },
		},
	} {
		t.Run(r.kind, func(t *testing.T) {
			if _, err := os.Stat(r.path); err != nil {
				t.Skipf("skipped: %s is not installed", r.path)
			}
			host, port, _ := net.SplitHostPort(serve(t, New(config(newServers(t)))))
			guide := strings.NewReplacer(
				"127.0.0.1#8600", host+"#"+port, "127.0.0.1@8600", host+"@"+port, "127.0.0.1 port 8600", host+" port "+port,
			).Replace(guideBlock(t, r.kind))
			conn, ln := bothPorts(t)
			own := conn.LocalAddr().(*net.UDPAddr)
			_, _ = conn.Close(), ln.Close() // it was only to find a port
			dir := t.TempDir()
			conf := filepath.Join(dir, r.kind+".conf")
			if err := os.WriteFile(conf, []byte(r.more(guide, dir, own.IP.String(), fmt.Sprint(own.Port))), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), r.path, r.args(conf, fmt.Sprint(own.Port))...)
			var out testOutput
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				if t.Failed() {
					t.Logf("%s", out)
				}
			})
			askResolver(t, own.String())
		})
	}
}

// testOutput is what a program prints. Who reads it waits for the program to end.
type testOutput []byte

func (o *testOutput) Write(b []byte) (int, error) {
	*o = append(*o, b...)
	return len(b), nil
}

// guideBlock is what the guide has for a resolver.
func guideBlock(t *testing.T, kind string) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/guides/dns-forwarding.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(b), "```"+kind+"\n")
	block, _, end := strings.Cut(after, "```\n")
	if !ok || !end {
		t.Fatalf("the guide has no block for %s", kind)
	}
	return block
}

// askResolver asks a resolver for what we know, and for what we know not to be.
func askResolver(t *testing.T, addr string) {
	t.Helper()
	for _, c := range []struct {
		name  string
		qtype uint16
		code  int
		want  []string
	}{
		{"one.service.consul.", dns.TypeA, dns.RcodeSuccess, []string{"10.1.0.1"}},
		{"onsix.service.consul.", dns.TypeAAAA, dns.RcodeSuccess, []string{"fd00:1::6"}},
		{"ondot.service.consul.", dns.TypeSRV, dns.RcodeSuccess, []string{"1 1 3 n.dot.node.dc1.consul."}},
		{"n2.node.consul.", dns.TypeA, dns.RcodeSuccess, []string{"10.1.0.2"}},
		{"n2.node.consul.", dns.TypeAAAA, dns.RcodeSuccess, nil},
		{"web.service.dc2.consul.", dns.TypeA, dns.RcodeSuccess, []string{"10.9.0.1"}},
		{"none.service.consul.", dns.TypeA, dns.RcodeNameError, nil},
		{"1.0.1.10.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, []string{"n1.node.dc1.consul."}},
		{"2.0.2.10.in-addr.arpa.", dns.TypePTR, dns.RcodeSuccess, []string{"web.service.dc1.consul."}},
	} {
		testkit.Eventually(t, func() error {
			m := new(dns.Msg)
			m.SetQuestion(c.name, c.qtype)
			reply, _, err := new(dns.Client).ExchangeContext(t.Context(), m, addr)
			if err != nil {
				return fmt.Errorf("ask for %s: %w", c.name, err)
			}
			var got []string
			for _, rr := range reply.Answer {
				got = append(got, strings.TrimPrefix(rr.String(), rr.Header().String()))
			}
			if reply.Rcode != c.code || !slices.Equal(got, c.want) {
				return fmt.Errorf("%s %s: got %s %q, want %s %q", c.name, dns.TypeToString[c.qtype],
					dns.RcodeToString[reply.Rcode], got, dns.RcodeToString[c.code], c.want)
			}
			return nil
		})
	}
}
