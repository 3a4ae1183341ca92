// Package xds drives Envoy: Render makes its resources of a mesh.Snapshot, and
// Server sends them over the aggregated discovery service, incremental or
// state-of-the-world.
package xds
