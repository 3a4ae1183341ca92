// Package node builds an agent from its parts and runs it: the one place where
// parts are handed to each other.
package node
