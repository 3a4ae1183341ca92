// Package api holds the domain types of Isthmus and the kinds of error it
// answers with. The types have the names and JSON shapes of Consul's HTTP API;
// their Go field names are also the names on the RPC wire, so a renamed field is
// a protocol change. The package uses the standard library alone and may be
// imported by other programs.
package api
