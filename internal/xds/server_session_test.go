package xds

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// script drives a session the way one reads a conversation. A resource is its
// name and, as its last letter, its version; C, E, L and R are the types.
//
//	view C a1 b1 | L l1   the proxy should have these
//	ask C a b             subscribe to names, without any: to all
//	ask C have a1         the same, and say what is kept of an earlier stream
//	drop C a              unsubscribe
//	ack C                 take the response that came last, or, with a text,
//	nack C text           refuse it
//	wait 1s               let time pass
//	reconnect             begin a new stream, with nothing but what was taken before
//	< C a1 b1 -c          what must be sent after the line before, -c is removed
type script struct {
	t       *testing.T
	whole   bool
	now     time.Time
	session *session
	last    [kindCount]*response
	kept    [kindCount]map[string]string // what the client has
	names   [kindCount][]string
	claims  [kindCount]string
}

func run(t *testing.T, whole bool, text string) *script {
	t.Helper()
	s := &script{t: t, whole: whole, now: time.Unix(1000, 0), session: newSession(whole)}
	for k := range s.kept {
		s.kept[k] = make(map[string]string)
	}
	var step string
	var got, want []string
	check := func() {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Fatalf("after %q:\n got %q\nwant %q", step, got, want)
		}
		got, want = nil, nil
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if out, ok := strings.CutPrefix(line, "< "); ok {
			want = append(want, out)
			continue
		}
		check()
		step = line
		s.step(strings.Fields(line))
		got = s.drain()
	}
	check()
	return s
}

func newSession(whole bool) *session { return &session{whole: whole, maxNames: 100} }

const letters = "CELR"

func (s *script) step(words []string) {
	s.t.Helper()
	switch words[0] {
	case "view":
		s.session.update(s.now, newView(parse(words[1:])))
		return
	case "wait":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			s.t.Fatal(err)
		}
		s.now = s.now.Add(d)
		return
	case "reconnect":
		view := s.session.view
		s.session = newSession(s.whole)
		s.session.update(s.now, view)
		s.last = [kindCount]*response{}
		return
	}
	k := strings.Index(letters, words[1])
	args := words[2:]
	in := &request{typeURL: kinds[k]}
	switch words[0] {
	case "ask":
		if i := slices.Index(args, "have"); i >= 0 {
			in.initial = maps.Clone(s.kept[k])
			in.version = s.claims[k]
			args = args[:i]
		}
		in.subscribe = args
		s.names[k] = append(s.names[k], args...)
	case "drop":
		in.unsubscribe = args
		s.names[k] = slices.DeleteFunc(s.names[k], func(n string) bool { return slices.Contains(args, n) })
	case "ack":
		in.nonce = s.last[k].nonce
		if s.session.isWhole(k) {
			clear(s.kept[k])
		}
		for name, version := range s.last[k].versions {
			s.kept[k][name] = version
			if version == "" {
				delete(s.kept[k], name)
			}
		}
		s.claims[k] = s.last[k].version
	case "nack":
		in.nonce, in.refused, in.reason = s.last[k].nonce, true, strings.Join(args, " ")
		in.version = s.claims[k]
	default:
		s.t.Fatalf("what is %q?", words)
	}
	if s.whole {
		in.names = slices.Clone(s.names[k])
		if s.last[k] != nil {
			in.nonce = s.last[k].nonce
		}
	}
	if _, err := s.session.request(s.now, in); err != nil {
		s.t.Fatal(err)
	}
}

// drain returns all that the session has to say.
func (s *script) drain() []string {
	var out []string
	for {
		p := s.session.next(s.now)
		if p == nil {
			return out
		}
		s.last[p.kind] = p
		line := letters[p.kind : p.kind+1]
		for _, r := range p.resources {
			line += " " + r.Name + r.Version
		}
		for _, name := range p.removed {
			if !s.whole {
				line += " -" + name
			}
		}
		out = append(out, line)
	}
}

// parse reads the resources of a view.
func parse(words []string) Resources {
	out := make(Resources)
	kind := ""
	for _, w := range words {
		switch k := strings.Index(letters, w); {
		case w == "|":
		case k >= 0:
			kind = kinds[k]
		default:
			out[kind] = append(out[kind], Resource{Name: w[:len(w)-1], Version: w[len(w)-1:]})
		}
	}
	return out
}

const gateway = `
	view C a1 b1 | E a1 b1 | L l1
	ask C
	< C a1 b1
	ack C
	ask E a b
	< E a1 b1
	ack E
	ask L
	< L l1
	ack L
`

// TestBothProtocols holds what is the same in both.
func TestBothProtocols(t *testing.T) {
	cases := map[string]string{
		"listeners wait until endpoints of new clusters were asked for": gateway + `
			view C a1 b1 c1 | E a1 b1 c1 | L l2
			< C a1 b1 c1
			ack C
			ask E c
			< E c1
			< L l2
			ack E
			ack L
			`,
		"listeners do not wait for a client that never asks": gateway + `
			view C a1 b1 c1 | E a1 b1 c1 | L l2
			< C a1 b1 c1
			ack C
			wait 1s
			< L l2
			`,
		"a replaced cluster gets its endpoints again": gateway + `
			view C a2 b1 | E a1 b1 | L l1
			< C a2 b1
			< E a1
			ack C
			ack E
			`,
		"endpoints do not wait for the answer for their clusters": gateway + `
			view C a1 b1 c1 | E a1 b1 c1 | L l2
			< C a1 b1 c1
			view C a1 b1 c1 d1 | E a1 b1 c1 d1 | L l3
			ask E c
			< E c1
			ack C
			< C a1 b1 c1 d1
			ack E
			ask E d
			< E d1
			< L l3
			ack C
			`,
		"a change of endpoints is only that": gateway + `
			view C a1 b1 | E a2 b1 | L l1
			< E a2
			ack E
			view C a1 b1 | E a2 b1 | L l1
			`,
		"the newest wins while an answer is awaited": gateway + `
			view C a1 b1 | E a2 b1 | L l1
			< E a2
			view C a1 b1 | E a3 b1 | L l1
			view C a1 b1 | E a4 b2 | L l1
			ack E
			< E a4 b2
			ack E
			`,
		"what changes back while an answer is awaited is corrected": gateway + `
			view C a1 b1 | E a2 b1 | L l1
			< E a2
			view C a1 b1 | E a1 b1 | L l1
			ack E
			< E a1
			`,
		"refused endpoints are not sent again, others are": gateway + `
			view C a1 b1 | E a2 b1 | L l1
			< E a2
			nack E bad
			wait 1s
			view C a1 b1 | E a2 b2 | L l2
			< E b2
			< L l2
			ack E
			ack L
			view C a1 b1 | E a3 b2 | L l2
			< E a3
			ack E
			`,
		"what was refused has another chance, ever later": gateway + `
			view C a1 b1 | E a2 b1 | L l1
			< E a2
			nack E bad
			wait 9s
			wait 1s
			< E a2
			nack E bad
			wait 10s
			wait 10s
			< E a2
			ack E
			wait 1h
			`,
		"of many refused together each is tried alone": gateway + `
			view C a1 b1 | E a2 b2 | L l1
			< E a2 b2
			nack E one is bad
			< E a2
			nack E a is bad
			< E b2
			ack E
			view C a1 b1 | E a3 b2 | L l1
			< E a3
			ack E
			`,
		"later types do not wait for ever for an answer": gateway + `
			view C a2 b1 | E a1 b1 | L l1
			< C a2 b1
			< E a1
			view C a3 b1 | E a1 b1 | L l2
			wait 4s
			wait 1s
			< L l2
			ack C
			< C a3 b1
			ack E
			< E a1
			`,
		"unchanged after a reconnect": gateway + `
			reconnect
			ask C have
			ask E a b have
			ask L have
			view C a1 b1 | E a2 b1 | L l1
			< E a2
			`,
		"a wildcard is answered although there is nothing": `
			ask C
			ask L
			view C | L
			< C
			< L
			ack C
			ack L
			view C | L l1
			< L l1
			`,
		"names alone": `
			view C a1 b1 c1
			ask C a c
			< C a1 c1
			ack C
			view C a1 b2 c1
			view C a2 b2 c1
			< C a2 c1
			`,
		"star": `
			view E a1 b1
			ask E *
			< E a1 b1
			ack E
			view E a1 b2
			< E b2
			`,
		"no wildcard by silence for endpoints": `
			view E a1 b1
			ask E
			ask E a
			< E a1
			`,
		"asking again after dropping": gateway + `
			drop E a
			view C a1 b1 | E a2 b1 | L l1
			ask E a
			< E a2
			`,
	}
	for name, text := range cases {
		t.Run(name, func(t *testing.T) {
			t.Run("sotw", func(t *testing.T) { run(t, true, text) })
			t.Run("delta", func(t *testing.T) { run(t, false, minimal(text)) })
		})
	}
}

// minimal leaves only differences in what is expected of clusters and listeners:
// what was expected in an earlier line with the same version is left out.
func minimal(text string) string {
	var out strings.Builder
	seen := make(map[string]string) // type and name to version
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "<" || words[1] != "C" && words[1] != "L" {
			out.WriteString(line)
			continue
		}
		fmt.Fprintf(&out, "< %s", words[1])
		for _, w := range words[2:] {
			key, version := words[1]+w[:len(w)-1], w[len(w)-1:]
			if seen[key] != version {
				fmt.Fprintf(&out, " %s", w)
			}
			seen[key] = version
		}
		out.WriteString("\n")
	}
	return out.String()
}

func TestSessionRunsDryWithoutItsClientsAnswer(t *testing.T) {
	s := run(t, false, `
		view C a1 | E a1 | L l1
		ask C
		< C a1
		ask E a
		< E a1
		ask L
		< L l1
	`)
	for i := range 100 {
		s.session.update(s.now, newView(parse(strings.Fields(fmt.Sprintf("C a%d | E a%d | L l%d", i%10, i%10, i%10)))))
		if got := s.drain(); got != nil {
			t.Fatalf("sent %q while an answer is awaited", got)
		}
	}
	if at := s.session.wake(s.now); !at.After(s.now) {
		t.Errorf("wakes at %v, which is not after %v", at, s.now)
	}
}

func TestRejectionIsShownUntilHealed(t *testing.T) {
	s := run(t, false, gateway+`
		view C a1 b1 | E a2 b1 | L l1
		< E a2
		nack E no such thing
	`)
	sub := s.session.subs[endpoints]
	if r := sub.rejection; r == nil || r.Error != "no such thing" || !slices.Equal(r.Names, []string{"a"}) {
		t.Fatalf("rejection is %+v", sub.rejection)
	}
	s.step([]string{"view", "C", "a1", "b1", "|", "E", "a1", "b1", "|", "L", "l1"})
	if got := s.drain(); got != nil || sub.rejection != nil {
		t.Errorf("sent %q and shows %+v after the old version came back, want nothing", got, sub.rejection)
	}
}

func TestRejectionIsNewsOnce(t *testing.T) {
	s := run(t, false, gateway+"\nview C a1 b1 | E a2 b1 | L l1\n< E a2\n")
	news := 0
	for range 5 {
		in := &request{typeURL: EndpointType, nonce: s.last[endpoints].nonce, refused: true, reason: "bad"}
		r, err := s.session.request(s.now, in)
		if err != nil {
			t.Fatal(err)
		}
		if r != nil {
			news++
		}
		s.now = s.now.Add(retryMax)
		if s.drain() == nil {
			t.Fatal("no other chance")
		}
	}
	if news != 1 {
		t.Errorf("the same refusal was news %d times", news)
	}
}

func TestTooManyNamesEndTheStream(t *testing.T) {
	names := make([]string, 101)
	kept := make(map[string]string)
	for i := range names {
		names[i] = fmt.Sprint("n", i)
		kept[names[i]] = "1"
	}
	for _, in := range []*request{{subscribe: names, names: names}, {initial: kept, names: names}} {
		for _, whole := range []bool{false, true} {
			in.typeURL = EndpointType
			if _, err := newSession(whole).request(time.Now(), in); err == nil {
				t.Errorf("whole %t: %d names were taken", whole, len(names))
			}
		}
	}
}
