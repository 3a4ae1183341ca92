package gossip

import (
	"slices"
	"testing"
)

func TestJoinAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1":               "10.0.0.1:8302",
		"10.0.0.1:99":            "10.0.0.1:99",
		"n1.dc1/10.0.0.1":        "n1.dc1/10.0.0.1:8302",
		"*.dc1/192.0.2.2":        "*.dc1/192.0.2.2:8302",
		"n1.dc1/10.0.0.1:99":     "n1.dc1/10.0.0.1:99",
		"fd00::1":                "[fd00::1]:8302",
		"[fd00::1]":              "[fd00::1]:8302",
		"[fd00::1]:99":           "[fd00::1]:99",
		"n1.dc1/fd00::1":         "n1.dc1/[fd00::1]:8302",
		"n1.dc1/[fd00::1]:99":    "n1.dc1/[fd00::1]:99",
		"::ffff:10.0.0.1":        "10.0.0.1:8302",
		"":                       "",
		"/10.0.0.1":              "",
		"n1.dc1/":                "",
		"10.0.0.1:x":             "",
		"10.0.0.1:65536":         "",
		"[fd00::1":               "",
		"no such name/at:all:ok": "",
	} {
		got, err := resolve(t.Context(), []string{in}, 8302)
		if want == "" {
			if err == nil || len(got) != 0 {
				t.Errorf("%q: got %v, %v, want an error", in, got, err)
			}
			continue
		}
		if err != nil || !slices.Equal(got, []string{want}) {
			t.Errorf("%q: got %v, %v, want %s", in, got, err, want)
		}
	}
	got, err := resolve(t.Context(), []string{"/bad", "10.0.0.1", "localhost:99"}, 8302)
	if err == nil || !slices.Contains(got, "10.0.0.1:8302") || !slices.Contains(got, "127.0.0.1:99") {
		t.Errorf("got %v, %v", got, err)
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"a", "a/b:1", "[::1]:1", "::1", "[", "]", "[]", "a/[]", "/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := parseTarget(s, 1); err == nil && (got.host == "" || got.port == "") {
			t.Errorf("%q gives %+v", s, got)
		}
	})
}
