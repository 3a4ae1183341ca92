// Package store keeps typed tables in persistent trees.
//
// A [Table] is a declaration and carries no data; a [Store] holds the rows of
// the tables it was made with. A read is a function of a [Tx], which remembers
// what was read: the index of the answer and the wake-up of whoever waits for
// another one both come from the very nodes of the trees that gave the answer.
//
// There is one writer at a time. Readers see one consistent state, take no lock,
// and neither wait for the writer nor make it wait.
package store
