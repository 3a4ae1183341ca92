package cli

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestDemoGivesEachNodeAnAddressOfItsOwn(t *testing.T) {
	for _, isolated := range []bool{false, true} {
		nodes := demoNodes(4, 3, 77, isolated)
		if len(nodes) != 4*(3+2) {
			t.Fatalf("isolated %v: got %d nodes", isolated, len(nodes))
		}
		seen := map[netip.Addr]string{}
		for _, n := range nodes {
			for _, addr := range []netip.Addr{n.lan, n.wan} {
				if !addr.IsValid() {
					continue
				}
				if other, ok := seen[addr]; ok {
					t.Errorf("isolated %v: %s and %s share %s", isolated, n.name, other, addr)
				}
				seen[addr] = n.name
			}
			if onWAN := n.wan.IsValid(); isolated && n.server && onWAN != (n.number > 1) {
				t.Errorf("%s is on the WAN: %v", n.name, onWAN)
			}
		}
	}
}

func TestDemoPassesOverAddressesInUse(t *testing.T) {
	first, err := freeOctet(2, 1)
	if err != nil {
		t.Skip(err)
	}
	taken := demoNodes(2, 1, first, false)[1]
	s, err := newSpace(func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	var f forwarder
	taken.shown = taken.outside()
	if err := f.forward(taken, s); err != nil {
		t.Fatal(err)
	}
	defer f.close()
	second, err := freeOctet(2, 1)
	if err != nil {
		t.Fatal(err)
	}
	if second == first {
		t.Errorf("got %d again", second)
	}
}

func TestReadConnections(t *testing.T) {
	const list = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:4A38 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1234 1 0000000000000000 100 0 0 10 0
   1: 0100007F:9C40 01024D7F:206C 01 00000000:00000000 02:00000A2C 00000000     0        0 5678 2 0000000000000000 20 4 30 10 -1
nonsense
   2: short
`
	got := readConnections(strings.NewReader(list))
	want := []connection{{netip.MustParseAddr("0.0.0.0"), "1234"}, {netip.MustParseAddr("127.77.2.1"), "5678"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzReadConnections(f *testing.F) {
	f.Add("   1: 0100007F:9C40 01024D7F:206C 01 0:0 02:0 0     0        0 5678 2\n")
	f.Fuzz(func(_ *testing.T, text string) { readConnections(strings.NewReader(text)) })
}

func TestSumMetric(t *testing.T) {
	const text = `# TYPE bytes_total counter
bytes_total{route="a b",direction="in"} 40
bytes_total{route="a b",direction="out"} 2
bytes_total_more 100
bytes_totally{x="y"} 7
`
	if got, err := sumMetric(strings.NewReader(text), "bytes_total"); err != nil || got != 42 {
		t.Errorf("got %d, %v", got, err)
	}
	if _, err := sumMetric(strings.NewReader("bytes_total{} much"), "bytes_total"); err == nil {
		t.Error("no error for a value that is no number")
	}
}

func TestProbeTellsHowLongReadsFailed(t *testing.T) {
	begin := time.Now()
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	bad := errors.New("no path")
	p := &probe{from: "dc1", to: "dc2"}
	p.note(at(-500), at(-450), bad) // before the moment that is asked for
	if got, want := p.since(begin), "dc1 → dc2 never failed"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	p.note(at(0), at(80), nil)
	if got, want := p.since(begin), "dc1 → dc2 never failed, the slowest took 0.08 s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	p.note(at(100), at(110), bad)
	p.note(at(200), at(210), bad) // nothing worked between these two
	p.note(at(300), at(301), nil)
	if got, want := p.since(begin), "dc1 → dc2 failed for 0.11 s (reads: 2)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestScreenDrawsTheTableBelowWhatIsSaid(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out, time.Now())
	if s.terminal() {
		t.Fatal("a buffer is taken for a terminal")
	}
	s.show([]string{"a table"})
	s.sayf("one\ntwo")
	if got := out.String(); strings.Contains(got, "table") || strings.Contains(got, "\x1b") {
		t.Errorf("without a terminal: %q", got)
	}
	if got, want := strings.Split(out.String(), "\n")[1], "           two"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := cut("dc1 → dc2", 5); got != "dc1 →" {
		t.Errorf("got %q", got)
	}
}

func TestColumnsAlign(t *testing.T) {
	got := columns([][]string{{"A", "B"}, {"long", "→"}, {"", "x"}})
	if want := []string{"A     B", "long  →", "      x"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNextDemoRemovesWhatAKilledOneLeft(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Skip(err)
	}
	left := func(pid string) string {
		dir := filepath.Join(os.TempDir(), "isthmus-demo-"+pid+"-1")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	dead, alive, kept := left(strconv.Itoa(gone.Process.Pid)), left(strconv.Itoa(os.Getppid())), left("kept")
	if _, err := demoDir(false); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{dead: false, alive: true, kept: true} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", filepath.Base(dir), err, want)
		}
	}
}

func TestEndedProcessIsToldWithItsCause(t *testing.T) {
	s, err := newSpace(func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip(err)
	}
	script := filepath.Join(t.TempDir(), "node")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho started\nexec "+sleep+" 60\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	nodes := demoNodes(2, 1, 77, false)
	p := newDemoProcesses(script, t.TempDir())
	p.space = func(*demoNode) *space { return s }
	defer p.stop()
	pid, err := p.start(nodes[0], nodes)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.pid(nodes[0]); got != pid {
		t.Errorf("got pid %d, want %d", got, pid)
	}
	if err := p.signal(nodes[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if e := <-p.exits; e.node != nodes[0] || e.cause != "signal: killed" {
		t.Errorf("got %s", e)
	}
	if p.pid(nodes[0]) != 0 || p.signal(nodes[0], syscall.SIGKILL) == nil {
		t.Error("the ended process still counts as running")
	}
}

func TestDemoRefusesWhatItCannotShow(t *testing.T) {
	for _, args := range [][]string{{"-dcs", "1"}, {"-dcs", "5"}, {"-servers", "0"}, {"-servers", "4"}} {
		var out, errs bytes.Buffer
		code := Run(context.Background(), append([]string{"isthmus", "demo"}, args...), strings.NewReader(""), &out, &errs)
		if code != exitFailure || !strings.Contains(errs.String(), args[0]+" must be") {
			t.Errorf("%v: exit %d, %q", args, code, errs.String())
		}
	}
}
