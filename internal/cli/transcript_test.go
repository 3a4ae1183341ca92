package cli

import (
	"fmt"
	"strings"
	"testing"
)

// transcriptLines are commands that are given to a node with odd answers.
var transcriptLines = []string{
	"members", "members -detailed", "members -wan", "members -status=^(left|failed)$", "members -status=nosuch", "members -filter=x",
	"members -partition=p", "catalog nodes", "catalog nodes -detailed", "catalog nodes -service=web", "catalog nodes -service=nosuch",
	"catalog nodes -near=x -node-meta=a=b", "catalog services", "catalog services -tags", "catalog services -node=x",
	"catalog services -node=x -tags", "catalog datacenters", "info", "force-leave x", "force-leave -prune x",
	"force-leave -prune -wan x", "force-leave -wan a/b", "join a b", "join -wan a", "join nosuch", "reload", "leave",
	"kv put -session=s k v", "kv put -flags=3 -acquire -session=s k v", "kv put -release -session=s k v",
	"kv put -cas -modify-index=7 k v", "kv put -cas k v", "kv put no v", "kv put -cas no v", "kv put -cas -modify-index=7 no v",
	"kv put -acquire -session=s no v", "kv put -release -session=s no v", "kv delete -cas -modify-index=4 k",
	"kv delete -cas -modify-index=4 no", "kv delete -recurse k", "kv delete k/", "kv delete missing",
	"kv get k", "kv get missing", "kv get -detailed k", "kv get -detailed -base64 k", "kv get -stale -datacenter=dc2 k",
	"kv get -namespace=n -partition=p k", "kv get -recurse k/", "kv get -recurse -detailed k/", "kv get -keys k/",
	"kv get -token=t k", "kv export k", `kv import -prefix=p [{"key":"/x","value":""}]`, `kv import -prefix=/p/ [{"key":"x"}]`,
	"services register -name=a", "services register -name=a -namespace=n", "services register web.hcl",
	"services deregister -id=a", "services deregister web.hcl", "connect ca get-config", "connect ca get-config -datacenter=dc2 x",
	"rtt a", "rtt a b", "rtt b A", "rtt a none", "rtt none a", "rtt seg a", "rtt -wan a.dc1", "rtt -wan a.dc1 b.dc2", "rtt -wan a b",
	"rtt -wan a.dc9 a.dc1", "rtt -wan a.dc1.x a.dc1",
	"maint", "maint x", "maint -enable", "maint -disable", "maint -enable -reason=a&b", "maint -enable -service=a -reason=r",
	"maint -enable -service=a", "maint -disable -service=a", "maint -enable -service=none", "maint -disable -service=none",
	"watch -type=key -key=k", "watch -type=key -key=none", "watch -type=keyprefix -prefix=k/", "watch -type=nodes -stale -filter=a==b",
	"watch -type=services -datacenter=dc2", "watch -type=service -service=web -tag=a -passingonly=true -token=t", "watch -type=checks -service=web",
	"watch -type=checks", "watch -type=key -key=k -shell=false /nosuch",
	"maint -enable -disable", "maint -reason=x", "maint -disable -reason=x", "maint -service=a", "maint -enable -token=t",
}

// TestTranscript compares what commands print and ask with what the reference did,
// whose transcript -update writes.
func TestTranscript(t *testing.T) {
	binary := ""
	if *update {
		binary = reference(t) // before the environment is cleaned
	}
	node := newFakeNode(t, oddAnswers)
	path := absolute(t, "testdata/transcript.txt")
	t.Chdir(t.TempDir())
	writeFile(t, "web.hcl", `service { name = "web" check { http = "http://x" interval = "60s" } }`)
	if *update {
		writeFile(t, path, transcript(node, func(args []string) result { return runReference(t, binary, "", args...) }))
	}
	golden(t, path, transcript(node, func(args []string) result { return run(t, args...) }))
}

func transcript(node *fakeNode, run func(args []string) result) string {
	var out strings.Builder
	for _, line := range transcriptLines {
		got := run(strings.Fields(line))
		fmt.Fprintf(&out, "$ consul %s\n", line)
		for _, r := range node.requests() {
			fmt.Fprintf(&out, "asks %s", r.line)
			if token := r.header.Get("X-Consul-Token"); token != "" {
				fmt.Fprintf(&out, " with token %s", token)
			}
			// Registrations differ in fields that are empty.
			if r.body != "" && !strings.Contains(r.line, "/register") {
				fmt.Fprintf(&out, " %q", r.body)
			}
			out.WriteByte('\n')
		}
		for _, one := range []struct{ name, text string }{{"stdout", got.stdout}, {"stderr", got.stderr}} {
			for text := range strings.Lines(one.text) {
				fmt.Fprintf(&out, "%s %q\n", one.name, text)
			}
		}
		fmt.Fprintf(&out, "exits %d\n\n", got.code)
	}
	return out.String()
}
