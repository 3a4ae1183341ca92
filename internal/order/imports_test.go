// Package order holds the checks of the code base as a whole: who may import
// whom, what every package must have, and that what is generated or pointed at
// is really there. It has tests only.
package order

import (
	"slices"
	"strings"
	"testing"
)

// order is the tree as a list: a package may import only packages above it.
var order = strings.Fields(`
	api
	internal/telemetry internal/config internal/cloudjoin internal/filter
	internal/store internal/transport internal/gossip internal/rpc internal/wire internal/consensus
	internal/acl internal/chain internal/ca internal/state
	internal/checks internal/local internal/mesh internal/xds internal/proxy internal/federation
	internal/server internal/dns internal/httpapi
	internal/watches internal/node internal/cli
	cmd/isthmus
`)

// beside are packages that no other package imports but in tests.
var beside = strings.Fields(`internal/testkit internal/order test/hostname`)

// libraries says which packages import a library, tests left aside. It is
// complete: a new library needs a line here and an ADR. Any package may import
// golang.org/x, which extends the standard library.
var libraries = map[string]string{
	"github.com/envoyproxy/go-control-plane/envoy": "internal/xds internal/cli", // cli: bootstrap of Envoy
	"google.golang.org/grpc":                       "internal/rpc internal/xds internal/node internal/checks",
	"google.golang.org/protobuf":                   "internal/xds",
	"github.com/hashicorp/consul/api":              "internal/cli internal/watches",
	"github.com/hashicorp/go-bexpr":                "internal/filter",
	"github.com/hashicorp/go-discover":             "internal/cloudjoin",                  // and with it all cloud providers
	"github.com/hashicorp/go-hclog":                "internal/consensus internal/watches", // watches: the client's package logs with it
	"github.com/hashicorp/go-metrics":              "internal/telemetry",
	"github.com/hashicorp/go-msgpack/v2":           "internal/rpc",
	"github.com/hashicorp/go-sockaddr":             "internal/config internal/cli",
	"github.com/hashicorp/hcl":                     "internal/config internal/acl",
	"github.com/hashicorp/memberlist":              "internal/gossip",
	"github.com/hashicorp/raft":                    "internal/consensus",
	"github.com/hashicorp/serf":                    "internal/gossip",
	"github.com/hashicorp/yamux":                   "internal/rpc",
	"github.com/miekg/dns":                         "internal/dns",
	"github.com/prometheus/client_golang":          "internal/telemetry",
	"github.com/vishvananda/netlink":               "internal/cli", // networks of the demo
	"github.com/prometheus/common":                 "internal/telemetry",
}

// above are packages that link much or decide much, and the few that may import
// them, although more stand below them in the order.
var above = map[string]string{
	"internal/cloudjoin": "internal/node",
	"internal/config":    "internal/node internal/cli",
	"internal/node":      "internal/cli",
	"internal/cli":       "cmd/isthmus",
}

func TestImportOrder(t *testing.T) {
	for _, p := range packages(t) {
		place := slices.Index(order, p.name)
		if place < 0 {
			if !slices.Contains(beside, p.name) {
				t.Errorf("%s has no place in the order: a new package needs an ADR and a line here", p.name)
			}
			continue
		}
		for _, imported := range p.own() {
			switch i := slices.Index(order, imported); {
			case i < 0:
				t.Errorf("%s must not import %s, which is for tests", p.name, imported)
			case i >= place:
				t.Errorf("%s must not import %s, which stands below it", p.name, imported)
			}
			if only, ok := above[imported]; ok && !slices.Contains(strings.Fields(only), p.name) {
				t.Errorf("%s must not import %s: only %s may", p.name, imported, only)
			}
		}
	}
}

func TestEachLibraryHasItsImporters(t *testing.T) {
	for _, p := range packages(t) {
		if slices.Contains(beside, p.name) {
			continue
		}
		for _, imported := range p.Imports {
			first, _, _ := strings.Cut(imported, "/")
			if !strings.Contains(first, ".") || first == "golang.org" {
				continue // of the standard library or beside it, or our own
			}
			library := libraryOf(imported)
			switch {
			case library == "":
				t.Errorf("%s imports %s, which is not in the list: a new library needs an ADR and a line here", p.name, imported)
			case !slices.Contains(strings.Fields(libraries[library]), p.name):
				t.Errorf("%s must not import %s: only %s may", p.name, imported, libraries[library])
			}
		}
	}
}

// TestAPIIsStandardLibraryOnly holds the public package to what anybody can
// import without buying anything else.
func TestAPIIsStandardLibraryOnly(t *testing.T) {
	for _, p := range packages(t) {
		if p.name != "api" {
			continue
		}
		for _, imported := range p.Imports {
			if first, _, _ := strings.Cut(imported, "/"); strings.Contains(first, ".") || first == module {
				t.Errorf("api imports %s", imported)
			}
		}
		return
	}
	t.Error("there is no package api")
}

// libraryOf returns the longest line of the list that a package belongs to.
func libraryOf(imported string) string {
	found := ""
	for library := range libraries {
		if (imported == library || strings.HasPrefix(imported, library+"/")) && len(library) > len(found) {
			found = library
		}
	}
	return found
}
