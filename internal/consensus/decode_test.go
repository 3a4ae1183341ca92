package consensus

import (
	"bytes"
	"testing"

	"github.com/hashicorp/raft"
)

func FuzzStable(f *testing.F) {
	f.Add(encodeStable(map[string][]byte{keyTerm: make([]byte, 8), "LastVoteCand": []byte("10.0.0.1:8300")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		values, err := decodeStable(b)
		if err != nil {
			return
		}
		again, err := decodeStable(encodeStable(values))
		if err != nil || len(again) != len(values) {
			t.Fatalf("got %v, %v, want %v", again, err, values)
		}
	})
}

func FuzzSnapshotHead(f *testing.F) {
	c := raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "127.0.0.1:1"}}}
	f.Add(encodeSnapshotHead(7, 2, c, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		meta, n, err := readSnapshotHead(bytes.NewReader(b))
		if err == nil && (n > int64(len(b)) || meta.Version != 1) {
			t.Fatalf("got %+v, %d", meta, n)
		}
	})
}
