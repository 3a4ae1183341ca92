package xds

import (
	"maps"
	"testing"
	"time"
)

func TestDelta(t *testing.T) {
	cases := map[string]string{
		"removals go the other way, after the listeners": gateway + `
			view C a1 | E a1 | L l2
			< L l2
			ack L
			< E -b
			< C -b
			ack E
			drop E b
			ack C
			`,
		"one cluster for another: make before break": gateway + `
			view C a1 c1 | E a1 c1 | L l2
			< C c1
			ack C
			ask E c
			< E c1
			< L l2
			ack E
			ack L
			< E -b
			< C -b
			`,
		"clusters stay as long as their listener's successor is refused": gateway + `
			view C a1 | E a1 | L l2
			< L l2
			nack L port in use
			wait 9s
			wait 1s
			< L l2
			ack L
			< E -b
			< C -b
			`,
		"but not for ever": gateway + `
			view C a1 | E a1 | L l2
			< L l2
			wait 1m
			< E -b
			< C -b
			`,
		"what comes back was never gone": gateway + `
			view C a1 | E a1 | L l2
			< L l2
			view C a1 b1 | E a1 b1 | L l2
			ack L
			`,
		"gone during a reconnect": gateway + `
			reconnect
			view C a1 | E a1 | L l1
			ask C have
			< C -b
			ask E a b have
			< E -b
			ask L have
			`,
		"endpoints of a cluster that was replaced during a reconnect": gateway + `
			reconnect
			view C a2 b1 | E a1 b1 | L l1
			ask C have
			< C a2
			ask E a b have
			< E a1
			ask L have
			`,
		"no such name": `
			view E a1
			ask E a x
			< E a1 -x
			ack E
			view E a1 x1
			< E x1
			ack E
			view E a1
			< E -x
			ack E
			`,
		"asking again brings it again": gateway + `
			ask E a
			< E a1
			ask E a
			ack E
			< E a1
			ack E
			`,
		"a name besides the wildcard": `
			view C a1 b1
			ask C
			< C a1 b1
			ack C
			ask C a
			< C a1
			ack C
			drop C a
			< C a1
			ack C
			drop C *
			view C a2 b2
			`,
		"the wildcard goes, the name stays": `
			view C a1 b1
			ask C * a
			< C a1 b1
			ack C
			drop C *
			view C a2 b2
			< C a2
			ack C
			ask C *
			< C b2
			`,
		"dropped while it is on its way": `
			view E a1 b1
			ask E a b
			< E a1 b1
			drop E a
			ack E
			ask E a
			< E a1
			`,
		"of many refused clusters only the bad one stays out": `
			view C a1 b1 c1
			ask C
			< C a1 b1 c1
			nack C b is bad
			< C a1
			ack C
			< C b1
			nack C b is bad
			< C c1
			ack C
			view C a1 b1 c2
			< C c2
			ack C
			view C a1 b2 c2
			< C b2
			ack C
			`,
		"a removal that is refused": gateway + `
			view C a1 b1 | E a1 b1 | L
			< L -l
			nack L no
			view C a1 b1 | E a1 b1 | L l1
			view C a1 b1 | E a1 b1 | L l2
			< L l2
			`,
		"routes come after listeners": `
			view C a1 | L l1 | R r1
			ask C
			< C a1
			ack C
			ask L
			< L l1
			ask R r
			< R r1
			ack L
			ack R
			view C a2 | L l2 | R r2
			< C a2
			< L l2
			< R r2
			`,
	}
	for name, text := range cases {
		t.Run(name, func(t *testing.T) { run(t, false, text) })
	}
}

func TestDeltaAnswerToAnOlderResponseIsNoAnswer(t *testing.T) {
	s := run(t, false, gateway+"\nview C a1 b1 | E a2 b1 | L l1\n< E a2\n")
	for _, nonce := range []string{"", "00000001", "nonsense"} {
		in := &request{typeURL: EndpointType, nonce: nonce, refused: true, reason: "old"}
		if _, err := s.session.request(s.now, in); err != nil {
			t.Fatal(err)
		}
	}
	if sub := s.session.subs[endpoints]; sub.pending == nil || sub.rejection != nil {
		t.Errorf("pending %v, rejection %v: want the first alone", sub.pending, sub.rejection)
	}
}

// FuzzSession plays any sequence of requests and views against a session of either
// protocol: it must not panic, not talk without end, and not keep more than what was
// asked for and what there is.
func FuzzSession(f *testing.F) {
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyz"), true)
	f.Add([]byte{0, 0, 0, 1, 4, 0, 2, 0, 0, 5, 8, 12, 3, 200, 17, 9, 60, 61}, false)
	f.Fuzz(func(t *testing.T, script []byte, whole bool) {
		s := newSession(whole)
		now := time.Unix(1000, 0)
		var nonces [kindCount]string
		name := func(b byte) string { return []string{"a", "b", "c", "d", "", "*"}[b%6] }
		for len(script) >= 3 {
			op, kind, arg := script[0]%8, int(script[1])%kindCount, script[2]
			script = script[3:]
			in := &request{typeURL: kinds[kind]}
			switch op {
			case 0:
				s.update(now, fuzzView(arg))
				in = nil
			case 1:
				now = now.Add(time.Duration(arg) * time.Second)
				in = nil
			case 2:
				in.subscribe, in.names = []string{name(arg)}, []string{name(arg), name(arg >> 3)}
			case 3:
				in.unsubscribe = []string{name(arg)}
			case 4:
				in.initial, in.version = map[string]string{name(arg): "1"}, name(arg)
			case 5:
				in.nonce, in.names = nonces[kind], []string{name(arg), name(arg >> 3)}
			case 6:
				in.nonce, in.refused, in.reason = nonces[kind], true, name(arg)
			case 7:
				in.nonce = name(arg)
			}
			if in != nil {
				if _, err := s.request(now, in); err != nil {
					t.Fatal(err)
				}
			}
			for n := 0; ; n++ {
				p := s.next(now)
				if p == nil {
					break
				}
				if n > 2*kindCount {
					t.Fatal("talks without end")
				}
				nonces[p.kind] = p.nonce
			}
			if at := s.wake(now); !at.IsZero() && !at.After(now) {
				t.Fatalf("wakes at %v, now is %v", at, now)
			}
			bounded(t, s)
		}
	})
}

func bounded(t *testing.T, s *session) {
	t.Helper()
	const names = 6 // that there are
	for k, sub := range s.subs {
		if len(s.held[k]) > names || len(s.owed) > names {
			t.Fatalf("holds %d, owes %d", len(s.held[k]), len(s.owed))
		}
		if sub != nil && (len(sub.have) > names || len(sub.names) > names || len(sub.rejected) > names) {
			t.Fatalf("keeps %v, %v, %v", sub.have, sub.names, sub.rejected)
		}
	}
}

// fuzzView has one bit for each of four names, in versions of the rest.
func fuzzView(b byte) *view {
	all := make(Resources)
	for _, kind := range kinds {
		for i, name := range []string{"a", "b", "c", "d"} {
			if b>>i&1 == 1 {
				all[kind] = append(all[kind], Resource{Name: name, Version: string('0' + b>>4)})
			}
		}
	}
	return newView(all)
}

// TestDeltaClientConverges plays random views against a client that sometimes
// refuses: once it refuses no more and nothing changes, it has exactly the view.
func TestDeltaClientConverges(t *testing.T) {
	for seed := range byte(50) {
		s := newSession(false)
		now := time.Unix(1000, 0)
		client := [kindCount]map[string]string{}
		for k, kind := range kinds {
			client[k] = make(map[string]string)
			if _, err := s.request(now, &request{typeURL: kind, subscribe: []string{anyName}}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range byte(40) {
			s.update(now, fuzzView(seed*37+i*91))
			now = now.Add(time.Duration(i) * 100 * time.Millisecond)
			exchange(t, s, now, client, i < 39 && (seed+i)%3 == 0)
		}
		for range 20 {
			now = now.Add(retryMax)
			exchange(t, s, now, client, false)
		}
		for k := range kinds {
			want := make(map[string]string)
			for name, r := range s.view.byName[k] {
				want[name] = r.Version
			}
			if !maps.Equal(client[k], want) {
				t.Fatalf("seed %d: client has %v, want %v", seed, client[k], want)
			}
		}
	}
}

// exchange lets a client answer all that is sent. A client that refuses one keeps
// what it had.
func exchange(t *testing.T, s *session, now time.Time, client [kindCount]map[string]string, refuse bool) {
	t.Helper()
	for p := s.next(now); p != nil; p = s.next(now) {
		in := &request{typeURL: kinds[p.kind], nonce: p.nonce, refused: refuse, reason: "no"}
		if !refuse {
			for _, r := range p.resources {
				client[p.kind][r.Name] = r.Version
			}
			for _, name := range p.removed {
				delete(client[p.kind], name)
			}
		}
		if _, err := s.request(now, in); err != nil {
			t.Fatal(err)
		}
	}
}
