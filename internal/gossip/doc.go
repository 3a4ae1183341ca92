// Package gossip keeps the membership of a pool of nodes: who is there, with which tags, and who has left or failed.
//
// A node has one pool for its own datacenter (LAN) and, when it is a server, one that spans datacenters (WAN). A Pool
// listens on a Net and sends through a Carrier, which is the only way gossip leaves the process. Without a Carrier a
// pool sends directly; the federation of datacenters puts one in between that goes through gateways.
//
// The protocol is that of Serf and Memberlist, whose libraries this package alone imports.
package gossip
