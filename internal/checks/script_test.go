//go:build linux

package checks

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"isthmus/api"
)

func shell(script string) api.CheckType {
	return api.CheckType{CheckID: "c", ScriptArgs: []string{"sh", "-c", script}}
}

func TestScripts(t *testing.T) {
	xs := strings.Repeat("x", maxOutput)
	for _, c := range []struct {
		name           string
		def            api.CheckType
		status, output string
	}{
		{"passes", shell("echo ok; echo and more >&2"), api.Passing, "ok\nand more\n"},
		{"says nothing", api.CheckType{ScriptArgs: []string{"true"}}, api.Passing, ""},
		{"warns", shell("echo hm; exit 1"), api.Warning, "hm\n"},
		{"fails", shell("echo bad; exit 2"), api.Critical, "bad\n"},
		{"is killed", shell("echo last; kill -9 $$"), api.Critical, "last\n"},
		{"reads nothing", shell("cat"), api.Passing, ""},
		{"is no shell", api.CheckType{ScriptArgs: []string{"exit 0"}}, api.Critical, `exec: "exit 0": executable file not found in $PATH`},
		{"is not there", api.CheckType{ScriptArgs: []string{"/nonexistent", "x"}}, api.Critical, "fork/exec /nonexistent: no such file or directory"},
		{"is empty", api.CheckType{ScriptArgs: []string{""}}, api.Critical, "exec: no command"},
		{"says much", shell("printf aaa; head -c 10000 /dev/zero | tr '\\0' x"), api.Passing, "Captured 4096 of 10003 bytes\n...\n" + xs},
		{"fills its output", shell("head -c 4096 /dev/zero | tr '\\0' x"), api.Passing, xs},
	} {
		t.Run(c.name, func(t *testing.T) { expectFirst(t, c.def, quiet, c.status, c.output) })
	}
	def := shell("printf 0123456789")
	def.OutputMaxSize = 4
	expectFirst(t, def, quiet, api.Passing, "Captured 4 of 10 bytes\n...\n6789")
	def.OutputMaxSize = 8
	env := quiet
	env.MaxOutput = 2
	expectFirst(t, def, env, api.Passing, "Captured 2 of 10 bytes\n...\n89")
}

// gone tells whether a process is no more, not even as a zombie of this one.
func gone(pid string) bool { return !exists("/proc/" + strings.TrimSpace(pid)) }

func content(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestHangingScriptIsKilledWithItsChildren(t *testing.T) {
	for name, script := range map[string]string{
		"child":    "trap '' TERM; echo begun; sleep 1000 & echo $! > $FILE; echo $$ >> $FILE; wait",
		"leaves":   "echo begun; sleep 1000 & echo $! > $FILE", // the pipe stays open
		"detaches": "echo begun; setsid sh -c 'echo $$ > $FILE; exec sleep 3' & sleep 1000",
	} {
		t.Run(name, func(t *testing.T) {
			file := holding(t)
			t.Setenv("FILE", file)
			def := shell(script)
			def.Timeout = seconds(0.5)
			expectFirst(t, def, quiet, api.Critical, "Timed out (500ms) running check\n\nbegun\n")
			if name == "detaches" {
				return // out of reach, and ends on its own
			}
			for pid := range strings.Lines(content(t, file)) {
				// Its new parent may take a moment to bury it.
				eventually(t, "process "+pid+" is left", func() bool { return gone(pid) || zombieOfOther(pid) })
			}
		})
	}
}

// zombieOfOther tells whether a process is dead and waits for a parent that is
// not this process.
func zombieOfOther(pid string) bool {
	b, err := os.ReadFile("/proc/" + strings.TrimSpace(pid) + "/stat")
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	return fields[0] == "Z" && fields[1] != strconv.Itoa(os.Getpid())
}

func TestScriptIsKilledWhenItsCheckEnds(t *testing.T) {
	file := holding(t)
	t.Setenv("FILE", file)
	r, err := New(api.CheckType{ScriptArgs: shell("echo $$ > $FILE.new; mv $FILE.new $FILE; sleep 1000").ScriptArgs, Interval: seconds(60)},
		func(status, output string) { t.Errorf("reported %s %q", status, output) }, quiet)
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, r)
	eventually(t, "the script does not start", func() bool { return exists(file) })
	stop()
	if pid := content(t, file); !gone(pid) {
		t.Errorf("process %s is left", pid)
	}
}

func TestFloodingScriptKeepsMemoryBounded(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	def := shell("exec yes") // without an end
	def.Timeout = seconds(0.5)
	status, output := first(t, def, quiet)
	runtime.ReadMemStats(&after)
	if status != api.Critical || !strings.HasPrefix(output, "Timed out (500ms) running check\n\nCaptured 4096 of ") || len(output) > 4200 {
		t.Errorf("got %s %.80q of %d bytes", status, output, len(output))
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("%d bytes were allocated", grown)
	}
}

func TestCommandThatIsNotStartedLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	files := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	before := files()
	for range 20 {
		if _, err := runCommand(ctx, []string{"true"}, &tail{max: 1}); err == nil {
			t.Fatal("ran")
		}
		if _, err := runCommand(t.Context(), []string{"/nonexistent"}, &tail{max: 1}); err == nil {
			t.Fatal("ran")
		}
	}
	if after := files(); after > before+2 {
		t.Errorf("%d files are open, %d before", after, before)
	}
}

func FuzzTail(f *testing.F) {
	f.Add([]byte("abcdef"), uint8(3), uint8(2))
	f.Fuzz(func(t *testing.T, all []byte, most, step uint8) {
		limit, n := int(most)+1, int(step)+1
		out := &tail{max: limit}
		for rest := all; len(rest) > 0; {
			m := min(n, len(rest))
			if _, err := out.Write(rest[:m]); err != nil {
				t.Fatal(err)
			}
			rest = rest[m:]
		}
		if got, want := out.String(), string(all[max(0, len(all)-limit):]); !strings.HasSuffix(got, want) || len(all) <= limit && got != want {
			t.Errorf("got %q, want the end %q", got, want)
		}
		if len(out.kept) > 2*limit {
			t.Errorf("%d bytes are kept of %d", len(out.kept), limit)
		}
	})
}

func BenchmarkScript(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		ctx, cancel := context.WithTimeout(b.Context(), 10*time.Second)
		if _, err := runCommand(ctx, []string{"true"}, &tail{max: maxOutput}); err != nil {
			b.Fatal(err)
		}
		cancel()
	}
}
