// Package dns answers DNS questions about the catalog, over UDP and TCP.
//
// It is a front: it asks an rpc.Caller, as the HTTP front does, and keeps no
// state of its own but packed records of what is asked for often.
package dns
