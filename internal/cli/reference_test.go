package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// reference is the binary to compare with.
func reference(t *testing.T) string {
	t.Helper()
	path := os.Getenv("ISTHMUS_REFERENCE")
	if _, err := os.Stat(path); path == "" || err != nil {
		t.Skip("ISTHMUS_REFERENCE names no reference binary")
	}
	return path
}

// startReference runs a development agent of the reference and yields the address
// of its HTTP API.
func startReference(t *testing.T, binary string) string {
	t.Helper()
	ports := freePorts(t, 4)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	agent := exec.CommandContext(ctx, binary, "agent", "-dev", "-node", "n1", "-bind", "127.0.0.1",
		"-http-port", ports[0], "-server-port", ports[1], "-serf-lan-port", ports[2], "-serf-wan-port", ports[3],
		"-dns-port", "-1", "-grpc-port", "-1", "-grpc-tls-port", "-1", "-log-level", "error")
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = agent.Wait() // was killed
	})
	addr := "127.0.0.1:" + ports[0]
	waitFor(t, func() bool {
		resp, err := http.Get("http://" + addr + "/v1/catalog/service/consul")
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		return err == nil && bytes.Contains(body, []byte(`"n1"`))
	})
	return addr
}

// freePorts keeps all ports until it has enough, so that none comes twice.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var ports []string
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ln.Close() }()
		_, port, err := net.SplitHostPort(ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
	}
	return ports
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(30 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatal("timed out")
		}
	}
}

// runReference runs a command of the reference as run runs ours.
func runReference(t *testing.T, binary, input string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// comparison is a command that is given to the reference and to ours. Lines are
// split at blanks; what has blanks itself stands in extra.
type comparison struct {
	line  string
	extra []string
	input string
	// sameStderr compares standard error, too.
	sameStderr bool
}

func (c comparison) args() []string { return append(strings.Fields(c.line), c.extra...) }

func compare(t *testing.T, binary string, list []comparison) {
	t.Helper()
	for _, c := range list {
		t.Run(strings.ReplaceAll(c.line, "/", "|"), func(t *testing.T) {
			want := runReference(t, binary, c.input, c.args()...)
			got := runInput(t, c.input, c.args()...)
			if got.code != want.code {
				t.Errorf("exit code: got %d, want %d; stderr: got %q, want %q", got.code, want.code, got.stderr, want.stderr)
			}
			if got.stdout != want.stdout {
				t.Errorf("stdout: got %q, want %q", got.stdout, want.stdout)
			}
			if c.sameStderr && got.stderr != want.stderr {
				t.Errorf("stderr: got %q, want %q", got.stderr, want.stderr)
			}
			if (got.stderr == "") != (want.stderr == "") {
				t.Errorf("stderr: got %q, want %q", got.stderr, want.stderr)
			}
		})
	}
}

// same are commands whose standard error must be the same, too.
func same(lines ...string) []comparison {
	var list []comparison
	for _, line := range lines {
		list = append(list, comparison{line: line, sameStderr: true})
	}
	return list
}

func TestReferenceAgainstItsOwnAgent(t *testing.T) {
	binary := reference(t)
	cleanEnv(t)
	addr := startReference(t, binary)
	t.Setenv("CONSUL_HTTP_ADDR", addr)
	session := newSession(t, addr)
	t.Setenv("SHELL", "/bin/sh")
	t.Chdir(t.TempDir())
	writeFile(t, "value", "from a file\n")
	writeFile(t, "mesh.hcl", meshService)
	writeFile(t, "web.hcl", `service { name = "web" id = "web1" port = 80 tags = ["b", "a"] meta { k = "v" } check { ttl = "10s" } }`)
	writeFile(t, "db.json", `{"services": [{"name": "db", "port": 5432, "weights": {"passing": 3, "warning": 1}}]}`)

	list := same(
		"members", "members -wan", "members -detailed", "members -status=left", "members -status=(",
		"members extra", "members -filter Name==n1", "members -filter Name==", "members -segment=x", "members -partition=x",
		"join 127.0.0.1:1", "join -wan 127.0.0.1:1 127.0.0.1:2",
		"force-leave nosuch", "force-leave -prune nosuch", "force-leave -wan nosuch", "reload", "reload extra",
		"kv get", "kv get missing", "kv put a", "kv put a 1", "kv get a", "kv get /a", "kv get -base64 a",
		"kv put -flags=42 b 2", "kv put -flags=0x10 b 2", "kv get -detailed b", "kv get -detailed -base64 b",
		"kv put dir/x 1", "kv put dir/y/z 2", "kv put dir/ folder", "kv put /a 1",
		"kv get -recurse", "kv get -recurse dir", "kv get -recurse nosuch", "kv get -recurse -detailed", "kv get -recurse -base64",
		"kv get -keys", "kv get -keys dir/", "kv get -keys -separator=y dir", "kv get -keys -separator=", "kv get -keys -recurse",
		"kv put -cas a 2", "kv put -cas -modify-index=1 a 2", "kv put -base64 b64 aGVsbG8=", "kv get b64",
		"kv put f @value", "kv get f", "kv put f @nosuch", "kv put -acquire a 1", "kv put -acquire -session=nosuch a 1",
		"kv put -acquire -session="+session+" lock 1", "kv get -detailed lock",
		"kv put -release -session="+session+" nolock 1", "kv put -acquire -release -session="+session+" lock 1",
		"kv put -acquire -cas -modify-index=1 -session="+session+" lock 1",
		"kv delete nosuch", "kv delete /b64", "kv delete -cas -modify-index=1 a", "kv delete -modify-index=1 a",
		"kv delete -recurse -cas -modify-index=1 a", "kv delete",
		"kv export", "kv export dir", "kv export /dir", "kv export nosuch", "kv import x", "kv import @nosuch", "kv import -",
		"kv delete -recurse dir", "kv delete -recurse /nosuch", "kv get -recurse", "kv get -stale a", "kv get -datacenter=dc9 a",
		"kv get -namespace=x a", "kv get -token-file=nosuch a", "kv get -ca-file=nosuch a",
		"catalog datacenters", "catalog nodes", "catalog nodes -detailed", "catalog nodes -service=nosuch",
		"catalog nodes -service=consul", "catalog nodes -node-meta=a=b", "catalog nodes -near=_agent", "catalog nodes -filter=Node==n1",
		"catalog nodes -datacenter=dc9", "catalog services", "catalog services -tags", "catalog services -node=nosuch",
		"services register", "services register -id=x", "services register -name=a nosuch.hcl", "services deregister",
		"services deregister -id=x file", "services register -name=web -tagged-address=lan=zz",
		"services register -name=api -id=api1 -port=80 -tag=b -tag=a -meta=k=v -address=10.0.0.1 -tagged-address=lan=10.0.0.1:81",
		"services register web.hcl", "services register db.json web.hcl", "catalog services -tags", "catalog services -node=n1 -tags",
		"kv get -http-addr=127.0.0.1:1 a", "members -http-addr=127.0.0.1:1", "catalog datacenters -http-addr=127.0.0.1:1",
		"rtt -http-addr=127.0.0.1:1 a", "rtt -http-addr=127.0.0.1:1 a b", "rtt -wan -http-addr=127.0.0.1:1 a.b", "rtt -wan n1.dc1", "rtt nosuch n1",
		"leave -http-addr=127.0.0.1:1", "reload -http-addr=127.0.0.1:1", "monitor -http-addr=127.0.0.1:1", "info -http-addr=127.0.0.1:1",
		"kv put -http-addr=127.0.0.1:1 a", "kv delete -http-addr=127.0.0.1:1 a", "kv export -http-addr=127.0.0.1:1",
		`kv import -http-addr=127.0.0.1:1 [{"key":"a"}]`, "services register -http-addr=127.0.0.1:1 -name=a",
		"join -http-addr=127.0.0.1:1 a b", "force-leave -http-addr=127.0.0.1:1 a", "catalog nodes -http-addr=127.0.0.1:1",
		"catalog services -http-addr=127.0.0.1:1", "monitor -log-level=xx",
		"services register mesh.hcl", "catalog services -tags", "catalog nodes -service=mesh1", "catalog nodes -service=mesh-sidecar-proxy",
		"watch -type=key", "watch -type=keyprefix", "watch -type=service", "watch -type=nosuch",
		"watch -type=connect_roots", "watch -type=connect_leaf -service=web", "watch -type=key -key=a -prefix=b", "watch -type=nodes -state=passing",
		"watch -type=checks -service=x -state=passing", "watch -type=service -service=mesh -passingonly=x", "watch -type=nodes -name=x",
		"watch -type=key -key=a", "watch -type=key -key=nosuch", "watch -type=keyprefix -prefix=a", "watch -type=keyprefix -prefix=nosuch",
		"watch -type=services -filter=ServiceName==consul", "watch -type=nodes", "watch -type=nodes -stale", "watch -type=nodes -filter=Node==x",
		"watch -type=service -service=mesh", "watch -type=service -service=mesh -tag=b -tag=a", "watch -type=service -service=mesh -passingonly=true",
		"watch -type=service -service=mesh -passingonly false", "watch -type=checks", "watch -type=checks -state=passing",
		"watch -type=checks -service=mesh", "watch -type=nodes -datacenter=dc9", "watch -type=nodes -http-addr=127.0.0.1:1",
		"watch -type=key -key=a -shell=false false", "watch -type=key -key=a -shell=false /nosuch", "watch -type=key -key=a false",
		"debug extra", "debug -duration=1s", "debug -duration=10s -interval=11s", "debug -capture=nosuch", "debug -http-addr=127.0.0.1:1",
		"debug -capture=agent -capture=members -capture=host -output=bundle", "debug -capture=cluster -duration=90s -output=dir/bundle",
		"debug -capture=agent -output=dir",
		"maint", "maint -enable -reason=why", "maint", "maint -enable -service=mesh1", "maint -disable", "maint -disable -service=mesh1", "maint",
		"maint -enable -service=nosuch", "maint -http-addr=127.0.0.1:1",
	)
	list = append(list,
		comparison{line: "kv put stdin -", input: "from stdin\n"}, comparison{line: "kv get stdin"},
		comparison{line: "kv put -cas -modify-index=x a"}, comparison{line: "kv put a 1 2"}, comparison{line: "kv get a b"},
		comparison{line: "kv get a -recurse"}, comparison{line: "kv put"}, comparison{line: "kv delete a b"},
		comparison{line: "kv delete -cas a"}, comparison{line: "kv export a b"}, comparison{line: "kv import"},
		comparison{line: "kv import a b"}, comparison{line: "kv put -- dashed 1"}, comparison{line: "kv get --base64 dashed"},
		comparison{line: "kv put", extra: []string{"with blank/ü?", "v"}}, comparison{line: "kv get", extra: []string{"with blank/ü?"}},
		comparison{line: "kv put", extra: []string{"", "v"}},
		comparison{line: "kv import", extra: []string{`[{"key":"imp","flags":7,"value":"aGVsbG8="}]`}},
		comparison{line: "kv import -prefix=pp", extra: []string{`[{"key":"/imp","flags":7,"value":"aGVsbG8="}]`}},
		comparison{line: "kv import", extra: []string{`[{"key":"imp","value":"!!"}]`}},
		comparison{line: "kv get -recurse"},
		comparison{line: "catalog datacenters extra"}, comparison{line: "catalog nodes extra"}, comparison{line: "services register nosuch.hcl"},
		comparison{line: "services deregister -id=nosuch"}, comparison{line: "services deregister web"},
		comparison{line: "members -nosuch"}, comparison{line: "kv nosuch"}, comparison{line: "kv"}, comparison{line: "nosuch"},
		comparison{line: "watch"}, comparison{line: "watch -type=agent_service"}, comparison{line: "watch -nosuch"}, comparison{line: "debug -duration=x"}, comparison{line: "debug -interval=1s -duration=10s"},
		comparison{line: "watch -type=key -key=a", extra: []string{"cat; env | grep CONSUL_INDEX; exit 3"}, sameStderr: true},
		comparison{line: "watch -type=key -key=a", extra: []string{"echo $0", `"a  b"; exit 4`}, sameStderr: true},
		comparison{line: "rtt"}, comparison{line: "rtt a b c"}, comparison{line: "rtt -wan"}, comparison{line: ""}, comparison{line: "tls"}, comparison{line: "tls ca"}, comparison{line: "connect"}, comparison{line: "-nosuch"},
		comparison{line: "help"}, comparison{line: "force-leave"}, comparison{line: "force-leave a b"}, comparison{line: "join"},
		comparison{line: "version -format=xml"}, comparison{line: "validate"}, comparison{line: "validate nosuch"},
		comparison{line: "tls cert create"}, comparison{line: "tls cert create -server -client"}, comparison{line: "tls cert create -client -node x"},
	)
	compare(t, binary, list)
}

// meshService has blocks in blocks.
const meshService = `service {
  name = "mesh"
  id = "mesh1"
  port = 8080
  tags = ["b", "a"]
  weights { passing = 5 }
  tagged_addresses { wan { address = "1.2.3.4" port = 9 } }
  check { id = "c1" name = "n" ttl = "10m" status = "passing" }
  connect { sidecar_service {
    port = 20001
    check { name = "up" ttl = "10m" }
    proxy {
      config { protocol = "http" }
      upstreams { destination_name = "db" local_bind_port = 9191 }
      upstreams { destination_name = "cache" local_bind_port = 9192 mesh_gateway { mode = "local" } }
      expose { paths = [{ path = "/h" local_path_port = 8 listener_port = 9 }] }
      mesh_gateway { mode = "remote" }
    }
  } }
}`

// TestServicesOfFilesAreRegisteredAsTheReferenceDoes registers files with either
// program, and compares what the reference's agent then has.
func TestServicesOfFilesAreRegisteredAsTheReferenceDoes(t *testing.T) {
	binary := reference(t)
	cleanEnv(t)
	addr := startReference(t, binary)
	t.Setenv("CONSUL_HTTP_ADDR", addr)
	t.Chdir(t.TempDir())
	writeFile(t, "mesh.hcl", meshService)
	writeFile(t, "more.json", `{"services": [
		{"name": "t1", "port": 5, "checks": [{"http": "http://127.0.0.1:1", "interval": "60s", "header": {"a": ["b"]}, "method": "PUT"}, {"ttl": "3m", "id": "tt"}]},
		{"name": "t2", "kind": "connect-proxy", "port": 3, "weights": {"warning": 0}, "proxy": {
			"destination_service_name": "t1", "local_service_port": 9, "mode": "direct", "config": {"a_b": 1, "x": {"y": 2}},
			"upstreams": [{"destination_name": "q", "local_bind_port": 4, "config": {"c": "d"}}], "transparent_proxy": {"outbound_listener_port": 3}}}]}`)
	agent := func(run func(args ...string) result) string {
		if got := run("services", "register", "mesh.hcl", "more.json"); got.code != 0 {
			t.Fatal(got.stderr)
		}
		defer run("services", "deregister", "mesh.hcl", "more.json")
		var out strings.Builder
		for _, id := range []string{"mesh1", "mesh1-sidecar-proxy", "t1", "t2"} {
			out.WriteString(getBody(t, "http://"+addr+"/v1/agent/service/"+id))
		}
		return out.String()
	}
	want := agent(func(args ...string) result { return runReference(t, binary, "", args...) })
	got := agent(func(args ...string) result { return run(t, args...) })
	if got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func getBody(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", url, resp.Status, body, err)
	}
	return string(body)
}

// TestFlagsOfTheReferenceAreKnown asks the reference for its flags.
func TestFlagsOfTheReferenceAreKnown(t *testing.T) {
	binary := reference(t)
	cleanEnv(t)
	flags := regexp.MustCompile(`(?m)^  -([a-z0-9-]+)`)
	for _, c := range commands() {
		if c.create == nil || c.raw {
			continue
		}
		help := runReference(t, binary, "", append(strings.Fields(c.Name), "-h")...)
		if !strings.HasPrefix(help.stdout, "Usage: consul "+c.Name) {
			continue // is our own
		}
		known := c.bind().flags
		for _, one := range flags.FindAllStringSubmatch(help.stdout, -1) {
			if known.Lookup(one[1]) == nil {
				t.Errorf("%s has no flag -%s", c.Name, one[1])
			}
		}
	}
}

// newSession makes a session that ends with the agent.
func newSession(t *testing.T, addr string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+addr+"/v1/session/create", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(body), `"`)[3]
}
