package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"isthmus/internal/testkit"
)

// sameLines are commands that both programs give to a node of ours, one after the
// other. What a line changes it changes in the same way twice.
const sameLines = `
members -wan
members -detailed
members -status=left
members -filter Name==s1
members -segment=x
members
join 127.0.0.1:1
force-leave nosuch
reload
kv put a 1
kv put d/x 2
kv get a
kv get -detailed a
kv get -keys
kv get -recurse -detailed
kv get missing
kv put -cas a 2
kv delete -cas -modify-index=1 a
kv get -datacenter=dc9 a
kv get -namespace=x a
kv export
catalog datacenters
catalog nodes
catalog nodes -detailed
catalog nodes -service=consul
catalog nodes -near=_agent
catalog nodes -filter=Node==s1
catalog nodes -filter=Node==
catalog nodes -node-meta=a=b
catalog nodes -datacenter=dc9
services register mesh.hcl
services register -name=api -id=api1 -port=80 -tag=b -tag=a -meta=k=v -address=10.0.0.1 -tagged-address=lan=10.0.0.1:81
catalog services
catalog services -tags
catalog services -node=s1 -tags
catalog services -node=nosuch
rtt nosuch s1
maint -enable -reason=why
maint
kv get d/x
maint -enable -service=api1
maint -disable
maint -disable -service=api1
maint -enable -service=nosuch
watch -type=key -key=a
watch -type=key -key=nosuch
watch -type=keyprefix -prefix=d
watch -type=services
watch -type=nodes
watch -type=nodes -filter=Node==x
watch -type=nodes -datacenter=dc9
watch -type=service -service=mesh
watch -type=service -service=mesh -tag=a -tag=b
watch -type=service -service=consul -passingonly=true
watch -type=checks -service=mesh
watch -type=checks -state=critical
watch -type=key -key=a -shell=false false
connect ca get-config
debug -capture=agent -capture=members -capture=host -output=bundle
monitor -log-level=xx
`

// TestReferenceCommandsAreAnsweredAlike gives the reference's own commands to a
// node of ours: they understand what it says, and ours print the same.
func TestReferenceCommandsAreAnsweredAlike(t *testing.T) {
	ref := reference(t)
	f := newFleet(t)
	f.servers(1, 1, "")
	testkit.Eventually(t, func() error { return f.put(1, 1, 1, "first", "1") })
	ours, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f.write("mesh.hcl", []byte(`service {
  name = "mesh"
  tags = ["a", "b"]
  port = 80
  check { ttl = "10m" }
  connect { sidecar_service { proxy { upstreams { destination_name = "db" local_bind_port = 9000 } } } }
}`))
	ask := func(program string, args []string) (code int, stdout, stderr string) {
		var out, errs bytes.Buffer
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = f.dir, &out, &errs
		cmd.Env = append(os.Environ(), asProgram+"=1", "CONSUL_HTTP_ADDR="+net.JoinHostPort(f.addr(1, 1), "8500"), "SHELL=/bin/sh")
		if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), out.String(), errs.String()
	}
	for line := range strings.Lines(strings.TrimLeft(sameLines, "\n")) {
		args := strings.Fields(line)
		wantCode, wantOut, wantErr := ask(ref, args)
		if code, out, errs := ask(ours, args); code != wantCode || out != wantOut || errs != wantErr {
			t.Errorf("%sgot  %d %s%s\nwant %d %s%s", line, code, out, errs, wantCode, wantOut, wantErr)
		}
	}
}
