package telemetry

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"testing/synctest"
	"time"
)

// system is a system's log that listens.
func system(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func heard(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2000)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestSystemsLogGetsEachLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	conn := system(t, path)
	to, err := openSyslog("local0", []string{filepath.Join(t.TempDir(), "none"), path})
	if err != nil {
		t.Fatal(err)
	}
	var main bytes.Buffer
	log := NewLogs(&main, slog.LevelInfo, false, to.Handler(false)).Logger().With("component", "x")
	log.Debug("not wanted")
	want := func(severity int, text string) {
		t.Helper()
		line := fmt.Sprintf(`^<%d>\w{3} [ \d]\d \d\d:\d\d:\d\d consul\[%d\]: .*msg="?%s"? component=x\n$`, 16<<3|severity, os.Getpid(), text)
		if got := heard(t, conn); !regexp.MustCompile(line).MatchString(got) {
			t.Errorf("got %q, want %s", got, line)
		}
	}
	log.Info("all is well")
	want(severityInfo, "all is well")
	log.Warn("careful")
	want(severityWarning, "careful")
	log.Error("broken")
	want(severityError, "broken")
	if !bytes.Contains(main.Bytes(), []byte("careful")) {
		t.Error("the line is in the system's log alone")
	}

	// It is found again after it was started anew.
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	log.Info("nobody listens")
	_ = os.Remove(path)
	conn = system(t, path)
	log.Info("again")
	want(severityInfo, "again")
	if err := to.Close(); err != nil {
		t.Error(err)
	}
}

func TestSystemsLogThatIsNotThereIsTold(t *testing.T) {
	if _, err := openSyslog("DAEMON", []string{filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("nothing was opened without an error")
	}
	for _, facility := range []string{"", "x"} {
		if _, err := openSyslog(facility, nil); err == nil {
			t.Errorf("%q was taken for a facility", facility)
		}
	}
}

func TestLogFileIsReplacedByAge(t *testing.T) {
	for keep, want := range map[int]int{0: 4, 1: 2, -1: 1} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			f, err := OpenFile(dir+"/", 0, time.Hour, keep)
			if err != nil {
				t.Fatal(err)
			}
			for range 4 {
				for range 2 { // of one age, in one file
					if _, err := f.Write([]byte("line\n")); err != nil {
						t.Fatal(err)
					}
				}
				<-time.After(61 * time.Minute)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			names, err := filepath.Glob(filepath.Join(dir, "consul-*.log"))
			if err != nil || len(names) != want {
				t.Errorf("keeping %d: got %v, %v, want %d files", keep, names, err, want)
			}
		})
	}
}
