package gossip

import (
	"bytes"
	"context"
	"encoding/base64"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// tap remembers all that is sent.
type tap struct {
	Carrier

	mu      sync.Mutex
	packets [][]byte
	streams bytes.Buffer
}

func (c *tap) Packet(to Peer, b []byte) error {
	c.mu.Lock()
	c.packets = append(c.packets, bytes.Clone(b))
	c.mu.Unlock()
	return c.Carrier.Packet(to, b)
}

func (c *tap) Stream(ctx context.Context, to Peer) (net.Conn, error) {
	conn, err := c.Carrier.Stream(ctx, to)
	return tapped{conn, c}, err
}

func (c *tap) has(text string) (inPacket, inStream bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Contains(bytes.Join(c.packets, nil), []byte(text)), bytes.Contains(c.streams.Bytes(), []byte(text))
}

type tapped struct {
	net.Conn

	tap *tap
}

func (c tapped) Write(b []byte) (int, error) {
	c.tap.mu.Lock()
	c.tap.streams.Write(b)
	c.tap.mu.Unlock()
	return c.Conn.Write(b)
}

func newKey(t *testing.T) (string, []byte) {
	t.Helper()
	s, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(s)
	if err != nil || len(key) != 32 {
		t.Fatalf("got %d bytes, %v", len(key), err)
	}
	return s, key
}

func TestNothingReadableIsSentWithAKey(t *testing.T) {
	_, key := newKey(t)
	const secret = "some-name-to-look-for"
	for _, keys := range [][][]byte{nil, {key}} {
		ca, cb := config(t, secret), config(t, "b")
		ca.Keyring, cb.Keyring = keys, keys
		c := &tap{Carrier: ca.Net}
		ca.Carrier = c
		a, b := start(t, ca), start(t, cb)
		join(t, a, b)
		eventually(t, "probed", func() bool { _, ok := a.Coordinate("b"); return ok })
		if keys == nil { // Shows that this test would see it. Streams and large packets are compressed.
			eventually(t, "readable without a key", func() bool { inPacket, _ := c.has(secret); return inPacket })
		} else if inPacket, inStream := c.has(secret); inPacket || inStream {
			t.Errorf("readable in packets %v, in streams %v", inPacket, inStream)
		}
		if got, want := a.Stats()["encrypted"], map[bool]string{true: "false", false: "true"}[keys == nil]; got != want {
			t.Errorf("encrypted is %s, want %s", got, want)
		}
	}
}

func TestWrongKeyOrNoneIsRefused(t *testing.T) {
	_, right := newKey(t)
	_, wrong := newKey(t)
	ca := config(t, "a")
	ca.Keyring = [][]byte{right}
	a := start(t, ca)
	for _, keys := range [][][]byte{nil, {wrong}} {
		cb := config(t, "b")
		cb.Keyring = keys
		b := start(t, cb)
		if n, err := b.Join(t.Context(), []string{a.addr()}); n != 0 || err == nil {
			t.Errorf("joined with %d keys: %d, %v", len(keys), n, err)
		}
		if n, err := a.Join(t.Context(), []string{b.addr()}); n != 0 || err == nil {
			t.Errorf("was joined with %d keys: %d, %v", len(keys), n, err)
		}
	}
	cc := config(t, "c")
	cc.Keyring = [][]byte{wrong, right} // It sends with the wrong one.
	if n, err := start(t, cc).Join(t.Context(), []string{a.addr()}); n != 0 || err == nil {
		t.Errorf("joined: %d, %v", n, err)
	}
}

func TestPoolIsGivenItsFirstKeyMemberByMember(t *testing.T) {
	_, key := newKey(t)
	ca, cb := config(t, "a"), config(t, "b")
	cb.Keyring, cb.AcceptPlain, cb.SendPlain = [][]byte{key}, true, true // a has no key yet
	a, b := start(t, ca), start(t, cb)
	join(t, b, a)
	eventually(t, "both", func() bool { return a.NumNodes() == 2 && b.NumNodes() == 2 })
	cc := config(t, "c")
	cc.Keyring, cc.AcceptPlain = [][]byte{key}, true // sends nothing plain any more
	c := start(t, cc)
	join(t, c, b)
	eventually(t, "the one with a key", func() bool { return b.NumNodes() == 3 })
}

func TestKeysAreChangedInTheWholePool(t *testing.T) {
	old, oldKey := newKey(t)
	fresh, freshKey := newKey(t)
	file := filepath.Join(t.TempDir(), "serf", "local.keyring")
	ca, cb := config(t, "a"), config(t, "b")
	ca.Keyring, cb.Keyring = [][]byte{oldKey}, [][]byte{oldKey}
	cb.KeyringFile = file
	// The time allowed for answers is a multiple of this.
	ca.GossipInterval, cb.GossipInterval = 200*time.Millisecond, 200*time.Millisecond
	a, b := start(t, ca), start(t, cb)
	join(t, b, a)
	eventually(t, "both", func() bool { return a.NumNodes() == 2 && b.NumNodes() == 2 })

	if _, err := a.UseKey(fresh, 0); err == nil {
		t.Error("use of a key that is not installed")
	}
	for _, step := range []func(string, uint8) (KeyReply, error){a.InstallKey, a.UseKey} {
		if r, err := step(fresh, 0); err != nil || r.NumResp != 2 || r.NumErr != 0 {
			t.Fatalf("got %+v, %v", r, err)
		}
	}
	r, err := b.ListKeys(1)
	if err != nil || r.Keys[old] != 2 || r.Keys[fresh] != 2 || r.PrimaryKeys[fresh] != 2 {
		t.Errorf("got %+v, %v", r, err)
	}
	if r, err := a.RemoveKey(fresh, 0); err == nil || r.NumErr != 2 {
		t.Errorf("removed the key in use: %+v, %v", r, err)
	}
	if _, err := a.RemoveKey(old, 0); err != nil {
		t.Error(err)
	}
	keys, err := keyring(file, [][]byte{oldKey})
	if err != nil || len(keys) != 1 || !bytes.Equal(keys[0], freshKey) {
		t.Errorf("the file holds %d keys, %v, want the new one", len(keys), err)
	}
}

func TestKeyringFileIsMadeFromTheGivenKeys(t *testing.T) {
	_, key := newKey(t)
	_, other := newKey(t)
	file := filepath.Join(t.TempDir(), "keyring")
	for range 2 { // The second time from the file.
		got, err := keyring(file, [][]byte{key})
		if err != nil || len(got) != 1 || !bytes.Equal(got[0], key) {
			t.Fatalf("got %d keys, %v", len(got), err)
		}
		key = bytes.Clone(got[0])
	}
	if got, err := keyring(file, [][]byte{other}); err != nil || bytes.Equal(got[0], other) {
		t.Errorf("the given key won over the file, %v", err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600", info, err)
	}
	if err := os.WriteFile(file, []byte(`["short"]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring(file, nil); err == nil {
		t.Error("took a bad key")
	}
}

func TestParseKey(t *testing.T) {
	for size, ok := range map[int]bool{0: false, 15: false, 16: true, 24: true, 32: true, 33: false} {
		if _, err := ParseKey(base64.StdEncoding.EncodeToString(make([]byte, size))); (err == nil) != ok {
			t.Errorf("%d bytes: got %v", size, err)
		}
	}
	if _, err := ParseKey("not base64"); err == nil {
		t.Error("took what is not base64")
	}
}
