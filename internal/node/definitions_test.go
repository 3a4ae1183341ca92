package node

import (
	"testing"

	"isthmus/internal/config"
	"isthmus/internal/local"
)

func TestPingOfAFileUsesTLSUnlessItSaysOtherwise(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		target string
		said   *bool
		want   bool
	}{{"a:1", nil, true}, {"a:1", &yes, true}, {"a:1", &no, false}, {"", nil, false}} {
		if got := checkType(&config.CheckDefinition{H2Ping: c.target, H2PingUseTLS: c.said}).H2PingUseTLS; got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

func TestScriptSettings(t *testing.T) {
	for _, c := range []struct {
		all, local bool
		want       local.Scripts
	}{
		{false, false, local.ScriptsNever},
		{false, true, local.ScriptsLocal},
		{true, false, local.ScriptsAlways},
		{true, true, local.ScriptsAlways},
	} {
		if got := scripts(&config.Settings{EnableScriptChecks: c.all, EnableLocalScriptChecks: c.local}); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}
