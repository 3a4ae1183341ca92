package rpc

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"isthmus/api"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type stateIn struct {
	Op    string
	State *api.FederationState
}

type stateQuery struct{ Datacenter string }

func TestGoldenVectors(t *testing.T) {
	at := time.Unix(1700000000, 0).UTC()
	state := stateIn{"upsert", &api.FederationState{Datacenter: "dc2", UpdatedAt: at}}
	query := Desc{Name: "FederationState.Get", Route: "TargetDatacenter", Reply: "State"}
	cases := []struct {
		name, want string
		got        func() ([]byte, error)
	}{
		{
			"request header", "82a353657101ad536572766963654d6574686f64b446656465726174696f6e53746174652e4c697374",
			func() ([]byte, error) { return appendRequestHeader(nil, 1, "FederationState.List"), nil },
		},
		{
			"response header", "83a54572726f72a0a353657101ad536572766963654d6574686f64a3412e42",
			func() ([]byte, error) { return appendResponseHeader(nil, 1, "A.B", ""), nil },
		},
		{
			"FederationStateRequest",
			"84aa4461746163656e746572a3646331a24f70a6757073657274a5537461746586ab437265617465496e64657800aa4461746163656e746572a3646332ac4d6573684761746577617973c0ab4d6f64696679496e64657800b25072696d6172794d6f64696679496e64657800a9557064617465644174af010000000edce5e80000000000ffffa5546f6b656ea174",
			func() ([]byte, error) {
				return encodeRequest(nil, &Request{
					Desc: Desc{Write: true, Route: "Datacenter"}, Header: Header{Datacenter: "dc1", Token: "t"}, In: &state,
				})
			},
		},
		{
			"FederationStateQuery",
			"8eb8416c6c6f774e6f744d6f646966696564526573706f6e7365c2aa416c6c6f775374616c65c2aa4461746163656e746572a3646332a646696c746572a0a64d617841676500ac4d6178517565727954696d6500b04d61785374616c654475726174696f6e00ad4d696e5175657279496e64657800ae4d757374526576616c6964617465c2b152657175697265436f6e73697374656e74c2ac5374616c6549664572726f7200b05461726765744461746163656e746572a3646331a5546f6b656ea0a85573654361636865c2",
			func() ([]byte, error) {
				return encodeRequest(nil, &Request{Desc: query, Header: Header{Datacenter: "dc1"}, In: &stateQuery{"dc2"}})
			},
		},
		{
			"IndexedFederationStates",
			"88a74261636b656e6400b0436f6e73697374656e63794c6576656ca0a5496e64657809ab4b6e6f776e4c6561646572c3ab4c617374436f6e7461637400ab4e6f744d6f646966696564c2b5526573756c747346696c7465726564427941434c73c2a653746174657390",
			func() ([]byte, error) {
				return encodeReply(nil, Desc{Reply: "States"}, &Meta{Index: 9, KnownLeader: true}, []*api.FederationState{})
			},
		},
		{
			"zero time", "af01000000000000000000000000" + "ffff",
			func() ([]byte, error) { return Marshal(time.Time{}) },
		},
		{
			"time with a zone", "af010000000edce5d9f000000000003c",
			func() ([]byte, error) {
				return Marshal(time.Unix(1700000000-3600, 0).In(time.FixedZone("", 3600)))
			},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.got()
			if err != nil {
				t.Fatal(err)
			}
			if want := unhex(t, c.want); !bytes.Equal(got, want) {
				t.Errorf("got  %x\nwant %x", got, want)
			}
		})
	}
}

func TestNumbersTakeTheShortestForm(t *testing.T) {
	for want, v := range map[string]any{
		"7f": 127, "cc80": 128, "cd0100": 256, "ce00010000": 65536, "e0": -32, "d080": -128, "d1ff7f": -129,
		"cf0000000100000000": uint64(1 << 32), "ca3fc00000": float32(1.5), "cb3ff8000000000000": 1.5, "c0": []string(nil), "90": []string{},
	} {
		b, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(b); got != want {
			t.Errorf("%v: got %s, want %s", v, got, want)
		}
		if n, ok := v.(int); ok {
			if own := appendInt(nil, int64(n)); !bytes.Equal(own, b) {
				t.Errorf("%d: own form %x, library's %x", n, own, b)
			}
			if back, err := integer(b); err != nil || back != int64(n) {
				t.Errorf("%d: read back as %d, %v", n, back, err)
			}
		}
	}
}

func TestRequestSurvivesTheWire(t *testing.T) {
	h := Header{
		Datacenter: "dc1", Token: "s", MinIndex: 1 << 40, MaxWait: time.Minute, AllowStale: true, Consistent: true,
		NotModified: true, Filter: `Node == "a"`,
	}
	d := Desc{Name: "FederationState.Get", Route: "TargetDatacenter", Reply: "State"}
	b, err := encodeRequest(nil, &Request{Desc: d, Header: h, In: &stateQuery{"dc2"}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeHeader(b, d.Route)
	if err != nil || got != h {
		t.Errorf("header: got %+v, %v, want %+v", got, err, h)
	}
	var in stateQuery
	if err := Unmarshal(b, &in); err != nil || in.Datacenter != "dc2" {
		t.Errorf("body: got %+v, %v", in, err)
	}
}

func TestReplyIsFoundAmongTheMeta(t *testing.T) {
	meta := Meta{Index: 7, LastContact: time.Second, KnownLeader: true, Consistency: "stale", Filtered: true, NotModified: true}
	for _, d := range []Desc{{Reply: "Entries"}, {Reply: Flat}} {
		out := map[string]string{"A": "1", "Z": "2"}
		b, err := encodeReply(nil, d, &meta, out)
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ A, Z string }
		m, err := decodeReply(b, &Request{Desc: d, Out: &got})
		if err != nil || m != meta || got.A != "1" || got.Z != "2" {
			t.Errorf("%s: got %+v, %+v, %v", d.Reply, got, m, err)
		}
	}
}

func TestReadValueStopsAtTheLimit(t *testing.T) {
	for name, b := range map[string][]byte{
		"claims 4 GiB":     {0xdb, 0xff, 0xff, 0xff, 0xff},
		"claims 4 G items": {0xdd, 0xff, 0xff, 0xff, 0xff},
		"is long":          append([]byte{0xda, 0x10, 0x00}, make([]byte, 0x1000)...),
		"is nested":        bytes.Repeat([]byte{0x91}, 5000),
	} {
		if _, err := ReadValue(bufio.NewReader(bytes.NewReader(b)), nil, 1000); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzValue(f *testing.F) {
	f.Add([]byte{0x82, 0xa1, 'a', 0x01, 0xa1, 'b', 0xdc, 0, 1, 0xc0})
	f.Add([]byte{0xdf, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0xc7, 0x03, 0x01, 1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 1 << 16
		got, err := ReadValue(bufio.NewReader(bytes.NewReader(b)), nil, limit)
		rest, skipErr := skip(b)
		if err == nil && (skipErr != nil || len(rest) != len(b)-len(got) || !bytes.HasPrefix(b, got)) {
			t.Fatalf("the stream gave %d bytes, the walk left %d of %d: %v", len(got), len(rest), len(b), skipErr)
		}
		_, _ = decodeHeader(b, "Datacenter")
		_, _, _ = decodeMeta(b, "Nodes")
		_, _ = merge(nil, (&Header{}).readFields(), b)
		if err != nil {
			return // a connection never hands out a value that is not whole
		}
		var r api.Registration
		_ = Unmarshal(got, &r)
		var v any
		_ = Unmarshal(got, &v)
	})
}
