// Package mesh keeps a Snapshot of all that one proxy depends on up to date, from
// whatever answers the methods of package wire.
package mesh
