package cli

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"isthmus/internal/testkit"
)

// helperMark is the variable that makes TestBecomesAnotherProgram a command.
const helperMark = "TEST_COMMAND"

// TestBecomesAnotherProgram is no test: it is the process that becomes Envoy.
func TestBecomesAnotherProgram(t *testing.T) {
	if os.Getenv(helperMark) == "" {
		t.Skip("runs in a process that another test starts")
	}
	os.Exit(Run(t.Context(), append([]string{"isthmus"}, flag.Args()...), os.Stdin, os.Stdout, os.Stderr))
}

// become runs a command in a process of its own. Temporary files go to dir.
func become(t *testing.T, dir string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"-test.run=^TestBecomesAnotherProgram$", "--"}, args...)...)
	cmd.Env = append(os.Environ(), helperMark+"=1", "TMPDIR="+dir)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// fakeEnvoy is a program that prints what it was given.
func fakeEnvoy(t *testing.T, version string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "envoy")
	script := "#!/bin/sh\n" + `if [ "$1" = --version ]; then printf '\n%s  version: ` + version + `\n\n' "$0"; exit 0; fi` +
		"\n" + `for arg; do echo "argument $arg"; done; env | sed 's/^/variable /'; cat "$2"` + "\n"
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

const goodVersion = "9e55/1.40.0/Clean/RELEASE/BoringSSL"

// TestEnvoyGetsTheTokenInMemoryAlone shows that the token is in the configuration
// that Envoy reads, and in no argument, variable or file.
func TestEnvoyGetsTheTokenInMemoryAlone(t *testing.T) {
	newEnvoyNode(t, "{}")
	for _, c := range []struct{ flag, env string }{{flag: "-token=secret-token"}, {env: "CONSUL_HTTP_TOKEN"}, {env: "ISTHMUS_HTTP_TOKEN"}} {
		args := []string{"connect", "envoy", "-gateway=mesh", "-register", "-address=127.0.0.1", "-envoy-binary=" + fakeEnvoy(t, goodVersion)}
		if c.flag != "" {
			args = append(args, c.flag)
		} else {
			t.Setenv(c.env, "secret-token")
		}
		dir := t.TempDir()
		got := become(t, dir, append(args, "--", "-l", "debug")...)
		if got.code != 0 {
			t.Fatalf("got %+v", got)
		}
		around, config, _ := strings.Cut(got.stdout, "{\n")
		var arguments []string
		for line := range strings.Lines(around) {
			if text, ok := strings.CutPrefix(strings.TrimSpace(line), "argument "); ok {
				arguments = append(arguments, text)
			}
			if strings.Contains(line, "secret-token") {
				t.Errorf("the token is in %q", line)
			}
		}
		if len(arguments) != 5 || arguments[0] != "--config-path" || !strings.HasPrefix(arguments[1], "/dev/fd/") ||
			strings.Join(arguments[2:], " ") != "--disable-hot-restart -l debug" {
			t.Errorf("got the arguments %q", arguments)
		}
		if !strings.Contains(config, `"value": "secret-token"`) {
			t.Errorf("the token is not in the configuration:\n%s", config)
		}
		files, err := os.ReadDir(dir)
		for _, f := range files {
			if !strings.HasPrefix(f.Name(), "testscript-main") { // the programs of TestMain
				t.Errorf("file %s is left", f.Name())
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// TestRealEnvoyReadsTheInheritedBootstrap starts the real Envoys, which look at
// the configuration and end.
func TestRealEnvoyReadsTheInheritedBootstrap(t *testing.T) {
	for _, envoy := range testkit.Envoys(t) {
		newEnvoyNode(t, "{}")
		got := become(t, t.TempDir(), "connect", "envoy", "-proxy-id=gw", "-envoy-binary="+envoy, "--", "--mode", "validate")
		if got.code != 0 || !strings.Contains(got.stdout+got.stderr, "OK") {
			t.Errorf("%s: got %+v", envoy, got)
		}
	}
}

func TestEnvoyOfAWrongVersionIsRefused(t *testing.T) {
	node := newEnvoyNode(t, "{}")
	start := func(binary string, flags ...string) result {
		args := []string{"connect", "envoy", "-gateway=mesh", "-register", "-address=127.0.0.1", "-envoy-binary=" + binary}
		return become(t, t.TempDir(), append(args, flags...)...)
	}
	for _, c := range []struct {
		version, want string // empty: is taken
	}{
		{"x/1.36.0/Clean/RELEASE/BoringSSL", ""},
		{"x/1.38.7-dev/Modified/DEBUG/BoringSSL", ""},
		{goodVersion, ""},
		{"x/1.35.9/Clean/RELEASE/BoringSSL", "Envoy version 1.35.9"},
		{"x/1.41.0/Clean/RELEASE/BoringSSL", "Envoy version 1.41.0"},
		{"x/2.38.0/Clean/RELEASE/BoringSSL", "Envoy version 2.38.0"},
		{"nonsense", "Couldn't get envoy version for compatibility check"},
	} {
		binary := fakeEnvoy(t, c.version)
		got := start(binary)
		if c.want == "" {
			if node.requests(); got.code != 0 {
				t.Errorf("%s: got %+v", c.version, got)
			}
			continue
		}
		if got.code != 1 || !strings.Contains(got.stderr, c.want) || !strings.Contains(got.stderr, "-ignore-envoy-compatibility") ||
			!strings.Contains(got.stderr, binary) {
			t.Errorf("%s: got %+v", c.version, got)
		}
		if strings.Contains(c.want, "Envoy version") && !strings.Contains(got.stderr, "1.36 to 1.40") {
			t.Errorf("%s: the range is not named: %s", c.version, got.stderr)
		}
		if asked := node.requests(); len(asked) > 0 {
			t.Errorf("%s: the agent was asked %v", c.version, asked)
		}
		if got := start(binary, "-ignore-envoy-compatibility"); got.code != 0 {
			t.Errorf("%s: got %+v although any version is to be taken", c.version, got)
		}
		node.requests()
	}
	start("/nonexistent/envoy").expect(t, 1, "", "Couldn't find envoy binary: -envoy-binary")
	t.Setenv("PATH", t.TempDir())
	run(t, "connect", "envoy", "-proxy-id=gw").
		expect(t, 1, "", "Couldn't find envoy binary: there is none in $PATH. Install Envoy 1.36 to 1.40, or name its binary with -envoy-binary")
	broken := filepath.Join(t.TempDir(), "envoy")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	start(broken).expect(t, 1, "", "--version: exit status 3")
}
