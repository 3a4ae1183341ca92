package xds

import "testing"

func TestStateOfTheWorld(t *testing.T) {
	cases := map[string]string{
		"clusters outlive the listeners that use them": gateway + `
			view C a1 c1 | E a1 c1 | L l2
			< C a1 c1 b1
			ack C
			ask E c
			< E c1
			< L l2
			ack E
			ack L
			< C a1 c1
			ack C
			drop E b
			`,
		"the whole is sent again when anything of it changes, good or bad": `
			view C a1 b1
			ask C
			< C a1 b1
			nack C bad
			view C a1 b1
			view C a1 b2
			< C a1 b2
			nack C still bad
			view C a2 b2
			< C a2 b2
			ack C
			`,
		"a reconnect during a search does not hide what was not sent": `
			view E a1 b1
			ask E a b
			< E a1 b1
			nack E bad
			< E a1
			ack E
			< E b1
			reconnect
			ask E a b have
			< E a1 b1
			`,
		"endpoints of a cluster that was replaced during a reconnect": gateway + `
			reconnect
			view C a2 b1 | E a1 b1 | L l1
			ask C have
			< C a2 b1
			ask E a b have
			< E a1 b1
			ask L have
			`,
		"an empty list after names is no wildcard": `
			view C a1 b1
			ask C a
			< C a1
			ack C
			drop C a
			view C a2 b2
			`,
		"endpoints that are gone are not spoken of": gateway + `
			view C a1 b1 | E a1 | L l1
			view C a1 b1 | E a1 b2 | L l1
			< E b2
			`,
	}
	for name, text := range cases {
		t.Run(name, func(t *testing.T) { run(t, true, text) })
	}
}

func TestStateOfTheWorldIgnoresRequestsThatAreOutOfDate(t *testing.T) {
	s := run(t, true, "view E a1 b1\nask E a b\n< E a1 b1\n")
	in := &request{typeURL: EndpointType, nonce: "00000077", refused: true, reason: "old", names: []string{"b"}}
	if _, err := s.session.request(s.now, in); err != nil {
		t.Fatal(err)
	}
	if sub := s.session.subs[endpoints]; sub.pending == nil || sub.rejection != nil || len(sub.names) != 2 {
		t.Errorf("an old request changed %+v", sub)
	}
}
