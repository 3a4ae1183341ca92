// Package state is what the servers of a datacenter agree upon: its tables, the
// log commands that change them, and the queries that read them. It is pure and
// deterministic: the same log gives the same tables on every server, so nothing
// here asks for the time or for a random number.
package state
