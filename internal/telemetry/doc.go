// Package telemetry sets up the logger and the registry of metrics. It is the
// only importer of the metrics library, which the consensus and gossip libraries
// report to.
package telemetry
