package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

func TestSecretsDoNotPrint(t *testing.T) {
	s := Settings{Encrypt: "hush", Services: []ServiceDefinition{{Token: "hush"}}}
	encoded, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", s.Encrypt, "all", s)
	for _, out := range []string{
		string(encoded), log.String(), fmt.Sprintf("%v %+v %#v %s %q %x", s, s, s, s.Encrypt, s.Encrypt, s.Encrypt),
	} {
		if strings.Contains(out, "hush") || strings.Contains(out, "68757368") {
			t.Errorf("the secret is in %s", out)
		}
	}
	if !strings.Contains(s.Encrypt.String(), "*") || Secret("").String() != "" || s.Encrypt.Reveal() != "hush" {
		t.Errorf("got %q", s.Encrypt.String())
	}
}

func TestEverySettingIsDocumented(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range schema() {
		if f.doc == "" || !strings.HasSuffix(f.doc, ".") || f.reload != "yes" && f.reload != "no" {
			t.Errorf("%s: doc %q, reload %q", f.path, f.doc, f.reload)
		}
		for _, name := range append(f.flags, f.path) {
			if seen[name] && name != f.path {
				t.Errorf("%s is declared twice", name)
			}
			seen[name] = true
		}
	}
	for _, def := range []reflect.Type{reflect.TypeFor[ServiceDefinition](), reflect.TypeFor[CheckDefinition]()} {
		for _, f := range fields(def, "", nil) {
			if f.doc == "" {
				t.Errorf("%s: %s has no doc", def, f.path)
			}
		}
	}
	var out bytes.Buffer
	if err := Docs(&out); err != nil {
		t.Fatal(err)
	}
	for _, f := range schema() {
		if !strings.Contains(out.String(), "| `"+f.path+"` |") {
			t.Errorf("docs lack %s", f.path)
		}
	}
	broken := errors.New("no space")
	if err := Docs(writerFunc(func([]byte) (int, error) { return 0, broken })); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
