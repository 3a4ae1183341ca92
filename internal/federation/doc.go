// Package federation joins datacenters through their mesh gateways: it finds the
// gateways, dials through them, carries gossip over them, and keeps what every
// datacenter publishes of its own gateways in step. It knows servers only as
// callers and a node not at all.
package federation
