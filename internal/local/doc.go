// Package local holds the services and checks of this node: what was registered
// with its agent or stands in its configuration. It runs the checks and keeps the
// catalog equal to what it holds: changes are pushed at once, and a comparison
// from time to time repairs what drifted. What the catalog has and the agent does
// not is taken out, except for what servers own.
package local
