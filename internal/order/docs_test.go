package order

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"isthmus/internal/cli"
	"isthmus/internal/config"
	"isthmus/internal/httpapi"
	"isthmus/internal/telemetry"
)

var update = flag.Bool("update", false, "write the generated documents instead of comparing them")

// documents are the generated ones and what writes them.
var documents = map[string]func(io.Writer) error{
	"docs/cli.md":       cli.Docs,
	"docs/config.md":    config.Docs,
	"docs/http.md":      httpapi.Docs,
	"docs/metrics.md":   telemetry.Docs,
	"docs/openapi.json": httpapi.OpenAPI,
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
