package order

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"isthmus/internal/config"
	"isthmus/internal/wire"
)

var update = flag.Bool("update", false, "write the generated documents instead of comparing them")

// documents are the generated ones and what writes them.
var documents = map[string]func(io.Writer) error{
	"docs/config.md": config.Docs,
	"docs/wire.md":   wireDocs,
}

func TestGeneratedDocumentsAreCurrent(t *testing.T) {
	for name, write := range documents {
		var want bytes.Buffer
		if err := write(&want); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, name)
		if *update {
			if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s is not current: run make docs", name)
		}
	}
}

// wireDocs writes docs/wire.md: the methods that servers answer.
func wireDocs(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# Methods\n\nThis file is generated. These are the methods that servers answer, on TCP port 8300.\n" +
		"A read carries consistency and index beside its arguments; a write goes to the leader.\n" +
		"Calls go to the datacenter that the request names in the field of the last column.\n\n" +
		"| Method | Kind | Answered by | Answer stands in | Routed by |\n|--|--|--|--|--|\n")
	for _, m := range wire.Methods() {
		kind, by, reply, route := "read", "any datacenter", "`"+m.Reply+"`", "`"+m.Route+"`"
		if m.Write {
			kind = "write"
		}
		switch {
		case m.Local:
			by, route = "the server asked", "–"
		case m.Primary:
			by = "the primary datacenter"
		}
		switch m.Reply {
		case "":
			reply = "the answer alone"
		case "*":
			reply = "fields beside the meta"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", m.Name, kind, by, reply, route)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
