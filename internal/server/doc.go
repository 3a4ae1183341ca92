// Package server answers the methods in wire from the state. Forwarding to the
// leader and to other datacenters, access control, blocking and consistency are
// in one pipeline, once; a method adds its access rule and its query or command.
// What runs only on a leader is listed in tasks.go.
package server
