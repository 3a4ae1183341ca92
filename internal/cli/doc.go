// Package cli is the command line of Isthmus: one table of commands, each a
// struct whose tags say which flags and arguments it takes. Commands talk to a
// node through the official Go client of Consul, so each of them also proves that
// the node is compatible. What they print on standard output, and their exit
// codes, are those of Consul's commands, since scripts depend on them.
package cli
