// Package checks probes what a health check looks at. A Runner runs one check and
// reports what it finds; it knows neither the services nor the catalog, except
// that an alias is told of what it follows. Each kind of check has a file of its
// own and a line in the list of kinds.
package checks
