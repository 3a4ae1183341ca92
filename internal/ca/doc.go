// Package ca makes and checks the certificates of the service mesh: the root of
// the primary datacenter, and the intermediate with which each secondary signs
// for itself. It knows their names and the forms in which their fingerprints are
// written, and holds one file for each provider of keys.
//
// A trust domain is all datacenters whose certificates lead to one root. It is
// named after the cluster id that the primary draws once. The path length of an
// intermediate is 0: a secondary signs leaves, and no further authority.
//
// Keys live in the provider's state alone, which a [Store] keeps in the log of
// the servers. Nothing here prints or returns them.
package ca
